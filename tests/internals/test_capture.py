"""Reading, replacing and splitting at layers of Linen models: values, gradients, bits, memory, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxplain.internals.capture import capture, intervene, split
from jaxplain.score import logit
from shared.tables import halves

KEY = jax.random.key(0)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Conv(4, (3, 3), name="conv")(x)
        h = nn.BatchNorm(use_running_average=True, name="norm")(h)
        return jax.nn.relu(h) + x


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="stem")(x)
        for index in range(3):
            x = Block(name=f"block_{index}")(x)
        x = nn.Dropout(0.5, deterministic=True, name="drop")(x.mean((1, 2)))
        return nn.Dense(5, name="head")(x)


class SelfAttention(nn.MultiHeadDotProductAttention):
    @nn.compact
    def __call__(self, x):
        return super().__call__(x)


class Text(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        h = nn.Embed(10, 4, name="embed")(tokens)
        return nn.Dense(3, name="head")(SelfAttention(2, name="attention")(h).mean(1))


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(4, name="layer")
        return nn.tanh(layer(nn.tanh(layer(x))))


@functools.cache
def resnet():
    module, x = ResNet(), jax.random.normal(KEY, (6, 6, 3))
    params = module.init(jax.random.key(1), x[None])
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(KEY, p.shape) ** 2, params)
    return module, params, x, logit(module.apply, params)


@functools.cache
def shared():
    module, x = Shared(), jnp.array([0.5, -1.0, 2.0, 0.1])
    return logit(module.apply, module.init(KEY, x[None])), x


@pytest.mark.slow
def test_all_values_equal_linens_own():
    module, params, x, f = resnet()
    output, values = capture(f)(x, 2)
    _, state = module.apply(params, x[None], capture_intermediates=True)
    own = {
        "/".join(("ResNet", *(k.key for k in path[:-2]))): leaf[0]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state["intermediates"])
    }
    assert set(values) == set(own)
    for path, value in own.items():
        np.testing.assert_array_equal(values[path], value, err_msg=path)
    assert output == f(x, 2)


def test_values_have_no_batch_axis_and_batch_by_vmap():
    _, _, x, f = resnet()
    xs = jnp.stack([x, x + 1, x - 1])
    outputs, values = jax.jit(jax.vmap(capture(f, "block_1", "drop")))(xs, jnp.array([0, 1, 2]))
    assert {path: value.shape for path, value in values.items()} == {"block_1": (3, 6, 6, 4), "drop": (3, 4)}
    for index in range(3):
        output, single = capture(f, "block_1", "drop")(xs[index], index)
        np.testing.assert_allclose(outputs[index], output, rtol=1e-5)
        np.testing.assert_allclose(values["block_1"][index], single["block_1"], rtol=1e-5, atol=1e-6)


def test_paths_patterns_and_calls():
    _, _, x, f = resnet()
    assert list(capture(f, "ResNet/block_2/conv")(x, 0)[1]) == ["ResNet/block_2/conv"]
    assert list(capture(f, "*/norm")(x, 0)[1]) == [f"ResNet/block_{i}/norm" for i in range(3)]
    assert list(capture(f, "block_?", "head")(x, 0)[1]) == [*(f"ResNet/block_{i}" for i in range(3)), "head"]
    g, y = shared()
    first, second = capture(g, "layer:*")(y, 0)[1].values()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(capture(g, "layer:1")(y, 0)[1]["layer:1"], second)


def test_gradient_of_captured_value_equals_perturb():
    module, params, x, _ = resnet()

    class Perturbed(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), name="stem")(x)
            for index in range(3):
                x = self.perturb(f"p{index}", Block(name=f"block_{index}")(x))
            return nn.Dense(5, name="head")(x.mean((1, 2)))

    perturbed = Perturbed()
    zeros = perturbed.init(KEY, x[None])["perturbations"]
    own = jax.grad(lambda p: perturbed.apply({**params, "perturbations": p}, x[None])[0, 3])(zeros)
    for index in range(3):
        body, head = split(logit(module.apply, params), f"block_{index}")
        np.testing.assert_allclose(jax.grad(head)(body(x, 3), x, 3), own[f"p{index}"][0], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_gradient_equals_finite_differences_in_float64():
    with jax.enable_x64(True):
        module, params, x, _ = resnet()
        params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
        f = logit(nn.Module.apply.__get__(module), params)
        x = jnp.asarray(np.asarray(x, np.float64))
        body, head = split(f, "block_0/norm")
        h = body(x, 1)
        assert h.dtype == jnp.float64
        direction = jnp.asarray(np.random.default_rng(0).normal(size=h.shape))
        slope = (head(h + 1e-6 * direction, x, 1) - head(h - 1e-6 * direction, x, 1)) / 2e-6
        np.testing.assert_allclose(jnp.sum(jax.grad(head)(h, x, 1) * direction), slope, rtol=1e-6)


@pytest.mark.parametrize("path", halves(["stem", "block_0/conv", "block_1/norm", "ResNet", "drop", "head", "block_2"]))
@pytest.mark.sampled(4)
def test_split_composes_to_the_original(path):
    _, _, x, f = resnet()
    body, head = split(f, path)
    assert head(body(x, 2), x, 2) == f(x, 2)
    assert jax.jit(lambda f, x: split(f, path)[1](split(f, path)[0](x, 2), x, 2))(f, x) == jax.jit(
        lambda f, x: f(x, 2)
    )(f, x)
    np.testing.assert_allclose(jax.jit(head)(jax.jit(body)(x, 2), x, 2), jax.jit(f)(x, 2), rtol=1e-6)
    xs = jnp.stack([x, 2 * x])
    composed = jax.vmap(lambda x: head(body(x, 2), x, 2))
    np.testing.assert_allclose(composed(xs), jax.vmap(lambda x: f(x, 2))(xs), rtol=1e-6)
    # Both paths of the derivative, through the cut and around it, add up to that of the whole.
    np.testing.assert_allclose(jax.grad(lambda x: composed(x[None])[0])(x), jax.grad(f)(x, 2), rtol=1e-5, atol=1e-7)


def test_intervening_with_the_value_itself_changes_nothing():
    _, _, x, f = resnet()
    g = intervene(f, {"*": lambda value: value})
    assert g(x, 2) == f(x, 2)
    assert jax.jit(lambda g: g(x, 2))(g) == jax.jit(lambda f: f(x, 2))(f)
    np.testing.assert_array_equal(jax.grad(g)(x, 2), jax.grad(f)(x, 2))
    np.testing.assert_array_equal(
        jax.vmap(g, (0, None))(jnp.stack([x, -x]), 2), jax.vmap(f, (0, None))(jnp.stack([x, -x]), 2)
    )
    value = capture(f, "block_1")(x, 2)[1]["block_1"]
    assert intervene(f, {"block_1": value})(x, 2) == f(x, 2)


def test_intervening_replaces_ablates_and_adds():
    _, params, x, f = resnet()
    bias = params["params"]["head"]["bias"]
    assert intervene(f, {"drop": 0.0})(x, 3) == bias[3]
    assert intervene(f, {"drop": jnp.zeros(4)})(x, 3) == bias[3]
    kernel = params["params"]["head"]["kernel"]
    shift = jnp.array([1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(intervene(f, {"drop": lambda h: h + shift})(x, 3), f(x, 3) + kernel[0, 3], rtol=1e-5)
    frozen = intervene(f, {"drop": jax.lax.stop_gradient})
    assert not jax.grad(frozen)(x, 3).any()
    # Only the second call of a shared module is changed.
    g, y = shared()
    np.testing.assert_allclose(intervene(g, {"layer:1": lambda h: 0 * h + 1})(y, 0), np.tanh(1.0), rtol=1e-6)
    assert intervene(g, {"layer:*": 0.0})(y, 0) == 0


def test_transformations_nest_without_naming_twice():
    _, _, x, f = resnet()
    g = intervene(intervene(f, {"block_0": lambda h: 2 * h}), {"block_1": lambda h: h + 1})
    by_hand = intervene(f, {"block_0": lambda h: 2 * h, "block_1": lambda h: h + 1})
    assert g(x, 2) == by_hand(x, 2)
    values = capture(g)(x, 2)[1]
    assert set(values) == set(capture(f)(x, 2)[1])
    np.testing.assert_array_equal(values["ResNet/block_0"], 2 * capture(f, "block_0")(x, 2)[1]["block_0"])
    body, head = split(f, "block_0")
    h = body(x, 2)
    inner_body, inner_head = split(head, "block_2")
    np.testing.assert_array_equal(inner_body(h, x, 2), split(f, "block_2")[0](x, 2))
    assert inner_head(inner_body(h, x, 2), h, x, 2) == f(x, 2)
    # A tagged trace of a function object is not reused where an untagged one is meant, and the reverse.
    jitted = jax.jit(lambda x: f(x, 2))
    before = str(jax.make_jaxpr(jitted)(x))
    capture(jitted, "block_0")(x)
    assert "jaxplain" not in before
    assert str(jax.make_jaxpr(jitted)(x)) == before


def test_compiles_once_for_new_parameters():
    module, params, x, _ = resnet()
    count = 0

    @jax.jit
    def run(head, h, x):
        nonlocal count
        count += 1
        return jax.grad(head)(h, x, 2)

    for scale in (1.0, 2.0):
        body, head = split(logit(module.apply, jax.tree.map(lambda p, s=scale: p * s, params)), "block_1")
        run(head, body(x, 2), x)
    assert count == 1


@pytest.mark.slow
def test_embedding_of_tokens_can_be_cut():
    module, tokens = Text(), jnp.array([3, 1, 2, 7])
    f = logit(module.apply, module.init(KEY, tokens[None]))
    body, head = split(f, "embed")
    h = body(tokens, 1)
    assert h.shape == (4, 4)
    assert head(h, tokens, 1) == f(tokens, 1)
    assert jax.grad(head)(h, tokens, 1).shape == h.shape
    # A method that a class inherits through super() is one call.
    assert capture(f, "attention")(tokens, 1)[1]["attention"].shape == (4, 4)


@pytest.mark.slow
@pytest.mark.optimized
def test_capturing_one_layer_keeps_no_other_alive():
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            for index in range(6):
                x = nn.tanh(nn.Dense(64, name=f"layer_{index}")(x))
            return x

    module, x = Deep(), jnp.ones((512, 64))
    params = module.init(KEY, x[None])

    def f(x):
        return module.apply(params, x[None])[0, 0, 0]

    def memory(*paths):
        analysis = jax.jit(capture(f, *paths)).lower(x).compile().memory_analysis()
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes

    one = 512 * 64 * 4
    plain = jax.jit(f).lower(x).compile().memory_analysis()
    assert memory("layer_1") < plain.temp_size_in_bytes + 2.5 * one
    assert memory() > plain.temp_size_in_bytes + 5 * one
    body = jax.jit(split(f, "layer_1")[0]).lower(x).compile()
    flops, all_flops = (c.cost_analysis()["flops"] for c in (body, jax.jit(f).lower(x).compile()))
    assert flops < 0.4 * all_flops


def test_several_arrays_of_one_module():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x):
            return {"a": 2 * x, "b": (x + 1, 3)}

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            out = Pair(name="pair")(x)
            assert out["b"][1] == 3  # a Python number stays one
            return (out["a"] * out["b"][0]).sum(-1)

    f, x = logit(Net().apply, {}), jnp.array([1.0, 2.0])
    a, b = capture(f, "pair")(x)[1]["pair"]
    np.testing.assert_array_equal(a, 2 * x)
    np.testing.assert_array_equal(b, x + 1)
    np.testing.assert_array_equal(capture(f, "pair[1]")(x)[1]["pair[1]"], b)
    body, head = split(f, "pair")
    assert head(body(x), x) == f(x)
    assert intervene(f, {"pair[0]": 1.0})(x) == 5
    assert intervene(f, {"pair[1]": jnp.array([0.0, 1.0])})(x) == 4
    with pytest.raises(ValueError, match=r"array 2 of 'Net/pair', which holds \(float32"):
        capture(f, "pair[2]")(x)


def test_batch_axis_is_found_wherever_it_is():
    class Moved(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(3, name="time_first")(x.transpose(1, 0, 2))
            flat = nn.Dense(3, name="merged")(x.reshape(-1, 3))
            table = nn.Embed(4, 3, name="table")(jnp.arange(4))
            return (flat.reshape(x.shape) * table[:, None]).sum((0, 2))[:, None]

    module, x = Moved(), jax.random.normal(KEY, (4, 3))
    f = logit(module.apply, module.init(KEY, x[None]))
    values = capture(f, "time_first", "table")(x)[1]
    assert {k: v.shape for k, v in values.items()} == {"time_first": (4, 3), "table": (4, 3)}
    body, head = split(f, "time_first")
    assert head(body(x), x) == f(x)
    with pytest.raises(ValueError, match=r"'Moved/merged' the batch axis has merged.*\(4, 3\).*\(8, 3\).*batch_axis"):
        capture(f, "merged")(x)
    assert capture(f, "merged", batch_axis=None)(x)[1]["merged"].shape == (4, 3)
    assert capture(f, "time_first", batch_axis=1)(x)[1]["time_first"].shape == (4, 3)
    with pytest.raises(ValueError, match=r"`batch_axis=0` does not fit 'Moved/time_first'"):
        capture(f, "time_first", batch_axis=0)(x)
    body, head = split(f, "merged", batch_axis=None)
    assert head(body(x), x) == f(x)


def test_model_fixed_to_one_example_says_how_to_go_on():
    f = logit(
        lambda params, x: nn.Dense(2, name="d").apply(params, x.reshape(1, 3)), nn.Dense(2).init(KEY, jnp.ones(3))
    )
    with pytest.raises(ValueError, match=r"cannot be traced with a batch of 2.*batch_axis"):
        capture(f, "d")(jnp.ones(3), 0)
    assert capture(f, "d", batch_axis=0)(jnp.ones(3), 0)[1]["d"].shape == (2,)


def test_path_that_does_not_exist_lists_the_nearest():
    _, _, x, f = resnet()
    with pytest.raises(ValueError, match=r"capture: there is no layer 'blok_1'.*'ResNet/block_1'"):
        capture(f, "blok_1")(x, 0)
    with pytest.raises(ValueError, match=r"intervene: there is no layer 'convolution'.*lists all 13"):
        intervene(f, {"convolution": 0.0})(x, 0)
    with pytest.raises(ValueError, match="split: 'a' names nothing, for no value in the function has a name"):
        split(lambda x: x.sum(), "a")[0](x)


def test_ambiguous_path_says_which_calls_there_are():
    g, y = shared()
    for use in (lambda: capture(g, "layer")(y, 0), lambda: split(g, "layer")[0](y, 0)):
        with pytest.raises(
            ValueError, match=r"'layer' is called 2 times \('Shared/layer:0': float32.*'Shared/layer:1'"
        ):
            use()
    with pytest.raises(ValueError, match=r"there is no layer 'layer:2'"):
        capture(g, "layer:2")(y, 0)


def test_integer_values_are_read_and_changed_but_not_split():
    class Tokens(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.argmax(x, -1)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.one_hot(Tokens(name="tokens")(x), 3).sum(1)

    f, x = logit(Net().apply, {}), jnp.eye(3)[jnp.array([1, 1, 2])]
    assert capture(f, "tokens")(x, 1)[1]["tokens"].tolist() == [1, 1, 2]
    assert intervene(f, {"tokens": lambda t: t.at[0].set(2)})(x, 2) == 2
    with pytest.raises(TypeError, match=r"split: 'Net/tokens' holds int32\[1, 3\], which has no gradient"):
        split(f, "tokens")[0](x, 1)


def test_wrong_replacements_are_refused():
    _, _, x, f = resnet()
    body, head = split(f, "block_1")
    h = body(x, 0)
    with pytest.raises(ValueError, match=r"split: .*'ResNet/block_1' has shape \(6, 4\).*\(6, 6, 4\)"):
        head(h[0], x, 0)
    with pytest.raises(TypeError, match="dtype bfloat16, but the value has dtype float32"):
        head(h.astype(jnp.bfloat16), x, 0)
    with pytest.raises(ValueError, match=r"intervene: .*shape \(4,\), but the value has shape \(6, 6, 4\)"):
        intervene(f, {"block_1": lambda h: h.mean((0, 1))})(x, 0)
    with pytest.raises(TypeError, match="dtype int32, but the value has dtype float32"):
        intervene(f, {"block_1": lambda h: jnp.ones(h.shape, jnp.int32)})(x, 0)
    with pytest.raises(ValueError, match="holds 1 arrays, but the replacement has 2"):
        intervene(f, {"block_1": lambda h: (h, h)})(x, 0)
    with pytest.raises(ValueError, match="changed by several entries"):
        intervene(f, {"block_1": 0.0, "ResNet/block_1": 1.0})(x, 0)


def test_wrong_settings_are_refused_at_once():
    _, _, _, f = resnet()
    with pytest.raises(TypeError, match="a path is a string"):
        capture(f, 3)
    with pytest.raises(ValueError, match="is a pattern"):
        split(f, "block_*")
    with pytest.raises(ValueError, match="`changes` is empty"):
        intervene(f, {})
    with pytest.raises(TypeError, match="has to be a function, an array or a number, not 'zero'"):
        intervene(f, {"head": "zero"})


def test_unit_of_a_body_is_a_score():
    _, _, x, f = resnet()
    body, _ = split(f, "block_1")
    unit = body.unit((2, 3, 1))
    assert unit(x, 0) == body(x, 0)[2, 3, 1]
    assert jax.grad(unit)(x, 0).shape == x.shape
    with pytest.raises(ValueError, match=r"does not name one number of a layer with shape \(6, 6, 4\)"):
        body.unit(2)(x, 0)


def test_labels_are_still_checked():
    _, _, x, f = resnet()
    with pytest.raises(ValueError, match="target 9 is outside"):
        split(f, "block_1")[1](jnp.zeros((6, 6, 4)), x, 9)
    with pytest.raises(ValueError, match="target 9 is outside"):
        intervene(f, {"block_1": 0.0}).check_call(x[None], jnp.array([9]))
