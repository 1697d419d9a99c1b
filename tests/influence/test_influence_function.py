"""Influence functions: ridge regression in closed form, solvers against each other, EK-FAC where it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxplain import influence, train
from jaxplain.influence.curvature import derivatives, plan_of
from jaxplain.influence.curvature.matrix import matrix
from jaxplain.influence.gradients import Examples

KEY = jax.random.key(0)


def linear(w, x):
    return x @ w


def half(output, target):
    return jnp.sum((output - target) ** 2) / 2


def network(params, x):
    return jnp.tanh(x @ params["a"] + params["c"][None]) @ params["b"]


def problem(count=12):
    x = jax.random.normal(jax.random.key(1), (count, 3))
    a, b = (jax.random.normal(jax.random.key(k), s) for k, s in ((2, (3, 3)), (3, (3, 2))))
    return {"a": a, "b": b, "c": jnp.full(3, 0.1)}, (x, jnp.arange(count) % 2)


def test_ridge_regression_is_the_closed_form(double):
    x = np.asarray(jax.random.normal(KEY, (9, 3)))
    y = x[:, 0] - 0.4 * x[:, 1] ** 2
    decay, probes = 0.7, np.asarray(jax.random.normal(jax.random.key(5), (2, 3)))
    inverse = np.linalg.inv(x.T @ x + decay * np.eye(3))
    theta = inverse @ x.T @ y
    settings = {"loss": half, "damping": decay}

    def query(w):
        return jnp.asarray(probes) @ w

    found = influence.influence_function(linear, jnp.asarray(theta), (x, y), query, **settings)
    right = probes @ inverse @ (x * (y - x @ theta)[:, None]).T
    np.testing.assert_allclose(found.values, right, rtol=1e-10, atol=1e-13)
    leverage = np.einsum("ni,ij,nj->n", x, inverse, x)
    for i in range(9):
        keep = np.arange(9) != i
        without = np.linalg.solve(x[keep].T @ x[keep] + decay * np.eye(3), x[keep].T @ y[keep])
        change = probes @ without - probes @ theta
        np.testing.assert_allclose(change, -np.asarray(found.values)[:, i] / (1 - leverage[i]), rtol=1e-10, atol=1e-13)
    assert found.units == "score"


@pytest.mark.slow
def test_unrolled_training_to_convergence_is_the_influence_function(double):
    x = jax.random.normal(KEY, (9, 3))
    y = x[:, 0] - 0.4 * x[:, 1] ** 2
    decay = 0.7
    descend = optax.chain(optax.add_decayed_weights(decay / 9), optax.sgd(0.4))
    run = train.training_run(
        linear, jnp.zeros(3), (x, y), key=KEY, loss=half, optimizer=descend, epochs=500, batch_size=9
    )

    def query(w):
        return w

    through = influence.unrolled(run, query, masks=0)
    at_end = influence.influence_function(linear, run(), (x, y), query, loss=half, damping=decay)
    np.testing.assert_allclose(through.values, at_end.values, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_matrix_is_the_definition(double):
    params, (x, y) = problem(7)
    weights = jnp.linspace(0.5, 1.5, 7)
    made = train.training_run(network, params, (x, y), key=KEY, weights=weights)
    examples = Examples(made.model, made.loss, params, made.data, 4)  # in blocks, the last one short
    outputs = jax.jacrev(lambda v: network(examples.merged(v), x))(examples.vector)
    p = jax.nn.softmax(network(params, x))
    middle = jax.vmap(lambda p: jnp.diag(p) - jnp.outer(p, p))(p)
    right = jnp.einsum("n,nkp,nkl,nlq->pq", weights, outputs, middle, outputs)
    np.testing.assert_allclose(matrix(examples, "gauss_newton"), right, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_all_solvers_agree(double):
    params, data = problem()
    queries = influence.query_scores(network, (data[0][:2] + 1, data[1][:2]))
    settings = {"damping": 0.3, "batch_size": 5}
    exact = influence.influence_function(network, params, data, queries, **settings).values
    for solver, steps in (("cg", None), ("arnoldi", 100), ("lissa", 2000)):
        found = influence.influence_function(network, params, data, queries, solver=solver, steps=steps, **settings)
        np.testing.assert_allclose(found.values, exact, rtol=1e-4, atol=1e-6 * float(jnp.abs(exact).max()))
    with pytest.warns(UserWarning, match="'cg' stopped with a residual of"):
        influence.influence_function(network, params, data, queries, solver="cg", steps=1, **settings)


@pytest.mark.slow
def test_the_series_with_drawn_examples_is_right_within_its_standard_error(double):
    params, data = problem()
    queries = influence.query_scores(network, (data[0][:2] + 1, data[1][:2]))
    given, errors = (network, params, data, queries), []
    for curvature, steps, samples in (("gauss_newton", 400, 2), ("gauss_newton", 1600, 2), ("fisher", 400, 6)):
        settings = {"damping": 2.0, "curvature": curvature}
        exact = influence.influence_function(*given, **settings).values
        found = influence.influence_function(*given, solver="lissa", steps=steps, samples=samples, key=KEY, **settings)
        error = np.asarray(found.checks["standard_error"])
        apart = np.abs(np.asarray(found.values - exact)) / error
        assert apart.max() < 5, (curvature, apart)  # t with 7 degrees of freedom, 24 values
        assert 0.3 < np.sqrt(np.mean(apart**2)) < 2, (curvature, apart)  # it is no larger than it has to be
        assert error.max() < 0.2 * np.abs(exact).max()
        errors.append(float(error.mean()))
    assert errors[1] / errors[0] < 0.75  # a half, by four times as many steps
    with pytest.raises(ValueError, match="`samples` are those of the solver 'lissa', not of 'cg'"):
        influence.influence_function(*given, solver="cg", samples=2, damping=2.0)


def outputs_factorial():
    """Every input beside every output gradient: the curvature is a Kronecker product."""
    inputs = jnp.array([[1.0, 0.3], [-0.5, 2.0], [0.2, -0.7]])
    slopes = jnp.array([[0.4, -1.0], [1.3, 0.2]])
    x, d = (a.reshape(-1, 2) for a in jnp.broadcast_arrays(inputs[:, None], slopes[None]))
    return x, d


@pytest.mark.slow
def test_ekfac_is_exact_where_the_curvature_is_a_kronecker_product(double):
    def layer(params, x):
        return x @ params["w"] + params["b"][None]

    params = {"w": jnp.array([[0.2, -0.4], [1.0, 0.5]]), "b": jnp.array([0.1, -0.3])}
    x = jax.random.normal(KEY, (6, 2))

    def query(p):
        return jnp.concatenate([p["w"].reshape(-1)[:3], p["b"]])

    def both(**settings):
        values = [
            influence.influence_function(layer, params, damping=0.3, solver=solver, queries=query, **settings)
            for solver in ("ekfac", "explicit")
        ]
        np.testing.assert_allclose(values[0].values, values[1].values, rtol=1e-10, atol=1e-13)
        return values[0].checks

    said = both(data=(x, x[:, ::-1]), loss=train.squared_error)
    assert said["layers"] == ("['w']",)
    assert said["diagonal"] == ()
    x, d = outputs_factorial()
    both(data=(x, d), loss=lambda output, slope: output @ slope, curvature="fisher")


class Mixed(nn.Module):
    """A convolution, a norm, a dense layer over tokens with shared weights, and a table that no layer covers."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Conv(2, (2, 2), strides=(2, 1), name="conv")(x))
        x = nn.LayerNorm(name="norm")(x).reshape(len(x), -1, 4)
        shared = nn.Dense(4, name="shared")
        x = jnp.tanh(shared(jnp.tanh(shared(x)))).mean(axis=1)
        return nn.DenseGeneral((2, 2), name="head")(x).sum(-1)


@pytest.mark.slow
def test_ekfac_reads_the_layers_of_an_unmodified_model(double):
    module = Mixed()
    x, y = jax.random.normal(KEY, (5, 4, 4, 1)), jnp.arange(5) % 2
    params = jax.tree.map(lambda a: a.astype(jnp.float64), module.init(KEY, x[:1]))
    queries = influence.query_scores(module.apply, (x[:2] + 1, y[:2]))
    found = influence.influence_function(module.apply, params, (x, y), queries, solver="ekfac", damping=0.1)
    assert set(found.checks["layers"]) == {f"['{name}']['kernel']" for name in ("conv", "shared", "head")}
    assert set(found.checks["diagonal"]) == {"['norm']['bias']", "['norm']['scale']"}
    # What is read multiplies out to the gradient of every covered array.
    made = train.training_run(module.apply, params, (x, y), key=KEY)
    examples = Examples(made.model, made.loss, params, made.data)
    plan = plan_of(examples)
    ins, outs, _ = derivatives(examples, "fisher", plan, (x[0],), y[0])
    gradient = jax.tree.leaves(examples.model.partition(
        examples.merged(jax.grad(examples.example_loss)(examples.vector, (x[0],), y[0])))[0])  # fmt: skip
    for (weight, _, bias, axes, _), a, d in zip(plan.groups, ins, outs, strict=True):
        whole = a.T @ d[0]
        own = jnp.transpose(gradient[weight], axes).reshape(-1, d.shape[-1])
        np.testing.assert_allclose(whole[: len(own)], own, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(whole[-1], gradient[bias].reshape(-1), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_damping_is_fitted_on_held_out_retrainings():
    params, data = problem()
    queries = influence.query_scores(network, (data[0][:2] + 1, data[1][:2]))
    best = influence.influence_function(network, params, data, queries, damping=0.5).values
    masks = (jax.random.uniform(KEY, (20, 12)) > 0.3).astype(jnp.float32)
    scores = (masks - 1) @ best.T
    found = influence.influence_function(network, params, data, queries, held_out=(masks, scores))
    assert found.checks["held_out"] > 0.8
    assert found.checks["held_out"] == max(found.checks["tried"].values())


def test_what_cannot_be_is_refused():
    params, (x, y) = problem()
    queries = influence.query_scores(network, (x[:2], y[:2]))

    def call(**changes):
        given = {"apply": network, "params": params, "data": (x, y), "queries": queries, "damping": 0.1, **changes}
        return influence.influence_function(**given)

    half = jax.tree.map(lambda a: a.astype(jnp.float16), params)
    flat = jnp.zeros((12, 3)).at[:, 0].set(1.0)
    for made, words in {
        lambda: call(damping=0.0, curvature="fisher"): "singular: it has 18 params",
        lambda: call(apply=linear, params=jnp.ones((3, 2)), data=(flat, y), damping=0.0,
                     queries=lambda w: w[0]): "is singular to float32 .* Pass a larger `damping`",
        lambda: call(damping=-1.0): "`damping` has to be finite and zero or more",
        lambda: call(damping="fit"): "needs `held_out",
        lambda: call(damping="fit", held_out=(jnp.ones((3, 4)), jnp.ones((3, 2)))): r"shapes \(3, 4\) and \(3, 2\)",
        lambda: call(solver="newton"): "`solver` is 'newton'",
        lambda: call(solver="ekfac", curvature="hessian"): "'ekfac' is of the curvatures",
        lambda: call(weights=jnp.ones(5)): r"`weights` has shape \(5,\)",
        lambda: call(data=(x, y + 1)): "target 2 is outside",
        lambda: call(params=half): "dtype float16",
        lambda: call(queries=lambda p: x[:, 0]): "does not depend on the params",
    }.items():  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=words):
            made()


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_named_by_its_example():
    params, (x, y) = problem()
    queries = influence.query_scores(network, (x[:2], y[:2]))

    def loss(outputs, target):  # without derivative at 0, and not a number below
        return jnp.sqrt((outputs[0] ** 2 + 1) * (8 - target))

    for made in (influence.influence_function, influence.gradient_similarity):
        settings = {"damping": 0.1, "solver": "cg", "steps": 2} if made is influence.influence_function else {}
        with pytest.raises(ValueError, match=r"training example 8 is not finite .*\(4 such examples"):
            made(network, params, (x, jnp.arange(12)), queries, loss=loss, **settings)
