"""References at their edges: sets of other dtypes, without rows, with NaN; trees of steps that cannot be drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import genomics
from jaxplain.explain.genomics import shuffle

X = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
REFERENCES = np.eye(4)[[[1, 0, 0, 2, 3, 1], [2, 2, 1, 0, 3, 3], [0, 3, 1, 1, 2, 0]]]
WEIGHTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def score(x):
    return jnp.tanh((x * WEIGHTS).sum())


@pytest.mark.parametrize("method", ["deep_lift", "integrated_gradients"])
def test_a_set_of_references_of_any_dtype_is_complete(method):
    change = float(score(X) - np.mean([score(row) for row in REFERENCES]))
    for dtype in (np.float64, int, np.int8, bool):
        e = genomics.hypothetical_contributions(score, baseline=REFERENCES.astype(dtype), method=method)
        assert float((X * e(X)).sum()) == pytest.approx(change, abs=1e-5), dtype


@pytest.mark.parametrize("method", ["deep_lift", "integrated_gradients"])
def test_references_that_are_none_and_scores_that_are_nan_are_refused(method):
    wrong = REFERENCES.copy()
    wrong[1, 2, 3] = np.nan
    for baseline, words in ((wrong, "`baseline` has 1 NaN"), (REFERENCES[:0], "`baseline` is empty")):
        with pytest.raises(ValueError, match=words):
            genomics.hypothetical_contributions(score, baseline=baseline, method=method)(X)
    with pytest.raises(ValueError, match="NaN or infinite for `x`"):
        genomics.hypothetical_contributions(lambda x: x.sum() * jnp.log(x.sum() - 7), baseline=0.5, method=method)(X)


def test_no_tree_is_drawn_that_leads_elsewhere_than_to_the_end(monkeypatch):
    """Whatever number between 0 and 1 is drawn, also one beside a step of the sums."""
    sums, search = [], jnp.searchsorted
    monkeypatch.setattr(shuffle.jnp, "searchsorted", lambda s, *a, **k: sums.append(s) or search(s, *a, **k))
    for seed in range(4):
        path = np.random.default_rng(seed).integers(0, 4, 500)
        counts = jnp.zeros((5, 5), jnp.int32).at[path[:-1], path[1:]].add(1)
        shuffle._last_steps(jax.random.key(0), counts, path[-1])
        up_to = np.asarray(sums.pop())
        maps = np.stack(np.unravel_index(np.arange(5**5), (5,) * 5), axis=1)
        for index in np.flatnonzero(np.diff(up_to, prepend=0) != 0):  # what some number can lead to
            letter = np.arange(5)
            for _ in range(5):
                letter = maps[index][letter]
            assert (letter == path[-1]).all(), (seed, index, maps[index])
