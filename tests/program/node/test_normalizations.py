"""Every spelling of a normalisation is one node, and LRP and DeepLIFT through it are their closed forms."""

from __future__ import annotations

import contextlib

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxplain
from jaxplain.explain.backward import relevance
from jaxplain.program.node import open_score
from shared.tables import halves

N, EPS = 6, 1e-3
X = np.random.default_rng(0).normal(0.4, 1.0, (N,))
START = np.random.default_rng(1).normal(size=(N,))
W = np.random.default_rng(2).normal(size=(N,))
GAMMA, BETA = np.random.default_rng(3).normal(1, 0.3, (N,)), np.random.default_rng(4).normal(size=(N,))
MASK = np.arange(N) < 4
WEIGHTS = np.arange(1.0, N + 1)
EVEN = np.full(N, 1 / N)


# The closed forms, in NumPy: y = c(x) (x - mean), with any weights of the mean.


def scale(x, mean, second, after=lambda v: 1 / np.sqrt(v + EPS)):
    """1 / sigma, from the weighted mean and second moment."""
    return after(second @ (x - mean @ x) ** 2)


def held(x, g, mean, c):
    """LRP with c constant: each input times the derivative of the linear map."""
    return x * c * (g - mean * g.sum())


def two_parts(x, x0, g, mean, second, c, c0):
    """DeepLIFT: of the centred values with c between both runs, and of c, which moves along its gradient half-way."""
    w, d, middle = c0**2 / (c**2 + c0**2), x - x0, (x + x0) / 2
    a, a0 = x - mean @ x, x0 - mean @ x0
    direct = (w * c + (1 - w) * c0) * (g - mean * g.sum())
    along = second * (middle - mean @ middle)
    along = along - mean * along.sum()
    through = g @ (w * a0 + (1 - w) * a) * (c - c0) * along / (along @ d)
    return (direct + through) * d


# Spellings: the function, the weights of the mean and of the second moment, and 1 / sigma from that moment.

ZERO = 0 * EVEN
PLAIN = (EVEN, EVEN)
mean_ = lambda x: x.mean(-1, keepdims=True)  # noqa: E731
inside, outside = lambda v: 1 / np.sqrt(v + EPS), lambda v: 1 / (np.sqrt(v) + EPS)
masked = MASK / MASK.sum()
weighted = WEIGHTS / WEIGHTS.sum()


def jvar(x):
    return jnp.var(x, -1, keepdims=True)


def by_mean_square(x):
    return jnp.mean(x * x, -1, keepdims=True) - mean_(x) ** 2


def flipped(x):
    mean = jnp.sum(x, -1, keepdims=True) / N
    s = lax.rsqrt(jvar(x) + EPS)
    return x * s + (1.0 - mean * s) - 1.0


def in_loops(x):
    total = lax.reduce(x, np.zeros((), x.dtype), lax.add, (0,))
    centred = jnp.subtract(x, total / N)
    return centred * (lax.reduce(centred**2, np.zeros((), x.dtype), lax.add, (0,)) / N + EPS) ** -0.5


SPELLINGS = {
    "var, rsqrt": (lambda x: (x - mean_(x)) * lax.rsqrt(jvar(x) + EPS), *PLAIN, inside),
    "var, division by sqrt": (lambda x: (x - mean_(x)) / jnp.sqrt(jvar(x) + EPS), *PLAIN, inside),
    "one over sqrt": (lambda x: (x - mean_(x)) * (1 / jnp.sqrt(jvar(x) + EPS)), *PLAIN, inside),
    "root of one over": (lambda x: (x - mean_(x)) * jnp.sqrt(1 / (jvar(x) + EPS)), *PLAIN, inside),
    "power -0.5": (lambda x: (x - mean_(x)) * (jvar(x) + EPS) ** -0.5, *PLAIN, inside),
    "power 0.5": (lambda x: (x - mean_(x)) / jnp.power(jvar(x) + EPS, 0.5), *PLAIN, inside),
    "reciprocal": (lambda x: (x - mean_(x)) * jnp.reciprocal(jnp.sqrt(jvar(x) + EPS)), *PLAIN, inside),
    "std, epsilon outside": (lambda x: (x - mean_(x)) / (jnp.std(x, -1, keepdims=True) + EPS), *PLAIN, outside),
    "std, no epsilon": (lambda x: (x - x.mean()) / x.std(), *PLAIN, lambda v: 1 / np.sqrt(v)),
    "std, at least": (lambda x: (x - x.mean()) / jnp.maximum(x.std(), EPS), *PLAIN, lambda v: 1 / np.sqrt(v)),
    "std, chosen": (
        lambda x: (x - x.mean()) / jnp.where(x.std() > 0, x.std(), 1.0), *PLAIN, lambda v: 1 / np.sqrt(v),
    ),
    "ddof": (lambda x: (x - x.mean()) / jnp.sqrt(jnp.var(x, ddof=1) + EPS), EVEN, EVEN * N / (N - 1), inside),
    "ddof, std": (lambda x: (x - x.mean()) / (jnp.std(x, ddof=1) + EPS), EVEN, EVEN * N / (N - 1), outside),
    "mean square less squared mean": (lambda x: (x - mean_(x)) * lax.rsqrt(by_mean_square(x) + EPS), *PLAIN, inside),
    "clipped": (lambda x: (x - mean_(x)) * lax.rsqrt(jnp.clip(by_mean_square(x), 0) + EPS), *PLAIN, inside),
    "relu": (lambda x: (x - mean_(x)) * lax.rsqrt(jax.nn.relu(by_mean_square(x)) + EPS), *PLAIN, inside),
    "centred twice": (lambda x: (x - mean_(x)) * lax.rsqrt(jnp.mean((x - x.mean()) ** 2) + EPS), *PLAIN, inside),
    "einsum": (
        lambda x: (x - x.sum() / N) * lax.rsqrt(jnp.einsum("i,i->", x - x.mean(), x - x.mean()) / N + EPS),
        *PLAIN, inside,
    ),
    "einsum mean": (
        lambda x: (x - jnp.einsum("i,i->", x, jnp.ones(N, x.dtype)) / N) * lax.rsqrt(jvar(x) + EPS), *PLAIN, inside,
    ),
    "dot": (lambda x: (lambda a: a / jnp.sqrt(jnp.dot(a, a) / N + EPS))(x - x.mean()), *PLAIN, inside),
    "vdot": (lambda x: (lambda a: a / jnp.sqrt(jnp.vdot(a, a) / N + EPS))(x - x.mean()), *PLAIN, inside),
    "matmul": (lambda x: (lambda a: a / jnp.sqrt((a[None] @ a[:, None])[0] / N + EPS))(x - x.mean()), *PLAIN, inside),
    "absolute squares": (
        lambda x: (x - x.mean()) / jnp.sqrt(jnp.mean(jnp.abs(x - x.mean()) ** 2) + EPS), *PLAIN, inside,
    ),
    "square of std": (lambda x: (x - x.mean()) / jnp.sqrt(x.std() ** 2 + EPS), *PLAIN, inside),
    "standardize": (lambda x: jax.nn.standardize(x, epsilon=EPS), *PLAIN, inside),
    "minus the mean": (lambda x: (-x.mean() + x) * lax.rsqrt(jvar(x) + EPS), *PLAIN, inside),
    "folded": (flipped, *PLAIN, inside),
    "lax": (in_loops, *PLAIN, inside),
    "rms": (lambda x: x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + EPS), ZERO, EVEN, inside),
    "rms, power": (lambda x: x * jnp.power(jnp.mean(x**2) + EPS, -0.5), ZERO, EVEN, inside),
    "rms, root first": (lambda x: x / (jnp.sqrt(jnp.mean(x**2)) + EPS), ZERO, EVEN, outside),
    "rms, einsum": (lambda x: x / jnp.sqrt(jnp.einsum("i,i", x, x) / N + EPS), ZERO, EVEN, inside),
    "l2": (lambda x: x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + EPS), ZERO, EVEN * N, outside),
    "l2, at least": (lambda x: x / jnp.maximum(jnp.linalg.norm(x), EPS), ZERO, EVEN * N, lambda v: 1 / np.sqrt(v)),
    "l2, safe": (
        lambda x: jnp.where(jnp.linalg.norm(x) > 0, x / jnp.linalg.norm(x), 0.0), ZERO, EVEN * N,
        lambda v: 1 / np.sqrt(v),
    ),
    "masked": (
        lambda x: (x - jnp.mean(x, where=MASK)) * lax.rsqrt(jnp.var(x, where=MASK) + EPS), masked, masked, inside,
    ),
    "masked by a product": (
        lambda x: (x - (x * MASK).sum() / 4)
        * lax.rsqrt(((x - (x * MASK).sum() / 4) ** 2 * MASK).sum() / MASK.sum() + EPS),
        masked, masked, inside,
    ),
    "weighted": (
        lambda x: (lambda m: (x - m) / jnp.sqrt(jnp.average((x - m) ** 2, weights=jnp.array(WEIGHTS, x.dtype)) + EPS))(
            jnp.average(x, weights=jnp.array(WEIGHTS, x.dtype))
        ),
        weighted, weighted, inside,
    ),
    "mean and variance used elsewhere": (
        lambda x: (x - mean_(x)) * lax.rsqrt(jvar(x) + EPS) + 0 * (mean_(x) + jvar(x)), *PLAIN, inside,
    ),
    "exponential of a logarithm": (
        lambda x: (x - x.mean()) * jnp.exp(-0.5 * jnp.log(jnp.var(x) + EPS)), *PLAIN, inside,
    ),
    "segments": (
        lambda x: x * lax.rsqrt(jax.ops.segment_sum(x**2, np.zeros(N, int), 2)[np.zeros(N, int)] / N + EPS),
        ZERO, EVEN, inside,
    ),
    "stopped": (lambda x: (x - x.mean()) * lax.stop_gradient(lax.rsqrt(jvar(x) + EPS)), *PLAIN, inside),
}  # fmt: skip


def affine(f):
    return lambda x: f(x) * jnp.asarray(GAMMA, x.dtype) + jnp.asarray(BETA, x.dtype)


def count(f, x):
    graph = open_score(f, jnp.asarray(x, jnp.float32), (), "test").graph
    return [node.kind for node in graph.walk()].count("normalization"), [n.note for n in graph.walk() if n.note]


@pytest.mark.parametrize("name", halves(list(SPELLINGS)))
@pytest.mark.sampled(8)
def test_a_spelling_is_one_node_with_the_closed_forms_of_lrp_and_deep_lift(name):
    f, mean, second, after = SPELLINGS[name]
    score = lambda x: affine(f)(x) @ jnp.asarray(W, x.dtype)  # noqa: E731
    bare = lambda x: f(x) @ jnp.asarray(W, x.dtype)  # noqa: E731
    assert count(score, X) == (1, [])
    c, c0 = scale(X, mean, second, after), scale(START, mean, second, after)
    for wide in (True, False):
        dtype, digits = (np.float64, 1e-5) if wide else (np.float32, 2e-4)
        with jax.enable_x64() if wide else contextlib.nullcontext():
            x, start = (jnp.asarray(v, dtype) for v in (X, START))
            for g, h in ((score, W * GAMMA), (bare, W))[: 1 if wide else 2]:
                right = held(X, h, mean, c)
                r = jaxplain.lrp(g, relevance.epsilon(1e-7))(x)
                assert r.dtype == dtype
                np.testing.assert_allclose(r, right, rtol=digits, atol=digits)
            if name == "stopped":
                continue  # of two runs the model itself stops what a scale brings
            a = jaxplain.deep_lift(score, baseline=start)(x)
            np.testing.assert_allclose(a, two_parts(X, START, W * GAMMA, mean, second, c, c0), rtol=digits, atol=digits)


# Modules: what each normalises together, as rows of places.

IMAGE = (3, 2, 4)
PLACES = np.arange(24).reshape(IMAGE)


def by_rows(x, start, g, rows, centred, eps):
    """The closed forms over rows of places."""
    r, a = np.zeros(x.size), np.zeros(x.size)
    for row in rows:
        even = np.full(row.size, 1 / row.size)
        mean = even if centred else 0 * even
        c, c0 = (scale(v.ravel()[row], mean, even, lambda v: 1 / np.sqrt(v + eps)) for v in (x, start))
        r[row] = held(x.ravel()[row], g.ravel()[row], mean, c)
        a[row] = two_parts(x.ravel()[row], start.ravel()[row], g.ravel()[row], mean, even, c, c0)
    return r.reshape(x.shape), a.reshape(x.shape)


def haiku(make):
    def applied(x):
        return hk.without_apply_rng(hk.transform(lambda x: make()(x)))

    def build(x):
        params = applied(x).init(jax.random.key(0), x)
        params = jax.tree.map(lambda v: v + 0.3 * jax.random.normal(jax.random.key(v.size), v.shape), params)
        return lambda x: applied(x).apply(params, x), {k: v for layer in params.values() for k, v in layer.items()}

    return build


def linen(module):
    def build(x):
        params = module.init(jax.random.key(0), x)
        params = jax.tree.map(lambda v: v + 0.3 * jax.random.normal(jax.random.key(v.size), v.shape), params)
        return lambda x: module.apply(params, x), params.get("params", {})

    return build


def flax_nnx(make):
    def build(x):
        module = make(nnx.Rngs(0))
        graph, params = nnx.split(module)
        params = jax.tree.map(lambda v: v + 0.3 * jax.random.normal(jax.random.key(v.size), v.shape), params)
        return lambda x: nnx.merge(graph, params)(x), {"scale": nnx.merge(graph, params).scale[...]}

    return build


def equinox(module, shape=None):
    def build(x):
        own = jax.tree.map(
            lambda v: v + 0.3 * jax.random.normal(jax.random.key(v.size), v.shape) if eqx.is_array(v) else v, module
        )
        weight = (
            None if own.weight is None else jnp.broadcast_to(own.weight.reshape(shape or own.weight.shape), x.shape)
        )
        return own, {} if weight is None else {"scale": weight}

    return build


FEATURES = PLACES.reshape(-1, 4)
ALL = PLACES.reshape(1, -1)
GROUPS = np.stack([PLACES[..., :2].ravel(), PLACES[..., 2:].ravel()])
FIRST = PLACES.reshape(3, -1)  # channels first
LAST = np.moveaxis(PLACES, -1, 0).reshape(4, -1)
MODULES = {
    "eqx.LayerNorm": (equinox(eqx.nn.LayerNorm(IMAGE)), ALL, True, 1e-5),
    "eqx.LayerNorm, bare": (equinox(eqx.nn.LayerNorm(IMAGE, use_weight=False, use_bias=False)), ALL, True, 1e-5),
    "eqx.GroupNorm": (equinox(eqx.nn.GroupNorm(3, 3), (3, 1, 1)), FIRST, True, 1e-5),
    "eqx.GroupNorm, one": (equinox(eqx.nn.GroupNorm(1, 3, channelwise_affine=False)), ALL, True, 1e-5),
    "eqx.RMSNorm": (equinox(eqx.nn.RMSNorm(IMAGE)), ALL, False, 1e-5),
    "hk.LayerNorm": (haiku(lambda: hk.LayerNorm(-1, True, True)), FEATURES, True, 1e-5),
    "hk.LayerNorm, fast": (
        haiku(lambda: hk.LayerNorm(-1, True, True, use_fast_variance=True)), FEATURES, True, 1e-5,
    ),
    "hk.LayerNorm, axes": (haiku(lambda: hk.LayerNorm((2, 1), False, False, param_axis=-1)), FIRST, True, 1e-5),
    "hk.GroupNorm": (haiku(lambda: hk.GroupNorm(2)), GROUPS, True, 1e-5),
    "hk.InstanceNorm": (haiku(lambda: hk.InstanceNorm(True, True)), LAST, True, 1e-5),
    "hk.RMSNorm": (haiku(lambda: hk.RMSNorm(-1)), FEATURES, False, 1e-5),
    "nn.LayerNorm": (linen(nn.LayerNorm()), FEATURES, True, 1e-6),
    "nn.LayerNorm, slow": (linen(nn.LayerNorm(use_fast_variance=False)), FEATURES, True, 1e-6),
    "nn.LayerNorm, axes": (
        linen(nn.LayerNorm(reduction_axes=(2, 0, 1), feature_axes=-1, use_bias=False)), ALL, True, 1e-6,
    ),
    "nn.RMSNorm": (linen(nn.RMSNorm()), FEATURES, False, 1e-6),
    "nn.GroupNorm": (linen(nn.GroupNorm(2)), GROUPS, True, 1e-6),
    "nn.InstanceNorm": (linen(nn.InstanceNorm()), LAST, True, 1e-6),
    "nnx.LayerNorm": (flax_nnx(lambda k: nnx.LayerNorm(4, rngs=k)), FEATURES, True, 1e-6),
    "nnx.LayerNorm, slow": (
        flax_nnx(lambda k: nnx.LayerNorm(4, use_fast_variance=False, rngs=k)), FEATURES, True, 1e-6,
    ),
    "nnx.RMSNorm": (flax_nnx(lambda k: nnx.RMSNorm(4, rngs=k)), FEATURES, False, 1e-6),
    "nnx.GroupNorm": (flax_nnx(lambda k: nnx.GroupNorm(4, num_groups=2, rngs=k)), GROUPS, True, 1e-6),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_modules_have_the_closed_forms_in_every_dtype(name):
    build, rows, centred, eps = MODULES[name]
    x, start, w = (np.random.default_rng(k).normal(size=IMAGE).astype(np.float32) for k in (5, 6, 7))
    batched = name in ("hk.GroupNorm", "hk.InstanceNorm", "nn.GroupNorm", "nn.InstanceNorm", "nnx.GroupNorm")
    lead = (lambda v: v[None]) if batched else (lambda v: v)
    module, params = build(lead(jnp.asarray(x)))
    gamma = np.broadcast_to(np.asarray(params.get("scale", params.get("w_i", 1.0)), np.float64), lead(x).shape)
    for dtype, digits in ((jnp.float32, 2e-4), (jnp.bfloat16, 3e-2)):
        x_, start_ = (jnp.asarray(v, dtype) for v in (x, start))
        score = lambda x: (module(lead(x)) * lead(w)).sum()  # noqa: E731
        assert count(score, x_) == (1, [])
        g = (w * gamma).reshape(IMAGE)
        exact = (np.asarray(v.astype(jnp.float32), np.float64) for v in (x_, start_))
        r, a = by_rows(*exact, g, rows, centred, eps)
        np.testing.assert_allclose(
            np.asarray(jaxplain.lrp(score, relevance.epsilon(1e-7))(x_), np.float32), r, rtol=digits, atol=digits
        )
        found = np.asarray(jaxplain.deep_lift(score, baseline=start_)(x_), np.float32)
        np.testing.assert_allclose(found, a, rtol=digits, atol=digits)
