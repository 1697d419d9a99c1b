"""Scores of a place in a model's output and a class there: their target is a pair, looked at alike for all of them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxplain import check
from jaxplain.program import is_array
from jaxplain.readout import index_range
from jaxplain.score import ModelScore
from jaxplain.types import Pytree


class PairScore(ModelScore):
    """A score `f(x, (place, class), *inputs) -> scalar`. Made by `box_score`, `region_score` and inside `d_rise`.

    Its `reduce` says what a place is called (`place`), how a batch is looked at (`check_batch`), and which
    columns of the outputs stand before the classes (`first_class`).
    """

    def check_call(self, x: Pytree, target: Any = None, *inputs: Any) -> None:
        """Raise for concrete batched places that are none and classes outside the model's (used by drivers)."""
        place, label = pair(target, self.name, self.reduce.place)
        self.reduce.check_batch(place, label, self.name)
        row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (x, inputs))
        columns = jax.eval_shape(lambda f, x, inputs: f.outputs(x, *inputs), self, *row).shape[-1]
        index_range(label if is_array(label) else (), (columns - self.reduce.first_class,), self.name)


def pair(target: Any, name: str, first: str) -> tuple[Any, Any]:
    """Require a target of two parts, real numbers where they are concrete and the class without NaN; return them."""
    if not isinstance(target, tuple | list) or len(target) != 2:
        raise TypeError(f"{name}: the `target` has to be the pair ({first}, class), not {check.short(target)}.")
    place, label = target
    _real(place, name)
    if label is not None:  # of a model with one class there need be none
        _real(label, name)
        check.finite(label, name, "target")
        label = np.asarray(label) if isinstance(label, list) and is_known(label) else label
    return place, label


def is_known(part: Any) -> bool:
    """Whether all of a part's values can be read."""
    return all(map(check.is_concrete, jax.tree.leaves(part)))


def _real(part: Any, name: str) -> None:
    """Require real numbers; what is traced is left alone."""
    if part is None or is_known(part):
        check.numbers(part, name, "target")
        check.real(np.asarray(part) if isinstance(part, tuple | list) else part, name, "target")
