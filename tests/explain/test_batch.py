"""explain_batch: one program whatever the parameters, keys by global index, errors in the caller's terms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.explain import batch
from jaxplain.explain.gradient import adaptive

X = jax.random.normal(jax.random.key(0), (5, 4))
TARGETS = jnp.array([0, 1, 2, 1, 0])
KEY = jax.random.key(7)
TRACES: list[str] = []


def apply(params, inputs):
    TRACES.append("apply")
    return jnp.tanh(inputs @ params["kernel"]) + params["bias"][None]


def parameters(key):
    return {"kernel": jax.random.normal(jax.random.key(key), (4, 3)), "bias": jnp.arange(3.0) * key}


@pytest.mark.slow
def test_it_is_the_loop_over_examples():
    e = jaxplain.integrated_gradients(jaxplain.logit(apply, parameters(0)), steps=4)
    result = jaxplain.explain_batch(e, X, TARGETS)
    np.testing.assert_allclose(result, jnp.stack([e(x, k) for x, k in zip(X, TARGETS, strict=True)]), atol=1e-6)
    shared = jaxplain.explain_batch(e, X, 1)
    np.testing.assert_allclose(shared[0], e(X[0], 1), atol=1e-6)


def test_new_parameters_neither_retrace_nor_become_constants():
    def explain(key, size=5):
        return jaxplain.explain_batch(
            jaxplain.gradient(jaxplain.logit(apply, parameters(key))), X[:size], TARGETS[:size]
        )

    explain(0)
    traces, programs = len(TRACES), batch._explain.plain._cache_size()
    results = [explain(key) for key in (1, 2)]
    assert len(TRACES) == traces
    assert batch._explain.plain._cache_size() == programs
    assert float(jnp.abs(results[0] - results[1]).max()) > 0.1
    e = jaxplain.gradient(jaxplain.logit(lambda p, x: jnp.sin(x @ p), jnp.full((4, 3000), 0.12345)))
    text = batch._explain.plain.lower(e, None, X, (TARGETS,)).as_text()
    assert "0.12345" not in text
    assert "tensor<4x3000xf32>" in text


def test_foreign_closures_are_compiled_once_and_hold_no_constants(monkeypatch):
    weight, traces = jax.random.normal(jax.random.key(3), (4, 3)), []

    def f(x, k):
        traces.append(None)
        return jnp.tanh(x @ weight)[k]

    def refused(*_):
        raise AssertionError("a closure must not be baked into the program of explain_batch")

    monkeypatch.setattr(batch._explain, "plain", refused)
    e = jaxplain.gradient(f)
    first = jaxplain.explain_batch(e, X, TARGETS, values=False)
    count = len(traces)
    second = jaxplain.explain_batch(jaxplain.gradient(f), X + 1, TARGETS, values=False)
    assert len(traces) == count
    np.testing.assert_allclose(first, jax.vmap(jax.grad(f))(X, TARGETS), atol=1e-6)
    np.testing.assert_allclose(second, jax.vmap(jax.grad(f))(X + 1, TARGETS), atol=1e-6)


def test_foreign_closures_are_compiled_once_to_a_tolerance_too(monkeypatch):
    weight, traces = jax.random.normal(jax.random.key(3), (4, 3)), []

    def f(x, k):
        traces.append(None)
        return jnp.tanh(x @ weight)[k]

    def refused(*_):
        raise AssertionError("a closure must not be baked into a program of refined integrated gradients")

    make = functools.partial(jaxplain.integrated_gradients_with_gap, steps=4, tolerance=1e-4)
    with monkeypatch.context() as patched:
        for part in ("_along", "_add"):
            patched.setattr(getattr(adaptive, part), "plain", refused)
        first = jaxplain.explain_batch(make(f), X, TARGETS)
        count = len(traces)
        jaxplain.explain_batch(make(f), X + 1, TARGETS)
        assert len(traces) == count
    leaves = jaxplain.logit(lambda w, x: jnp.tanh(x @ w), weight)
    right = jaxplain.explain_batch(make(leaves), X, TARGETS)
    assert int(right.steps.max()) > 4
    np.testing.assert_array_equal(first.steps, right.steps)
    np.testing.assert_allclose(first.attribution, right.attribution, atol=1e-6)


@pytest.mark.slow
def test_draws_depend_on_the_index_and_not_on_the_batch():
    e = jaxplain.smoothgrad(jaxplain.gradient(jaxplain.logit(apply, parameters(0))), sigma=0.3, samples=3)
    whole = jaxplain.explain_batch(e, X, TARGETS, key=KEY)
    for index, row in enumerate(whole):
        alone = e(jax.random.fold_in(KEY, index), X[index], TARGETS[index])
        np.testing.assert_allclose(row, alone, atol=1e-6)
    part = jaxplain.explain_batch(e, X[3:], TARGETS[3:], key=KEY, index=jnp.array([3, 4]))
    np.testing.assert_allclose(part, whole[3:], atol=1e-6)
    again = jaxplain.explain_batch(e, X, TARGETS, key=KEY)
    np.testing.assert_array_equal(again, whole)


def test_a_key_changes_nothing_where_nothing_is_random():
    e = jaxplain.gradient(jaxplain.logit(apply, parameters(0)))
    np.testing.assert_array_equal(jaxplain.explain_batch(e, X, TARGETS, key=KEY), jaxplain.explain_batch(e, X, TARGETS))


def test_it_can_be_transformed():
    def size(scale):
        params = {"kernel": scale * parameters(0)["kernel"], "bias": jnp.zeros(3)}
        return jnp.square(jaxplain.explain_batch(jaxplain.gradient(jaxplain.logit(apply, params)), X, TARGETS)).sum()

    slope = (size(1.01) - size(0.99)) / 0.02
    np.testing.assert_allclose(jax.grad(size)(1.0), slope, rtol=1e-2)
    np.testing.assert_allclose(jax.jit(size)(1.0), size(1.0), rtol=1e-5)


def test_loops_of_convolutions_are_in_the_fast_layout():
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 4, 5))

    def network(params, images):
        maps = lax.conv_general_dilated(images, params, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return lax.reduce_window(maps, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME").mean((1, 2))

    e = jaxplain.integrated_gradients(jaxplain.logit(network, kernel), steps=4)
    images = jax.random.normal(KEY, (3, 6, 6, 4))
    text = batch._explain.plain.lower(e, None, images, (TARGETS[:3],)).as_text()
    layouts = {
        line.split("dim_numbers = ")[1].split(", window")[0] for line in text.splitlines() if "convolution(" in line
    }
    assert layouts == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}
    assert "select_and_scatter" not in text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: jaxplain.explain_batch(e, X, TARGETS), ValueError, "smoothgrad is random and needs a key"),
        (lambda e: jaxplain.explain_batch(e, X, TARGETS, key=jax.random.key(0, impl="rbg")), TypeError, "rbg"),
        (lambda e: jaxplain.explain_batch(e, X[:0], TARGETS[:0], key=KEY), ValueError, "explain_batch"),
        (lambda e: jaxplain.explain_batch(e, X, TARGETS[:3], key=KEY), ValueError, "the batch has 5 examples"),
        (lambda e: jaxplain.explain_batch(e, X, TARGETS, key=KEY, index=jnp.arange(4)), ValueError, "`index`"),
        (lambda e: jaxplain.explain_batch(e, X.at[1, 1].set(jnp.nan), TARGETS, key=KEY), ValueError, "explain_batch"),
        (lambda e: jaxplain.explain_batch(e, X, TARGETS + 2, key=KEY), ValueError, "3"),
        (lambda e: jaxplain.explain_batch(e, {"a": X, "b": X[:2]}, TARGETS, key=KEY), ValueError, "explain_batch"),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    e = jaxplain.smoothgrad(jaxplain.gradient(jaxplain.logit(apply, parameters(0))), sigma=0.3, samples=3)
    with pytest.raises(error, match=message):
        call(e)


def test_values_are_not_read_where_that_is_not_wanted():
    e = jaxplain.gradient(jaxplain.logit(apply, parameters(0)))
    result = jaxplain.explain_batch(e, X.at[1, 1].set(jnp.nan), TARGETS, values=False)
    assert np.isnan(result).any(axis=1).tolist() == [False, True, False, False, False]


def test_the_result_comes_back_in_flight():
    """The call waits for its inputs alone: a program of a hundred products is not over when it returns."""
    e = lambda x: lax.fori_loop(0, 100, lambda _, h: jnp.tanh(h @ x), x)  # noqa: E731
    x = jnp.ones((2, 300, 300)) / 300
    jax.block_until_ready(jaxplain.explain_batch(e, x))
    found = jaxplain.explain_batch(e, x)
    assert not found.is_ready()
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("numbers", [jnp.asarray, np.asarray])
def test_wrong_values_are_told_before_the_program_is_compiled_and_when_it_is_there(numbers, monkeypatch):
    apply = lambda params, x: x @ params  # noqa: E731
    e = jaxplain.gradient(jaxplain.logit(apply, jnp.ones((2, 3))))
    x, broken = numbers(np.ones((2, 2), np.float32)), numbers(np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32))
    wrong = ((broken, numbers(np.array([0, 1])), "1 NaN"), (x, numbers(np.array([0, 3])), "target 3"))

    def refused():
        for rows, labels, words in wrong:
            with pytest.raises(ValueError, match=words):
                jaxplain.explain_batch(e, rows, labels)

    with monkeypatch.context() as patched:
        patched.setattr(batch, "fast_layout", None)  # what is traced comes to this
        refused()
    jaxplain.explain_batch(e, x, numbers(np.array([0, 1])))
    refused()


def test_a_warning_of_values_is_given_once():
    e = jaxplain.integrated_gradients(lambda x: (x**2).sum(), baseline=1.0, steps=2)
    for _ in range(2):
        with pytest.warns(UserWarning, match="2 of 2 examples") as caught:
            jaxplain.explain_batch(e, jnp.ones((2, 3)))
        assert len(caught) == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("length", [3, 2**16])  # of what NumPy reads, and of what is reduced where it lies
@pytest.mark.parametrize("wrong", [jnp.nan, jnp.inf, -jnp.inf])
def test_one_wrong_value_is_found_in_few_and_in_many(dtype, length, wrong):
    x = jnp.ones((2, length), dtype)
    e = jaxplain.gradient(lambda x: x.sum())
    jaxplain.explain_batch(e, x)
    with pytest.raises(ValueError, match=rf"`x` has 1 NaN or infinite values \(the first at index \(1, {length - 1}\)"):
        jaxplain.explain_batch(e, x.at[1, -1].set(wrong))
