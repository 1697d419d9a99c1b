"""Attention in one canonical form: forward, backward, and what of it cuDNN takes.

Queries `[B, T, N, H]`, keys `[B, S, K, H]`, values `[B, S, K, D]` (N is a multiple of K), bias and mask
`[B or 1, N or 1, T or 1, S]`. Forward gives the output `[B, T, N, D]` and the logarithm of each softmax's denominator
`[B, N, T]`, from which backward recomputes the weights. Derivatives are those of the written-out form, of any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain.program.trace import Program, evaluate, primitive, segment, trace, variables
from jaxplain.types import Array

LARGEST_HEAD = 128
"""The most features of a head that cuDNN takes on every GPU that it has fused attention for."""


class Form(NamedTuple):
    """What is static of an attention in canonical form."""

    scale: float
    causal: bool
    biased: bool
    masked: bool
    precision: Any


class Extras(NamedTuple):
    """Bias and mask, where there are any."""

    bias: Array | None
    mask: Array | None


def extras(form: Form, rest: Sequence[Array]) -> Extras:
    """Bias and mask from the arguments that follow the values."""
    supply = iter(rest)
    return Extras(next(supply) if form.biased else None, next(supply) if form.masked else None)


# Written out: the stand-in on every backend, and what differs from it in no more than rounding.


def written_forward(form: Form, q: Array, k: Array, v: Array, *rest: Array) -> tuple[Array, Array]:
    """The output and the logarithms of the denominators."""
    z = _scores(form, q, k, extras(form, rest))
    total = jax.nn.logsumexp(z, axis=-1)
    weights = jnp.exp(z - total[..., None]).astype(v.dtype)
    out = _by_heads("bkgts,bskd->btkgd", _divided(weights, 1, k), v, form)
    return out.reshape(*q.shape[:3], v.shape[-1]).astype(q.dtype), total


def written_backward(form: Form, q: Array, k: Array, v: Array, *rest: Array) -> tuple[Array, ...]:
    """Cotangents of queries, keys and values, from what forward took and gave and from the output's cotangent."""
    ct = rest[-1]
    weights, dz = _passed(form, q, k, v, *rest)
    dv = _by_heads("bkgts,btkgd->bskd", _divided(weights, 1, k).astype(v.dtype), _divided(ct, 2, k), form)
    narrow = _divided(dz * form.scale, 1, k).astype(q.dtype)
    dq = _by_heads("bkgts,bskh->btkgh", narrow, k, form).reshape(q.shape)
    dk = _by_heads("bkgts,btkgh->bskh", narrow, _divided(q, 2, k), form)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


def bias_backward(form: Form, q: Array, k: Array, v: Array, *rest: Array) -> Array:
    """The cotangent of a bias before it is summed to the bias's shape, `[B, N, T, S]`. Seldom needed: never fused."""
    return _passed(form, q, k, v, *rest)[1]


def _passed(form: Form, q: Array, k: Array, v: Array, *rest: Array) -> tuple[Array, Array]:
    """The weights, and the cotangent of what the softmax is taken of."""
    *given, total, out, ct = rest
    wide = _wide(q)
    weights = jnp.exp(_scores(form, q, k, extras(form, given)) - total[..., None])
    passed = _by_heads("btkgd,bskd->bkgts", _divided(ct, 2, k), v, form).reshape(weights.shape)
    kept = jnp.sum(ct.astype(wide) * out.astype(wide), axis=-1)
    return weights, weights * (passed - jnp.moveaxis(kept, 1, 2)[..., None])


def _scores(form: Form, q: Array, k: Array, given: Extras) -> Array:
    z = _by_heads("btkgh,bskh->bkgts", _divided(q, 2, k), k, form)
    z = z.reshape(q.shape[0], q.shape[2], q.shape[1], k.shape[1]) * form.scale
    if given.bias is not None:
        z = z + given.bias.astype(z.dtype)
    if given.mask is not None:
        z = jnp.where(given.mask, z, jnp.finfo(z.dtype).min)
    if form.causal:
        z = jnp.where(jnp.tril(jnp.ones(z.shape[-2:], bool)), z, jnp.finfo(z.dtype).min)
    return z


def _divided(value: Array, axis: int, keys: Array) -> Array:
    """The axis of heads as two: those of the keys, and those that have keys in common."""
    count = keys.shape[2]
    return value.reshape(*value.shape[:axis], count, value.shape[axis] // count, *value.shape[axis + 1 :])


def _by_heads(equation: str, a: Array, b: Array, form: Form) -> Array:
    return jnp.einsum(equation, a, b, precision=form.precision, preferred_element_type=_wide(b))


def _wide(value: Array) -> Any:
    return jnp.promote_types(value.dtype, jnp.float32)


# cuDNN


def _cudnn(form: Form, q: Array, k: Array, v: Array, *rest: Array) -> Array:
    given = extras(form, rest)
    shape = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    bias, mask = (
        None if a is None else jnp.broadcast_to(a, (*a.shape[:2], *shape[2:])) for a in (given.bias, given.mask)
    )
    if bias is not None:
        # cuDNN subtracts such numbers from each other, and must not meet infinities.
        bias = jnp.maximum(bias, _least(q.dtype)).astype(q.dtype)
        if mask is not None:
            bias = jnp.where(mask, bias, _least(q.dtype))
            mask = None
    return jax.nn.dot_product_attention(
        q, k, v, bias, mask, scale=form.scale, is_causal=form.causal, implementation="cudnn"
    )


def _least(dtype: Any) -> Array:
    """The number that `jax.nn.dot_product_attention` gives cuDNN for minus infinity."""
    return jnp.asarray(-2 << (40 if dtype == jnp.bfloat16 else 14), dtype)


@functools.lru_cache(maxsize=256)
def _cudnn_program(form: Form, kinds: tuple[Any, ...]) -> tuple[Program, int]:
    """Forward and backward as one program of `(q, k, v, ct, *rest)`, and the place of the forward kernel in it.

    A pull by `jax.vjp` cannot be handed from one function to another. So the program is divided where the kernel ends.
    """

    def both(q: Array, k: Array, v: Array, ct: Array, *rest: Array) -> Any:
        out, pull = jax.vjp(lambda q, k, v: _cudnn(form, q, k, v, *rest), q, k, v)
        return out, pull(ct)

    program, _ = trace(both, *(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds))
    places = [i for i, e in enumerate(program.equations) if "attention_fwd" in e.primitive.name]
    if len(places) != 1 or len(program.equations[places[0]].outvars) != 2:
        raise NotImplementedError("this JAX writes cuDNN's attention in another way")
    return program, places[0]


def _kinds(q: Any, k: Any, v: Any, rest: Sequence[Any]) -> tuple[Any, ...]:
    ct = (*q.shape[:3], v.shape[-1]), q.dtype
    return (*((a.shape, a.dtype) for a in (q, k, v)), ct, *((a.shape, a.dtype) for a in rest))


def cudnn_forward(form: Form, q: Array, k: Array, v: Array, *rest: Array) -> tuple[Array, Array]:
    """What `written_forward` computes, by cuDNN."""
    program, place = _cudnn_program(form, _kinds(q, k, v, rest))
    wanted = [program.outputs[0], program.equations[place].outvars[1]]
    out, total = _part(program, {}, wanted, (q, k, v, None, *rest))
    return out, total


def cudnn_backward(form: Form, q: Array, k: Array, v: Array, *rest: Array) -> tuple[Array, ...]:
    """What `written_backward` computes, by cuDNN."""
    *given, total, out, ct = rest
    program, place = _cudnn_program(form, _kinds(q, k, v, given))
    known = dict(zip(program.equations[place].outvars, (out, total), strict=True))
    return tuple(_part(program, known, program.outputs[1:], (q, k, v, ct, *given)))


def _part(program: Program, given: dict[Any, Array], wanted: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Some values of a program, from its arguments and from values inside that are known."""
    known = {**dict(zip(program.inputs, [*program.constants, *args], strict=True)), **given}
    needed, equations = set(variables(wanted)) - set(given), list[Any]()
    for equation in reversed(program.equations):
        if needed.intersection(equation.outvars):
            equations.insert(0, equation)
            needed.update(v for v in variables(equation.invars) if v not in given)
    read = [v for v in known if v in needed or v in given]
    return evaluate(segment(program, equations, read, wanted), [], [known[v] for v in read])


class Implementation(NamedTuple):
    """Who computes an attention: forward and backward in canonical form, and why it takes some shapes not."""

    name: str
    forward: Callable[..., tuple[Array, Array]]
    backward: Callable[..., tuple[Array, ...]]
    refuses: Callable[..., str | None]


def _on_cuda(cudnn: Callable[..., Any], written: Callable[..., Any]) -> Callable[..., Any]:
    """By cuDNN where the program is compiled for CUDA, whatever was thought while it was traced."""

    def call(form: Form, *args: Array) -> Any:
        return lax.platform_dependent(
            *args, cuda=functools.partial(cudnn, form), default=lambda *args: written(form, *args)
        )

    return call


def missing(form: Form, kinds: Sequence[Any]) -> str | None:
    """Why JAX cannot call cuDNN for arrays `q, k, v, *rest` of these kinds, here; None where it can."""
    try:
        q, k, v, *rest = (jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds)
        _cudnn_program(form, _kinds(q, k, v, rest))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return f"JAX does not give it to cuDNN: {error}"
    return None


def _cudnn_refuses(form: Form, sizes: dict[str, int], dtype: Any) -> str | None:
    """Why cuDNN does not take an attention; None where it does."""
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"cuDNN takes bfloat16 and float16, and not {dtype}"
    if sizes["depth"] != sizes["width"]:
        return "cuDNN takes no values of other width than the keys"
    if sizes["depth"] > LARGEST_HEAD or sizes["depth"] % 8:
        return f"cuDNN takes heads of a multiple of 8 and at most {LARGEST_HEAD} features, and not {sizes['depth']}"
    extra = form.biased or form.masked
    if extra and (sizes["rows"] % 2 or sizes["keys"] % 2):
        return f"cuDNN takes no odd lengths ({sizes['rows']} by {sizes['keys']}) with a bias or a mask"
    if form.biased and dtype == jnp.float16:
        return "in float16 cuDNN has no number for a bias that bars a key"
    if min(sizes.values()) < 1 or sizes["keys"] < 2:
        return "there is nothing to attend to"
    return None


WRITTEN = Implementation("xla", written_forward, written_backward, lambda form, sizes, dtype: None)
CUDNN = Implementation(
    "cudnn",
    _on_cuda(cudnn_forward, written_forward),
    _on_cuda(cudnn_backward, written_backward),
    _cudnn_refuses,
)


_WRITTEN = {"forward": written_forward, "backward": written_backward}


def _compute(*args: Array, how: Implementation, form: Form, stage: str) -> Any:
    return getattr(how, stage)(form, *args)


def _plain(*args: Array, how: Implementation, form: Form, stage: str) -> Any:
    return _WRITTEN[stage](form, *args)


def _longer(
    size: int, batched: Sequence[bool], *args: Array, how: Implementation, form: Form, stage: str
) -> tuple[Array, ...]:
    """Of many attentions the same one with a longer axis of examples."""
    small = range(3, 3 + form.biased + form.masked)  # bias and mask may have one example for all
    length = args[0].shape[1 if batched[0] else 0]

    def longer(place: int, value: Array, one: bool) -> Array:
        if place in small and value.shape[int(one)] == 1:
            if not one:
                return value
            value = jnp.broadcast_to(value, (size, length, *value.shape[2:]))
        elif not one:
            value = jnp.broadcast_to(value, (size, *value.shape))
        return value.reshape(-1, *value.shape[2:])

    found = operation(*map(longer, range(len(args)), args, batched), how=how, form=form, stage=stage)
    return tuple(result.reshape(size, length, *result.shape[1:]) for result in found)


operation = primitive("fused_attention", _compute, _plain, _longer)
"""An attention in canonical form as one operation: the arrays of a stage; `how`, `form` and `stage` ("forward")."""
