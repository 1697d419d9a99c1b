"""Penalties on explanations: closed forms, derivatives, other frameworks, what they refuse."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxplain
from jaxplain import train
from shared.methods import METHODS, network, rectified, smooth
from shared.tables import alternate

KEY = jax.random.key(3)
X = jnp.array([0.5, -1.0, 2.0, 0.25])
MASK = jnp.array([1.0, 0.0, 1.0, 0.0])


def gradient(params):
    return jaxplain.gradient(jaxplain.logit(smooth, params))


def image(params, x):
    return smooth(params, x.reshape(x.shape[0], -1))


PENALTIES = {
    "reasons": lambda method: train.right_for_the_right_reasons(method, MASK, weight=0.7),
    "reasons by a function": lambda method: train.right_for_the_right_reasons(method, lambda x, y: (x > 0) * 1.0),
    "smoothness": lambda method: train.attribution_prior(method, weight=0.3),
    "sparsity": lambda method: train.attribution_prior(method, "sparsity"),
    "guidance": lambda method: train.cam_guidance(method, MASK),
    "consistency": lambda method: train.explanation_consistency(method, lambda key, x: x[::-1]),
    "distillation": lambda method: train.explanation_distillation(method, method(network(5))),
    "occlusion": lambda method: train.occlusion_penalty(lambda p: jaxplain.logit(smooth, p), MASK, baseline=0.1),
    "adversarial": lambda method: train.adversarial_loss(
        lambda p: jaxplain.pgd(jaxplain.loss(smooth, p), epsilon=0.1, step_size=0.05, steps=2),
        lambda p: jaxplain.loss(smooth, p),
    ),
}


def double(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def slopes(penalty, params):
    """The derivative along a direction, and the central difference, in double precision."""
    value = jax.jit(lambda params: penalty(params, double(X), 1, KEY))
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(5), leaf.shape, leaf.dtype), params)
    exact = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), jax.grad(value)(params), direction)))
    step = 1e-5
    ahead, behind = (value(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (step, -step))
    return float(exact), float((ahead - behind) / (2 * step))


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.sampled(4)
def test_the_derivative_of_a_penalty_is_that_of_differences(name):
    with jax.enable_x64(True):
        if name == "adversarial":  # the attack is held fixed, so differences of the whole say something else
            params = double(network())
            penalty, moved = (
                PENALTIES[name](gradient),
                jaxplain.pgd(jaxplain.loss(smooth, params), epsilon=0.1, step_size=0.05, steps=2)(double(X), 1),
            )
            exact = jax.grad(penalty)(params, double(X), 1, KEY)
            wanted = jax.grad(lambda p: jaxplain.loss(smooth, p)(moved, 1))(params)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), exact, wanted)
            return
        exact, measured = slopes(PENALTIES[name](gradient), double(network()))
        assert abs(exact) > 1e-4
        np.testing.assert_allclose(exact, measured, rtol=1e-6)


@alternate(METHODS, 3, 6)
def test_every_method_can_be_trained_on(row):
    method = lambda params: row.build(jaxplain.logit(smooth, params))  # noqa: E731
    with jax.enable_x64(True):
        exact, measured = slopes(train.right_for_the_right_reasons(method, MASK), double(network()))
        assert abs(exact) > 1e-6
        np.testing.assert_allclose(exact, measured, rtol=1e-6, atol=1e-8)


def test_a_linear_regression_with_a_penalty_has_its_closed_form():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, mask, strength = rng.normal(size=(40, 3)), np.array([0.0, 1.0, 1.0]), 0.3
        y = x @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=40)
        method = lambda w: jaxplain.gradient(lambda x, target: x @ w)  # noqa: E731
        result = train.fit(
            lambda w, x: x @ w, jnp.zeros(3), (x, y), key=KEY, epochs=400, batch_size=40, optimizer=optax.sgd(0.3),
            loss=lambda output, target: 0.5 * (output - target) ** 2,
            penalty=train.right_for_the_right_reasons(method, mask, weight=strength),
        )  # fmt: skip
        wanted = np.linalg.solve(x.T @ x / 40 + 2 * strength * np.diag(mask), x.T @ y / 40)
        np.testing.assert_allclose(result.params, wanted, atol=1e-6)
        value = 0.5 * np.mean((x @ wanted - y) ** 2) + strength * np.sum((mask * wanted) ** 2)
        np.testing.assert_allclose(result.history.loss[-1], value, rtol=1e-5)


@pytest.mark.slow
def test_relu_has_no_second_derivative_and_smooth_gives_one():
    def method(params):
        return jaxplain.smoothgrad(jaxplain.gradient(jaxplain.logit(rectified, params)), sigma=0.1, samples=2)

    plain, softened = (train.right_for_the_right_reasons(method, MASK, smooth=beta) for beta in (None, 20.0))
    by = [jax.grad(p)(network(), X, 1, KEY)["bias"] for p in (plain, softened)]
    assert float(jnp.abs(by[0]).max()) == 0
    assert float(jnp.abs(by[1]).max()) > 1e-3
    sharp = train.right_for_the_right_reasons(method, MASK, smooth=1e4)(network(), X, 1, KEY)
    np.testing.assert_allclose(sharp, plain(network(), X, 1, KEY), rtol=1e-3)


DATA = (jax.random.normal(KEY, (12, 4)), jnp.arange(12) % 3)
run = functools.partial(train.fit, smooth, network(), DATA, key=KEY, epochs=2, batch_size=5, progress=False)


@pytest.mark.slow
def test_a_penalty_is_a_loss_more_whatever_the_feeding():
    def penalty(params, x, target, key):
        return 0.1 * (params["first"] ** 2).sum() + jax.random.normal(key) * params["bias"].sum()

    device, host = run(penalty=penalty), run(penalty=penalty, on_device=False)
    batches = run(penalty=penalty, optimizer=optax.sgd(0.0))
    for a, b in zip(jax.tree.leaves(device.params), jax.tree.leaves(host.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    bare = run(optimizer=optax.sgd(0.0))
    assert np.all(np.asarray(batches.history.loss - bare.history.loss) > 0.05)
    jax.tree.map(np.testing.assert_array_equal, batches.params, bare.params)
    nothing = run(penalty=lambda params, x, target, key: 0 * params["bias"].sum())
    jax.tree.map(np.testing.assert_array_equal, nothing.params, run().params)
    traced = jax.jit(lambda key: run(penalty=penalty, key=key, progress=None).params)(KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), traced, device.params)


def test_an_examples_weight_is_its_penaltys_too():
    penalty = PENALTIES["reasons"](gradient)
    weights = jnp.array([1.0] * 6 + [0.0] * 6)
    half = train.fit(
        smooth, network(), (DATA[0][:6], DATA[1][:6]), key=KEY, epochs=1, batch_size=6, penalty=penalty,
        optimizer=optax.sgd(0.1),
    )  # fmt: skip
    all_of_them = run(weights=weights, epochs=1, batch_size=12, penalty=penalty, optimizer=optax.sgd(0.2))
    for a, b in zip(jax.tree.leaves(half.params), jax.tree.leaves(all_of_them.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", ["sparsity", "distillation", "consistency"])
def test_zeros_of_integers_do_not_count_and_what_is_said_of_them_does(name):
    mixed = {"x": X, "sender": jnp.arange(5), "there": jnp.array([True, False])}
    swapped = lambda key, x: {**x, "x": x["x"][::-1]} if isinstance(x, dict) else x[::-1]  # noqa: E731
    make = {**PENALTIES, "consistency": lambda method: train.explanation_consistency(method, swapped)}[name]

    def of(method, inside):
        score = lambda params: lambda x, y: jaxplain.logit(smooth, params)(x["x"] if inside else x, y)  # noqa: E731
        return make(lambda params: method(score(params)))(network(0), mixed if inside else X, 1, KEY)

    for method in (jaxplain.gradient, functools.partial(jaxplain.integrated_gradients, steps=3)):
        np.testing.assert_allclose(of(method, True), of(method, False), rtol=1e-5)


def test_an_integer_of_which_something_is_said_counts():
    def method(params):  # as one that replaces integers, too
        return lambda x, y: jax.tree.map(lambda leaf: jnp.tanh(params * leaf), x)

    found = train.attribution_prior(method, "sparsity")(2.0, {"x": X, "count": jnp.array([1, 3])}, 1, KEY)
    size = np.sort(np.abs(np.tanh(2.0 * np.r_[X, 1.0, 3.0])))
    np.testing.assert_allclose(found, -((2 * np.arange(1, 7) - 7) @ size) / (6 * size.sum()), rtol=1e-5)


@pytest.mark.slow
def test_masks_travel_with_the_targets():
    masks = jnp.arange(48.0).reshape(12, 4) % 2
    given = {"label": DATA[1], "mask": masks}
    result = train.fit(
        smooth, network(), (DATA[0], given), key=KEY, epochs=1, batch_size=12, optimizer=optax.sgd(0.0),
        loss=lambda outputs, target: 0 * train.cross_entropy(outputs, target["label"]),
        penalty=train.right_for_the_right_reasons(
            gradient, lambda x, target: target["mask"], label=lambda target: target["label"]
        ),
    )  # fmt: skip
    a = jax.vmap(gradient(network()))(*DATA)
    np.testing.assert_allclose(result.history.loss[0], jnp.mean(jnp.sum((masks * a) ** 2, 1)), rtol=1e-5)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(jnp.tanh(x)))


@pytest.mark.slow
def test_linen_and_equinox_are_trained_alike():
    module = Normed()
    variables = module.init(KEY, DATA[0])
    method = lambda p: jaxplain.integrated_gradients(jaxplain.logit(module.apply, p), steps=4)  # noqa: E731
    fitted = {}
    for weight in (0.0, 30.0):
        penalty = train.right_for_the_right_reasons(method, MASK, weight=weight)
        result = train.fit(
            module.apply, variables, DATA, key=KEY, epochs=20, batch_size=6, penalty=penalty, optimizer=optax.adam(0.01)
        )
        fitted[weight] = float(
            jax.vmap(lambda x, y, p=result.params: jnp.abs(MASK * method(p)(x, y)).sum())(*DATA).sum()
        )
    assert fitted[30.0] < 0.5 * fitted[0.0]

    parts, static = eqx.partition(eqx.nn.MLP(4, 3, 8, 1, activation=jnp.tanh, key=KEY), eqx.is_array)
    apply = lambda p, x: jax.vmap(eqx.combine(p, static))(x)  # noqa: E731
    method = lambda p: jaxplain.gradient(jaxplain.logit(apply, p))  # noqa: E731
    penalty = train.right_for_the_right_reasons(method, MASK, weight=30.0)
    result = train.fit(
        apply, parts, DATA, key=KEY, epochs=20, batch_size=6, penalty=penalty, optimizer=optax.adam(0.01)
    )
    sizes = [
        float(jax.vmap(lambda x, y, p=p: jnp.abs(MASK * method(p)(x, y)).sum())(*DATA).sum())
        for p in (parts, result.params)
    ]
    assert sizes[1] < 0.5 * sizes[0]


def test_another_penalty_is_another_run(tmp_path):
    penalty = PENALTIES["reasons"](gradient)
    whole = run(penalty=penalty, epochs=3)
    run(penalty=penalty, epochs=1, checkpoint=tmp_path)
    other = train.right_for_the_right_reasons(gradient, 1 - MASK, weight=0.7)
    with pytest.raises(ValueError, match="another `penalty`"):
        run(penalty=other, epochs=3, checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="another `penalty`"):
        run(epochs=3, checkpoint=tmp_path, resume=True)
    resumed = run(penalty=penalty, epochs=3, checkpoint=tmp_path, resume=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


def test_an_infinite_penalty_is_named_with_step_and_example():
    x = DATA[0].at[7].set(0.0)

    def penalty(params, x, target, key):
        return (params["bias"].sum() + 1) / jnp.abs(x).sum() * 0.01

    with pytest.raises(ValueError, match=r"the penalty of example 7 is inf in step \d"):
        train.fit(smooth, network(), (x, DATA[1]), key=KEY, epochs=2, batch_size=5, penalty=penalty)
    with pytest.raises(ValueError, match=r"the penalty of row 2 of its batch is inf in step 2"):
        train.fit(smooth, network(), [(x[:5], DATA[1][:5]), (x[5:], DATA[1][5:])], key=KEY, epochs=2, penalty=penalty)


REFUSED = {
    "not on the params": (lambda params, x, target, key: (x**2).sum(), "does not depend on the trained parameters"),
    "held": (
        lambda params, x, target, key: jax.lax.stop_gradient(params["bias"]).sum(),
        "does not depend on the trained parameters",
    ),
    "ranks": (
        lambda params, x, target, key: jnp.argsort(params["bias"]).astype(float).sum(),
        "does not depend on the trained parameters",
    ),
    "a loop of unknown length": (
        lambda params, x, target, key: jax.lax.while_loop(lambda v: v < 3, lambda v: v + params["bias"][0] ** 2, 1.0),
        "no derivative by the trained parameters",
    ),
    "several numbers": (lambda params, x, target, key: params["bias"], "one floating-point number"),
    "a whole number": (lambda params, x, target, key: 3, "one floating-point number"),
    "another mask": (train.right_for_the_right_reasons(gradient, jnp.ones(3)), r"`mask` has shape \(3,\)"),
    "a mask of another structure": (train.right_for_the_right_reasons(gradient, {"a": MASK}), "has the structure"),
    "kinks that stay": (
        train.right_for_the_right_reasons(
            lambda p: jaxplain.gradient(lambda x, y: jnp.sort(x * p["bias"][:4])[0]), MASK, smooth=1.0
        ),
        "`smooth` cannot replace",
    ),
    "whose score is not known": (
        train.right_for_the_right_reasons(lambda p: jax.grad(lambda x, y: (x * p["bias"][:4]).sum()), MASK, smooth=1.0),
        "does not say which that is",
    ),
    "axes": (train.attribution_prior(gradient, axes=(0, 1)), "`axes` are"),
    "a region": (train.cam_guidance(gradient, jnp.ones((2, 4))), "`region` has shape"),
    "a transform": (
        train.explanation_consistency(gradient, lambda key, x: x[:2]), r"`transform\(key, x\)`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_penalties_are_refused_before_compute(name):
    penalty, text = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=text):
        run(penalty=penalty)


def test_bad_settings_are_refused_where_they_are_given():
    with pytest.raises(TypeError, match="`penalty` has to be a function"):
        run(penalty=3)
    with pytest.raises(TypeError, match="`method` has to be a function"):
        train.attribution_prior(jnp.ones(3))
    with pytest.raises(ValueError, match="`weight`"):
        train.cam_guidance(gradient, MASK, weight=-1.0)
    with pytest.raises(ValueError, match="`mask`"):
        train.right_for_the_right_reasons(gradient, jnp.array([jnp.nan, 1.0]))
    with pytest.raises(ValueError, match="`form`"):
        train.attribution_prior(gradient, "dense")
    with pytest.raises(TypeError, match="`axes`"):
        train.attribution_prior(gradient, axes=0)
    with pytest.raises(TypeError, match="`method` has to return a function"):
        run(penalty=train.attribution_prior(lambda params: params["bias"]))
