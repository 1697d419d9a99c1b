"""Speed of concept vectors: 500 concepts of one layer, in one program against a loop over classifiers.

Each concept has 50 examples with it and 50 without, of 2,000 activations of 256 values. Ridge vectors are compared with
scikit-learn's `Ridge` one after the other at the same penalty, and logistic ones with its `LogisticRegression`, which
is what Captum's TCAV would fit for each concept with a classifier of one's own; all on the same activations.

    python -m bench --only concept [--quick]
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np

from bench.harness import OURS, PEER, PLAIN, Case, Program, installed, script
from jaxplain import concept

COUNT, EACH, SIZE, PENALTY = 2000, 50, 256, 0.5


def data(concepts: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(COUNT, SIZE)) @ np.diag(np.linspace(0.2, 2, SIZE))).astype(np.float32)
    labels = np.zeros((concepts, COUNT), np.int8)
    for row in labels:
        order = rng.permutation(COUNT)
        row[order[:EACH]], row[order[EACH : 2 * EACH]] = 1, -1
    return rows, labels


def scikit_learn(rows: np.ndarray, labels: np.ndarray, how: str) -> np.ndarray:
    """Unit vectors, one classifier after the other."""
    from sklearn.linear_model import LogisticRegression, Ridge

    found = []
    for row in labels:
        x, y = rows[row != 0].astype(np.float64), row[row != 0]
        alpha = PENALTY * ((x - x.mean(0)) ** 2).sum() / SIZE
        peer: Any = Ridge(alpha=alpha) if how == "ridge" else LogisticRegression(C=1 / alpha, tol=1e-8, max_iter=1000)
        weights = np.ravel(peer.fit(x, y).coef_)
        found.append(weights / np.linalg.norm(weights))
    return np.stack(found)


@jax.jit
def one_ridge(x: Any, y: Any) -> Any:
    """Plain JAX of one concept, in the layer's values."""
    x, y = x - x.mean(0, keepdims=True), y - y.mean()
    scatter = x.T @ x
    v = jnp.linalg.solve(scatter + PENALTY * jnp.trace(scatter) / SIZE * jnp.eye(SIZE), x.T @ y)
    return v / jnp.linalg.norm(v)


def vectors(how: str, quick: bool) -> Case:
    concepts = 40 if quick else 500
    rows, labels = data(concepts)
    picked = [np.flatnonzero(row) for row in labels]
    settings: dict[str, Any] = {"how": how, "penalty": PENALTY, "fraction": 0.0}
    programs = [Program("concept_vectors", lambda: concept.concept_vectors(rows, labels, **settings).vectors, OURS)]
    if how == "ridge":
        programs.append(
            Program(
                "Python loop of compiled fits",
                lambda: jnp.stack(
                    [one_ridge(rows[p], row[p].astype(np.float32)) for p, row in zip(picked, labels, strict=True)]
                ),
                PLAIN,
            )
        )
    if installed("sklearn"):
        programs.append(Program("scikit-learn, one by one", lambda: scikit_learn(rows, labels, how), PEER, most=2))
    return Case(f"{concepts} concept vectors, {how}", programs, 1e-3, concepts, None, {PLAIN: 1.0, PEER: 1.0})


def significance(quick: bool) -> Case:
    """The whole test: the gradients, the vectors of the random concepts, their statistics."""
    samples = 99 if quick else 999
    rows, labels = data(4)
    weights = np.asarray(jax.random.normal(jax.random.key(1), (SIZE, 8)))
    found = concept.concept_vectors(rows, labels, fraction=0.0)

    def head(h: Any) -> Any:
        return jnp.sin(h @ weights).sum()

    def ours() -> Any:
        return concept.tcav(head, found, rows[:200], key=jax.random.key(2), samples=samples).means

    slope = jax.jit(jax.vmap(jax.grad(head)))
    flat = found.vectors

    def bare() -> Any:
        return (slope(rows[:200]) @ flat.T).mean(0)

    return Case(
        f"a test against {samples} random concepts",
        [Program("tcav", ours, OURS), Program("the statistic without a test", bare, PLAIN)],
        1e-3,
        samples,
    )


def cases(quick: bool) -> list[Case]:
    return [vectors("ridge", quick), vectors("logistic", quick), significance(quick)]


if __name__ == "__main__":
    script("concept", cases, __doc__ or "")
