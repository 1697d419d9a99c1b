"""Models whose mechanism is known: their functions, their truths, which methods pass, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.evaluate import mechanism_table, mechanisms

KEY = jax.random.key(1)
SAMPLES, PAIRS = 24, 3


@functools.cache
def made():
    return mechanisms(KEY, samples=SAMPLES, pairs=PAIRS)


@jax.jit
def scores(f, x):
    return jax.vmap(f)(x)


def weights(one):
    """The numbers of each pair that the score is made of, read off the function itself: at x, x with c, and c."""
    rows = np.zeros((SAMPLES, 2 * PAIRS), np.float32)  # as many as the inputs, for one program
    for p in range(PAIRS):
        rows[3 * p, p] = rows[3 * p + 1, p] = 1
        rows[3 * p + 1, PAIRS + p] = rows[3 * p + 2, PAIRS + p] = 1
    f = np.asarray(scores(one.score, rows), np.float64)
    at_x, at_both, at_c = (f[: 3 * PAIRS] - f[-1]).reshape(PAIRS, 3).T
    return at_x, at_both - at_c, at_c


def halves(one):
    return np.split(np.asarray(one.inputs, np.float64), 2, axis=1)


@pytest.mark.slow
def test_scores_are_the_functions_that_they_are_said_to_be():
    interaction, conflict, cancellation, uncertainty, absence = made()
    for one in made():
        assert one.inputs.shape == one.truth.shape == one.judged.shape == (SAMPLES, 2 * PAIRS)
        assert one.judged.any()
    (x, c), (w, u, v) = halves(interaction), weights(interaction)
    parts = np.concatenate([x * np.where(c > 0, u, w), v * c], 1)
    np.testing.assert_allclose(scores(interaction.score, interaction.inputs), parts.sum(1), atol=1e-4)
    np.testing.assert_allclose(interaction.truth, parts, atol=1e-4)
    assert (np.abs(w - u) > 1e-3).all()
    (x, c), (w, *_) = halves(conflict), weights(conflict)
    np.testing.assert_allclose(scores(conflict.score, conflict.inputs), ((1 - c) * w * x).sum(1), atol=1e-4)
    (x, u), (w, *_) = halves(cancellation), weights(cancellation)
    np.testing.assert_allclose(scores(cancellation.score, cancellation.inputs), (w * x).sum(1), atol=1e-4)
    (x, n), (w, _, change) = halves(absence), weights(absence)
    v = -change / 9
    expected = (w * x + v * (n + 10 * (1 - n))).sum(1)
    np.testing.assert_allclose(scores(absence.score, absence.inputs), expected, atol=1e-4)
    np.testing.assert_allclose(absence.truth[:, PAIRS:], 9 * v * (n == 0), atol=1e-4)
    found = scores(uncertainty.score, uncertainty.inputs)
    moved = uncertainty.inputs + np.array([0.0] * PAIRS + [1.0, -2.0, 0.5], np.float32)[None]
    np.testing.assert_allclose(scores(uncertainty.score, moved), found, atol=1e-5)
    assert float(found.min()) > 0
    assert float(found.max()) < 1
    assert float(found.std()) > 0.05


def test_the_truth_has_no_error_and_nothing_is_wrong():
    for one in made():
        truth = one.error(one.truth if one.kind != "nothing" else np.where(one.judged, 0.0, 1.0))
        known = ~np.isnan(truth)
        assert known.any()
        assert (truth[known] == 0).all()
        nothing = one.error(np.zeros_like(one.truth))
        if one.kind == "nothing":
            assert np.isnan(nothing).all()
            np.testing.assert_allclose(one.error(np.ones_like(one.truth)), 0.5)
        else:
            assert (nothing[known] == 1).all()
        if one.kind == "value":
            np.testing.assert_allclose(one.error(1.5 * one.truth)[known], 0.5, rtol=1e-6)
        if one.kind == "sign":
            assert (one.error(0.1 * one.truth)[known] == 0).all()
            assert (one.error(-one.truth)[known] == 1).all()
        assert np.isnan(one.error(np.full(one.truth.shape, np.nan))).all()


IG = jaxplain.integrated_gradients
EXPECTED = {  # interaction, conflicting features, cancellation, uncertainty, pertinent negatives
    "gradient": (jaxplain.gradient, "FFTTF"),
    "input_x_gradient": (jaxplain.input_x_gradient, "TFTTF"),
    "integrated_gradients": (functools.partial(IG, steps=8), "TFTTF"),
}
ALL = {
    **EXPECTED,
    "integrated_gradients from 1": (functools.partial(IG, steps=64, rule="midpoint", baseline=1.0), "FFTTT"),
    "shapley_values": (jaxplain.shapley_values, "FTTTF"),
    "feature_ablation": (jaxplain.feature_ablation, "FFTTF"),
    "feature_ablation to 1": (functools.partial(jaxplain.feature_ablation, baseline=1.0), "FFTTT"),
    # The rescale rule's slopes of a softmax do not cancel where its derivatives do.
    "deep_lift": (jaxplain.deep_lift, "TFTFF"),
    "deep_lift, reveal_cancel": (functools.partial(jaxplain.deep_lift, rule="reveal_cancel"), "FTTFF"),
    # It drops the path of a negative weight; at the softmax nothing arrives that could be dropped.
    "guided_backprop": (jaxplain.guided_backprop, "FFFTF"),
}


def passed(table):
    rows = zip(table.methods, table.passes, strict=True)
    return {name: "".join("T" if good else "F" for good in row) for name, row in rows}


def test_gradients_pass_what_they_can():
    table = mechanism_table({name: method for name, (method, _) in EXPECTED.items()}, KEY, samples=SAMPLES)
    assert passed(table) == {name: expected for name, (_, expected) in EXPECTED.items()}
    assert table.mechanisms == tuple(one.name for one in made())
    text = str(table)
    assert "FAIL 1 " in text
    assert "3 of 5" in text
    again = mechanism_table({"gradient": jaxplain.gradient}, KEY, samples=SAMPLES)
    np.testing.assert_array_equal(again.error[0], table.error[0])


@pytest.mark.slow
def test_the_table_of_methods_that_pass_and_fail():
    table = mechanism_table({name: method for name, (method, _) in ALL.items()}, KEY, samples=SAMPLES)
    print(table)
    assert passed(table) == {name: expected for name, (_, expected) in ALL.items()}


def test_a_method_that_refuses_a_model_says_so():
    def picky(f):
        if f.softmax:
            raise ValueError("no softmax here")
        return jaxplain.gradient(f)

    table = mechanism_table({"picky": picky}, KEY, samples=4)
    assert table.refusals == {("picky", "uncertainty"): "no softmax here"}
    assert np.isnan(table.error[0, 3])
    assert not table.passes[0, 3]
    assert "refused" in str(table)
    assert "picky refuses uncertainty: no softmax here" in str(table)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_method_that_is_undefined_for_some_inputs_does_not_pass(odd):
    """The inputs that it does explain must not speak for those that it does not."""

    def method(f):
        return lambda x: jnp.where(x[0] > 0, odd, x * jax.grad(f)(x))

    table = mechanism_table({"right where it is defined": method}, KEY, samples=SAMPLES)
    assert np.isnan(table.error).all()
    assert not table.passes.any()
    assert str(table).count("undefined") == 5
    for one in made():
        rows = np.array(one.truth)
        rows[3, 0] = odd
        errors = one.error(rows)
        assert np.isnan(errors[3])
        rows[3, 0] = one.truth[3, 0]
        np.testing.assert_array_equal(np.delete(errors, 3), np.delete(one.error(rows), 3))


def test_bad_input_is_named():
    for change, error, words in (
        ({"methods": {}}, ValueError, "at least one method"),
        ({"methods": {"m": 3}}, TypeError, "methods"),
        ({"methods": {"m": lambda f: 3}}, TypeError, "return a function"),
        ({"methods": {"m": lambda f: lambda x: x[:2]}}, ValueError, "give every feature a number"),
        ({"tolerance": -1.0}, ValueError, "tolerance"),
        ({"samples": 0}, ValueError, "samples"),
        ({"pairs": 1}, ValueError, "pairs"),
        ({"key": 3}, TypeError, "key"),
    ):
        given = {"methods": {"gradient": jaxplain.gradient}, "key": KEY, **change}
        with pytest.raises(error, match=words):
            mechanism_table(given.pop("methods"), given.pop("key"), **given)
    with pytest.raises(ValueError, match="shape"):
        made()[0].error(np.zeros(3))
    assert isinstance(made()[0].score, jaxplain.Function)
    assert jnp.ndim(made()[0].score(made()[0].inputs[0])) == 0
