"""Which arrays of a model are layers and biases, however they are written; all others are listed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import influence, train
from jaxplain.influence.curvature import derivatives, plan_of
from jaxplain.influence.gradients import Examples
from shared import four_frameworks

KEY = jax.random.key(0)
multiply = jax.jit(lambda x, w: x @ w)


def twice(x, w, b):
    h = x @ w
    return (h + b[None, None]) * h


# Every length is 4, so that no axis can be told from another by its length. Each form: of x [B, 4, 4] (examples, their
# positions, its numbers), a weight w [4, 4] and a bias b [4]; whether w is read as a layer's, and b as its bias.
FORMS = {
    "a row's bias": (lambda x, w, b: x @ w + b[None, None], True, True),
    "the bias first": (lambda x, w, b: b[None, None] + x @ w, True, True),
    "spread out": (lambda x, w, b: x @ w + jnp.broadcast_to(b, x.shape), True, True),
    "outputs first": (
        lambda x, w, b: (jnp.einsum("io,bti->obt", w, x) + b[:, None, None]).transpose(1, 2, 0),
        True,
        True,
    ),
    "one example at a time": (lambda x, w, b: jax.vmap(jax.vmap(lambda row: w.T @ row + b))(x), True, True),
    "a column, as in a convolution": (
        lambda x, w, b: jax.vmap(lambda one: jnp.matmul(w, one) + b.reshape(4, 1))(x).mT,
        True,
        True,
    ),
    "a jitted product": (lambda x, w, b: multiply(x, w) + b[None, None], True, True),
    "a jitted layer": (jax.jit(lambda x, w, b: x @ w + b[None, None]), True, True),
    "rematerialized": (jax.checkpoint(lambda x, w, b: x @ w + b[None, None]), True, True),
    "reshaped before the bias": (
        lambda x, w, b: ((x @ w).reshape(-1, 4, 2, 2) + b.reshape(1, 1, 2, 2)).reshape(x.shape),
        True,
        True,
    ),
    "two uses of both": (lambda x, w, b: jnp.tanh(x @ w + b[None, None]) @ w + b[None, None], True, True),
    "one for each position": (lambda x, w, b: x @ w + b[None, :, None], True, False),
    "in another order": (lambda x, w, b: x @ w + b[::-1][None, None], True, False),
    "turned around": (lambda x, w, b: (x @ w).mT + b[None, None], True, False),
    "the product is read twice": (twice, True, False),
    "added to a sum": (lambda x, w, b: x @ w + x + b[None, None], True, False),
    "scaled": (lambda x, w, b: x @ w + 2 * b[None, None], True, False),
    "read elsewhere, too": (lambda x, w, b: (x @ w + b[None, None]) * b[None, None], True, False),
    "two biases of one weight": (lambda x, w, b: (x @ w + b[None, None]) @ w, True, False),
    "both ways around": (lambda x, w, b: (x @ w + b[None, None]) @ w.T, False, False),
    "a scaled weight": (lambda x, w, b: x @ (2 * w) + b[None, None], False, False),
    "a product of weights": (lambda x, w, b: x @ (w @ w) + b[None, None], False, False),
    "half of it held fast": (
        lambda x, w, b: x @ w @ jax.lax.stop_gradient(w) + b[None, None],
        False,
        False,
    ),
    "the result held fast": (
        lambda x, w, b: x + jax.lax.stop_gradient(x @ w) + b[None, None],
        True,
        False,
    ),
    "held fast below its bias": (lambda x, w, b: jax.lax.stop_gradient(x @ w) + b[None, None], True, False),
    "in a loop": (
        lambda x, w, b: jax.lax.scan(lambda h, _: (jnp.tanh(h @ w + b[None, None]), None), x, None, length=2)[0],
        False,
        False,
    ),
}


def examples_of(form):
    def apply(params, x):
        return form(x, params["w"], params["b"]).sum(axis=1)

    params = {"b": jnp.array([0.1, -0.4, 0.3, 0.7]), "w": jax.random.normal(jax.random.key(2), (4, 4)) / 2}
    data = jax.random.normal(KEY, (2, 4, 4)), jnp.array([0, 3])
    run = train.training_run(apply, params, data, key=KEY)
    return Examples(run.model, run.loss, params, run.data)


@pytest.mark.slow
def test_however_a_layer_is_written_what_is_read_is_its_gradient():
    made = {name: examples_of(form) for name, (form, _, _) in FORMS.items()}
    plans = {name: plan_of(examples) for name, examples in made.items()}

    @jax.jit
    def both(made):
        found = {}
        for name, examples in made.items():
            row = jax.tree.map(lambda a: a[0], examples.data[:2])
            inputs, outputs, rest = derivatives(examples, "fisher", plans[name], *row)
            right = examples.merged(jax.grad(examples.example_loss)(examples.vector, *row))
            found[name] = [a.T @ d[0] for a, d in zip(inputs, outputs, strict=True)], rest, right
        return found

    for name, (products, rest, right) in both(made).items():
        _, layer, biased = FORMS[name]
        plan = plans[name]
        assert [(group[0], group[2]) for group in plan.groups] == [(1, 0 if biased else None)] * layer, name
        assert plan.diagonal == tuple(place for place, read in enumerate((biased, layer)) if not read), name
        leaves = {plan.diagonal[i]: leaf[0] for i, leaf in enumerate(rest)}
        for group, product in zip(plan.groups, products, strict=True):
            leaves[1] = jnp.transpose(product[:4], np.argsort(group[3]))
            if biased:
                leaves[0] = product[4]
        for place, leaf in enumerate((right["b"], right["w"])):
            np.testing.assert_allclose(leaves[place], leaf, rtol=1e-4, atol=1e-5, err_msg=name)


LAYERS = {
    "transformer": {"query", "key", "value", "out", "up", "down", "head"},
    "network": {"conv_0", "conv_1", "head"},
}
"""What EK-FAC covers of either body; of the rest its norms are trained and only their diagonal is known."""
SPELLINGS = {"attention/linear": "out", "output_proj": "out", "_proj": "", "attention/": "", r"\.value$": ""}


def names_of(paths):
    """The layers' names in paths of leaves, whatever the framework calls them."""
    found = set()
    for path in paths:
        for spelling, name in SPELLINGS.items():
            path = re.sub(spelling, name, path)
        found |= set(re.split(r"\W+", path)) & set(four_frameworks.weights())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("body", LAYERS)
def test_equal_weights_have_equal_values_in_every_framework(body):
    shape = (3, four_frameworks.WIDTH) if body == "transformer" else (6, 6, 2)
    x, y = jax.random.normal(KEY, (4, *shape)), jnp.arange(4) % 3
    found = {}
    for framework in four_frameworks.FRAMEWORKS:
        f = four_frameworks.score(framework, body)
        queries = influence.query_scores(f.apply, (x[:2] + 0.3, y[:2]))
        ekfac = influence.influence_function(f.apply, f.params, (x, y), queries, solver="ekfac", damping=0.1)
        similar = influence.gradient_similarity(f.apply, f.params, (x, y), queries)
        found[framework] = [ekfac.values, similar.values]
        covered, listed = names_of(ekfac.checks["layers"]), names_of(ekfac.checks["diagonal"])
        assert covered == LAYERS[body], (framework, covered)
        assert not listed & LAYERS[body], (framework, listed)  # their biases are covered, too
        assert listed >= ({"groups"} if body == "network" else {"norm_0", "norm_1", "norm_2"})
    for framework, values in found.items():
        for own, right in zip(values, found["linen"], strict=True):
            scale = float(jnp.abs(right).max())
            np.testing.assert_allclose(own, right, rtol=1e-4, atol=1e-5 * scale, err_msg=framework)


def tied(framework, w, b):
    """A dense layer that runs twice over each position and is a head, in a framework: apply and params."""
    import equinox as eqx
    import haiku as hk
    from flax import linen as nn
    from flax import nnx

    from jaxplain import from_nnx

    def body(layer, x):
        return layer(jnp.tanh(layer(x))).mean(axis=-2)

    if framework == "linen":

        class Tied(nn.Module):
            @nn.compact
            def __call__(self, x):
                return body(nn.Dense(4, name="both"), x)

        return Tied().apply, {"params": {"both": {"kernel": w, "bias": b}}}
    if framework == "nnx":

        class Shared(nnx.Module):
            def __init__(self):
                self.both = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

            def __call__(self, x):
                return body(self.both, x)

        model = Shared()
        model.both.kernel.set_value(w)
        model.both.bias.set_value(b)
        return from_nnx(model)
    if framework == "haiku":
        made = hk.without_apply_rng(hk.transform(lambda x: body(hk.Linear(4, name="both"), x)))
        return made.apply, {"both": {"w": w, "b": b}}
    layer = eqx.nn.Linear(4, 4, key=KEY)
    layer = eqx.tree_at(lambda part: (part.weight, part.bias), layer, (w.T, b))
    params, rest = eqx.partition(layer, eqx.is_inexact_array)

    def apply(params, x):
        return jax.vmap(lambda one: body(jax.vmap(eqx.combine(params, rest)), one))(x)

    return apply, params


@pytest.mark.slow
def test_shared_weights_have_equal_values_in_every_framework():
    w, b = jax.random.normal(jax.random.key(3), (4, 4)) / 2, jnp.array([0.1, -0.4, 0.3, 0.7])
    x, y = jax.random.normal(KEY, (5, 3, 4)), jnp.arange(5) % 4

    def by_hand(params, x):
        h = jnp.tanh(x @ params["w"] + params["b"][None, None])
        return (h @ params["w"] + params["b"][None, None]).mean(axis=1)

    found = []
    for made in (by_hand, *four_frameworks.FRAMEWORKS):
        apply, params = (by_hand, {"w": w, "b": b}) if made is by_hand else tied(made, w, b)
        queries = influence.query_scores(apply, (x[:2] + 0.3, y[:2]))
        ekfac = influence.influence_function(apply, params, (x, y), queries, solver="ekfac", damping=0.1)
        assert (len(ekfac.checks["layers"]), ekfac.checks["diagonal"]) == (1, ()), made
        found.append(ekfac.values)
        np.testing.assert_allclose(ekfac.values, found[0], rtol=1e-4, atol=1e-6, err_msg=str(made))


@pytest.mark.slow
def test_ekfac_is_its_definition_with_shared_weights(double):
    def apply(params, x):
        h = jnp.tanh(x @ params["w"] + params["b"][None, None])
        return (h @ params["w"] + params["b"][None, None]).mean(axis=1)

    w, b = jax.random.normal(jax.random.key(3), (3, 3)) / 2, jnp.array([0.1, -0.4, 0.3])
    x, y = jax.random.normal(KEY, (6, 2, 3)), jnp.arange(6) % 3
    queries = influence.query_scores(apply, (x[:2] + 0.3, y[:2]))
    found = influence.influence_function(
        apply, {"w": w, "b": b}, (x, y), queries, solver="ekfac", curvature="fisher", damping=0.1
    )
    layer = jnp.concatenate([w, b[None]])

    def loss(layer, x, y, moves=(0.0, 0.0)):
        first = x @ layer[:3] + layer[3][None] + moves[0]
        second = jnp.tanh(first) @ layer[:3] + layer[3][None] + moves[1]
        return train.cross_entropy(second.mean(axis=0), y)

    # Factors are sums over examples and uses; the eigenvalues are those of each example's whole gradient.
    ones, zeros = jnp.ones((2, 1)), jnp.zeros((2, 2, 3))
    hidden = jnp.tanh(x @ w + b[None, None])
    uses = [jnp.concatenate([jnp.concatenate([v, ones], 1) for v in pair]) for pair in zip(x, hidden, strict=True)]
    slopes = [jax.grad(loss, 3)(layer, *row, zeros).reshape(-1, 3) for row in zip(x, y, strict=True)]
    u, v = (jnp.linalg.eigh(sum(a.T @ a for a in parts))[1] for parts in (uses, slopes))
    gradients = [jax.grad(loss)(layer, *row) for row in zip(x, y, strict=True)]
    values = sum((u.T @ g @ v) ** 2 for g in gradients) + 0.1
    for q in range(2):
        asked = jax.grad(loss)(layer, x[q] + 0.3, y[q])
        solved = u @ ((u.T @ asked @ v) / values) @ v.T
        right = [-jnp.sum(solved * g) for g in gradients]
        np.testing.assert_allclose(found.values[q], right, rtol=1e-8, atol=1e-12)
