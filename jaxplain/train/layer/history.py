"""What each layer did in each epoch of a training run."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxplain import check
from jaxplain.train.layer.group import Group
from jaxplain.train.layer.recorder import QUANTITIES
from jaxplain.types import Array


@dataclasses.dataclass(frozen=True, repr=False)
class LayerHistory:
    """What each layer did in each epoch, arrays `[E, L]`, the layers in the order in which the model uses them.

    Attributes:
        gradient_norm: Mean over the epoch's steps of the L2 norm of the loss's gradient by the layer's arrays.
        update_norm: The same of what the optimizer added to them.
        weight_norm: The same of the arrays before each step.
        dead: How many of the layer's units got a gradient of exactly zero in every step of the epoch: a ReLU that no
            example opens, a saturated unit, an array that nothing uses. A unit is an element of the array of fewest
            axes (the bias); of arrays without one, an output of the product that it enters, else a place of the last
            axis.
        names: Of the layers, their paths in the params.
        sizes: Of the layers, in trained numbers.
        units: Of the layers.
        matrices: Whether a layer has an array of two axes or more.
    """

    gradient_norm: Array
    update_norm: Array
    weight_norm: Array
    dead: Array
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    units: tuple[int, ...]
    matrices: tuple[bool, ...]

    @property
    def update_ratio(self) -> Array:
        """Update-to-weight ratio `[E, L]`: `update_norm / weight_norm`; infinite for weights that were zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.update_norm / self.weight_norm

    @property
    def gradient_rms(self) -> Array:
        """The gradient of a typical number of a layer `[E, L]`: `gradient_norm` over the root of the layer's size."""
        return self.gradient_norm / np.sqrt(self._row(self.sizes))

    @property
    def dead_share(self) -> Array:
        """Share of a layer's units that are dead, `[E, L]`."""
        return self.dead / self._row(self.units)

    def _row(self, counts: tuple[int, ...]) -> np.ndarray:
        """A number for each layer, to go with the arrays."""
        return np.array(counts, np.float32).reshape((1,) * (np.ndim(self.dead) - 1) + (-1,))

    def __repr__(self) -> str:
        """The last epoch as a table; of several runs, or while tracing, what it holds."""
        shape = np.shape(self.gradient_norm)
        if len(shape) != 2 or not shape[0] or not check.is_concrete(self.gradient_norm):
            return f"LayerHistory({len(self.names)} layers, arrays {list(shape)})"
        columns = (self.gradient_rms, self.update_ratio, self.dead)
        last = [np.asarray(column)[-1] for column in columns]
        heads = ("layer", "gradient (rms)", "update / weight", "dead units")
        rows = [
            (name, f"{last[0][i]:.3g}", f"{last[1][i]:.3g}", f"{int(last[2][i])} of {self.units[i]}")
            for i, name in enumerate(self.names)
        ]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in (heads, *rows)
        ]
        return "\n".join([f"epoch {shape[0]}:", *lines])


jax.tree_util.register_dataclass(LayerHistory, list(QUANTITIES), ["names", "sizes", "units", "matrices"])


def layer_history(columns: Any, groups: tuple[Group, ...]) -> LayerHistory | None:
    """The recorded columns of a run's rows `[E, 4 L]` as a history; None where nothing was recorded."""
    if not groups:
        return None
    parts = columns.reshape(*columns.shape[:-1], len(QUANTITIES), len(groups))
    arrays = (parts[..., place, :] for place in range(len(QUANTITIES)))
    facts = [(group.name, group.size, group.units, group.matrix) for group in groups]
    return LayerHistory(*arrays, *map(tuple, zip(*facts, strict=True)))
