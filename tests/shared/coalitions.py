"""Shapley and Owen values by their definitions: loops over orders and coalitions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np


def game(x, baseline, features, score):
    """v(S) of the definition, evaluated for all coalitions at once: `{S: v}` by number."""
    masks = (np.arange(2**features)[:, None] >> np.arange(features)) & 1
    return np.asarray(jax.vmap(score)(jnp.where(masks == 1, x[None], baseline[None])), np.float64), masks


def brute(values, n):
    """The mean over all n! orders of what each feature adds: Shapley's definition."""
    phi = np.zeros(n)
    for order in itertools.permutations(range(n)):
        number = 0
        for i in order:
            phi[i] += values[number | 1 << i] - values[number]
            number |= 1 << i
    return phi / math.factorial(n)


def by_coalitions(values, n):
    """Shapley's equation, a loop over features and coalitions (checked against all orders below)."""
    phi = np.zeros(n)
    for i, number in itertools.product(range(n), range(2**n)):
        if not number >> i & 1:
            size = number.bit_count()
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            phi[i] += weight * (values[number | 1 << i] - values[number])
    return phi


def owen(values, unions):
    """The mean over all orders in which unions stay together."""
    n, phi, count = len(unions), np.zeros(len(unions)), 0
    for order in itertools.permutations(range(n)):
        seen = [key for key, _ in itertools.groupby(unions[i] for i in order)]
        if len(seen) == len(set(unions)):
            number, count = 0, count + 1
            for i in order:
                phi[i] += values[number | 1 << i] - values[number]
                number |= 1 << i
    return phi / count
