"""Nodes and weights of quadrature rules on [0, 1]; the weights of every rule sum to one."""

from __future__ import annotations

import functools

import numpy as np

RULES = ("gauss_legendre", "midpoint", "trapezoid", "left", "right")


@functools.lru_cache(maxsize=64)
def quadrature(rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [0, 1] and weights, both float64 `[steps]`.

    Args:
        rule: One of `RULES`.
        steps: Number of nodes, at least 1 (2 for the trapezoid rule).

    Returns:
        (nodes, weights), nodes ascending, weights positive with sum 1.
    """
    grid = np.arange(steps, dtype=np.float64)
    if rule == "gauss_legendre":
        return _gauss_legendre(steps)
    if rule == "midpoint":
        return (grid + 0.5) / steps, np.full(steps, 1 / steps)
    if rule == "left":
        return grid / steps, np.full(steps, 1 / steps)
    if rule == "right":
        return (grid + 1) / steps, np.full(steps, 1 / steps)
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return grid / (steps - 1), weights


def _gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes by Newton's method on the recurrence of the polynomials: O(steps^2), where the usual

    eigenvalue solution is O(steps^3) and takes minutes at a few thousand nodes.
    """
    index = np.arange(1, steps + 1)
    x = np.cos(np.pi * (index - 0.25) / (steps + 0.5))  # Tricomi's estimate, good to O(1 / steps^4)
    for _ in range(8):
        value, derivative = _legendre(steps, x)
        x = x - value / derivative
    _, derivative = _legendre(steps, x)
    weights = 2 / ((1 - x**2) * derivative**2)
    return (1 - x) / 2, weights / weights.sum()


def _legendre(degree: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Legendre polynomial of that degree and its derivative at x."""
    before, value = np.ones_like(x), x
    for k in range(2, degree + 1):
        before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
    return value, degree * (x * value - before) / (x**2 - 1)


@functools.lru_cache(maxsize=64)
def logarithmic_gauss(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss rule for the weight -log(u) on [0, 1], which integrates polynomials of degree below 2 steps exactly.

    The recurrence of the orthogonal polynomials is that of a fine rule for the same weight (discretised Stieltjes
    procedure), and the nodes are the eigenvalues of its Jacobi matrix (Golub and Welsch 1969).

    Args:
        steps: Number of nodes.

    Returns:
        (nodes, weights), both float64 `[steps]`, nodes ascending, weights positive with sum 1.
    """
    t, weights = _gauss_legendre(12 * steps + 200)
    points, density = t**4, weights * -np.log(t**4) * 4 * t**3  # u = t^4 takes the singularity away
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    before, value = np.zeros_like(points), np.full_like(points, density.sum() ** -0.5)
    for k in range(steps):
        diagonal[k] = np.sum(density * points * value**2)
        following = (points - diagonal[k]) * value - (beside[k - 1] * before if k else 0)
        beside[k] = np.sqrt(np.sum(density * following**2))
        before, value = value, following / beside[k]
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    weights = vectors[0] ** 2
    return nodes, weights / weights.sum()
