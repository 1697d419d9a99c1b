"""The random control, paired differences and the table of scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.evaluate.axioms.completeness import completeness
from jaxplain.evaluate.comparison.control import paired_difference, random_attribution
from jaxplain.evaluate.comparison.controls import edge_attribution
from jaxplain.evaluate.comparison.table import score_table
from jaxplain.evaluate.faithfulness.deletion import deletion, deletion_curve, insertion
from jaxplain.evaluate.robustness.sensitivity import max_sensitivity

KEY = jax.random.key(0)


def test_random_attributions_are_white_noise():
    a = random_attribution()(KEY, jnp.ones((100, 100)))
    np.testing.assert_allclose([a.mean(), a.std()], [0.0, 1.0], atol=0.03)
    assert abs(np.corrcoef(a[:, :-1].ravel(), a[:, 1:].ravel())[0, 1]) < 0.03


def test_the_same_key_and_input_give_the_same_and_any_change_another():
    e, x = random_attribution(), jnp.arange(4.0)
    first = e(KEY, x)
    assert e.needs_key
    assert (e(KEY, x) == first).all()
    assert (jax.jit(e)(KEY, x, 3) == first).all()
    others = [e(jax.random.key(1), x), e(KEY, x.at[2].add(1e-6)), e(KEY, x[::-1]), e(KEY, x + 1)]
    for other in others:
        assert (other != first).all()
    both = jax.vmap(e)(jnp.stack([KEY, jax.random.key(1)]), jnp.stack([x, x]))
    assert (both == jnp.stack([first, others[0]])).all()


def test_random_attributions_have_the_structure_of_the_input():
    x = {"ids": jnp.array([1, 2]), "a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(3, jnp.bfloat16)}
    a = random_attribution()(KEY, x)
    assert not a["ids"].any()
    assert a["a"].dtype == jnp.bfloat16
    assert (a["a"] != a["b"]).any()


@pytest.mark.slow
def test_the_interval_is_the_bootstrap_of_the_mean():
    rng = np.random.default_rng(0)
    scores, control = rng.normal(1.0, 2.0, 400), rng.normal(0.0, 1.0, 400)
    result = paired_difference(scores, control, key=KEY)
    difference = scores - control
    np.testing.assert_allclose(result.mean, difference.mean())
    error = difference.std() / np.sqrt(400)
    np.testing.assert_allclose(
        [result.low, result.high], difference.mean() + 1.96 * error * np.array([-1, 1]), atol=0.02
    )
    slow = np.quantile(rng.choice(difference, (4000, 400)).mean(1), [0.05, 0.95])
    narrower = paired_difference(scores, control, key=KEY, confidence=0.9, samples=4000)
    np.testing.assert_allclose([narrower.low, narrower.high], slow, atol=0.03)
    assert result.excludes_zero
    assert paired_difference(scores, control, key=KEY) == result


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(60):
        result = paired_difference(
            rng.exponential(1.0, 60), np.zeros(60), key=jax.random.key(trial), confidence=0.9, samples=300
        )
        hits += result.low <= 1.0 <= result.high
    assert 45 <= hits <= 60


@pytest.mark.slow
def test_undefined_pairs_are_left_out_and_counted():
    nan = np.nan
    full = paired_difference([1.0, 2.0, 3.0], [0.0, 0.5, 0.0], key=KEY, samples=500)
    holes = paired_difference([1.0, nan, 2.0, 3.0, 9.0], [0.0, 0.0, 0.5, 0.0, nan], key=KEY, samples=500)
    assert (holes.mean, holes.examples, holes.undefined) == (full.mean, 3, 2)
    assert min(1.0, 1.5) <= holes.low <= holes.high <= 3.0
    one = paired_difference([1.0, nan], [0.0, 0.0], key=KEY)
    assert one.mean == 1.0
    assert np.isnan([one.low, one.high]).all()
    assert not one.excludes_zero
    none = paired_difference([nan], [0.0], key=KEY)
    assert np.isnan(none.mean)
    assert (none.examples, none.undefined) == (0, 1)


@pytest.mark.parametrize(
    ("scores", "settings", "text"),
    [
        (([1.0], [1.0, 2.0]), {}, "shape"),
        (([], []), {}, "at least one"),
        (([[1.0]], [[1.0]]), {}, r"\[B\]"),
        (([1.0], [1.0]), {"confidence": 1.0}, "between 0 and 1"),
        (([1.0], [1.0]), {"samples": 0}, "samples"),
    ],
)
def test_bad_pairs_are_named(scores, settings, text):
    with pytest.raises(ValueError, match=text):
        paired_difference(*scores, key=KEY, **settings)


def planted():
    """A linear score per class on 24 examples, with its true attributions."""
    w = jax.random.normal(jax.random.key(1), (12, 3))
    x = jax.random.normal(jax.random.key(2), (24, 12))
    labels = jnp.arange(24) % 3

    def f(x, k):
        return x @ w[:, k]

    return f, x, labels, x * w[:, labels].T


@pytest.mark.slow
def test_the_table_shows_that_the_truth_beats_the_control():
    f, x, labels, truth = planted()
    e = jax.grad(f)
    control = max_sensitivity(random_attribution(), radius=0.1)
    metrics = {
        "deletion": deletion(f),
        "insertion": insertion(f, steps=4),
        "gap": completeness(f),
        "max_sensitivity": {"truth": max_sensitivity(e, radius=0.1), "zero": control, "random": control},
    }
    table = score_table({"truth": truth, "zero": 0 * truth}, metrics, x, labels, key=KEY, samples=500)
    assert table.methods == ("truth", "zero", "random")
    assert table.better == ("lower", "higher", "lower", "lower")
    assert table.values.shape == (3, 4, 24)
    for metric in metrics:
        assert table.verdict("truth", metric) == "better"
    assert table.verdict("zero", "deletion") == "undecided"
    loop = [float(deletion(f)(*row)) for row in zip(x, truth, labels, strict=True)]
    np.testing.assert_allclose(table.values[0, 0], loop, atol=1e-5)
    np.testing.assert_allclose(table.mean[0, 0], np.mean(loop), atol=1e-5)
    difference = paired_difference(table.values[0, 0], table.values[2, 0], key=KEY, samples=500)
    np.testing.assert_allclose(table.difference[0, 0], difference.mean, rtol=1e-6)
    assert np.isnan(table.difference[2]).all()


@pytest.mark.slow
def test_the_table_prints_every_row_with_its_interval():
    f, x, labels, truth = planted()
    text = str(score_table({"truth": truth}, {"deletion": deletion(f)}, x, labels, key=KEY, samples=200))
    lines = text.splitlines()
    assert lines[0].startswith("method  deletion (lower is better)")
    assert lines[2].startswith("truth ")
    assert "[" in lines[2]
    assert lines[2].endswith("*")
    assert lines[3].startswith("random")
    assert "24 examples" in lines[-1]


def test_a_method_worse_than_chance_is_marked():
    f, x, labels, truth = planted()
    table = score_table({"opposite": -truth}, {"deletion": deletion(f)}, x, labels, key=KEY, samples=200)
    assert table.verdict("opposite", "deletion") == "worse"
    assert table.verdict("random", "deletion") == "undecided"
    assert " !" in str(table)


def test_undefined_scores_are_counted_in_the_table():
    f, x, labels, truth = planted()
    table = score_table(
        {"truth": truth.at[:5].set(jnp.nan)}, {"deletion": deletion(f)}, x, labels, key=KEY, samples=200
    )
    assert table.undefined.tolist() == [[5], [0]]
    assert np.isfinite(table.mean).all()
    assert "(5 undefined)" in str(table)
    nothing = score_table({"nan": truth * jnp.nan}, {"deletion": deletion(f)}, x, labels, key=KEY, samples=200)
    assert np.isnan(nothing.mean[0, 0])


def test_a_shared_argument_and_a_metric_without_direction():
    _, x, _, truth = planted()
    table = score_table({"a": truth}, {"size": lambda x, a, k: jnp.abs(a).sum() + k}, x, 1, key=KEY, samples=200)
    np.testing.assert_allclose(table.values[0, 0], jnp.abs(truth).sum(1) + 1, rtol=1e-5)
    assert table.better == (None,)
    assert table.verdict("a", "size") in ("differs", "undecided")


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda f, x, y, a: score_table({"random": a}, {"d": deletion(f)}, x, y, key=KEY), ValueError, "'random' is"),
        (lambda f, x, y, a: score_table({"a": a}, {}, x, y, key=KEY), ValueError, "at least one metric"),
        (lambda f, x, y, a: score_table({"a": a[:3]}, {"d": deletion(f)}, x, y, key=KEY), ValueError, "24 examples"),
        (lambda f, x, y, a: score_table({"a": a}, {"d": deletion(f)}, x, y[:3], key=KEY), ValueError, "argument 1"),
        (lambda f, x, y, a: score_table({"a": a}, {"d": deletion_curve(f)}, x, y, key=KEY), ValueError, "one number"),
        (
            lambda f, x, y, a: score_table({"a": a}, {"d": {"a": deletion(f)}}, x, y, key=KEY),
            ValueError,
            "for 'random'",
        ),
        (lambda f, x, y, a: score_table({"a": a}, {"d": "deletion"}, x, y, key=KEY), TypeError, "not a function"),
        (lambda f, x, y, a: score_table({"a": a}, {"d": deletion(f)}, x * jnp.nan, y, key=KEY), ValueError, "NaN"),
        (lambda f, x, y, a: score_table({"a": a}, {"d": deletion(f)}, x, y, key=3), TypeError, "`key` has to be a key"),
        (lambda f, x, y, a: score_table({"a": a}, {"d": deletion(f)}, x[:0], y[:0], key=KEY), ValueError, "empty"),
    ],
)
def test_bad_tables_are_named(build, error, text):
    with pytest.raises(error, match=text):
        build(*planted())


def test_edges_of_an_image():
    """Sobel's gradient of a slope is eight times its steepness; a second derivative does not see slopes."""
    slope = jnp.broadcast_to(3.0 * jnp.arange(5.0)[None, :, None], (4, 5, 2)).at[..., 1].multiply(-2)
    sobel, laplace = (edge_attribution(kind)(slope, "an argument") for kind in ("sobel", "laplace"))
    np.testing.assert_allclose(sobel[:, 1:-1], jnp.broadcast_to(jnp.array([24.0, 48.0]), (4, 3, 2)))
    assert not np.asarray(laplace)[:, 1:-1].any()
    spot = edge_attribution("laplace")(jnp.zeros((3, 3, 1)).at[1, 1].set(2.0))[..., 0]
    assert spot.tolist() == [[0, 2, 0], [2, -8, 2], [0, 2, 0]]
    with pytest.raises(ValueError, match="`kind` is 'canny'"):
        edge_attribution("canny")
    with pytest.raises(ValueError, match=r"shape \(4,\); edges are those of an image"):
        edge_attribution()(jnp.ones(4))
    with pytest.raises(TypeError, match="edge_attribution: `x`"):
        edge_attribution()({"image": jnp.ones((3, 3, 1))})
    turned = edge_attribution()(jnp.swapaxes(slope, 0, 1))
    np.testing.assert_allclose(turned, jnp.swapaxes(sobel, 0, 1))
    corner = edge_attribution()(jnp.zeros((4, 4, 1)).at[2:, 2:].set(1.0))[1, 1, 0]
    assert float(corner) == pytest.approx(2**0.5)  # one of the four neighbours' weights in both directions
