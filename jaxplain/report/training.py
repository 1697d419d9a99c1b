"""A section of a page: how a model was trained, what its layers did, what its weights became."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.plot import gradient_flow, learning_curves, singular_values, validation_curve, weight_matrices
from jaxplain.program import public
from jaxplain.report.page import Section, Table
from jaxplain.report.reading import SECTIONS
from jaxplain.train import Diagnosis, diagnose, weight_spectra


@public
def training_section(
    history: Any,
    *,
    diagnosis: Any = None,
    params: Any = None,
    sweep: Any = None,
    limit: int = 16,
    heading: str = "How it was trained",
) -> Section:
    """Make a report's section of a training run: its curves and what they say, its layers, weights and settings.

    Args:
        history: What `fit` returns as `.history`; with `record_layers=True` the section shows the layers.
        diagnosis: What `diagnose(history)` returned; by default that.
        params: The trained params, for pictures of the weight matrices and their singular values; None leaves them out.
        sweep: What `train.hyperparameter_sweep` returned, of one or two settings; None leaves it out.
        limit: Most layers and matrices shown.
        heading: The section's heading.

    Returns:
        The section.

    Raises:
        ValueError, TypeError: As `diagnose`, `train.weight_spectra` and the figures of `jaxplain.plot`.

    Example:
        >>> from types import SimpleNamespace
        >>> training_section(SimpleNamespace(loss=[1.0, 0.5, 0.2, 0.1])).content[0][:31]
        'The model is still learning: 11'
    """
    check.count(limit, "training_section", "limit")
    found = diagnose(history) if diagnosis is None else diagnosis
    content: list[Any] = [str(found) + _kept(history, str(found)), learning_curves(history)]
    if isinstance(found, Diagnosis):
        content.append(
            Table(
                ["measured", "value"],
                [(n.replace("_", " "), v) for n, v in found.numbers.items()],
                f"Verdict: {found.verdict}.",
            )
        )
    if getattr(history, "layers", None) is not None:
        content += [gradient_flow(history, limit=limit), _layers(history, limit)]
    if params is not None:
        spectra = weight_spectra(params)
        content += [
            weight_matrices(params, limit=limit),
            singular_values(spectra, limit=limit),
            _spectra(spectra, limit),
        ]
    if sweep is not None:
        content.append(validation_curve(sweep))
    return Section(heading, content, reading=SECTIONS["training_section"])


def _kept(history: Any, said: str) -> str:
    """Which epoch's params `fit` returned, where that is not the last one's and nobody said so yet."""
    validation = getattr(history, "validation_loss", None)
    values = np.full(1, np.nan) if validation is None else np.asarray(validation, float)
    ran = np.flatnonzero(np.isfinite(values)) if values.ndim == 1 else np.zeros(0, int)
    if ran.size == 0 or "were kept" in said or (best := int(np.nanargmin(values))) == ran[-1]:
        return ""
    return f" The params of epoch {best + 1}, of the lowest validation loss, were kept."


def _layers(history: Any, limit: int) -> Table:
    """The layers in the last epoch."""
    layers = history.layers
    ran = np.flatnonzero(~np.isnan(np.asarray(layers.gradient_norm)).all(axis=1))
    last = int(ran[-1]) if ran.size else 0
    columns = [np.asarray(values)[last] for values in (layers.gradient_rms, layers.update_ratio, layers.dead)]
    rows = [
        [
            name,
            layers.sizes[i],
            float(columns[0][i]),
            float(columns[1][i]),
            f"{int(columns[2][i])} of {layers.units[i]}",
        ]
        for i, name in enumerate(layers.names[:limit])
    ]
    heads = ["layer", "numbers", "gradient (rms)", "update / weight", "dead units"]
    caption = f"The layers in epoch {last + 1}, in the order in which the model uses them{_first(rows, layers.names)}."
    return Table(heads, rows, caption)


def _spectra(spectra: dict[str, Any], limit: int) -> Table:
    rows = [
        [name, "x".join(map(str, s.shape)), *map(float, (s.norm, s.stable_rank, s.effective_rank)), int(s.outliers)]
        for name, s in list(spectra.items())[:limit]
    ]
    heads = ["matrix", "shape", "spectral norm", "stable rank", "effective rank", "above chance"]
    caption = "Singular values: how many directions a matrix uses, and how many stand out of chance"
    return Table(heads, rows, f"{caption}{_first(rows, spectra)}.")


def _first(rows: Sized, everything: Sized) -> str:
    """The words for what a table leaves out."""
    return "" if len(rows) == len(everything) else f" (the first {len(rows)} of {len(everything)})"
