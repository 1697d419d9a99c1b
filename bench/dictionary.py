"""Speed of dictionaries: non-negative factorisation, least squares in its atoms, k-means, beside scikit-learn.

Activations are sparse sums of planted atoms and noise, zero or more. The factorisation takes the same steps from the
same start as scikit-learn's coordinate descent (whose rows are independent, so that its order is that of columns), the
codes solve the same convex problem as SciPy's `nnls`, and k-means moves the same centres: results are equal before
anything is timed.

    python bench/dictionary.py [--quick]
"""

from __future__ import annotations

import pathlib
import sys
import warnings
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import numpy as np
from scipy.optimize import nnls
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF

from bench.harness import OURS, PEER, Case, Program, script
from jaxplain import concept


def planted(count: int, width: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations and atoms."""
    rng = np.random.default_rng(0)
    atoms = rng.gamma(1.0, size=(k, width)) * (rng.random((k, width)) < 0.3)
    codes = rng.gamma(1.0, size=(count, k)) * (rng.random((count, k)) < 0.3)
    rows = codes @ atoms + 0.05 * np.abs(rng.normal(size=(count, width)))
    return rows.astype(np.float32), atoms.astype(np.float32)


def factorisation(count: int, width: int, k: int, steps: int) -> Case:
    rows, _ = planted(count, width, k)
    rng = np.random.default_rng(1)
    start = tuple(rng.random(shape).astype(np.float32) for shape in ((count, k), (k, width)))

    def ours() -> Any:
        found = concept.non_negative_factorization(rows, k, start=start, steps=steps, tolerance=0.0)
        return jax.block_until_ready(found.codes @ found.atoms)

    def peer() -> Any:
        model = NMF(k, init="custom", solver="cd", max_iter=steps, tol=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            codes = model.fit_transform(rows, W=start[0].copy(), H=start[1].copy())
        return codes @ model.components_

    def prove() -> str:
        losses = np.asarray(concept.non_negative_factorization(rows, k, start=start, steps=steps).losses)
        assert (np.diff(losses) <= 0).all()
        return f"the loss falls from {losses[0]:.4g} to {losses[-1]:.4g} and never rises"

    programs = [Program("non_negative_factorization", ours, OURS), Program("scikit-learn's NMF", peer, PEER)]
    return Case(f"{steps} steps, [{count}, {width}] into {k}", programs, 1e-2, count, prove, {PEER: 1.0})


def codes(count: int, width: int, k: int) -> Case:
    rows, atoms = planted(count, width, k)
    programs = [
        Program("non_negative_coefficients", lambda: concept.non_negative_coefficients(rows, atoms), OURS),
        Program("SciPy's nnls", lambda: np.stack([nnls(atoms.T, row)[0] for row in rows]), PEER),
    ]
    return Case(f"codes of {count} rows of {width} in {k} atoms", programs, 1e-3, count, None, {PEER: 1.0})


def clusters(count: int, width: int, k: int) -> Case:
    rows, _ = planted(count, width, k)
    start = rows[:k]

    def peer() -> Any:
        found = KMeans(k, init=start, n_init=1, algorithm="lloyd", tol=0, max_iter=20).fit(rows)
        return np.sort(found.cluster_centers_, axis=0)

    def ours() -> Any:
        return np.sort(np.asarray(concept.k_means(rows, k, start=start, steps=20).atoms), axis=0)

    programs = [Program("k_means", ours, OURS), Program("scikit-learn's KMeans", peer, PEER)]
    return Case(f"k-means of [{count}, {width}] into {k}", programs, 1e-3, count, None, {PEER: 1.0})


def cases(quick: bool) -> list[Case]:
    count, width, k = (300, 32, 6) if quick else (5000, 256, 20)
    return [
        factorisation(count, width, k, 20 if quick else 100),
        codes(count // 2, width, k),
        clusters(count, width, k),
    ]


if __name__ == "__main__":
    script("dictionary", cases, __doc__.partition("\n")[0])
