"""One small transformer and one small convolutional network in Linen, NNX, Haiku and Equinox, of equal weights.

Each is made of its framework's own layers; all take one example (`[T, D]`, `[H, W, C]`) through `logit`.
"""

import functools

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import jaxplain

WIDTH, HEADS, CLASSES, HIDDEN, EPSILON = 4, 2, 3, 6, 1e-5
HEAD = WIDTH // HEADS
FRAMEWORKS = ("linen", "nnx", "haiku", "equinox")


@functools.cache
def weights():
    """Kernels `[..., in, out]` and scales by layer, drawn once."""
    draw = np.random.default_rng(0)

    def layer(*shape):
        kernel = draw.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
        return kernel.astype(np.float32), (0.3 * draw.normal(size=shape[-1])).astype(np.float32)

    def norm():
        return tuple((center + 0.3 * draw.normal(size=WIDTH)).astype(np.float32) for center in (1.0, 0.0))

    square = {name: layer(WIDTH, WIDTH) for name in ("query", "key", "value", "out")}
    return {
        **square,
        "up": layer(WIDTH, HIDDEN),
        "down": layer(HIDDEN, WIDTH),
        "head": layer(WIDTH, CLASSES),
        "conv_0": layer(3, 3, 2, WIDTH),
        "conv_1": layer(2, 2, WIDTH, WIDTH),
        **{name: norm() for name in ("norm_0", "norm_1", "norm_2", "groups")},
    }


def transformer(call, x):
    """What every transformer computes, by its layers' names."""
    h = call("norm_0", x)
    x = x + call("attention", h)
    h = call("down", jax.nn.relu(call("up", call("norm_1", x))))
    return call("head", call("norm_2", x + h).mean(-2))


def network(call, x):
    """What every convolutional network computes; the axes of places are the two before the last."""
    x = call("pool", jax.nn.relu(call("groups", call("conv_0", x))))
    x = jax.nn.relu(call("conv_1", x))
    return call("head", x.mean((-3, -2)))


BODIES = {"transformer": transformer, "network": network}


# Linen


class Linen(nn.Module):
    body: str

    @nn.compact
    def __call__(self, x):
        layers = {
            "attention": lambda h: nn.MultiHeadDotProductAttention(HEADS, name="attention")(h),
            "conv_0": nn.Conv(WIDTH, (3, 3), name="conv_0"),
            "conv_1": nn.Conv(WIDTH, (2, 2), padding="VALID", name="conv_1"),
            "groups": nn.GroupNorm(2, epsilon=EPSILON, name="groups"),
            "pool": lambda h: nn.max_pool(h, (2, 2), (2, 2)),
            "up": nn.Dense(HIDDEN, name="up"),
            "down": nn.Dense(WIDTH, name="down"),
            "head": nn.Dense(CLASSES, name="head"),
            **{f"norm_{i}": nn.LayerNorm(epsilon=EPSILON, name=f"norm_{i}") for i in range(3)},
        }
        return BODIES[self.body](lambda name, h: layers[name](h), x)


def linen(body):
    def named(name, first):
        kernel, bias = weights()[name]
        return {first: kernel, "bias": bias}

    params = {name: named(name, "scale" if "norm" in name or name == "groups" else "kernel") for name in weights()}
    parts = {name: params.pop(name) for name in ("query", "key", "value")}
    params["attention"] = {
        name: {"kernel": p["kernel"].reshape(WIDTH, HEADS, HEAD), "bias": p["bias"].reshape(HEADS, HEAD)}
        for name, p in parts.items()
    }
    out = params.pop("out")
    params["attention"]["out"] = {"kernel": out["kernel"].reshape(HEADS, HEAD, WIDTH), "bias": out["bias"]}
    return jaxplain.logit(Linen(body).apply, {"params": params})


# NNX


class NNX(nnx.Module):
    def __init__(self, body):
        rngs = nnx.Rngs(0)
        self.body = body
        if body == "transformer":
            self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
            for i in range(3):
                setattr(self, f"norm_{i}", nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs))
            self.up, self.down = nnx.Linear(WIDTH, HIDDEN, rngs=rngs), nnx.Linear(HIDDEN, WIDTH, rngs=rngs)
        else:
            self.conv_0 = nnx.Conv(2, WIDTH, (3, 3), rngs=rngs)
            self.conv_1 = nnx.Conv(WIDTH, WIDTH, (2, 2), padding="VALID", rngs=rngs)
            self.groups = nnx.GroupNorm(WIDTH, 2, epsilon=EPSILON, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x):
        pool = lambda h: nnx.max_pool(h, (2, 2), (2, 2))  # noqa: E731
        return BODIES[self.body](lambda name, h: pool(h) if name == "pool" else getattr(self, name)(h), x)


def nnx_(body):
    model = NNX(body)
    for name, (first, second) in weights().items():
        inside = name in ("query", "key", "value", "out")
        layer = getattr(getattr(model, "attention", None) if inside else model, name, None)
        if layer is not None:
            main = layer.scale if hasattr(layer, "scale") else layer.kernel
            main.set_value(jnp.asarray(first).reshape(main.get_value().shape))
            layer.bias.set_value(jnp.asarray(second).reshape(layer.bias.get_value().shape))
    return jaxplain.logit(*jaxplain.from_nnx(model))


# Haiku


def haiku(body):
    def forward(x):
        attention = lambda h: hk.MultiHeadAttention(  # noqa: E731
            HEADS, HEAD, w_init=hk.initializers.Constant(0.0), model_size=WIDTH, name="attention"
        )(h, h, h)
        layers = {
            "attention": attention,
            "conv_0": lambda h: hk.Conv2D(WIDTH, 3, name="conv_0")(h),
            "conv_1": lambda h: hk.Conv2D(WIDTH, 2, padding="VALID", name="conv_1")(h),
            "groups": lambda h: hk.GroupNorm(2, eps=EPSILON, name="groups")(h),
            "pool": lambda h: hk.max_pool(h, (2, 2, 1), (2, 2, 1), "VALID"),
            "up": lambda h: hk.Linear(HIDDEN, name="up")(h),
            "down": lambda h: hk.Linear(WIDTH, name="down")(h),
            "head": lambda h: hk.Linear(CLASSES, name="head")(h),
        }

        def call(name, h):
            if name.startswith("norm"):
                return hk.LayerNorm(-1, True, True, eps=EPSILON, name=name)(h)
            return layers[name](h)

        return BODIES[body](call, x)

    params = {}
    for name, (first, second) in weights().items():
        if "norm" in name or name == "groups":
            params[name] = {"scale": first, "offset": second}
        else:
            place = {"query": "attention/query", "key": "attention/key", "value": "attention/value"}.get(name, name)
            params["attention/linear" if name == "out" else place] = {"w": first, "b": second}
    return jaxplain.logit(hk.without_apply_rng(hk.transform(forward)).apply, params)


# Equinox


class Equinox(eqx.Module):
    layers: dict
    body: str = eqx.field(static=True)

    def __call__(self, x):
        def call(name, h):
            layer = self.layers[name]
            if name == "attention":
                return layer(h, h, h)
            if name in ("conv_0", "conv_1", "groups", "pool"):  # channels first
                return jnp.moveaxis(layer(jnp.moveaxis(h, -1, 0)), 0, -1)
            return layer(h) if h.ndim == 1 else jax.vmap(layer)(h)

        return BODIES[self.body](call, x)


def equinox(body):
    key = jax.random.key(0)
    attention = eqx.nn.MultiheadAttention(
        HEADS, WIDTH, use_query_bias=True, use_key_bias=True, use_value_bias=True, use_output_bias=True, key=key
    )
    parts = {"query": "query_proj", "key": "key_proj", "value": "value_proj", "out": "output_proj"}
    layers = {
        "attention": attention,
        "conv_0": eqx.nn.Conv2d(2, WIDTH, 3, padding="SAME", key=key),
        "conv_1": eqx.nn.Conv2d(WIDTH, WIDTH, 2, key=key),
        "groups": eqx.nn.GroupNorm(2, WIDTH, eps=EPSILON),
        "pool": eqx.nn.MaxPool2d(2, 2),
        "up": eqx.nn.Linear(WIDTH, HIDDEN, key=key),
        "down": eqx.nn.Linear(HIDDEN, WIDTH, key=key),
        "head": eqx.nn.Linear(WIDTH, CLASSES, key=key),
        **{f"norm_{i}": eqx.nn.LayerNorm(WIDTH, eps=EPSILON) for i in range(3)},
    }
    for name, (first, second) in weights().items():
        turned = np.moveaxis(np.moveaxis(first, -1, 0), -1, 1) if first.ndim > 1 else first
        set_ = lambda layer, a=turned, b=second: eqx.tree_at(  # noqa: E731
            lambda part: (part.weight, part.bias), layer, (jnp.asarray(a), jnp.asarray(b).reshape(layer.bias.shape))
        )
        if name in parts:
            old = getattr(layers["attention"], parts[name])
            layers["attention"] = eqx.tree_at(lambda m, n=name: getattr(m, parts[n]), layers["attention"], set_(old))
        else:
            layers[name] = set_(layers[name])
    model = Equinox(layers, body)
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    return jaxplain.logit(lambda params, batch: jax.vmap(eqx.combine(params, rest))(batch), params)


def score(framework, body):
    """The model of a framework, as a score of one example."""
    return {"linen": linen, "nnx": nnx_, "haiku": haiku, "equinox": equinox}[framework](body)
