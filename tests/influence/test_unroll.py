"""The derivative through training: closed forms, finite differences, memory, and what is refused."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxplain import influence, train

KEY = jax.random.key(0)


def linear(w, x):
    return x @ w


def network(params, x):
    return jnp.tanh(x @ params["a"] + params["c"][None]) @ params["b"]


def examples(count=8, width=3, dtype=jnp.float64):
    x = jax.random.normal(jax.random.key(1), (count, width), dtype)
    return x, jnp.arange(count) % 2


def params(dtype=jnp.float64):
    a, b = (jax.random.normal(jax.random.key(k), s, dtype) for k, s in ((2, (3, 4)), (3, (4, 2))))
    return {"a": a, "b": b, "c": jnp.full(4, 0.1, dtype)}


def test_one_step_of_linear_regression_is_the_closed_form(double):
    rate, size = 0.1, 6
    x = jax.random.normal(KEY, (size, 3))
    y, start = x[:, 0] - 0.3 * x[:, 1] ** 2, jnp.array([0.2, -0.1, 0.4])
    run = train.training_run(
        linear, start, (x, y), key=KEY, loss=train.squared_error, optimizer=optax.sgd(rate), epochs=1, batch_size=size
    )
    probes, answers = x[:2] + 1.0, jnp.array([0.5, -1.0])
    found = influence.unrolled(run, influence.query_scores(linear, (probes, answers), train.squared_error), masks=0)
    x, y, start, probes, answers = map(np.asarray, (x, y, start, probes, answers))
    each = 2 * (x @ start - y)[:, None] * x  # gradient of each loss, before the step
    end = start - rate * each.sum(0) / size
    query = 2 * (probes @ end - answers)[:, None] * probes  # gradient of each query, after it
    np.testing.assert_allclose(found.values, -rate * query @ each.T / size, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.scores, (probes @ end - answers) ** 2, rtol=1e-12)
    assert (found.units, found.higher_is_better) == ("score", False)


SCHEDULE = optax.cosine_decay_schedule(0.2, 6)
RUNS = {
    "momentum, a short last batch": ({"optimizer": optax.sgd(0.1, momentum=0.9), "batch_size": 3}, {}),
    "Adam, a schedule, weight decay": ({"optimizer": optax.adamw(SCHEDULE, weight_decay=0.1), "batch_size": 4}, {}),
}


def finite_differences(run, queries, rows, step=1e-5):
    weights = run.data.weights
    moves = jnp.concatenate([weights[None] + s * step * jnp.eye(run.count)[jnp.array(rows)] for s in (1, -1)])
    scores = jax.jit(lambda run, moves: jax.lax.map(lambda w: queries(run(w)), moves))(run, moves)
    return (scores[: len(rows)] - scores[len(rows) :]).T / (2 * step)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_finite_differences_through_optimizers(double, name):
    settings = {"batch_size": 4, **RUNS[name][0]}
    x, y = examples()
    weights = jnp.linspace(0.5, 1.5, 8)
    run = train.training_run(network, params(), (x, y), key=KEY, epochs=2, weights=weights, **settings)
    queries = influence.query_scores(network, (x[:3] + 0.2, y[:3]))
    found = influence.unrolled(run, queries, masks=0).values
    right = finite_differences(run, queries, range(8))
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-7 * float(jnp.abs(right).max()))


class Modern(nn.Module):
    """Batch statistics and dropout, in double precision."""

    @nn.compact
    def __call__(self, x, train: bool):
        exact = {"dtype": jnp.float64, "param_dtype": jnp.float64, "force_float32_reductions": False}
        x = nn.BatchNorm(not train, momentum=0.9, **exact)(nn.Dense(4, param_dtype=jnp.float64)(x))
        x = nn.Dropout(0.3, deterministic=not train)(jnp.tanh(x))
        return nn.Dense(2, param_dtype=jnp.float64)(x)


def modern_run(x, y, weights):
    module = Modern()
    variables = jax.tree.map(lambda a: a.astype(jnp.float64), module.init(KEY, x[:1], train=False))
    return module.apply, train.training_run(
        module.apply, variables, (x, y), key=KEY, epochs=2, batch_size=4, weights=weights, optimizer=optax.sgd(0.3)
    )


@pytest.mark.slow
def test_finite_differences_through_batch_statistics_and_dropout(double):
    x, y = examples()
    apply, run = modern_run(x, y, None)
    queries = influence.query_scores(apply, (x[:3] + 0.2, y[:3]))
    found = influence.unrolled(run, queries, masks=0).values
    right = finite_differences(run, queries, range(8))
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-7 * float(jnp.abs(right).max()))
    # Weights do not enter the statistics of a batch: of an example without weight its input still does.
    train_with = jax.jit(lambda run, x: run.replace("inputs", (x,)).replace("weights", jnp.ones(8).at[5].set(0.0))())
    first, other = train_with(run, x), train_with(run, x.at[5].add(1.0))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first["batch_stats"], other["batch_stats"])
    assert max(jax.tree.leaves(moved)) > 1e-3


@pytest.mark.slow
def test_an_example_without_weight_might_be_any_other(double):
    x, y = examples()
    run = train.training_run(network, params(), (x, y), key=KEY, epochs=2, batch_size=8, optimizer=optax.adam(0.1))
    weights = jnp.ones(8).at[5].set(0.0)
    end = jax.jit(lambda run: run())
    first = end(run.replace("weights", weights))
    other = end(run.replace("inputs", (x.at[5].set(7.0),)).replace("weights", weights))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
        assert (a == b).all()  # to the bit
    # The absent row with B kept: one batch of 7 whose losses are weighted by 7 / 8.
    rows = jnp.array([0, 1, 2, 3, 4, 6, 7])
    absent = train.training_run(
        network, params(), (x[rows], y[rows]), key=KEY, epochs=2, batch_size=8, optimizer=optax.adam(0.1),
        weights=jnp.full(7, 7 / 8),
    )  # fmt: skip
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(end(absent)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.optimized
def test_the_run_is_that_of_fit_to_the_bit_and_spacing_changes_nothing():
    x, y = examples(10, dtype=jnp.float32)
    settings = {"key": KEY, "epochs": 3, "batch_size": 4, "optimizer": optax.sgd(0.2, momentum=0.9)}
    made = train.training_run(network, params(jnp.float32), (x, y), **settings)
    wanted = train.fit(network, params(jnp.float32), (x, y), **settings).params
    assert (made.steps, made.segment) == (9, 3)
    queries = influence.query_scores(network, (x[:3], y[:3]))
    found = [influence.unrolled(made.replace("every", k), queries, masks=0) for k in (3, 4)]
    assert (found[0].scores == found[1].scores).all()
    end = made()
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(wanted), strict=True))
    np.testing.assert_allclose(found[0].values, found[1].values, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_checkpointing_does_not_change_the_derivative(double):
    x, y = examples(5)
    momentum = optax.sgd(0.3, momentum=0.9)
    run = train.training_run(network, params(), (x, y), key=KEY, epochs=1, batch_size=2, optimizer=momentum)
    queries = influence.query_scores(network, (x[:3], y[:3]))
    program, state = run.program(), run.program().start(run.params, KEY)

    def plain(weights):  # a Python loop over the same steps, of which everything is kept
        now = state
        for step, rows in enumerate(run.order()):
            rows = rows if step < 2 else rows[:1]  # 5 examples in batches of 2
            batch = train.epoch.Batch((x[rows],), y[rows], weights[rows])
            now = program.step(now, batch)[0]
        return queries(now.params)

    right = jax.jit(jax.jacrev(plain))(jnp.ones(5))
    found = influence.unrolled(run, queries, masks=0, batch_size=2).values  # in blocks, the last one short
    np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
@pytest.mark.optimized
def test_memory_grows_with_the_root_of_the_steps():
    x, y = examples(4, 64, jnp.float32)
    wide = {"a": jnp.ones((64, 64)) / 64, "b": jnp.ones((64, 2)), "c": jnp.zeros(64)}
    sizes = {}
    for steps in (16, 256):
        run = train.training_run(network, wide, (x, y), key=KEY, epochs=steps, batch_size=4, optimizer=optax.sgd(0.1))
        gradient = jax.jit(jax.grad(lambda w, run: run(w)["b"].sum()))
        sizes[steps] = gradient.lower(jnp.ones(4), run).compile().memory_analysis().temp_size_in_bytes
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(wide))
    assert sizes[256] < 2.5 * 16 * state  # two stacks of 16 states; 256 of them where all are kept
    assert sizes[256] < 5 * sizes[16]


@pytest.mark.slow
def test_other_directions_are_derivatives_too(double):
    x, y = examples()
    settings = {"learning_rate": 0.05, "weight_decay": 0.1}
    run = train.training_run(
        network, params(), (x, y), key=KEY, epochs=1, batch_size=4, optimizer=optax.adamw, settings=settings
    )
    queries = influence.query_scores(network, (x[:3], y[:3]))
    forward = influence.unrolled(run, queries, wrt="settings")
    assert forward.checks["forward_mode"]
    end = jax.jit(lambda run: queries(run()))
    for name, value in settings.items():
        up, down = (end(run.replace(name, jnp.float64(value + h))) for h in (1e-5, -1e-5))
        np.testing.assert_allclose(forward.values[name], (up - down) / 2e-5, rtol=1e-6)
    data = influence.unrolled(run, queries, wrt="inputs").values
    up, down = (end(run.replace("inputs", (x.at[2, 1].add(h),))) for h in (1e-5, -1e-5))
    assert data.shape == (3, 8, 3)
    np.testing.assert_allclose(data[:, 2, 1], (up - down) / 2e-5, rtol=1e-5, atol=1e-10)


@pytest.mark.slow
def test_a_rough_run_warns():
    rough = train.training_run(
        lambda p, x: jax.nn.relu(x @ p["a"] + p["c"][None]) @ p["b"], params(jnp.float32), examples(dtype=jnp.float32),
        key=KEY, optimizer=optax.sgd(3.0), epochs=6, batch_size=2,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"metasmoothness is .* below 0.9"):
        influence.unrolled(rough, lambda p: p["b"].reshape(-1)[:2], key=KEY, fraction=0.3)


@pytest.mark.slow
def test_a_square_root_without_derivative_is_named():
    x, y = examples(dtype=jnp.float32)
    blank = x.at[:, 0].set(0.0), y
    for settings, words in (({}, "Adam and its kin have none .* eps_root=1e-8"), ({"eps_root": 1e-8}, None)):
        run = train.training_run(
            network, params(jnp.float32), blank, key=KEY, epochs=1, batch_size=8, optimizer=optax.adam(0.1, **settings)
        )
        if words is None:
            assert jnp.isfinite(influence.unrolled(run, lambda p: p["c"], masks=0).values).all()
            continue
        with pytest.raises(ValueError, match=words):
            influence.unrolled(run, lambda p: p["c"], masks=0)


@pytest.mark.slow
def test_metasmoothness_is_the_definition(double):
    x, y = examples()
    run = train.training_run(network, params(), (x, y), key=KEY, epochs=1, batch_size=4, optimizer=optax.sgd(2.0))
    found = influence.metasmoothness(run, key=KEY, fraction=0.25)
    out = jax.random.permutation(jax.random.split(KEY, 1)[0], 8) < 2

    def end(h):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run(jnp.where(out, 1 - h, 1.0)))])

    first, second = end(0.5) - end(0.0), end(1.0) - end(0.5)
    right = np.sign(first) @ np.diag(np.abs(first) / np.abs(first).sum()) @ np.sign(second)
    np.testing.assert_allclose(found, right, rtol=1e-9)


def nan_loss(outputs, target):
    return jnp.sqrt((outputs[0] ** 2 + 1) * (6 - target))


def test_what_cannot_be_is_refused():
    x, y = examples(dtype=jnp.float32)
    p = params(jnp.float32)

    def made(**changes):
        return train.training_run(
            **{**{"apply": network, "params": p, "data": (x, y), "key": KEY, "epochs": 1}, **changes}
        )

    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), p)
    for call, words in {
        lambda: made(weights=jnp.ones(3)): r"`weights` has shape \(3,\), but there are 8 training examples",
        lambda: made(weights=jnp.full(8, jnp.nan)): "`weights.*` has 8 NaN",
        lambda: made(patience=2): r"early stopping .* pass epochs=int\(result.history.epochs\)",
        lambda: made(data=[(x, y)]): "`data` is list; pass arrays",
        lambda: made(data=lambda key: [(x, y)]): "pass arrays \\(inputs, targets\\)",
        lambda: made(params=half): "dtype bfloat16; a derivative through training is lost",
        lambda: made(data=(x, y + 1)): "target 2 is outside",
        lambda: made(optimizer=optax.sgd): "goes with `settings=`",
        lambda: made(settings={"learning_rate": 0.1}): "the function that makes the transformation",
        lambda: influence.unrolled(made(), lambda p: x[:, 0]): "`queries` does not depend on the params",
        lambda: influence.unrolled(made(), lambda p: p["a"]): "one number a query",
        lambda: influence.unrolled(made(), lambda p: p["c"], wrt="momentum"): "`wrt` is 'momentum'",
        lambda: influence.unrolled(made(), lambda p: p["c"], fraction=1.0): "`fraction`",
        lambda: influence.unrolled(None, lambda p: p["c"]): "`run` has to be a TrainingRun",
        lambda: influence.unrolled(
            made(loss=nan_loss, data=(x, jnp.arange(8))), lambda p: p["c"], masks=0
        ): r"training example 6 is not finite .*\(2 such examples",
    }.items():
        with pytest.raises((TypeError, ValueError), match=words), warnings.catch_warnings():
            call()
