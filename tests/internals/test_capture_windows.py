"""Values whose batch axis merged with another: left out by name where a pattern meets them, whole where they are named.

The model is a small Swin: windows of an image are folded into the batch axis, attended to, and unfolded.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxplain.internals.capture import capture, intervene, split
from jaxplain.internals.layers import layers
from jaxplain.score import logit

KEY = jax.random.key(0)
SIZE, WINDOW, WIDTH = 8, 4, 4


def windows(x):
    """[B, H, W, C] -> [B * windows, tokens of one, C]."""
    batch, n = x.shape[0], SIZE // WINDOW
    x = x.reshape(batch, n, WINDOW, n, WINDOW, WIDTH).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, WINDOW * WINDOW, WIDTH)


def image(x, batch):
    n = SIZE // WINDOW
    x = x.reshape(batch, n, n, WINDOW, WINDOW, WIDTH).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, SIZE, SIZE, WIDTH)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        q, k, v = jnp.split(nn.Dense(3 * WIDTH, name="qkv")(x), 3, axis=-1)
        weights = nn.softmax(jnp.einsum("bqd,bkd->bqk", q, k))
        return nn.Dense(WIDTH, name="out")(jnp.einsum("bqk,bkd->bqd", weights, v))


class Block(nn.Module):
    shift: int

    @nn.compact
    def __call__(self, x):
        h = jnp.roll(nn.LayerNorm(name="norm")(x), (-self.shift, -self.shift), (1, 2))
        h = image(Attention(name="attention")(windows(h)), x.shape[0])
        return x + jnp.roll(h, (self.shift, self.shift), (1, 2))


class Swin(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (1, 1), name="embed")(x)
        for index in range(2):
            x = Block(2 * index, name=f"block_{index}")(x)
        return nn.Dense(3, name="head")(x.mean((1, 2)))


MERGED = [f"Swin/block_{i}/attention{name}" for i in range(2) for name in ("/qkv", "/out", "")]
PLAIN = ["Swin/embed", *(f"Swin/block_{i}{name}" for i in range(2) for name in ("/norm", "")), "Swin/head", "Swin"]


@functools.cache
def swin():
    module, x = Swin(), jax.random.normal(KEY, (SIZE, SIZE, 3))
    variables = module.init(KEY, x[None])
    return module, variables, x, logit(module.apply, variables)


@pytest.mark.slow
def test_capture_of_everything_leaves_them_out_and_says_which():
    module, variables, x, f = swin()
    with pytest.warns(UserWarning, match="capture: .*batch_axis=None") as caught:
        output, values = capture(f)(x, 1)
    assert len(caught) == 1
    assert all(repr(path) in str(caught[0].message) for path in MERGED)
    assert not any(repr(path) in str(caught[0].message) for path in PLAIN)
    assert output == f(x, 1)
    _, state = module.apply(variables, x[None], capture_intermediates=True)
    own = {
        "/".join(("Swin", *(k.key for k in path[:-2]))): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state["intermediates"])
    }
    assert set(values) == set(PLAIN)
    for path in PLAIN:
        np.testing.assert_array_equal(values[path], own[path][0], err_msg=path)
    # Named, they are shown whole, and so is everything where it is asked for.
    _, whole = capture(f, *MERGED, batch_axis=None)(x, 1)
    _, everything = capture(f, batch_axis=None)(x, 1)
    assert set(everything) == set(own)
    for path in MERGED:
        np.testing.assert_array_equal(whole[path], own[path], err_msg=path)
        np.testing.assert_array_equal(everything[path], own[path], err_msg=path)


@pytest.mark.slow
def test_patterns_leave_them_out_and_names_do_not():
    _, _, x, f = swin()
    with pytest.warns(UserWarning, match="'Swin/block_1/attention/out', 'Swin/block_1/attention' left out"):
        _, values = capture(f, "block_1*", "head")(x, 1)
    assert list(values) == ["Swin/block_1/norm", "Swin/block_1", "head"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a pattern that meets none of them says nothing
        assert list(capture(f, "*/norm")(x, 1)[1]) == ["Swin/block_0/norm", "Swin/block_1/norm"]
    with pytest.raises(ValueError, match=r"'Swin/block_0/attention' the batch axis has merged.*batch_axis"):
        capture(f, "block_?", "block_0/attention")(x, 1)
    with pytest.raises(ValueError, match=r"the batch axis has merged.*\(4, 16, 4\).*\(8, 16, 4\)"):
        capture(f, "*/attention")(x, 1)  # nothing is left
    for use in (lambda: split(f, "block_0/attention")[0](x, 1), lambda: intervene(f, {"block_0/attention": 0.0})(x, 1)):
        with pytest.raises(ValueError, match="the batch axis has merged"):
            use()


@pytest.mark.slow
def test_intervening_by_a_pattern_changes_the_others():
    _, _, x, f = swin()
    with pytest.warns(UserWarning, match="intervene: .*'Swin/block_0/attention/qkv'"):
        assert intervene(f, {"*": lambda value: value})(x, 1) == f(x, 1)
    assert intervene(f, {"*": lambda value: value}, batch_axis=None)(x, 1) == f(x, 1)
    # Without the attention of both blocks the model is a line: the mean of the embedding, through the head.
    g = intervene(f, {"*/attention": 0.0}, batch_axis=None)
    embedded = capture(f, "embed")(x, 1)[1]["embed"].mean((0, 1))
    head = swin()[1]["params"]["head"]
    np.testing.assert_allclose(g(x, 1), (embedded @ head["kernel"] + head["bias"])[1], rtol=1e-5)


def test_batches_and_layers():
    _, _, x, f = swin()
    with pytest.warns(UserWarning, match="left out"):
        outputs, values = jax.jit(jax.vmap(capture(f, "block_0*"), (0, None)))(jnp.stack([x, 2 * x]), 1)
    assert {path: value.shape for path, value in values.items()} == {
        "Swin/block_0/norm": (2, SIZE, SIZE, WIDTH),
        "Swin/block_0": (2, SIZE, SIZE, WIDTH),
    }
    np.testing.assert_allclose(outputs, [f(x, 1), f(2 * x, 1)], atol=1e-6)
    shapes = {layer.path: layer.shape for layer in layers(f)(x, 1)}
    assert shapes["Swin/block_0/attention"] == (4, 16, 4)
    assert shapes["Swin/block_0"] == (SIZE, SIZE, WIDTH)
    body, head = split(f, "block_1/attention", batch_axis=None)
    assert head(body(x, 1), x, 1) == f(x, 1)


def test_values_of_another_batch_are_left_out_too():
    """A part that is called with a batch of one only cannot show where the batch axis is."""

    def apply(params, x):
        with jax.named_scope("always"):
            h = jnp.sin(x * params)
        if x.shape[0] == 1:
            with jax.named_scope("alone"):
                h = jnp.cos(h) * 2.0
        return h

    f, x = logit(apply, jnp.ones((1, 3))), jnp.arange(3.0)
    with pytest.warns(UserWarning, match="'alone' left out"):
        _, values = capture(f)(x, 1)
    assert list(values) == ["always"]
    with pytest.raises(ValueError, match="'alone' is not reached with every size of batch"):
        capture(f, "alone")(x, 1)
