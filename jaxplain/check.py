"""Checks of shapes, dtypes and values of what a caller passes; raised before any compute.

Shapes and dtypes are checked while tracing too. Values (NaN, labels) can be read of concrete arrays only: inside a
transformation they are left alone, and what is not a number stays visible as NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.types import as_computed, at_hand, is_concrete, is_key, linen_module, odd_leaf, path_text, short, too_wide


def is_floating(leaf: Any) -> bool:
    """Whether a leaf has a real floating-point dtype (Python floats have one)."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def describe(leaf: Any) -> str:
    """Shape and dtype of a leaf as an error message says them."""
    return f"shape {jnp.shape(leaf)} and dtype {jnp.result_type(leaf)}"


def arrays(x: Any, name: str, argument: str = "x") -> None:
    """Require that `x` is a pytree with at least one value and that every leaf is numeric or boolean."""
    leaves = jax.tree_util.tree_leaves_with_path(x)
    if not leaves:
        raise ValueError(f"{name}: `{argument}` holds no arrays (it is {x!r}). Pass an array or a pytree of arrays.")
    odd = odd_leaf(x)
    if odd is not None:
        raise TypeError(
            f"{name}: `{path_text(odd[0], argument)}` is {odd[1]}. Pass arrays of numbers (lists by jnp.asarray; "
            "strings and objects have to be encoded first)."
        )
    shapes = [leaf.shape if hasattr(leaf, "shape") else () for _, leaf in leaves]
    if all(0 in shape for shape in shapes):
        listed = ", ".join(map(str, shapes))
        raise ValueError(f"{name}: `{argument}` is empty: it has the shape {listed}. Pass at least one value.")
    fitting(x, name, argument)


def fitting(tree: Any, name: str, argument: str) -> None:
    """Require that every whole number fits into the integers that JAX computes with, which would wrap it else."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if (wide := too_wide(leaf)) is not None:
            raise ValueError(f"{name}: `{path_text(path, argument)}` holds {wide}")


def differentiable(x: Any, name: str, argument: str = "x") -> None:
    """Require at least one floating-point leaf, which a gradient method can move; complex numbers are refused."""
    arrays(x, name, argument)
    leaves = jax.tree.leaves(x)
    if any(jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating) for leaf in leaves):
        raise TypeError(f"{name}: `{argument}` is complex; explain its real and imaginary parts as two arrays instead.")
    if not any(is_floating(leaf) for leaf in leaves):
        kinds = ", ".join(sorted({str(jnp.result_type(leaf)) for leaf in leaves}))
        raise TypeError(
            f"{name}: `{argument}` has dtype {kinds}, and only floating-point values have a gradient. Convert images "
            "with `x.astype(float32) / 255` (the scale the model was trained on); for token ids, cut the model at its "
            "embedding with `body, head = jaxplain.split(f, path)` and explain `head`."
        )


def finite(x: Any, name: str, argument: str = "x") -> None:
    """Require that concrete floating-point leaves hold neither NaN nor infinities, and integers fit into 32 bits."""
    fitting(x, name, argument)
    finite_later(x, name, argument)()


def finite_later(x: Any, name: str, argument: str = "x") -> Callable[[], None]:
    """Start to look for NaN and infinities on x's device; what is returned waits for these flags alone, and raises."""
    leaves = jax.tree_util.tree_leaves_with_path(x)
    looked = [(path, leaf) for path, leaf in leaves if is_concrete(leaf) and is_floating(leaf)]
    flags = [None if at_hand(leaf) else _all_finite(leaf) for _, leaf in looked]

    def read() -> None:
        for (path, leaf), flag in zip(looked, flags, strict=True):
            if bool(_all_finite(leaf) if flag is None else flag):
                continue
            bad = np.argwhere(~np.isfinite(as_computed(np.asarray(leaf))))
            raise ValueError(
                f"{name}: `{argument}{jax.tree_util.keystr(path)}` has {len(bad)} NaN or infinite values (the first at "
                f"index {tuple(int(i) for i in bad[0])}) in {jnp.result_type(leaf)}. Clean or mask the input first."
            )

    return read


def _all_finite(leaf: Any) -> Any:
    # What is at hand is read where it is; a device array is reduced on its device, now even if something is traced.
    if at_hand(leaf):
        return np.isfinite(as_computed(np.asarray(leaf))).all()
    with jax.ensure_compile_time_eval():
        return _finite_everywhere(leaf)


_finite_everywhere = jax.jit(lambda leaf: jnp.isfinite(leaf).all())  # and no array of booleans in memory


def batch_length(x: Any, name: str, argument: str = "x") -> int:
    """The common leading length of all leaves of `x`, at least 1."""
    if jax.tree.leaves(x) and all(jnp.shape(leaf)[:1] == (0,) for leaf in jax.tree.leaves(x)):
        raise ValueError(f"{name}: the batch `{argument}` is empty (length 0). Pass at least one example.")
    arrays(x, name, argument)
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(lengths) != 1 or () in lengths:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(x)]
        raise ValueError(
            f"{name}: the leaves of `{argument}` need one common leading (batch) axis, but their shapes are {shapes}."
        )
    return int(lengths.pop()[0])


def count(value: Any, name: str, argument: str, least: int = 1) -> int:
    """Require a Python integer of at least `least`, and return it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: `{argument}` has to be a whole number, not {value!r}.")
    if value < least:
        raise ValueError(f"{name}: `{argument}` has to be at least {least}, not {value}.")
    return int(value)


def at_once(batch_size: Any, name: str) -> int | None:
    """Require a number of points to evaluate at once, or None: what fills the device, where that is known."""
    return None if batch_size is None else count(batch_size, name, "batch_size")


def numbers(value: Any, name: str, argument: str) -> Any:
    """Require a number or an array of numbers, and return it unchanged."""
    try:
        kind = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    except ValueError as error:  # rows of different lengths
        raise TypeError(f"{name}: `{argument}` has to be a number, not {value!r}.") from error
    if not (jnp.issubdtype(kind, jnp.number) or jnp.issubdtype(kind, jnp.bool_)):
        raise TypeError(f"{name}: `{argument}` has to be a number, not {value!r}.")
    return value


def real(value: Any, name: str, argument: str) -> Any:
    """Require real numbers, which have an order and a sign, and return them unchanged."""
    if jnp.issubdtype(jnp.result_type(value), jnp.complexfloating):
        raise TypeError(
            f"{name}: `{argument}` is complex ({describe(value)}), which has neither order nor sign. Pass its real "
            "part, or explain real and imaginary parts of the input as two arrays."
        )
    return value


def real_leaves(tree: Any, name: str, argument: str) -> None:
    """Require that every leaf of an attribution is real."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        real(leaf, name, argument + jax.tree_util.keystr(path))


def explanation(result: Any, x: Any, name: str) -> Any:
    """Require that what a wrapper was given explains (a map, something of x's or a layer's shape) and is no score."""
    found = jax.tree.leaves(result)
    if not found:
        raise TypeError(f"{name}: the explanation `e` returned {short(result)}, which holds no arrays.")
    if [jnp.shape(leaf) for leaf in found] == [()] and [jnp.shape(leaf) for leaf in jax.tree.leaves(x)] != [()]:
        raise TypeError(
            f"{name}: `e` returned one number for an `x` with more, as a score does. Pass an explanation, such as "
            "jaxplain.gradient(f), in place of the score f."
        )
    return result


def indices(index: Any, size: int, name: str) -> Any:
    """Require one whole number from 0 to 2^32 - 1 for each example, all that keys can be folded from; None counts."""
    if index is None:
        return jnp.arange(size)
    narrow = isinstance(index, jax.Array) and index.dtype.itemsize <= 4  # distinct as they are, wherever they lie
    values = index if narrow or not is_concrete(index) else np.asarray(index)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(f"{name}: `index` has dtype {values.dtype}; pass whole numbers, one for each example.")
    if values.shape != (size,):
        raise ValueError(f"{name}: `index` has shape {values.shape}, but the batch has {size} examples.")
    if isinstance(values, np.ndarray):
        if values.min() < 0 or values.max() >= 2**32:
            raise ValueError(
                f"{name}: `index` runs from {values.min()} to {values.max()}, but keys are folded from numbers of 32 "
                "bits, so that others would repeat an example's draws. Number the examples from 0 to 2**32 - 1."
            )
        values = values.astype(np.int32 if values.max() < 2**31 else np.uint32)
    return jnp.asarray(values)


def positive(value: Any, name: str, argument: str, *, zero: bool = False) -> Any:
    """Require that a concrete number is positive (or zero, where allowed), and return it unchanged."""
    if is_concrete(value):
        number = np.asarray(numbers(value, name, argument))
        if not (np.isfinite(number).all() and ((number >= 0).all() if zero else (number > 0).all())):
            least = "zero or more" if zero else "positive"
            raise ValueError(f"{name}: `{argument}` has to be finite and {least}, not {value}.")
    return value


def choice(value: str, allowed: tuple[str, ...], name: str, argument: str) -> str:
    """Require one of the allowed words, and return it."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{name}: `{argument}` is {short(value)}; it has to be one of {', '.join(map(repr, allowed))}."
        )
    return value


def same_structure(a: Any, b: Any, name: str, first: str, second: str) -> None:
    """Require two pytrees of the same structure and leaf shapes."""
    left, right = jax.tree.structure(a), jax.tree.structure(b)
    if str(left) != str(right):
        raise ValueError(f"{name}: `{first}` has the structure {left}, but `{second}` has {right}.")
    for (path, u), v in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        if jnp.shape(u) != jnp.shape(v):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{name}: `{first}{where}` has shape {jnp.shape(u)}, but `{second}{where}` has {jnp.shape(v)}."
            )


def scalar(value: Any, name: str) -> Any:
    """Require that a score returned one real number, and return it with shape ()."""
    shape = jnp.shape(value) if hasattr(value, "shape") or isinstance(value, float | int) else None
    if shape is None or not is_floating(value):
        raise TypeError(f"{name}: the score `f` has to return one floating-point number, but it returned {value!r}.")
    if shape != ():
        raise ValueError(
            f"{name}: the score `f` has to return one number for one example, but it returned shape {shape}. "
            "Use jaxplain.logit(apply, params), or index the output; batches are `jax.vmap` or `explain_batch`."
        )
    return value


def label_range(values: np.ndarray, size: int, name: str) -> None:
    """Require that concrete labels lie inside the model's outputs."""
    wrong = values[(values < 0) | (values >= size)]
    if wrong.size:
        raise ValueError(
            f"{name}: target {int(wrong.reshape(-1)[0])} is outside the model's {size} outputs; targets run from 0 to "
            f"{size - 1}."
        )


def threefry(key: Any, name: str) -> None:
    """Require one threefry key: draws of an `rbg` key change with the batch they are made in."""
    data = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not data and jnp.shape(key) != (2,):
        raise TypeError(f"{name}: `key` has to be a PRNG key, such as jax.random.key(0), not {key!r}.")
    kind = str(jax.random.key_impl(key if data else jax.random.key(0)))  # raw keys are of the default kind
    if "threefry" not in kind and "fry" not in kind:
        raise TypeError(
            f"{name}: `key` is of the kind {kind!r}, whose draws depend on how examples are batched. Make a threefry "
            "key: jax.random.key(0, impl='threefry2x32')."
        )
    if data and jnp.shape(key) != ():
        raise ValueError(f"{name}: `key` has shape {jnp.shape(key)}; pass one key, each example's is folded from it.")


def needed_key(inputs: tuple[Any, ...], name: str, call: str) -> Any:
    """Require that the first of a random metric's inputs is a key, and return it."""
    if not inputs or not is_key(inputs[0]):
        raise TypeError(f"{name}: it is random and needs a key first: {call}, with key = jax.random.key(0).")
    return inputs[0]


def divided(inputs: tuple[Any, ...], name: str, random: bool) -> tuple[Any, Any, tuple[Any, ...]]:
    """The inputs of an explanation's call as (key or None, x, args), with the key where it is random and only there."""
    key = needed_key(inputs, name, "e(key, x, *args)") if random else None
    rest = inputs[1:] if random else inputs
    if not rest:
        raise TypeError(f"{name}: called without an input; call e({'key, ' if random else ''}x, *args).")
    dtype = getattr(rest[0], "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name}: `x` is a key, but nothing {'more ' if random else ''}is drawn; call e(x, *args).")
    return key, rest[0], tuple(rest[1:])


def function(value: Any, name: str, argument: str, call: str) -> Any:
    """Require something that can be called, and return it."""
    if not callable(value):
        raise TypeError(f"{name}: `{argument}` has to be a function {call}, not {type(value).__name__}.")
    return value


def inside(margin: float, name: str, argument: str) -> None:
    """Require a part of a range that can be left out at both of its ends: above 0 and below 1/2."""
    if is_concrete(margin) and not 0 < margin < 0.5:
        raise ValueError(f"{name}: `{argument}` has to lie between 0 and 0.5, not {margin}.")


def answered(value: Any, name: str, argument: str) -> Any:
    """Require that a caller's function returned arrays, and return them."""
    if not jax.tree.leaves(value):
        raise TypeError(f"{name}: the function `{argument}` returned {short(value)}, which holds no arrays.")
    return value


def made(value: Any, name: str, argument: str) -> Any:
    """Require that a caller's function, which is to make a function, returned one, and return it."""
    if not callable(value):
        raise TypeError(f"{name}: `{argument}` has to return a function, not {short(value)}.")
    return value


def one_number(value: Any, name: str, argument: str, *, zero: bool = False) -> Any:
    """Require one positive number (or zero, where allowed), and return it unchanged."""
    if jnp.shape(value) != ():
        raise ValueError(f"{name}: `{argument}` has shape {jnp.shape(value)}; pass one number.")
    return positive(value, name, argument, zero=zero)


def replaceable(x: Any, name: str, moves: Any = None) -> None:
    """Require at least one leaf whose values are replaced: a floating-point one, or what `moves` says, leaf by leaf."""
    arrays(x, name)
    leaves = jax.tree.leaves(x)
    if not any(map(is_floating, leaves) if moves is None else moves):
        kinds = ", ".join(sorted({str(jnp.result_type(leaf)) for leaf in leaves}))
        raise TypeError(
            f"{name}: `x` has dtype {kinds}, and only floating-point values are changed where `baseline` does not say "
            "what the others become. Pass `baseline=` an integer for token ids (that of padding or a mask); convert "
            "images with `x.astype(float32) / 255`; for derivatives, cut the model at its embedding with "
            "`body, head = jaxplain.split(f, path)` and explain `head`."
        )


def callable_score(f: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Require that a score is a function, and return it."""
    remedy = " Make one: f = jaxplain.logit(model.apply, params)."
    if not callable(f):
        raise TypeError(
            f"{name}: the score `f` has to be a function f(x, *args) -> scalar, not {type(f).__name__}."
            f"{remedy if hasattr(f, 'apply') else ''}"
        )
    model = linen_module(f)
    if model is not None:
        raise TypeError(
            f"{name}: `f` is {model}, which is called with variables and a batch, but a score is "
            f"f(x, *args) -> scalar of one example.{remedy}"
        )
    return f


def finite_scores(scores: Any, name: str) -> None:
    """Require that concrete scores, of an input with parts of it changed, are finite."""
    if is_concrete(scores) and not bool(_all_finite(scores)):
        wrong = np.flatnonzero(~np.isfinite(np.asarray(scores, dtype=np.float32)))
        raise ValueError(
            f"{name}: the score `f` is NaN or infinite for `x`, or for `x` with a part of it replaced ({wrong.size} of "
            f"{scores.size} parts, the first is number {wrong[0]}). Check f(x) and f(baseline); of scores that can be "
            "infinite (a log-probability of 0) explain the logit instead."
        )


def finite_score(score: Callable[..., Any], x: Any, args: tuple[Any, ...], name: str) -> None:
    """Require that the score of a concrete input is finite, where only its gradient is used. Costs a forward pass."""
    if all(is_concrete(leaf) for leaf in jax.tree.leaves((x, args))):
        finite_scores(jnp.asarray(scalar(score(x, *args), name)), name)


def equal(x: Any, baseline: Any) -> bool:
    """Whether a baseline equals the input in every value; False where either is traced."""
    both = zip(jax.tree.leaves(x), jax.tree.leaves(baseline), strict=True)
    pairs = [(a, b) for a, b in both if is_floating(a) or a is not b]
    if not all(is_concrete(leaf) for pair in pairs for leaf in pair):
        return False
    with jax.ensure_compile_time_eval():
        return all(bool(jnp.all(jnp.asarray(a) == jnp.asarray(b))) for a, b in pairs)


def unequal(x: Any, baseline: Any, name: str, argument: str = "baseline", *, derivative: bool = False) -> None:
    """Warn where a concrete baseline equals the input in every value."""
    if equal(x, baseline):
        nothing_changes(name, argument=argument, derivative=derivative)


def nothing_changes(name: str, where: str = "", argument: str = "baseline", *, derivative: bool = False) -> None:
    """Warn that a baseline equals the input, in all of a batch or `where` it does.

    Scores that are compared cancel; a `derivative` times zero is NaN where there is none (`jnp.linalg.norm` at 0).
    """
    result = "zero, or NaN where the score has no derivative at `x`" if derivative else "zero by construction"
    warnings.warn(
        f"{name}: `{argument}` equals `x` in every value{where}, so the explanation is {result}. Pass the baseline "
        "that means 'absent' for this input, such as the mean of the training set.",
        UserWarning,
        stacklevel=4,
    )


def broadcasts(value: Any, shape: tuple[int, ...], name: str, argument: str) -> None:
    """Require that a number or an array fits values of a shape, where it is not None."""
    own = () if value is None else jnp.shape(value)
    if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
        raise ValueError(f"{name}: `{argument}` has shape {own}, which does not broadcast to the shape {shape} of `x`.")
