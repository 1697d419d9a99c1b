"""Relative stability: the relative change of an explanation against that of the input, an inner layer or the output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.robustness.sensitivity import Around, around, explained, moves, perturb, size
from jaxplain.program import as_function, chunked, public, setting, side_by_side, wide_dtype
from jaxplain.types import Array, Pytree


class RelativeStability(Around):
    """The largest ratio of relative changes. Made by the functions below."""

    outputs: Any = None
    representation: Any = None
    floor: Any = 1e-6
    kind: str = setting(default="input")

    def __call__(self, *inputs: Any) -> Array:
        """Judge the explanation of one example: `m(key, x, *args)`."""
        own, draws, x, args = self.take(*inputs)
        centre, predicted = explained(self.explain, own, x, args, self.name), self._class(x, args)
        at = self._reference(x, args)

        def ratio(index: Array) -> tuple[Array, Array]:
            point = perturb(jax.random.fold_in(draws, index), x, self.radius)
            moved = explained(self.explain, own, point, args, self.name)
            change = size([(b - a) / self._divisor(a) for a, b in zip(centre, moved, strict=True)], self.norm)
            if self.kind == "input":
                steps = moves(x, point)
                below = [step / self._divisor(value) for step, value in zip(steps, at, strict=True)]
            else:
                below = [b - a for a, b in zip(at, self._reference(point, args), strict=True)]
                if self.kind == "representation":
                    below = [step / self._divisor(value) for step, value in zip(below, at, strict=True)]
            same = jnp.asarray(True if predicted is None else self._class(point, args) == predicted)
            return change / jnp.maximum(size(below, self.norm), self.floor), same

        def fold(carry: tuple[Array, Array], chunk: Array, mask: Array) -> tuple[Array, Array]:
            values, same = side_by_side(ratio, chunk)
            counted = mask & same
            return jnp.maximum(carry[0], jnp.where(counted, values, 0.0).max()), carry[1] | counted.any()

        init = jnp.zeros((), jnp.result_type(centre[0])), jnp.asarray(False)
        largest, found = chunked(fold, init, jnp.arange(self.samples), self.batch_size)
        return jnp.where(found, largest, jnp.nan)

    def _divisor(self, value: Array) -> Array:
        return jnp.where(value == 0, self.floor, value)

    def _class(self, x: Pytree, args: tuple[Any, ...]) -> Array | None:
        return None if self.outputs is None else jnp.argmax(_wide(self.outputs(x, *args), "outputs")[0])

    def _reference(self, x: Pytree, args: tuple[Any, ...]) -> list[Array]:
        if self.kind == "input":
            return _wide([jnp.asarray(leaf) for leaf in jax.tree.leaves(x) if check.is_floating(leaf)], "x")
        argument = "outputs" if self.kind == "output" else "representation"
        return _wide(getattr(self, argument)(x, *args), argument)


def _wide(tree: Pytree, argument: str) -> list[Array]:
    tree = check.answered(tree, "a relative stability", argument)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf.astype(wide_dtype(leaf.dtype)) for leaf in leaves]


def _stability(
    kind: str,
    e: Any,
    outputs: Any,
    representation: Any,
    radius: Any,
    samples: int,
    norm: str,
    floor: Any,
    batch: int | None,
) -> RelativeStability:
    name = f"relative_{kind}_stability"
    for function, argument in ((outputs, "outputs"), (representation, "representation")):
        if function is not None:
            check.function(function, name, argument, "(x, *args) -> array")
    return RelativeStability(
        **around(name, e, radius, samples, norm, batch),
        outputs=None if outputs is None else as_function(outputs),
        representation=None if representation is None else as_function(representation),
        floor=check.one_number(floor, name, "floor"),
        kind=kind,
    )


@public
def relative_input_stability(
    e: Callable[..., Any],
    outputs: Callable[..., Any] | None = None,
    *,
    radius: float,
    samples: int = 10,
    norm: str = "l2",
    floor: float = 1e-6,
    batch_size: int | None = None,
) -> RelativeStability:
    """The largest relative change of an explanation against that of the input; lower is better.

    RIS = max_s |(e(x_s) - e(x)) / e(x)| / max(|(x_s - x) / x|, floor), divided element by element, over neighbours x_s
    of the same predicted class.

    Args:
        e: As in `max_sensitivity`.
        outputs: `(x, *args) -> [K]`, the model's outputs, whose largest says the class; None counts all neighbours.
        radius: As in `max_sensitivity`.
        samples: As in `max_sensitivity`.
        norm: As in `max_sensitivity`.
        floor: The least divisor. Elements of e(x) and of x that are exactly 0 are divided by it too, where the source
            says nothing: images with a black background are ruled by those.
        batch_size: As in `max_sensitivity`.

    Returns:
        `m(key, x, *args) -> stability`, one number, at least 0, without unit; NaN where no neighbour has the class.
        Cost: `samples` + 1 explanations, and as many forward passes with `outputs`.

    Raises:
        ValueError, TypeError: As in `max_sensitivity`; a floor that is not positive.

    Example:
        >>> m = relative_input_stability(lambda x: 5 * x, radius=0.1)
        >>> round(float(m(jax.random.key(0), jnp.array([1.0, 3.0]))), 4)
        1.0

    Source: Agarwal et al. 2022, "Rethinking stability for attribution-based explanations".
    """
    return _stability("input", e, outputs, None, radius, samples, norm, floor, batch_size)


@public
def relative_output_stability(
    e: Callable[..., Any],
    outputs: Callable[..., Any],
    *,
    radius: float,
    samples: int = 10,
    norm: str = "l2",
    floor: float = 1e-6,
    batch_size: int | None = None,
) -> RelativeStability:
    """The largest relative change of an explanation against the change of the logits; lower is better.

    ROS = max_s |(e(x_s) - e(x)) / e(x)| / max(|h(x_s) - h(x)|, floor), over neighbours of the same predicted class.

    Args:
        e: As in `max_sensitivity`.
        outputs: `(x, *args) -> [K]`, the model's logits h.
        radius: As in `max_sensitivity`.
        samples: As in `max_sensitivity`.
        norm: As in `max_sensitivity`.
        floor: As in `relative_input_stability`.
        batch_size: As in `max_sensitivity`.

    Returns:
        `m(key, x, *args) -> stability`, at least 0, per unit of the logits; NaN where no neighbour has the class.
        Cost: `samples` + 1 explanations and twice as many forward passes, which the compiler merges.

    Raises:
        ValueError, TypeError: As in `relative_input_stability`.

    Example:
        >>> m = relative_output_stability(lambda x: 5 * x, lambda x: jnp.log(x), radius=0.1)
        >>> 0.8 < float(m(jax.random.key(0), jnp.array([1.0, 3.0]))) < 1.2
        True

    Source: Agarwal et al. 2022 (relative output stability).
    """
    check.function(outputs, "relative_output_stability", "outputs", "(x, *args) -> array")
    return _stability("output", e, outputs, None, radius, samples, norm, floor, batch_size)


@public
def relative_representation_stability(
    e: Callable[..., Any],
    representation: Callable[..., Any],
    outputs: Callable[..., Any] | None = None,
    *,
    radius: float,
    samples: int = 10,
    norm: str = "l2",
    floor: float = 1e-6,
    batch_size: int | None = None,
) -> RelativeStability:
    """The largest relative change of an explanation against that of an inner layer; lower is better.

    RRS = max_s |(e(x_s) - e(x)) / e(x)| / max(|(l(x_s) - l(x)) / l(x)|, floor), over neighbours of the same predicted
    class.

    Args:
        e: As in `max_sensitivity`.
        representation: `(x, *args) -> values` l of a layer: `body` of `body, head = jaxplain.split(f, path)`.
        outputs: As in `relative_input_stability`.
        radius: As in `max_sensitivity`.
        samples: As in `max_sensitivity`.
        norm: As in `max_sensitivity`.
        floor: As in `relative_input_stability`; dead units are exactly 0.
        batch_size: As in `max_sensitivity`.

    Returns:
        `m(key, x, *args) -> stability`, as in `relative_input_stability`.

    Raises:
        ValueError, TypeError: As in `relative_input_stability`.

    Example:
        >>> m = relative_representation_stability(lambda x: 5 * x, lambda x: 2 * x, radius=0.1)
        >>> round(float(m(jax.random.key(0), jnp.array([1.0, 3.0]))), 4)
        1.0

    Source: Agarwal et al. 2022 (relative representation stability).
    """
    check.function(representation, "relative_representation_stability", "representation", "(x, *args) -> array")
    return _stability("representation", e, outputs, representation, radius, samples, norm, floor, batch_size)
