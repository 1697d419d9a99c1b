"""Laws and transformations over the table of all methods."""

from __future__ import annotations

import dataclasses
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.explain.backward import relevance
from jaxplain.program.function import as_function
from shared.methods import METHODS, OTHERS, Row, compiled, network, rectified, smooth
from shared.tables import alternate, every

all_rows = every(METHODS)
first, second, third = (alternate(METHODS, place, 4) for place in range(3))
X = jnp.array([0.5, -1.0, 2.0, 0.25])


def test_every_public_method_has_a_row():
    named = {row.name for row in METHODS} | set(OTHERS)
    rooms = ("jaxplain.explain.", "jaxplain.internals.patching")
    public = {n for n in jaxplain.__all__ if getattr(jaxplain, n).__module__.startswith(rooms)}
    assert public == named
    for name in jaxplain.__all__:
        assert inspect.getdoc(getattr(jaxplain, name)), name


@second
def test_dummy_features_get_zero(row: Row):
    a = row.explain(lambda x: jnp.sin(x[0]) * x[2], X)
    if row.dummy:
        assert a[1] == 0
        assert a[3] == 0
    else:
        assert np.isfinite(np.asarray(a)).all()


@all_rows
@pytest.mark.sampled(4)
def test_completeness(row: Row):
    f = jaxplain.logit(smooth, network())
    gap = float(row.explain(f, X, 1).sum() - (f(X, 1) - f(jnp.zeros(4), 1)))
    if row.complete:
        assert abs(gap) < 1e-4
    else:
        assert np.isfinite(gap)


@first
def test_linearity_in_the_score(row: Row):
    f, g = jaxplain.logit(smooth, network(1)), jaxplain.logit(smooth, network(2))
    if not row.linear:
        return
    mixed = row.explain(lambda x: 2 * f(x, 0) - 3 * g(x, 1), X)
    parts = 2 * row.explain(f, X, 0) - 3 * row.explain(g, X, 1)
    np.testing.assert_allclose(mixed, parts, atol=1e-4)


@third
def test_symmetric_features_get_the_same(row: Row):
    a = row.explain(lambda x: x[0] * x[1] + jnp.tanh(x[0] + x[1]) + x[2], jnp.array([0.7, 0.7, 1.0]))
    if row.symmetric:
        np.testing.assert_allclose(a[0], a[1], rtol=1e-5)
    else:
        assert np.isfinite(np.asarray(a)).all()


@first
def test_implementation_invariance(row: Row):
    params = network()

    def other(params, x):
        hidden = x.reshape(x.shape[0], -1) @ params["first"] + params["bias"][None]
        return jnp.einsum("bh,hk->bk", jnp.where(hidden > 0, hidden, 0.0), params["second"])

    one, two = (row.explain(jaxplain.logit(net, params), X, 2) for net in (rectified, other))
    np.testing.assert_allclose(one, two, atol=1e-5)


@second
def test_jit_equals_eager(row: Row):
    f = jaxplain.logit(rectified, network())
    np.testing.assert_allclose(row.eager(f, X, 1), row.explain(f, X, 1), atol=1e-5)


@third
def test_vmap_equals_a_loop_and_explain_batch(row: Row):
    e, key = as_function(row.build(jaxplain.logit(rectified, network()))), jax.random.key(7)
    x, labels = jax.random.normal(jax.random.key(1), (3, 4)), jnp.array([0, 1, 2])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(3))
    batch = (keys, x, labels) if row.random else (x, labels)
    loop = jnp.stack([compiled(e, *one) for one in zip(*batch, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(e))(*batch), loop, atol=1e-5)
    if not getattr(e, "adaptive", False):  # the driver refines examples one by one, to the same tolerance
        np.testing.assert_allclose(jaxplain.explain_batch(e, x, labels, key=key), loop, atol=1e-5)


@first
def test_all_classes_at_once(row: Row):
    e = as_function(row.build(jaxplain.logit(smooth, network())))
    inputs = row.inputs(X, key=3)
    together = jax.jit(jax.vmap(e, (*(None for _ in inputs), 0)))(*inputs, jnp.arange(3))
    single = jnp.stack([compiled(e, *inputs, k) for k in range(3)])
    np.testing.assert_allclose(together, single, atol=1e-5)


@second
def test_one_chunk_equals_many(row: Row):
    e = row.build(jaxplain.logit(smooth, network()))
    if not hasattr(e, "batch_size"):
        return
    whole, *others = (
        compiled(dataclasses.replace(e, batch_size=size), *row.inputs(X, 0)) for size in (100, 3, e.batch_size)
    )
    for other in others:
        chex.assert_trees_all_close(whole, other, atol=1e-5)


@third
def test_gradient_through_the_explanation(row: Row):
    x = jnp.array([0.3, -0.4, 0.5, 0.6])

    def energy(params, x):
        return (row.explain(jaxplain.logit(smooth, params), x, 1) ** 2).sum()

    params = network()
    energy = jax.jit(energy)
    grads = jax.grad(energy)(params, x)
    chex.assert_tree_all_finite(grads)
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(5), leaf.shape), params)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), grads, direction)))
    step = 1e-2
    ahead, behind = (energy(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction), x) for s in (step, -step))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=0.05, atol=1e-3)


@first
def test_bfloat16(row: Row):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), network())
    a = row.explain(jaxplain.logit(rectified, params), X.astype(jnp.bfloat16), 1)
    assert a.dtype == jnp.bfloat16
    assert bool(jnp.isfinite(a).all())
    wide = row.explain(jaxplain.logit(rectified, network()), X, 1)
    assert float(jnp.abs(a - wide).max()) < 0.1 * float(jnp.abs(wide).max()) + 0.1


@all_rows
@pytest.mark.sampled(4)
def test_pytree_inputs_with_integers_and_masks(row: Row):
    def f(x, k):
        real = jnp.where(x["mask"], x["values"], 0.0)
        return jnp.tanh(real).sum() * (1 + k) + jnp.take(jnp.arange(4.0), x["ids"]).sum()

    x = {"ids": jnp.array([1, 2]), "mask": jnp.array([True, False, True]), "values": jnp.array([0.5, 1.0, -2.0])}
    a = row.explain(f, x, 1)
    assert jax.tree.structure(a) == jax.tree.structure(x)
    chex.assert_trees_all_equal_shapes(a, x)
    assert not a["ids"].any()
    assert not a["mask"].any()
    assert not row.dummy or a["values"][1] == 0
    assert (a["values"][jnp.array([0, 2])] != 0).all()


@all_rows
def test_integers_that_look_up_nothing_need_a_method_without_a_derivative(row: Row):
    x = jnp.arange(3)
    if row.name in ("feature_ablation", "occlusion", "shapley_values", "shapley_sampling", "kernel_shap", "lime"):
        np.testing.assert_allclose(row.explain(lambda x: x.sum() * 1.0, x), x, atol=1e-4)  # absent is the id 0
        return
    with pytest.raises(TypeError, match="split"):
        row.explain(lambda x: x.sum() * 1.0, x)


@all_rows
@pytest.mark.sampled(4)
def test_not_a_number_is_refused_and_never_papered_over(row: Row):
    bad = X.at[2].set(jnp.nan)
    f = jaxplain.logit(smooth, network())
    with pytest.raises(ValueError, match="NaN"):
        row.eager(f, bad, 0)
    assert bool(jnp.isnan(row.explain(f, bad, 0)).any())


@second
def test_new_parameters_neither_retrace_nor_become_constants(row: Row):
    traces = []

    def net(params, x):
        traces.append(1)
        return jnp.tanh(x @ params["wide"]) @ params["tall"]

    def params(key):
        one, two = jax.random.split(jax.random.key(key))
        return {"wide": jax.random.normal(one, (4, 512)), "tall": jax.random.normal(two, (512, 1024))}

    x, labels, key = jnp.ones((3, 4)), jnp.array([0, 1, 2]), jax.random.key(0)
    first = jaxplain.explain_batch(row.build(jaxplain.logit(net, params(0))), x, labels, key=key)
    count = len(traces)
    second = jaxplain.explain_batch(row.build(jaxplain.logit(net, params(1))), x, labels, key=key)
    assert len(traces) == count
    assert not np.allclose(first, second)
    e = row.build(jaxplain.logit(net, params(0)))
    keys = jax.random.split(key, 3)
    inputs = (keys, x, labels) if row.random else (x, labels)
    lowered = jax.jit(lambda e, *a: jax.vmap(e)(*a)).lower(e, *inputs).as_text()
    assert max(len(line) for line in lowered.splitlines()) < 100_000


def test_the_table_catches_a_wrong_method():
    wrong = Row("wrong", lambda f: lambda x, *args: 1.1 * jaxplain.integrated_gradients(f)(x, *args), complete=True)
    with pytest.raises(AssertionError):
        test_completeness(wrong)


SCORED = {  # by name, the arguments behind the score
    **dict.fromkeys(("gradient", "saliency", "input_x_gradient", "integrated_gradients", "full_grad"), ()),
    **dict.fromkeys(("guided_backprop", "deconvnet", "excitation_backprop", "deep_lift", "kernel_shap"), ()),
    **dict.fromkeys(("grad_cam", "score_cam", "class_activation_map"), ("layer",)),
    "lrp": (relevance.epsilon(),),
}


@pytest.mark.parametrize("name", SCORED)
def test_a_score_that_is_no_function_is_refused_by_the_method(name):
    message = rf"{name}: the score `f` has to be a function f\(x, \*args\) -> scalar, not dict"
    with pytest.raises(TypeError, match=message):
        getattr(jaxplain, name)({"params": 1.0}, *SCORED[name])
