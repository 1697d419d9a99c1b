"""What is remarkable about the layers of a training run: gradients that vanish or explode, dead units, odd updates."""

from __future__ import annotations

from typing import Any

import numpy as np

SLOW, FAST = 1e-5, 0.1
"""Update-to-weight ratios that call for a remark; about 1e-3 is usual."""


def flow(layers: Any, epochs: int) -> tuple[float, str, str] | None:
    """How much of the gradient reaches the first layer: its size there over that at the last layer, and both names.

    Of the layers with a matrix, in root mean squares, the median over epochs; None where there is one such layer, or
    the last has no gradient.
    """
    places = [place for place, matrix in enumerate(layers.matrices) if matrix]
    if len(places) < 2:
        return None
    sizes = np.median(np.asarray(layers.gradient_rms, float)[:epochs], axis=0)
    first, last = places[0], places[-1]
    if not (0 < sizes[last] < np.inf and np.isfinite(sizes[first])):
        return None
    return float(sizes[first] / sizes[last]), layers.names[first], layers.names[last]


def steps(layers: Any, epochs: int) -> np.ndarray:
    """The median update-to-weight ratio of the layers with a matrix (else of all) in each epoch that has one."""
    matrices = np.array(layers.matrices)
    ratios = np.asarray(layers.update_ratio, float)[:epochs, matrices if matrices.any() else ~matrices]
    return np.array([np.median(row[np.isfinite(row)]) for row in ratios if np.isfinite(row).any()])


def remarks(layers: Any, epochs: int, *, imbalance: float, dead_share: float) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Remarks in words and numbers on the layers of a run, and the numbers by name.

    Args:
        layers: A `LayerHistory` of one run.
        epochs: How many of its rows were run.
        imbalance: Factor between the gradients of the first and the last layer from which on they vanish or explode.
        dead_share: Share of a layer's units from which on dead ones are worth a remark.
    """
    found = []
    dead = np.asarray(layers.dead, float)[epochs - 1]
    measured: dict[str, Any] = {"dead_units": float(dead.sum() / sum(layers.units))}
    between = flow(layers, epochs)
    if between is not None:
        ratio, first, last = between
        measured["gradient_flow"] = ratio
        what = "vanishes" if ratio * imbalance < 1 else "explodes" if ratio > imbalance else ""
        if what and ratio:  # where it is zero, units are dead, which is said below
            found.append(f"the gradient {what} on its way back: at {first} it is {ratio:.2g} times that at {last}")
    shares = dead / np.array(layers.units)
    worst = [place for place in np.argsort(-shares, kind="stable") if shares[place] >= dead_share]
    if worst:
        counted = ", ".join(f"{int(dead[i])} of {layers.units[i]} units of {layers.names[i]}" for i in worst[:3])
        rest = f" and more in {len(worst) - 3} other layers" if len(worst) > 3 else ""
        found.append(f"{counted}{rest} are dead")
    moves = steps(layers, epochs)
    if moves.size:
        measured["update_ratio"] = float(np.median(moves))
        little, share = moves.max() < SLOW, np.median(moves)
        if little or share > FAST:
            much = "little, try a higher" if little else "much, try a lower"
            found.append(f"a step changes the weights by {share:.2g} of their size, which is {much} learning rate")
    return tuple(found), measured
