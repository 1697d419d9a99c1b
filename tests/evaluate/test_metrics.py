"""Metamorphic laws over the table of all metrics."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from shared.metrics import METRICS, OTHERS, Row, Scaled, network, parameters
from shared.tables import alternate, every

all_rows, even, odd = every(METRICS), alternate(METRICS, 0), alternate(METRICS, 1)
KEY = jax.random.key(3)
X = np.asarray(jax.random.normal(jax.random.key(0), (5, 2, 2, 2)))
A = np.asarray(jax.random.normal(jax.random.key(1), (5, 2, 2, 2)))
MASK = np.asarray(jax.random.bernoulli(jax.random.key(2), 0.5, (5, 2, 2))) | np.eye(2, dtype=bool)[None]
LABELS = np.array([0, 1, 2, 1, 0])


def score(key=0):
    return jaxplain.probability(network, parameters(8, key))


def metric(row: Row, factor=1.0, key=0):
    f = score(key)
    return row.build(f, Scaled(jaxplain.gradient(f), jnp.asarray(factor)))


def run(m, x=X, a=A, labels=LABELS, mask=MASK, index=None):
    return jax.tree.map(np.asarray, jaxplain.evaluate.evaluate_batch(m, x, a, labels, key=KEY, mask=mask, index=index))


def test_every_public_metric_has_a_row():
    named = {row.name for row in METRICS} | set(OTHERS)
    public = set(jaxplain.evaluate.__all__)
    assert public == named


@even
@pytest.mark.sampled(8)
def test_laws_of_a_batch(row: Row):
    m = metric(row)
    assert getattr(m, "better", "nothing") in ("higher", "lower", None)
    copies = [array.copy() for array in (X, A, LABELS, MASK)]
    whole = run(m)
    for value in jax.tree.leaves(whole):
        assert np.isfinite(value).any()
    chex.assert_trees_all_equal(run(m), whole)  # the same key, the same score
    for array, copy in zip((X, A, LABELS, MASK), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    order = np.array([3, 0, 4, 2, 1])
    turned = run(m, X[order], A[order], LABELS[order], MASK[order], order)
    chex.assert_trees_all_close(turned, jax.tree.map(lambda v: v[order], whole), atol=1e-5)
    if not row.dataset:
        x, a, labels, mask = (array.copy() for array in copies)
        x[1:], a[1:], labels[1:], mask[1:] = 7.0 * x[:0:-1], -3.0 * a[:0:-1], 2, True
        other = run(m, x, a, labels, mask)
        chex.assert_trees_all_close(jax.tree.map(lambda v: v[0], other), jax.tree.map(lambda v: v[0], whole), atol=1e-5)
    scaled = run(metric(row, 8.0), a=8.0 * A)
    if row.scale_free:
        chex.assert_trees_all_close(scaled, whole, rtol=1e-4, atol=1e-5)
    else:
        assert any(not np.allclose(u, v) for u, v in zip(jax.tree.leaves(scaled), jax.tree.leaves(whole), strict=True))


@alternate(METRICS, 1, each=4)
@pytest.mark.sampled(2)
def test_jitted_equals_eager_whatever_the_chunk(row: Row):
    m = metric(row)
    whole = run(m)
    if hasattr(m, "batch_size"):
        m = dataclasses.replace(m, batch_size=4)
    if row.dataset:
        chex.assert_trees_all_close(jax.tree.map(np.asarray, m(X, A, LABELS)), whole, atol=1e-6)
        return
    key = KEY if getattr(m, "shared_key", False) else jax.random.fold_in(KEY, 2)
    inputs = [key] if m.needs_key else []
    inputs += [X[2]] if getattr(m, "needs_input", True) else []
    inputs += [A[2]] if getattr(m, "needs_attribution", True) else []
    if getattr(m, "needs_mask", False):
        inputs += [MASK[2]]
    elif getattr(m, "needs_input", True):
        inputs += [int(LABELS[2])]
    eager = jax.tree.map(np.asarray, m(*inputs))
    chex.assert_trees_all_close(eager, jax.tree.map(lambda v: v[2], whole), rtol=1e-4, atol=1e-5)


@all_rows
@pytest.mark.sampled(4)
def test_not_a_number_is_never_papered_over(row: Row):
    if not getattr(metric(row), "needs_attribution", True):
        return
    bad = A.copy()
    bad[0, 0, 0, 0] = np.nan
    found = run(metric(row), a=bad)
    for field, value in found._asdict().items() if hasattr(found, "_asdict") else [("", found)]:
        if field not in ("fraction", "size"):
            assert np.isnan(value[0]).all()


@all_rows
def test_bad_input_is_an_error_that_names_the_metric(row: Row):
    m = metric(row)
    takes = getattr(m, "needs_attribution", True)
    if takes:
        with pytest.raises(ValueError, match=f"{row.name} needs an attribution"):
            run(m, a=None)
    if takes and not row.dataset and (getattr(m, "needs_input", True) or getattr(m, "needs_mask", False)):
        with pytest.raises(ValueError, match=rf"{row.name}: .*attribution.* has shape \(3, 3\)"):
            run(m, a=np.ones((5, 3, 3)))
    if m.needs_key:
        with pytest.raises(ValueError, match=f"{row.name} is random and needs a key"):
            jaxplain.evaluate.evaluate_batch(m, X, A, LABELS)
        with pytest.raises(TypeError, match=f"{row.name}: it is random and needs a key first"):
            m(X[0], A[0], 0)
    if getattr(m, "needs_mask", False):
        assert np.isnan(run(m, mask=np.zeros_like(MASK))).all()
        with pytest.raises(ValueError, match=f"{row.name} needs a mask"):
            run(m, mask=None)


SCORES = {
    "linear": lambda w, x: jnp.sum(w * x),
    "sigmoid": lambda w, x: jax.nn.sigmoid(jnp.sum(w * x)),
    "relu": lambda w, x: jax.nn.relu(jnp.sum(w * x)),
}
FAITHFUL = [row for row in METRICS if row.faithful]


class Weighted(jaxplain.Function):
    """An additive score through a monotone function."""

    weights: jax.Array
    kind: str = dataclasses.field(default="linear", metadata={"static": True})

    def __call__(self, x):
        return SCORES[self.kind](self.weights, x)


@pytest.mark.parametrize("row", FAITHFUL, ids=[f"{row.name}-{i}" for i, row in enumerate(FAITHFUL)])
@pytest.mark.parametrize("shape", [(6,), (3, 2, 3)], ids=["table", "colour"])
@pytest.mark.sampled(4)
def test_the_truth_outranks_a_random_attribution(row: Row, shape):
    w = jax.random.normal(jax.random.key(4), shape)
    x = jax.random.normal(jax.random.key(5), (12, *shape)) + 0.5
    m = row.build(Weighted(w, row.faithful), None)
    truth, noise = w[None] * x, jax.random.normal(jax.random.key(6), x.shape)
    true, random = (np.nanmean(jaxplain.evaluate.evaluate_batch(m, x, a, key=KEY)) for a in (truth, noise))
    assert (true > random) if m.better == "higher" else (true < random), (true, random)
