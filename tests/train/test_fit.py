"""Training: against NumPy, against a Python loop, under transformations, from the host, and what it refuses."""

import functools
import re
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxplain import models, train
from jaxplain.data.batching import batch_indices
from jaxplain.readout.criterion import binary_cross_entropy, cross_entropy, squared_error

KEY = jax.random.key(7)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(22, 4)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int32)
W = GENERATOR.normal(size=(4, 3)).astype(np.float32)
LINEAR = {"w": jnp.asarray(W)}


def linear(params, x):
    return x @ params["w"]


quick = functools.partial(train.fit, data=(X, Y), key=KEY, epochs=2, batch_size=8, optimizer=optax.sgd(0.5))


def close(a, b, tolerance=1e-5):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, atol=tolerance, rtol=tolerance)


def order(key, epoch):
    """The batches of an epoch, the last one short."""
    indices, mask = batch_indices(jax.random.fold_in(key, epoch), len(X), 8)
    return [np.asarray(rows)[np.asarray(keep)] for rows, keep in zip(indices, mask, strict=True)]


def numpy_gradient(w, rows):
    """Loss, accuracy and gradient of softmax regression, by hand."""
    z = X[rows] @ w
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    losses = -np.log(p[np.arange(len(rows)), Y[rows]])
    return losses, z.argmax(1) == Y[rows], X[rows].T @ (p - np.eye(3)[Y[rows]]) / len(rows)


def test_fit_is_what_numpy_computes():
    w, rows_of_history = W.astype(float), []
    for epoch in range(2):
        losses, hits, norms = [], [], []
        for rows in order(KEY, epoch):
            loss, hit, gradient = numpy_gradient(w, rows)
            losses, hits, norms = [*losses, *loss], [*hits, *hit], [*norms, np.linalg.norm(gradient)]
            w = w - 0.5 * gradient
        rows_of_history.append((np.mean(losses), np.mean(hits), np.mean(norms)))
    assert len(losses) == len(X)
    result = quick(linear, LINEAR)
    close(result.params["w"], w)
    close(np.stack(result.history[:3], axis=1), np.array(rows_of_history))
    assert result.history.validation_loss is None
    assert int(result.state.step) == 6


@pytest.mark.slow
def test_steps_by_hand_are_fit():
    state = train.init(linear, LINEAR, key=KEY, optimizer=optax.adam(0.1))
    step = jax.jit(functools.partial(train.train_step, linear, optimizer=optax.adam(0.1)))
    for rows in order(KEY, 0):
        state, metrics = step(state, (X[rows], Y[rows]))
    result = quick(linear, LINEAR, epochs=1, optimizer=optax.adam(0.1))
    close(state._replace(key=()), result.state._replace(key=()))
    assert metrics.loss.shape == metrics.gradient_norm.shape == ()
    losses, hits = train.eval_step(linear, state.params, (X, Y))
    expected = numpy_gradient(np.asarray(state.params["w"]), np.arange(len(X)))
    close((losses, hits), expected[:2])


def test_batch_statistics_see_the_short_batch_alone():
    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(2)(nn.BatchNorm(use_running_average=not train, momentum=0.5)(x))

    module = Norm()
    variables = module.init(KEY, X, train=False)
    result = quick(module.apply, variables, epochs=1, optimizer=optax.sgd(0.0))
    mean, variance = np.zeros(4), np.ones(4)
    for rows in order(KEY, 0):
        mean, variance = 0.5 * mean + 0.5 * X[rows].mean(0), 0.5 * variance + 0.5 * X[rows].var(0)
    close(result.params["batch_stats"]["BatchNorm_0"], {"mean": mean, "var": variance})


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["train", "deterministic"])
def test_linen_dropout_is_on_whatever_a_partial_says(flag):
    class WithTrain(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))

    class WithDeterministic(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic):
            return nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(3)(x))

    module, off = (WithTrain(), {"train": False}) if flag == "train" else (WithDeterministic(), {"deterministic": True})
    apply = functools.partial(module.apply, **off)
    variables = module.init(KEY, X, **off)
    dense = nn.Dense(3)
    plain = quick(dense.apply, {"params": variables["params"]["Dense_0"]}, epochs=1)
    dropped = quick(apply, variables, epochs=1, validation=(X, Y))
    again = quick(jax.jit(apply), variables, epochs=1, validation=(X, Y))
    assert not np.allclose(plain.params["params"]["kernel"], dropped.params["params"]["Dense_0"]["kernel"])
    close(dropped.params, again.params, 0.0)
    assert dropped.history.validation_loss[0] == pytest.approx(train.assess(apply, dropped.params, (X, Y))[0], abs=1e-6)


def test_a_plain_function_may_take_mode_and_key():
    seen = []

    def apply(params, x, train, key=None):
        seen.append((train, key is not None))
        return x @ params["w"]

    quick(apply, LINEAR, epochs=1, validation=(X, Y))
    assert set(seen) == {(True, True), (False, False)}


def test_nnx_is_an_equal_citizen():
    apply, params = models.from_nnx(nnx.Linear(4, 3, use_bias=False, rngs=nnx.Rngs(0)))
    plain = quick(linear, {"w": params["kernel"].get_value()}, validation=(X, Y))
    result = quick(apply, params, validation=(X, Y))
    close(result.params["kernel"].get_value(), plain.params["w"])
    close(result.history, plain.history)


def test_nnx_carries_statistics_and_dropout():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.head(self.dropout(self.norm(x)))

    apply, params = models.from_nnx(Network(nnx.Rngs(0)))
    train_once = jax.jit(lambda key: quick(apply, params, epochs=1, key=key).params)
    one, same, other = (train_once(jax.random.key(seed)) for seed in (1, 1, 2))
    mean = np.zeros(4)
    for rows in order(jax.random.key(1), 0):
        mean = 0.5 * mean + 0.5 * X[rows].mean(0)
    close(one["norm"]["mean"].get_value(), mean)
    assert int(one["dropout"]["rngs"]["count"].get_value()) == 3
    kernels = [np.asarray(p["head"]["kernel"].get_value()) for p in (one, same, other)]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.allclose(kernels[0], kernels[2])


@pytest.mark.slow
def test_an_ensemble_is_a_loop():
    module = models.mlp(2, widths=(6,), dropout=0.25)

    def member(key):
        return quick(module.apply, module.init(key, X), key=key, validation=(X, Y))

    keys = jax.random.split(KEY, 3)
    ensemble = jax.jit(jax.vmap(member))(keys)
    assert ensemble.history.loss.shape == (3, 2)
    for index in (0, 2):
        alone = member(keys[index])
        close(jax.tree.map(lambda a, i=index: a[i], ensemble)._replace(state=()), alone._replace(state=()))


@pytest.mark.slow
def test_weights_scale_losses_and_are_differentiable():
    def measure(weights):
        return jnp.sum(jnp.square(linear(quick(linear, LINEAR, weights=weights).params, X[:3])))

    weights = jnp.linspace(0.5, 1.5, len(X))
    gradient = jax.jit(jax.grad(measure))(weights)
    direction = jax.random.normal(KEY, weights.shape)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (LINEAR, weights, direction, X))

        def precise(weights):
            data = (double[3], Y)
            params = train.fit(
                linear, double[0], data, key=KEY, epochs=2, batch_size=8, optimizer=optax.sgd(0.5), weights=weights
            ).params
            return float(jnp.sum(jnp.square(linear(params, double[3][:3]))))

        slope = (precise(double[1] + 1e-4 * double[2]) - precise(double[1] - 1e-4 * double[2])) / 2e-4
    assert float(gradient @ direction) == pytest.approx(slope, rel=1e-3)
    rows = order(KEY, 0)[0]
    state = train.init(linear, LINEAR, key=KEY)
    one, _ = train.train_step(linear, state, (X[rows], Y[rows], np.full(8, 2.0, np.float32)), optimizer=optax.sgd(0.5))
    two, _ = train.train_step(linear, state, (X[rows], Y[rows]), optimizer=optax.sgd(1.0))
    close(one.params, two.params)


@pytest.mark.slow
def test_a_learning_rate_is_differentiable():
    def measure(rate):
        return quick(linear, LINEAR, epochs=1, optimizer=optax.sgd(rate)).history.loss[0]

    gradient, slope = jax.grad(measure)(0.5), (measure(0.52) - measure(0.48)) / 0.04
    assert float(gradient) == pytest.approx(float(slope), rel=1e-2)


@pytest.mark.slow
def test_the_best_parameters_and_early_stopping():
    def rate(step):
        return jnp.where(step < 6, 0.5, -20.0)  # after two epochs the steps climb

    settings = {"epochs": 8, "optimizer": optax.sgd(rate), "validation": (X, Y), "patience": 2}
    result = quick(linear, LINEAR, **settings)
    losses = result.history.validation_loss
    assert len(losses) == int(np.argmin(losses)) + 3 < 8
    loss, accuracy = train.assess(linear, result.params, (X, Y))
    assert loss == pytest.approx(losses.min(), abs=1e-6)
    assert accuracy == pytest.approx(result.history.validation_accuracy[np.argmin(losses)], abs=1e-6)
    traced = jax.jit(lambda key: quick(linear, LINEAR, key=key, **settings))(KEY)
    close(traced.params, result.params)
    close(traced.history.validation_loss[: len(losses)], losses)
    assert np.isnan(traced.history.loss[len(losses) :]).all()
    assert int(traced.history.epochs) == result.history.epochs == len(losses)
    assert train.diagnose(traced.history).verdict == train.diagnose(result.history).verdict


def batches(key):
    for rows in order(KEY, 0):
        padding = np.zeros(8 - len(rows), int)
        every = np.concatenate([rows, padding])
        yield SimpleNamespace(inputs=X[every], targets=Y[every], mask=np.arange(8) < len(rows))


@pytest.mark.parametrize(
    "data",
    [(X, Y), batches, list(batches(KEY)), [(X[rows], Y[rows]) for rows in order(KEY, 0)]],
    ids=["arrays", "function", "padded", "list"],
)
def test_host_batches_train_as_the_device_does(data):
    there = quick(linear, LINEAR, epochs=1, validation=(X, Y))
    here = quick(linear, LINEAR, data=data, epochs=1, validation=(X, Y), on_device=False)
    close(there._replace(state=()), here._replace(state=()))


def test_nothing_compiles_twice():
    traces = []

    def apply(params, x):
        traces.append(x.shape)
        return x @ params["w"]

    optimizer = optax.sgd(0.1)
    quick(apply, LINEAR, optimizer=optimizer, validation=(X, Y))
    first = len(traces)
    quick(apply, {"w": jnp.zeros((4, 3))}, optimizer=optimizer, validation=(X, Y), epochs=4, key=jax.random.key(1))
    assert len(traces) == first


def test_inputs_may_be_several_and_targets_one_hot():
    def apply(params, x, scale):
        return x["a"] @ params["w"] * scale[:, None]

    scale = np.ones(len(X), np.float32)
    one_hot = np.eye(3, dtype=np.float32)[Y]
    result = quick(apply, LINEAR, data=(({"a": X}, scale), one_hot))
    close(result.history, quick(linear, LINEAR).history)
    outputs = train.predict(apply, result.params, ({"a": X}, scale), batch_size=5)
    close(outputs, X @ np.asarray(result.params["w"]))


@pytest.mark.parametrize(
    ("loss", "targets", "accuracy"),
    [
        (cross_entropy, [0, 1, 1, 0], 0.75),
        (binary_cross_entropy, [0.0, 1.0, 1.0, 0.0], 0.75),
        (squared_error, [0.0, 1.0, 1.0, 0.0], np.nan),
        (lambda outputs, target: jnp.sum((outputs - target) ** 2), [0.0, 1.0, 1.0, 0.0], np.nan),
    ],
)
def test_accuracy_of_one_unit(loss, targets, accuracy):
    outputs = np.array([[-1.0], [2.0], [-0.5], [-3.0]], np.float32)
    _, hits = train.eval_step(lambda params, x: x, (), (outputs, np.array(targets)), loss=loss)
    assert float(hits.mean()) == pytest.approx(accuracy, nan_ok=True)


def test_own_accuracy():
    result = quick(linear, LINEAR, accuracy=lambda outputs, target: jnp.asarray(0.25), epochs=1)
    assert result.history.accuracy.tolist() == [0.25]


def test_progress_on_a_terminal_only(capsys):
    quick(linear, LINEAR)
    assert capsys.readouterr().err == ""
    quick(linear, LINEAR, progress=True, validation=(X, Y))
    text = capsys.readouterr().err
    assert "epoch 2: loss" in text
    assert "validation loss" in text


def nan_at(index):
    x = X.copy()
    x[index] = np.nan
    return x


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": (X[:0], Y[:0])}, "are empty"),
        ({"data": (X, Y[:-1])}, "one row for each example, but their lengths are .*'targets': 21"),
        ({"data": (nan_at(3), Y)}, "`inputs.*has 4 NaN or infinite values"),
        ({"data": (X, np.where(Y == 1, 3, 0))}, "target 3 is outside the model's 3 outputs"),
        ({"data": (X, -Y)}, "target -1 is outside"),
        ({"data": (X, np.full((22, 3), 2.0))}, "targets run from 2.0 to 2.0"),
        ({"data": (X, Y[:, None])}, r"the target has shape \(1,\)"),
        ({"data": (X.tolist(), Y)}, "pass arrays"),
        ({"data": 3}, "`data` is int"),
        ({"data": batches(KEY)}, "is an iterator, which is spent"),
        ({"data": []}, "gave no batch"),
        ({"data": [3]}, "a batch of `data` or `validation` is int"),
        ({"data": [(X, Y)], "weights": np.ones(22)}, "`weights` go with arrays"),
        ({"epochs": 0}, "`epochs` has to be at least 1"),
        ({"batch_size": 0}, "`batch_size` has to be at least 1"),
        ({"weights": np.ones(3)}, "'weights': 3"),
        ({"weights": np.full(22, np.inf)}, "`weights` has 22 NaN or infinite"),
        ({"weights": np.ones((22, 1))}, "one number for each example"),
        ({"patience": 2}, "pass `validation` too"),
        ({"resume": True}, "needs `checkpoint=`"),
        ({"loss": lambda outputs, target: outputs}, "it has to return one number"),
        ({"optimizer": 0.1}, "not an optax transformation"),
        ({"apply": models.mlp(2)}, "such as `module.apply`"),
        ({"apply": lambda params, x: (x @ params["w"]).sum(0)}, "the first axis is the batch"),
        ({"params": {"w": jnp.ones((4, 3), int)}}, "only floating-point arrays can be trained"),
        ({"params": {"params": LINEAR, "batch_stats": {}}}, "Pass `module.apply` itself"),
        ({"apply": nn.Dense(3).apply}, "whole variables that `module.init` returns"),
        ({"apply": functools.partial(nn.Dense(3).apply, mutable=["a"])}, "fixes mutable"),
        ({"apply": functools.partial(linear, LINEAR)}, "positional arguments"),
    ],
)
def test_bad_input_is_refused_before_any_compute(settings, message):
    calls = []

    def counted(params, x):
        jax.debug.callback(lambda: calls.append(1))
        return linear(params, x)

    arguments = {"apply": counted, "params": LINEAR, **settings}
    with pytest.raises((ValueError, TypeError), match=message):
        quick(**arguments)
    jax.effects_barrier()
    assert not calls


def test_traced_runs_refuse_what_needs_the_host(tmp_path):
    for settings in ({"checkpoint": tmp_path / "run"}, {"progress": True}, {"on_device": False}):
        with pytest.raises(ValueError, match="inside a JAX transformation"):
            jax.vmap(lambda key, settings=settings: quick(linear, LINEAR, key=key, **settings))(KEY[None])
    assert not list(tmp_path.iterdir())


def curves(loss, validation=None, accuracy=None, validation_accuracy=None):
    return SimpleNamespace(
        loss=loss, accuracy=accuracy, validation_loss=validation, validation_accuracy=validation_accuracy
    )


FLAT = [1.0, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("history", "verdict", "words"),
    [
        (curves([1.0, np.nan]), "diverges", "not finite from epoch 2"),
        (curves([1.0, 3.0]), "diverges", "rose from 1 to 3"),
        (curves([1, 0.5, 0.1], [1, 0.6, 0.9]), "overfits", "rose from 0.6 .epoch 2. to 0.9"),
        (curves(FLAT, FLAT, [0.99] * 8, [0.8] * 8), "overfits", "99.0%, but validation accuracy 80.0%"),
        (curves(FLAT, [1.1, 0.7] + [0.6] * 6), "overfits", "0.2, but validation loss 0.6"),
        (curves([1.0]), "still learning", "one epoch"),
        (curves([1.0, 0.8, 0.6, 0.4]), "still learning", "33% of the fall of the training loss"),
        (curves([1, 0.8, 0.8, 0.8], None, [0.5, 0.6, 0.6, 0.6]), "underfits", "60.0% .below 90%"),
        (curves([1, 0.8, 0.8, 0.8]), "underfits", "above 50% of the first epoch's 1"),
        (curves(FLAT, FLAT, [0.99] * 8, [0.98] * 8), "fits well", "validation accuracy 98.0%"),
        # Three times its lowest, but the rise is 1% of the fall: the noise of a loss near zero.
        (
            curves([2, 0.02, 0.005, 0.005], [2, 0.01, 0.03, 0.03], [1.0] * 4, [1.0] * 4),
            "fits well",
            "validation loss 0.03",
        ),
        (curves(FLAT, FLAT, [np.nan] * 8), "fits well", "validation loss 0.2;"),
    ],
)
def test_diagnose(history, verdict, words):
    diagnosis = train.diagnose(history)
    assert diagnosis.verdict == verdict
    assert str(diagnosis).startswith("The model ")
    assert np.isnan(diagnosis.numbers["final_loss"]) or diagnosis.numbers["final_loss"] == history.loss[-1]
    assert re.search(words, str(diagnosis))


def test_diagnose_needs_an_epoch():
    with pytest.raises(ValueError, match="at least an epoch"):
        train.diagnose(curves([]))


@pytest.mark.slow
def test_half_precision_keeps_statistics_wide():
    module = models.resnet(2, widths=(3,), depth=1)
    images = X[:, :, None, None] * np.ones((1, 4, 4, 1), np.float32)
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (module.init(KEY, images), images))
    result = quick(module.apply, half[0], data=(half[1], Y), epochs=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params["params"])} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params["batch_stats"])} == {jnp.dtype(jnp.float32)}
    assert np.isfinite(result.history.loss).all()
    assert train.predict(module.apply, result.params, half[1]).dtype == jnp.bfloat16


def test_a_loss_of_its_own_takes_outputs_and_targets_of_any_structure():
    def loss(outputs, targets):
        (a, b), (c, d) = outputs, targets
        return (a - c).sum() ** 2 + (b - d) ** 2

    data = jnp.ones((4, 3)), (jnp.ones((4, 3)), jnp.zeros(4))
    found = train.fit(
        lambda p, x: (x * p, x.sum(-1)), jnp.ones((1, 3)), data, key=jax.random.key(0), loss=loss, epochs=1
    )
    assert np.isfinite(found.history.loss).all()
