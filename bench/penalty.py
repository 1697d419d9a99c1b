"""Training on explanations: what a penalty on a gradient, or on expected gradients of one sample, adds to a step.

Each is compared with a Python loop over a compiled step in which the same penalty is written out by hand (equal params
at the end, which is the proof), and with plain training, of which at most four times the time is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from bench.harness import BOUND, OURS, PLAIN, Case, Program
from jaxplain import models, train
from jaxplain.data import batch_indices

KEY, STRENGTH = jax.random.key(0), 3.0
OPTIMIZER = optax.sgd(0.05)
Penalty = Callable[..., Any]


def hand_written(apply: Any, mask: Any) -> dict[str, Penalty]:
    """The penalties of one example, in plain JAX."""

    def logit(params: Any, x: Any, label: Any) -> Any:
        return apply(params, x[None])[0, label]

    def of_gradient(params: Any, x: Any, label: Any, key: Any) -> Any:
        return STRENGTH * jnp.sum((mask * jax.grad(logit, 1)(params, x, label)) ** 2)

    def of_black(params: Any, x: Any, label: Any, key: Any) -> Any:
        # Of a black background, where only the place on the line is drawn.
        place = jax.random.uniform(key)
        return STRENGTH * jnp.sum((mask * x * jax.grad(logit, 1)(params, place * x, label)) ** 2)

    return {"gradient": of_gradient, "expected gradients, one sample": of_black}


def loop(apply: Any, params: Any, data: Any, penalty: Penalty, epochs: int, batch_size: int) -> Any:
    """A Python loop over a compiled step."""
    x, y = data
    step = _step(apply, penalty)
    state = OPTIMIZER.init(params)
    for epoch in range(epochs):
        rows, _ = batch_indices(jax.random.fold_in(KEY, epoch), len(x), batch_size)
        for batch in np.asarray(rows):
            params, state = step(params, state, x[batch], y[batch])
    return params


@functools.cache
def _step(apply: Any, penalty: Penalty) -> Any:
    def objective(params: Any, x: Any, y: Any) -> Any:
        losses = optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y)
        return jnp.mean(losses + jax.vmap(penalty, (None, 0, 0, None))(params, x, y, KEY))

    @jax.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        updates, state = OPTIMIZER.update(jax.grad(objective)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    return step


def cases(quick: bool) -> list[Case]:
    count, epochs, size = (256, 1, 12) if quick else (2048, 2, 28)
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.random((count, size, size, 1), np.float32))
    y = jnp.asarray(generator.integers(0, 10, count))
    mask = jnp.zeros((size, size, 1)).at[: size // 4, : size // 4].set(1.0)
    module = models.cnn(10, widths=(16, 32), dense=64)
    apply, params = functools.partial(module.apply), module.init(KEY, x[:1])
    fit = functools.partial(
        train.fit, apply, params, (x, y), key=KEY, optimizer=OPTIMIZER, epochs=epochs, batch_size=64, progress=False
    )

    def gradient(params: Any) -> Any:
        return jaxplain.gradient(jaxplain.logit(apply, params))

    def expected(params: Any) -> Any:
        black = jnp.zeros((1, size, size, 1))
        return jaxplain.expected_gradients(jaxplain.logit(apply, params), black, samples=1)

    methods = {"gradient": gradient, "expected gradients, one sample": expected}
    by_hand, found = hand_written(apply, mask), []
    for name, method in methods.items():
        penalty = train.right_for_the_right_reasons(method, mask, weight=STRENGTH)
        same = (lambda out: out) if name == "gradient" else None  # of a drawn place the loop draws another
        with_penalty = functools.partial(fit, penalty=penalty)
        by_loop = functools.partial(loop, apply, params, (x, y), by_hand[name], epochs, 64)
        programs = [
            Program("fit with a penalty", lambda fit=with_penalty: fit().params, OURS, same),
            Program("Python loop of compiled steps", by_loop, PLAIN, same),
            Program("fit without", lambda: fit().params, BOUND, None),
        ]
        found.append(Case(f"penalty on {name}", programs, 1e-3, count * epochs, None, {PLAIN: 1.0, BOUND: 4.0}))
    return found
