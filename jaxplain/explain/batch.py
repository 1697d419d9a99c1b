"""Explain a batch: one compiled program for each structure and shape, whatever the parameters."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import tokens_alone
from jaxplain.explain.gradient import IntegratedGradients, refine
from jaxplain.program import as_function, check_calls, is_hosted, needs_key, public, with_own_errors, with_points
from jaxplain.program.fast import fast_layout
from jaxplain.program.trace import Compiled
from jaxplain.types import Array, Arrays, Pytree


@public
def explain_batch(
    e: Callable[..., Any], x: Arrays, *args: Any, key: Array | None = None, index: Any = None, values: bool = True
) -> Pytree:
    """Explain every example of a batch in one compiled call: `vmap` of `e`, jitted with `e` itself as an argument.

    Parameters, baselines and other array settings enter the program as arguments: new parameters neither retrace nor
    become constants, and are never donated. Equal code is traced once in a process, and anew where what it reads from
    outside was changed since (a variable of a closure, a global, an attribute, an entry of a dict, values of a NumPy
    array, a module trained in place): every call looks, so what changes often is better a parameter. Code under a `jit`
    of its own keeps what that read. Integrated gradients with a `tolerance` are refined example by example.

    Args:
        e: An explanation for one example, `e(x, *args)` or, if random, `e(key, x, *args)`.
        x: The inputs, `[B, ...]` on every leaf.
        *args: Further arguments of `e`: pytrees with a leading axis B, or Python scalars and 0-d arrays, which all
            examples share (one target for all).
        key: A typed threefry key; needed where `e` is random, unused where it is not. Example i draws from
            `fold_in(key, index[i])`, so its draws depend neither on the batch it is in nor on the batch's size.
        index: Global indices of the examples, integers `[B]` from 0 to 2^32 - 1; None counts from 0.
        values: Whether to read the inputs (NaN and infinities, targets outside the outputs) while the program runs
            (before it is compiled, the first time). The call waits for the inputs then and never for its result;
            False leaves such values to show up as NaN in the result.

    Returns:
        What `e` returns, with a leading axis B. Cost: B explanations.

    Raises:
        ValueError: An empty batch, leading axes that differ, NaN or infinite inputs, targets outside the outputs, a
            missing key.
        TypeError: An `rbg` key, whose draws depend on the batch.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain.explain.gradient.gradient import gradient
        >>> explain_batch(gradient(lambda x, k: x[k] ** 2), jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0, 1]))
        Array([[2., 0.],
               [0., 8.]], dtype=float32)
    """
    function = as_function(e)
    size = check.batch_length(x, "explain_batch")
    args = tuple(_shared_or_batched(value, size, position) for position, value in enumerate(args))
    keys = example_keys(function, key, index, size, "explain_batch")
    look = _Look(function, x, args) if values else None
    if look is None:
        return explain_filled(function, keys, x, args)
    if _refines(function, x):  # which waits for its values
        look()
    kept = _LOOK.set(look)
    try:
        found = explain_filled(function, keys, x, args)
    finally:
        _LOOK.reset(kept)
    look()
    return found


class _Look:
    """A look at the values of a batch: started before the program is dispatched, read once while that runs."""

    def __init__(self, function: Any, x: Pytree, args: tuple[Any, ...]) -> None:
        self.waiting: list[Callable[[], None]] = [
            check.finite_later(x, "explain_batch"),
            lambda: check_calls(function, x, args),
            lambda: check_own_baseline(function, x),
        ]

    def __call__(self) -> None:
        """Wait for the inputs, and raise for values that no explanation can be made of."""
        waiting, self.waiting = self.waiting, []
        with jax.ensure_compile_time_eval():
            for look in waiting:
                look()


_LOOK: ContextVar[_Look | None] = ContextVar("_LOOK", default=None)


def explain_filled(e: Any, keys: Array | None, x: Pytree, args: tuple[Any, ...]) -> Pytree:
    """As `explain_rows`, with as many points at once as fill the device; a score on the host is waited for."""
    fitted = with_points(e, lower_rows, x, keys, args)
    if is_hosted(e):
        return with_own_errors(lambda: explain_rows(fitted, keys, x, args))
    return explain_rows(fitted, keys, x, args)


def explain_rows(e: Any, keys: Array | None, x: Pytree, args: tuple[Any, ...]) -> Pytree:
    """Explain the rows of one batch; the one compiled call under `explain_batch` and `explain_dataset`.

    Args:
        e: An explanation, taken by `as_function`.
        keys: One key a row from `example_keys`, None where `e` takes none.
        x: `[B, ...]`.
        args: Every leaf `[B, ...]`.

    Returns:
        What `e` returns, `[B, ...]`. Dispatched without waiting, but for integrated gradients to a tolerance.
    """
    if _refines(e, x):
        return refine(e, x, args, keys)
    return _explain(e, keys, x, args)


def _refines(e: Any, x: Pytree) -> bool:
    return isinstance(e, IntegratedGradients) and e.adaptive and not tokens_alone(x)


def lower_rows(e: Any, x: Pytree, keys: Any, args: tuple[Any, ...]) -> Any:
    """The call of `explain_rows` lowered for arrays or their shapes, to ask what it needs of memory."""
    return _explain.lower(e, keys, x, args)


def _mapped(e: Any, keys: Array | None, x: Pytree, args: tuple[Any, ...]) -> Pytree:
    """The batched explanation, in the layout that the backend is fast at."""
    look = _LOOK.get()
    if look is not None:  # this runs while the program is traced: nobody waits for a compiler to hear of a NaN
        look()
    return fast_layout(lambda *inputs: jax.vmap(_call(e))(*inputs))(keys, x, args)


def _call(e: Any) -> Callable[..., Any]:
    return lambda key, x, args: e(x, *args) if key is None else e(key, x, *args)


_explain = Compiled(_mapped)


def _shared_or_batched(value: Any, size: int, position: int) -> Any:
    """Repeat what all examples share; require the batch's length of everything else."""

    odd = check.odd_leaf(value)
    if odd is not None:
        raise TypeError(
            f"explain_batch: argument {position + 1} after `x` is {check.short(value)}. Pass an array of numbers, of a "
            "list by jnp.asarray; labels that are texts have to be numbered first."
        )

    check.fitting(value, "explain_batch", f"argument {position + 1} after x")

    def leaf(array: Any) -> Any:
        if jnp.ndim(array) == 0:
            return jnp.broadcast_to(jnp.asarray(array), (size,))
        if jnp.shape(array)[0] != size:
            raise ValueError(
                f"explain_batch: argument {position + 1} after `x` has shape {jnp.shape(array)}, but the batch has "
                f"{size} examples. Pass one value for each example, or one number for all."
            )
        return array

    return jax.tree.map(leaf, value)


def example_keys(e: Any, key: Array | None, index: Any, size: int, name: str) -> Array | None:
    """One key for each example, folded in by its index, or None where the explanation is not random."""
    if not needs_key(e):
        return None
    require_key(e, key, name)
    return _fold(key, check.indices(index, size, name))


def require_key(e: Any, key: Array | None, name: str) -> None:
    """Require a threefry key for a random explanation."""
    if key is None:
        raise ValueError(
            f"{name}: {getattr(e, 'name', type(e).__name__)} is random and needs a key: "
            f"{name}(e, ..., key=jax.random.key(0))."
        )
    check.threefry(key, name)


@jax.jit
def _fold(key: Array, index: Array) -> Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def check_own_baseline(e: Any, x: Pytree) -> None:
    """Let a method look at a concrete batch beside its baseline; inside a wrapper x may be a layer's, or noisy."""
    if hasattr(e, "check_baseline"):
        e.check_baseline(x)
