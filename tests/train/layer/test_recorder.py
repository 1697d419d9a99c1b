"""What the layers do while a model is trained: against NumPy, in known order, with dead units, wherever a run is."""

import functools

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxplain
from jaxplain import train
from jaxplain.train.layer import groups_of

KEY = jax.random.key(3)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(10, 3)).astype(np.float32)
Y = GENERATOR.normal(size=(10, 2)).astype(np.float32)
W, B, V = (GENERATOR.normal(size=shape).astype(np.float32) for shape in ((3, 4), 4, (4, 2)))
PARAMS = {"z": {"kernel": W, "bias": B}, "a": V}  # used first and second
ARRAYS = ("gradient_norm", "update_norm", "weight_norm", "dead")


def apply(params, x):
    return (x @ params["z"]["kernel"] + params["z"]["bias"][None]) @ params["a"]


fit = functools.partial(
    train.fit, apply, PARAMS, (X, Y), key=KEY, loss=train.squared_error, epochs=2, batch_size=4, progress=False
)
RATE = 0.1


@functools.cache
def recorded():
    return fit(optimizer=optax.sgd(RATE), record_layers=True)


def norm(*arrays):
    return np.sqrt(sum(np.sum(np.square(array)) for array in arrays))


def by_hand():
    """Norms `[E, 2]` of gradient, update and weights: the means over steps of gradient descent in NumPy."""
    w, b, v, rows = W.astype(float), B.astype(float), V.astype(float), []
    for epoch in range(2):
        indices, mask = jaxplain.data.batch_indices(jax.random.fold_in(KEY, epoch), len(X), 4)
        steps = []
        for batch, keep in zip(np.asarray(indices), np.asarray(mask), strict=True):
            x, y = X[batch[keep]], Y[batch[keep]]
            h = x @ w + b
            error = 2 * (h @ v - y) / y.size
            back = error @ v.T
            one, two = (x.T @ back, back.sum(0)), (h.T @ error,)
            gradients = [norm(*one), norm(*two)]
            steps.append([gradients, [RATE * g for g in gradients], [norm(w, b), norm(v)]])
            w, b, v = w - RATE * one[0], b - RATE * one[1], v - RATE * two[0]
        rows.append(np.mean(steps, axis=0))
    return np.moveaxis(np.array(rows), 1, 0)


def test_the_record_is_what_numpy_computes():
    layers = recorded().history.layers
    assert layers.names == ("z", "a")  # as they are used, not as they are spelt
    assert (layers.sizes, layers.units, layers.matrices) == ((16, 8), (4, 2), (True, True))
    expected = by_hand()
    for name, values in zip(ARRAYS[:3], expected, strict=True):
        np.testing.assert_allclose(getattr(layers, name), values, rtol=1e-5)
    np.testing.assert_array_equal(layers.dead, 0)
    np.testing.assert_allclose(layers.update_ratio, expected[1] / expected[2], rtol=1e-5)
    np.testing.assert_allclose(layers.gradient_rms, expected[0] / np.sqrt([[16, 8]]), rtol=1e-5)
    np.testing.assert_array_equal(layers.dead_share, 0)
    assert str(layers).splitlines()[0] == "epoch 2:"
    assert "0 of 4" in str(layers)


def test_recording_changes_nothing_else():
    plain, watched = fit(optimizer=optax.sgd(RATE)), recorded()
    assert plain.history.layers is None
    assert jax.tree.structure(plain.state) == jax.tree.structure(watched.state)
    watched = watched._replace(history=watched.history._replace(layers=None))
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(watched), strict=True):
        if one is plain.state.key:
            assert one == two
        else:  # compiled with more beside it, so equal to rounding
            np.testing.assert_allclose(one, two, rtol=1e-6)
    whole = fit(optimizer=optax.sgd(RATE), record_layers=True, batch_size=10).history
    np.testing.assert_allclose(norm(*whole.layers.gradient_norm.T[:, :1]), whole.gradient_norm[0], rtol=1e-6)


SETTINGS = {"optimizer": optax.sgd(RATE), "record_layers": True}


def same(found, tolerance=1e-5):
    expected = recorded().history.layers
    assert found.names == expected.names
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=tolerance)


def test_an_ensemble_records_each_of_its_runs():
    ensemble = jax.vmap(lambda key: fit(key=key, **SETTINGS).history)(jnp.stack([KEY, KEY]))
    assert ensemble.layers.gradient_norm.shape == ensemble.layers.dead_share.shape == (2, 2, 2)
    same(jax.tree.map(lambda leaf: leaf[1], ensemble).layers)
    assert str(ensemble.layers) == "LayerHistory(2 layers, arrays [2, 2, 2])"


@pytest.mark.slow
def test_from_the_host_and_continued_the_record_is_the_same(tmp_path):
    same(fit(on_device=False, **SETTINGS).history.layers)
    fit(checkpoint=tmp_path / "run", **{**SETTINGS, "epochs": 1})
    with pytest.raises(ValueError, match="started with another `record_layers`"):
        fit(checkpoint=tmp_path / "run", resume=True, optimizer=SETTINGS["optimizer"])
    same(fit(checkpoint=tmp_path / "run", resume=True, **SETTINGS).history.layers, tolerance=0)


def test_nothing_compiles_twice():
    traces, seen = [], []

    def counted(params, x):
        traces.append(x.shape)
        return apply(params, x)

    settings = {"loss": train.squared_error, "optimizer": optax.sgd(RATE), "epochs": 1, "record_layers": True}
    for _ in range(2):
        train.fit(counted, PARAMS, (X, Y), key=KEY, **settings)
        seen.append(len(traces))
    assert seen[1] <= seen[0] + 2  # the order of the layers and their outputs are asked for by shapes


def test_a_traced_early_stop_leaves_nan():
    rate = optax.sgd(lambda step: jnp.where(step < 3, 0.01, -1.0))
    settings = {"optimizer": rate, "validation": (X, Y), "patience": 1, "epochs": 5, "record_layers": True}
    history = jax.jit(lambda key: fit(key=key, **settings).history)(KEY)
    epochs = int(history.epochs)
    assert epochs < 5
    assert np.isfinite(history.layers.gradient_norm[:epochs]).all()
    assert np.isnan(history.layers.gradient_norm[epochs:]).all()
    assert np.isfinite(list(train.diagnose(history).numbers.values())).all()


# Units that no example opens, in every framework: three of the five of the first layer.
BIAS = np.array([-1e3, 0.1, -1e3, 0.1, -1e3], np.float32)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(5, name="b", bias_init=lambda *_: jnp.asarray(BIAS))(x))
        return nn.Dense(2, name="a")(x)


def linen():
    return Net().apply, Net().init(KEY, X), ("b", "a")


def plain():
    params = {"b": {"w": jnp.ones((3, 5)) * 0.5, "b": jnp.asarray(BIAS)}, "a": V[:1].repeat(5, 0)}
    return lambda p, x: jax.nn.relu(x @ p["b"]["w"] + p["b"]["b"][None]) @ p["a"], params, ("b", "a")


def equinox():
    model = eqx.nn.MLP(3, 2, 5, 1, key=KEY)
    model = eqx.tree_at(lambda m: m.layers[0].bias, model, jnp.asarray(BIAS))
    arrays, rest = eqx.partition(model, eqx.is_array)
    return lambda p, x: jax.vmap(eqx.combine(p, rest))(x), arrays, ("layers/0", "layers/1")


def haiku():
    def forward(x):
        x = jax.nn.relu(hk.Linear(5, b_init=lambda *_: jnp.asarray(BIAS), name="b")(x))
        return hk.Linear(2, name="a")(x)

    model = hk.without_apply_rng(hk.transform(forward))
    return model.apply, model.init(KEY, X), ("b", "a")


def of_nnx():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(3, 5, rngs=rngs), jax.nn.relu, nnx.Linear(5, 2, rngs=rngs))
    model.layers[0].bias.set_value(jnp.asarray(BIAS))
    return *jaxplain.from_nnx(model), ("layers/0", "layers/2")


@pytest.mark.parametrize(
    "make", [plain, equinox, *(pytest.param(make, marks=pytest.mark.slow) for make in (linen, haiku, of_nnx))]
)
def test_dead_units_are_counted(make):
    model, params, names = make()
    data = (X, (X[:, 0] > 0).astype(np.int32))
    layers = train.fit(model, params, data, key=KEY, epochs=1, batch_size=5, record_layers=True).history.layers
    assert layers.names == names
    assert layers.units[0] == 5
    np.testing.assert_array_equal(layers.dead[0], [3, 0])


def test_a_unit_without_gradient_is_one_that_no_example_opens():
    draw = np.random.default_rng(4)
    first = {"w": draw.normal(size=(3, 40)).astype(np.float32), "b": draw.normal(size=40).astype(np.float32) - 3}
    params = {"first": first, "second": draw.normal(size=(40, 2)).astype(np.float32)}

    def relu(params, x):
        return jax.nn.relu(x @ params["first"]["w"] + params["first"]["b"][None]) @ params["second"]

    settings = {"loss": train.squared_error, "optimizer": optax.sgd(0.0), "epochs": 1, "record_layers": True}
    layers = train.fit(relu, params, (X, Y), key=KEY, batch_size=3, **settings).history.layers
    closed = (X @ first["w"] + first["b"] <= 0).all(axis=0).sum()
    assert 5 < closed < 35
    np.testing.assert_array_equal(layers.dead, [[closed, 0]])


@pytest.mark.slow
def test_a_recorded_run_is_differentiated_as_any_other():
    def last(weights, record):
        found = fit(optimizer=optax.adam(RATE), weights=weights, record_layers=record)
        return found.history.loss[-1] + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found.params))

    one, two = (jax.grad(last)(jnp.ones(10), record) for record in (False, True))
    np.testing.assert_allclose(one, two, rtol=1e-4)
    assert np.abs(one).min() > 0
    # A layer that nothing reaches has a norm of zero, where a root has no derivative.
    params = {**PARAMS, "none": np.ones(2, np.float32)}
    settings = {"loss": train.squared_error, "epochs": 1, "record_layers": True}

    def through(weights):
        return train.fit(apply, params, (X, Y), key=KEY, weights=weights, **settings).params["a"].sum()

    assert np.isfinite(jax.grad(through)(jnp.ones(10))).all()


def test_units_without_a_bias_are_places_of_the_last_axis():
    params = {"first": jnp.array([[1.0, -1.0], [1.0, -1.0]]), "unused": jnp.ones(3), "last": jnp.ones(())}

    def positive(params, x):
        return jax.nn.relu(x @ params["first"]).sum(-1, keepdims=True) * params["last"]

    data = np.abs(X[:, :2]), Y[:, :1]
    layers = train.fit(
        positive, params, data, key=KEY, loss=train.squared_error, epochs=1, record_layers=True
    ).history.layers
    assert (layers.names, layers.units) == (("first", "last", "unused"), (2, 1, 3))
    np.testing.assert_array_equal(layers.dead, [[1, 0, 3]])


def test_units_without_a_bias_are_outputs_however_they_are_laid_out():
    # Two of four units are shut for inputs above zero; inputs are three, of which the model sees two.
    weight, x = jnp.array([[1.0, 1.0, 1.0], [-1.0, -1.0, 0.0], [1.0, 2.0, 1.0], [-1.0, 0.0, 0.0]]), np.abs(X[:, :3])
    x[:, 2] = 0
    equations = {"oi": weight, "io": weight.T, "aib": weight.T.reshape(3, 2, 2).transpose(1, 0, 2)}
    for axes, kernel in equations.items():

        def run(params, x, axes=axes):
            h = jnp.einsum(f"ni,{axes}->n{axes.replace('i', '')}", x, params["kernel"])
            return jax.nn.relu(h).reshape(len(x), -1).sum(1, keepdims=True)

        layers = train.fit(
            run, {"kernel": kernel}, (x, Y[:, :1]), key=KEY, loss=train.squared_error, epochs=1, record_layers=True
        ).history.layers
        assert layers.units == (4,), axes
        np.testing.assert_array_equal(layers.dead, [[2]])
    table = groups_of({"table": jnp.ones((7, 3))}, lambda p, tokens: p["table"][tokens].sum(), jnp.zeros(2, int))
    assert table[0].units == 3  # of a table the columns: a token that does not occur is no dead unit


def chain(params, x):
    return x @ params["w_0"] @ params["w_1"] @ params["w_2"]


def test_a_gradient_that_vanishes_or_explodes_is_remarked_upon():
    # d/dw_0 of w_2 w_1 w_0 x over d/dw_2 is w_2 / w_0.
    settings = {"loss": train.squared_error, "optimizer": optax.sgd(0.0), "epochs": 2, "record_layers": True}
    data = np.ones((4, 1), np.float32), np.full((4, 1), 0.5, np.float32)
    for last, words in (
        (1e4, "the gradient explodes on its way back: at w_0 it is 1e+04 times that at w_2"),
        (1e-5, "the gradient vanishes on its way back: at w_0 it is 1e-05 times that at w_2"),
        (1.0, "a step changes the weights by 0 of their size"),
    ):
        params = {f"w_{place}": jnp.full((1, 1), value) for place, value in enumerate((1.0, 1.0, last))}
        diagnosis = train.diagnose(train.fit(chain, params, data, key=KEY, **settings).history)
        assert diagnosis.numbers["gradient_flow"] == pytest.approx(last, rel=1e-4)
        assert diagnosis.remarks[0].startswith(words)
        assert len(diagnosis.remarks) == 1 + (last != 1)
        assert "try a higher learning rate" in str(diagnosis)


def test_kernels_of_several_layers_in_one_container_are_several_layers():
    kernels = [np.ones((3, 4), np.float32), np.ones((4, 4), np.float32)]
    biases = [
        np.zeros(4, np.float32),
        np.float32([0.1, -1e3, -1e3, 0.1]),
    ]  # two units of the second layer are shut, none of the first

    def network(w, b, out, x):
        return jax.nn.relu(jnp.abs(x @ w[0] + b[0][None]) @ jnp.abs(w[1]) + b[1][None]) @ out

    of_lists = {"w": kernels, "b": biases, "out": V}
    flat = {"net": {"w0": kernels[0], "w1": kernels[1], "b0": biases[0], "b1": biases[1]}, "out": V}
    settings = {"loss": train.squared_error, "epochs": 1, "record_layers": True}
    for params, read, names in (
        (of_lists, lambda p: (p["w"], p["b"]), ("w/0", "b/0", "w/1", "b/1", "out")),
        (
            flat,
            lambda p: ([p["net"]["w0"], p["net"]["w1"]], [p["net"]["b0"], p["net"]["b1"]]),
            ("net/w0", "net/b0", "net/w1", "net/b1", "out"),
        ),
    ):
        model = lambda p, x, read=read: network(*read(p), p["out"], x)  # noqa: E731
        layers = train.fit(model, params, (X, Y), key=KEY, **settings).history.layers
        assert (layers.names, layers.units) == (names, (4, 4, 4, 4, 2))
        np.testing.assert_array_equal(layers.dead, [[0, 0, 2, 2, 0]])


def test_what_one_container_holds_of_one_layer_is_one():
    cases = {
        "a recurrent cell": {"input": (3, 16), "hidden": (4, 16), "bias": (16,)},
        "heads": {"kernel": (3, 2, 4), "bias": (2, 4)},
        "a normalisation": {"scale": (4,), "bias": (4,)},
        "a convolution": {"weight": (5, 3, 3, 3), "bias": (5, 1, 1), "gain": ()},
    }
    for name, shapes in cases.items():
        trained = {"layer": {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}}
        groups = groups_of(trained, lambda p: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(p)))
        assert [group.name for group in groups] == ["layer"], name
