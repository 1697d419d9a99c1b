"""Names of what is passed between the parts (scores, explanations, metrics), and what tells values apart."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
"""An array, or a pytree of arrays where a docstring says so."""

Pytree = Any
"""Any pytree of arrays."""


ArrayLike = Any
"""An array of numbers, a number, or a list (of lists) of numbers that makes an array."""

Arrays = Any
"""An array of numbers, or a pytree of such arrays, that is looked at before anything is computed."""

Number = Any
"""A number, or an array of numbers where a docstring says so."""


class Score(Protocol):
    """`f(x, *args) -> scalar`, like a loss, written for one example."""

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Score one example."""


class Explain(Protocol):
    """`e(x, *args) -> attribution` of x's structure; a random one is called `e(key, x, *args)`."""

    def __call__(self, *args: Any) -> Pytree:
        """Explain one example."""


class Metric(Protocol):
    """`m(x, attribution, *args) -> value`; a random one is called `m(key, x, attribution, *args)`."""

    def __call__(self, *args: Any) -> Array:
        """Judge the explanation of one example."""


class Layer(NamedTuple):
    """One row of a model's table: an output of a module, and the module's own share of the cost.

    path: what `capture`, `intervene` and `split` call it (empty for what belongs to no module); operation: the module's
    class; shape, dtype: of the output for one example; parameters: how many trained numbers the module reads first;
    forward, backward: floating-point operations; bytes: of the output.
    """

    path: str
    operation: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    forward: int
    backward: int
    bytes: int


def is_concrete(value: Any) -> bool:
    """Whether the values of an array can be read, as they cannot of a tracer."""
    return not isinstance(value, jax.core.Tracer)


def frame_of(value: Any) -> str | None:
    """What a value of pandas or polars is, in words with what to do; None for all else. Neither is imported for it."""
    for kind in type(value).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in ("pandas", "polars") and kind.__name__ in _FRAMES:
            return _FRAMES[kind.__name__].format(library)
    return None


_FRAMES = {
    "DataFrame": "a {} data frame (make numbers of it: table = jaxplain.data.table(df), then table.encode(df))",
    "LazyFrame": "a {} lazy frame (collect it, and make numbers of it: jaxplain.data.table(df.collect()))",
    "Series": "a {} series (pass its numbers, series.to_numpy())",
    "Index": "a {} index (pass its numbers, index.to_numpy())",
}


def short(value: Any) -> str:
    """A value as an error message shows it: arrays by their shapes, and the beginning of what is long."""
    frame = frame_of(value)
    if frame is not None:
        return frame
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else f"{type(value).__name__} ({text[:77]}...)"


def is_key(value: Any) -> bool:
    """Whether a value is one PRNG key, typed or of the old kind, or a tracer of one."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return False
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jnp.shape(value) == ()
    return bool(dtype == jnp.uint32 and jnp.shape(value) == (2,))


def linen_module(f: Any) -> str | None:
    """What a Linen module without variables, or a method of one, is called in a message; None for all else."""
    while isinstance(f, functools.partial) and not f.args:
        f = f.func
    owner = getattr(f, "__self__", f)
    linen = any(cls.__module__.startswith("flax.linen.module") for cls in type(owner).__mro__)
    if not linen or owner.scope is not None:
        return None
    kind = f"the Flax module {type(owner).__name__}"
    return kind if owner is f else f"`{f.__name__}` of {kind}"


def odd_leaf(x: Any) -> tuple[Any, str] | None:
    """The first leaf of a pytree that is no array of numbers: its path and what it is; None where there is no such."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(x, is_leaf=lambda value: value is None):
        kind = getattr(leaf, "dtype", None)
        if leaf is None and not path:
            return path, "None, not an array"
        frame = frame_of(leaf)
        if frame is not None:
            return path, f"{frame}, not an array"
        if isinstance(kind, np.dtype) and kind.kind in "OSUTmM":
            return path, f"an array of dtype {kind}, not of numbers"
        if kind is None and leaf is not None and not isinstance(leaf, bool | int | float):
            return path, f"{type(leaf).__name__}, not an array"
        if kind is None and leaf is not None and path and isinstance(_above(x, path), list):
            return path[:-1], "a list of numbers, of which each would be an array of its own"
    return None


TOO_WIDE = (
    "which does not fit into the 32 bits of JAX's integers: it would become another number. Number the categories "
    "from 0 (numpy.unique(values, return_inverse=True)), or set JAX_ENABLE_X64=1."
)


def too_wide(leaf: Any) -> str | None:
    """A whole number of a 64-bit NumPy array that JAX would change, and what to do, or None where all fit."""
    whole = isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "iu" and leaf.dtype.itemsize > 4
    if not whole or leaf.size == 0 or jax.dtypes.canonicalize_dtype(leaf.dtype).itemsize > 4:
        return None
    held = np.iinfo(leaf.dtype.name.replace("64", "32"))
    low, high = int(leaf.min()), int(leaf.max())
    wide = low if low < held.min else high if high > held.max else None
    return None if wide is None else f"{wide}, {TOO_WIDE}"


def as_computed(values: np.ndarray) -> np.ndarray:
    """Values in the dtype that JAX computes with: 1e300 is infinite in float32."""
    with np.errstate(over="ignore"):
        return values.astype(jax.dtypes.canonicalize_dtype(values.dtype), copy=False)


AT_HAND = 2**16
"""Bytes of an array in the host's memory up to which NumPy reads it faster than a program is started for it."""


def at_hand(leaf: Any) -> bool:
    """Whether the host reads the values where they lie."""
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.nbytes <= AT_HAND and all(device.platform == "cpu" for device in leaf.devices())


def _above(x: Any, path: Any) -> Any:
    """The node above a leaf."""
    for key in path[:-1]:
        x = getattr(x, key.name) if hasattr(key, "name") else x[getattr(key, "key", getattr(key, "idx", None))]
    return x


def path_text(path: Any, argument: str = "x") -> str:
    """A leaf's place in a pytree as an error message says it: `x['image']`, or `x` for a bare array."""
    return argument + jax.tree_util.keystr(path)
