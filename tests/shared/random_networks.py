"""Random networks of random operations: what a seed draws is a function of one example, its input and a baseline.

Each operation says for which values it is made (an image `[H, W, C]`, tokens `[T, D]`) and draws its own parameters.
Everything stays of moderate size, so that errors of rounding can be told from errors of rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Draw = np.random.Generator
Made = tuple[dict[str, Any], Callable[[dict[str, Any], Any], Any]]
"""The parameters of an operation, and what it computes with them."""

OPERATIONS: dict[str, tuple[str, Callable[[Draw, tuple[int, ...]], Made]]] = {}


def operation(takes: str) -> Callable[[Any], Any]:
    """Enter an operation into the table: it takes an 'image', 'tokens' or 'any' value."""

    def enter(make: Any) -> Any:
        OPERATIONS[make.__name__] = (takes, make)
        return make

    return enter


def plain(name: str, takes: str, f: Callable[[Any], Any]) -> None:
    """Enter an operation without parameters."""
    OPERATIONS[name] = (takes, lambda draw, shape: ({}, lambda params, x: f(x)))


def normal(draw: Draw, *shape: int) -> Any:
    return draw.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1])))


def weight(draw: Draw, *shape: int) -> dict[str, Any]:
    return {"w": normal(draw, *shape), "b": 0.3 * draw.normal(size=shape[-1])}


def dense(p: dict[str, Any], x: Any) -> Any:
    return x @ p["w"] + jnp.broadcast_to(p["b"], (*x.shape[:-1], p["b"].shape[0]))


def along_last(vector: Any, x: Any) -> Any:
    return jnp.broadcast_to(vector, x.shape)


# Images


def convolve(p: dict[str, Any], x: Any, stride: int = 1, groups: int = 1, padding: str = "SAME") -> Any:
    names = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(
        x[None], p["w"], (stride, stride), padding, dimension_numbers=names, feature_group_count=groups
    )[0]
    return y + along_last(p["b"], y)


@operation("image")
def convolution(draw: Draw, shape: tuple[int, ...]) -> Made:
    return weight(draw, 3, 3, shape[-1], 4), convolve


@operation("image")
def strided_convolution(draw: Draw, shape: tuple[int, ...]) -> Made:
    return weight(draw, 2, 2, shape[-1], 4), lambda p, x: convolve(p, x, stride=2)


@operation("image")
def depthwise_convolution(draw: Draw, shape: tuple[int, ...]) -> Made:
    return weight(draw, 3, 3, 1, shape[-1]), lambda p, x: convolve(p, x, groups=x.shape[-1])


@operation("image")
def batch_norm(draw: Draw, shape: tuple[int, ...]) -> Made:
    params = {name: draw.uniform(0.5, 1.5, shape[-1]) for name in ("mean", "var", "scale", "bias")}

    def f(p: dict[str, Any], x: Any) -> Any:
        slope = lax.rsqrt(p["var"] + 1e-3) * p["scale"]
        return (x - along_last(p["mean"], x)) * along_last(slope, x) + along_last(p["bias"], x)

    return params, f


def pooled(x: Any, start: float, combine: Any, window: int = 2) -> Any:
    one = (window, window, 1)
    return lax.reduce_window(x, start, combine, one, one, "SAME")


plain("max_pool", "image", lambda x: pooled(x, -float("inf"), lax.max))
plain("mean_pool", "image", lambda x: pooled(x, 0.0, lax.add) / 4)
plain("squeeze_and_excite", "image", lambda x: x * along_last(jax.nn.sigmoid(x.mean((0, 1))), x))
plain("fold", "image", lambda x: x.reshape(-1, x.shape[-1]))
plain("flip", "any", lambda x: jnp.flip(x, 0))
plain("roll", "any", lambda x: jnp.roll(x, 1, 0))

# Normalisations, each in its own spelling, over the last axis (or all axes of an image)


def normalization(name: str, f: Callable[[Any], Any]) -> None:
    def make(draw: Draw, shape: tuple[int, ...]) -> Made:
        params = {"scale": draw.uniform(0.5, 1.5, shape[-1]), "bias": 0.3 * draw.normal(size=shape[-1])}
        return params, lambda p, x: f(x) * along_last(p["scale"], x) + along_last(p["bias"], x)

    OPERATIONS[name] = ("any", make)


def mean(x: Any) -> Any:
    return x.mean(-1, keepdims=True)


EPSILON = 1e-2
normalization("norm_var", lambda x: (x - mean(x)) * lax.rsqrt(x.var(-1, keepdims=True) + EPSILON))
normalization("norm_std", lambda x: (x - mean(x)) / (x.std(-1, keepdims=True) + 0.1))
normalization("norm_square", lambda x: (x - mean(x)) / jnp.sqrt(mean(jnp.square(x - mean(x))) + EPSILON))
normalization(
    "norm_moments", lambda x: (x - mean(x)) * lax.rsqrt(jnp.maximum(mean(x * x) - mean(x) ** 2, 0.0) + EPSILON)
)
normalization("norm_power", lambda x: (x - mean(x)) * (mean((x - mean(x)) ** 2) + EPSILON) ** -0.5)
normalization("rms", lambda x: x * lax.rsqrt(mean(jnp.square(x)) + EPSILON))
normalization("rms_product", lambda x: x / jnp.sqrt(jnp.einsum("...d,...d->...", x, x)[..., None] / x.shape[-1] + 0.1))

# Elementwise

for name in ("relu", "gelu", "silu", "elu", "softplus", "leaky_relu", "tanh", "sigmoid"):
    plain(name, "any", getattr(jax.nn, name))
plain("clip", "any", lambda x: jnp.clip(x, -0.7, 0.9))
plain("where_positive", "any", lambda x: jnp.where(x > 0.2, x, 0.1 * x + 0.18))
plain("exp", "any", lambda x: jnp.exp(-jnp.square(x)) + 0.5 * x)
plain("log", "any", lambda x: jnp.log(1 + jnp.exp(x)) - jnp.log1p(x * x))
plain("quotient", "any", lambda x: x / (1 + jnp.square(x)))
plain("share", "any", lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True))
plain("softmax", "any", lambda x: x + jax.nn.softmax(x, -1))
plain("log_softmax", "any", lambda x: 0.3 * jax.nn.log_softmax(x, -1))
plain("logsumexp", "any", lambda x: 0.3 * x - 0.3 * jax.nn.logsumexp(x, -1, keepdims=True))

# Data in another place or order

plain("reshape", "tokens", lambda x: x.reshape(x.shape[1], x.shape[0]))
plain("transpose", "tokens", jnp.transpose)
plain("cumsum", "any", lambda x: jnp.cumsum(x, 0) / x.shape[0])
plain("sort", "any", lambda x: jnp.sort(x, 0))
plain("pad_and_slice", "tokens", lambda x: jnp.pad(x, ((1, 1), (0, 0)))[: x.shape[0]])


@operation("tokens")
def gather(draw: Draw, shape: tuple[int, ...]) -> Made:
    places = draw.integers(0, shape[0], shape[0])
    return {}, lambda p, x: x[places]


@operation("any")
def where_mask(draw: Draw, shape: tuple[int, ...]) -> Made:
    kept = draw.random(shape) < 0.7
    return {}, lambda p, x: jnp.where(kept, x, 0.3)


# Layers of tokens


@operation("tokens")
def linear(draw: Draw, shape: tuple[int, ...]) -> Made:
    return weight(draw, shape[-1], 4), dense


@operation("tokens")
def attention(draw: Draw, shape: tuple[int, ...]) -> Made:
    params = {name: normal(draw, shape[-1], 4) for name in ("q", "k", "v")}

    def f(p: dict[str, Any], x: Any) -> Any:
        scores = jnp.einsum("qd,kd->qk", x @ p["q"], x @ p["k"]) / 2
        return jax.nn.softmax(scores, -1) @ (x @ p["v"])

    return params, f


@operation("tokens")
def gate(draw: Draw, shape: tuple[int, ...]) -> Made:
    params = {"up": weight(draw, shape[-1], 4), "gate": weight(draw, shape[-1], 4)}
    return params, lambda p, x: jax.nn.sigmoid(dense(p["gate"], x)) * jnp.tanh(dense(p["up"], x))


@operation("tokens")
def residual(draw: Draw, shape: tuple[int, ...]) -> Made:
    return weight(draw, shape[-1], shape[-1]), lambda p, x: x + jax.nn.relu(dense(p, x))


@operation("tokens")
def concatenation(draw: Draw, shape: tuple[int, ...]) -> Made:
    return weight(draw, shape[-1], 2), lambda p, x: jnp.concatenate([x, jnp.tanh(dense(p, x))], -1)


@operation("tokens")
def recurrence(draw: Draw, shape: tuple[int, ...]) -> Made:
    params = {"in": weight(draw, shape[-1], 3), "h": normal(draw, 3, 3)}

    def f(p: dict[str, Any], x: Any) -> Any:
        def turn(h: Any, row: Any) -> tuple[Any, Any]:
            h = jnp.tanh(row @ p["in"]["w"] + p["in"]["b"] + h @ p["h"])
            return h, h

        return lax.scan(turn, jnp.zeros(3, x.dtype), x)[1]

    return params, f


@operation("any")
def branch(draw: Draw, shape: tuple[int, ...]) -> Made:
    return {"flag": draw.normal()}, lambda p, x: lax.cond(p["flag"] > 0, jax.nn.relu, lambda h: 0.5 * h, x)


@operation("any")
def branch_on_values(draw: Draw, shape: tuple[int, ...]) -> Made:
    return {}, lambda p, x: lax.cond(x.sum() > 0, lambda h: 1.5 * h, jnp.tanh, x)


@dataclasses.dataclass(frozen=True)
class Network:
    """What a seed draws: the names of its operations, the score, an input and a baseline, and further inputs."""

    seed: int
    names: tuple[str, ...]
    f: Any
    x: Any
    baseline: Any
    rows: Any

    def __str__(self) -> str:
        return f"seed {self.seed} ({self.x.dtype}): {' > '.join(self.names)}"


def random_network(seed: int, dtype: Any, depth: int = 3) -> Network:
    """A score of one example: `depth` operations, then a sum with random weights."""
    draw = np.random.default_rng(seed)
    shape: tuple[int, ...] = (4, 4, 2) if seed % 2 else (4, 3)
    start, steps, parameters = shape, [], []
    for _ in range(depth):
        kinds = ("any", "image" if len(shape) == 3 else "tokens")
        name = draw.choice([name for name, (takes, _) in OPERATIONS.items() if takes in kinds])
        params, f = OPERATIONS[name][1](draw, shape)
        shape = jax.eval_shape(f, jax.tree.map(jnp.asarray, params), jnp.zeros(shape)).shape
        steps.append((str(name), f))
        parameters.append(params)
    parameters.append({"out": draw.normal(size=shape) / np.sqrt(np.prod(shape))})
    parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), parameters)

    def score(params: Any, x: Any) -> Any:
        for (name, f), own in zip(steps, params[:-1], strict=True):
            with jax.named_scope(name):
                x = f(own, x)
        return (x * params[-1]["out"]).sum()

    x, *rows = (jnp.asarray(draw.normal(size=start), dtype) for _ in range(3))
    baseline = jnp.asarray(0.3 * draw.normal(size=start), dtype)
    names = tuple(name for name, _ in steps)
    return Network(seed, names, jax.tree_util.Partial(score, parameters), x, baseline, jnp.stack([x, *rows]))
