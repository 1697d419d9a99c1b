"""Sweeps and ablations against loops over single patches, estimates at one layer, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from shared.attending import blocks, weights

PARAMS = weights(jax.random.key(1), 2, 4, 2, 5)
CLEAN, CORRUPT, *ROWS = jax.random.normal(jax.random.key(0), (4, 3, 4))
ROWS = jnp.stack(ROWS)


def f(x):
    return jnp.tanh(blocks(x, PARAMS, 2)[-1]).sum()


def test_a_sweep_is_activation_patching_at_every_layer():
    found = jax.jit(language.sweep(f, {"block_?": 0, "*/mlp": None, "*~values": ("head", "position")}, batch_size=4))(
        CLEAN, CORRUPT
    )
    assert {path: value.shape for path, value in found.items()} == {
        "block_0": (3,), "block_1": (3,), "block_0/mlp": (), "block_1/mlp": (),
        "block_0/attention/~values": (2, 3), "block_1/attention/~values": (2, 3),
    }  # fmt: skip
    for path, axes in {"block_1": 0, "block_0/mlp": None, "block_0/attention/~values": (1, 0)}.items():
        alone = jaxplain.activation_patching(f, path, axes=axes)(CLEAN, CORRUPT)
        np.testing.assert_allclose(found[path], alone, atol=1e-6, err_msg=path)


def test_a_whole_layer_that_cuts_every_path_is_the_clean_run():
    found = language.sweep(f, "block_0")(CLEAN, CORRUPT)
    np.testing.assert_allclose(found["block_0"], f(CLEAN) - f(CORRUPT), atol=1e-6)


def test_ablations_are_loops_over_rows():
    at = "block_0/mlp"
    held = {row: jaxplain.capture(f, at)(ROWS[row])[1][at] for row in range(2)}
    wanted = {
        "mean": f_with(at, (held[0] + held[1]) / 2) - f(CLEAN),
        "resample": (f_with(at, held[0]) + f_with(at, held[1])) / 2 - f(CLEAN),
        "zero": f_with(at, 0 * held[0]) - f(CLEAN),
    }
    for how, value in wanted.items():
        found = jax.jit(language.ablation(f, at, how))(CLEAN, ROWS)
        np.testing.assert_allclose(found[at], value, atol=1e-6, err_msg=how)


def f_with(path, value):
    return jaxplain.intervene(f, {path: value})(CLEAN)


def test_integrated_effects_sum_to_the_difference_where_every_path_is_cut():
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS)
        g = lambda x: jnp.tanh(blocks(x, wide, 2)[-1]).sum()  # noqa: E731
        clean, corrupt = (jnp.asarray(np.asarray(x), jnp.float64) for x in (CLEAN, CORRUPT))
        found = jax.jit(language.site_attribution(g, "block_0", axes=0, steps=64))(clean, corrupt)
        assert found.shape == (3,)
        np.testing.assert_allclose(found.sum(), g(clean) - g(corrupt), atol=1e-6)


def test_relevance_at_a_layer_without_rules_is_attribution_patching_to_the_bit():
    gradient = jaxplain.attribution_patching(f, "block_0/mlp", axes=0)(CLEAN, CORRUPT)
    found = language.site_attribution(f, "block_0/mlp", "relevance", axes=0, rules=())(CLEAN, CORRUPT)
    np.testing.assert_array_equal(found, gradient)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: language.sweep(f, "block_?")(CLEAN, CORRUPT[:2]), "sweep: `clean` has the shape .* Align them"),
        (lambda: language.sweep(f, "nowhere")(CLEAN, CORRUPT), "sweep: .*'nowhere'"),
        (lambda: language.sweep(f, []), "`sites` is empty"),
        (lambda: language.sweep(f, 3), "`sites` has to be a path"),
        (lambda: language.sweep(f, "block_?", axes=4)(CLEAN, CORRUPT), "there is no axis 4 of 'block_0'"),
        (lambda: language.sweep(f, "block_?", axes="head")(CLEAN, CORRUPT), "names an axis of the parts of attentions"),
        (lambda: language.sweep(f, "*~heads", axes="heads")(CLEAN, CORRUPT), "`axes` is 'heads'; it has to be one of"),
        (lambda: language.sweep(f, "block_?", axes=(0, 0))(CLEAN, CORRUPT), "twice"),
        (lambda: language.sweep(f, "block_?", batch_size=0), "sweep: .*`?batch_size`?"),
        (lambda: language.ablation(f, "block_?", "median"), "`how` is 'median'"),
        (lambda: language.ablation(f, "block_?")(CLEAN, ROWS[:, :2]), "ablation: `clean` has the shape|`rows`"),
        (lambda: language.site_attribution(f, "block_0", axes="head"), "`axes` has to be an integer"),
        (lambda: language.site_attribution(f, "block_0", axes=5)(CLEAN, CORRUPT), "does not name axes"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
