"""Lloyd's algorithm against its definition in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.concept.lloyd import _added, _multiplied, moved


@pytest.mark.parametrize(("count", "k"), [(3, 3), (17, 2), (200, 5), (40_000, 20)])
def test_both_ways_to_sum_a_cluster_are_its_sum(count, k):
    rng = np.random.default_rng(count)
    rows, labels = rng.uniform(size=(count, 6)).astype(np.float32) + 1, rng.integers(0, k, count)
    exact = np.stack([rows[labels == i].sum(axis=0, dtype=np.float64) for i in range(k)])
    for way in (_added, _multiplied):
        np.testing.assert_allclose(way(jnp.asarray(rows), jnp.asarray(labels), k), exact, rtol=2e-6)


def lloyd(rows, centres, steps):
    """One row at a time, and an empty cluster takes the row farthest from its centre."""
    rows, centres = rows.astype(np.float64), centres.astype(np.float64)
    former = None
    for _ in range(steps):
        distances = ((rows[:, None] - centres[None]) ** 2).sum(-1)
        labels = distances.argmin(1)
        given = labels.copy()
        farthest = iter(np.argsort(-distances.min(1), kind="stable"))
        for empty in sorted(set(range(len(centres))) - set(labels)):
            given[next(farthest)] = empty
        held = [rows[given == i] for i in range(len(centres))]
        centres = np.stack([own.mean(0) if len(own) else old for own, old in zip(held, centres, strict=True)])
        if former is not None and (labels == former).all():
            break
        former = labels
    sizes = np.bincount(((rows[:, None] - centres[None]) ** 2).sum(-1).argmin(1), minlength=len(centres))
    return centres[np.argsort(-sizes, kind="stable")]


@pytest.mark.parametrize("far", [0.0, 1e4], ids=["near", "far from the origin"])
@pytest.mark.parametrize("empty", [0, 2])
@pytest.mark.parametrize("steps", [1, 3, 100])
def test_centres_are_those_of_the_definition(far, empty, steps):
    rng = np.random.default_rng(4)
    rows = (rng.normal(size=(300, 4)) + 6 * rng.integers(0, 4, (300, 1)) + far).astype(np.float32)
    start = rows[:5].copy()
    start[:empty] = far + 1000  # nobody's nearest
    found = moved(jnp.asarray(rows), jnp.asarray(start), steps)
    np.testing.assert_allclose(found, lloyd(rows, start, steps), atol=1e-3 if far else 1e-4)
