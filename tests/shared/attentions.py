"""Attentions as people write them, the same computed by NumPy in float64, and counts of what is in a program."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program.trace import compat

T, S, HEADS, HEAD = 6, 4, 2, 8


def operands(seed=0, dtype=jnp.float32, queries=T, keys=S, heads=HEADS, kv=HEADS, head=HEAD, batch=()):
    """Queries `[T, N, H]`, keys and values `[S, K, H]`."""
    draw = np.random.default_rng(seed)
    shapes = (queries, heads, head), (keys, kv, head), (keys, kv, head)
    return [jnp.asarray(draw.normal(size=(*batch, *shape)), dtype) for shape in shapes]


def exact(q, k, v, scale=None, bias=None, mask=None):
    """softmax(scale q k^T + bias) v in float64: `[T, N, H]`; keys are shared by N // K heads."""
    q, k, v = (np.asarray(a).astype(np.float64) for a in (q, k, v))
    k, v = (np.repeat(a, q.shape[1] // k.shape[1], axis=1) for a in (k, v))
    z = np.einsum("tnh,snh->nts", q, k) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    z = z if bias is None else z + np.asarray(bias).astype(np.float64)
    z = z if mask is None else np.where(mask, z, -1e30)
    p = np.exp(z - z.max(-1, keepdims=True))
    return np.einsum("nts,snd->tnd", p / p.sum(-1, keepdims=True), v)


def plain(q, k, v, scale=None, bias=None, mask=None, fill=None, wide=False):
    """The same in JAX as most libraries write it, in the dtype of the queries (the softmax in float32 if `wide`)."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    z = jnp.einsum("tnh,snh->nts", q, k) * scale
    z = z if bias is None else z + bias
    z = z.astype(jnp.float32) if wide else z
    z = z if mask is None else jnp.where(mask, z, jnp.finfo(z.dtype).min if fill is None else fill)
    return jnp.einsum("nts,snd->tnd", jax.nn.softmax(z).astype(q.dtype), v)


def orders():
    """The same attention for many orders of the axes of queries, keys and values, each with a name."""
    for one, two, three in itertools.product(("tnh", "nht", "htn"), ("snh", "hns"), ("snd", "dsn")):
        for scores, out in (("nts", "tnd"), ("tsn", "ntd"), ("snt", "dtn")):
            name = f"{one},{two}->{scores};{three}->{out}"

            def attend(q, k, v, one=one, two=two, three=three, scores=scores, out=out):
                q, k, v = jnp.einsum(f"tnh->{one}", q), jnp.einsum(f"snh->{two}", k), jnp.einsum(f"snd->{three}", v)
                z = jnp.einsum(f"{one},{two}->{scores}", q, k) / math.sqrt(HEAD)
                p = jax.nn.softmax(z, axis=scores.index("s"))
                return jnp.einsum(f"{out}->tnd", jnp.einsum(f"{scores},{three}->{out}", p, v))

            yield name, attend


def count(program, name="fused_attention"):
    """How often an operation stands in a program and in those inside it."""
    total = 0
    for equation in program.equations:
        total += equation.primitive.name == name
        total += sum(count(inner, name) for inner in compat.subprograms(equation))
    return total


def fused(f, *args):
    """How many fused operations a traced call holds."""
    return count(compat.trace(f, *args)[0])
