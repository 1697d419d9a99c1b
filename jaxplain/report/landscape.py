"""A section of a page: the landscape that a model was trained in, how sharp its end is, what lies between solutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.plot import loss_interpolation, loss_surface
from jaxplain.program import public
from jaxplain.report.page import Section
from jaxplain.report.reading import SECTIONS


@public
def landscape_section(
    surface: Any,
    *,
    spectra: Mapping[str, Any] | None = None,
    ways: Mapping[str, Any] | None = None,
    path: Any = None,
    heading: str = "The landscape of the loss",
) -> Section:
    """Make a report's section of a loss surface, with eigenvalues of the curvature and ways between solutions.

    Args:
        surface: What `train.loss_surface` returned.
        spectra: `{name: sharpness}`, such as {"hessian": ...}, of what `train.sharpness` returned.
        ways: `{name: interpolation}`, of what `train.interpolation` or `mode_connectivity` returned.
        path: As in `plot.loss_surface`.
        heading: The section's heading.

    Returns:
        The section: the loss at the lowest and highest point, the share of the path's variance that the plane holds,
        largest and smallest eigenvalues with their errors, and the figures.

    Raises:
        ValueError, TypeError: As `plot.loss_surface` and `plot.loss_interpolation`; anything but spectra.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain import train
        >>> square, path = lambda w: (w**2).sum(), jnp.array([[4.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
        >>> surface = train.loss_surface(square, train.principal_plane(square, path), x=[0.0, 1.0], y=[0.0, 1.0])
        >>> landscape_section(surface).content[0]["variance of the path in the plane"]
        '100 %'
    """
    figures = [loss_surface(surface, path=path)]
    loss = np.asarray(surface.loss)
    finite = loss[np.isfinite(loss)]
    facts: dict[str, Any] = {"lowest loss": float(finite.min()), "highest loss": float(finite.max())}
    if surface.explained is not None:
        facts["variance of the path in the plane"] = f"{100 * float(np.sum(surface.explained)):.3g} %"
    for name, found in (spectra or {}).items():
        if not all(hasattr(found, part) for part in ("values", "error", "smallest", "smallest_error")):
            raise TypeError(
                f"landscape_section: `spectra[{name!r}]` is {check.short(found)}; pass what train.sharpness returned."
            )
        if np.ndim(found.values) != 1:
            raise ValueError(
                f"landscape_section: `spectra[{name!r}]` holds eigenvalues of shape {np.shape(found.values)}; pass "
                "those of one point, [k]."
            )
        pairs = zip(np.asarray(found.values), np.asarray(found.error), strict=True)
        facts[f"largest eigenvalues, {name}"] = ", ".join(f"{value:.4g} ± {error:.1g}" for value, error in pairs)
        facts[f"smallest eigenvalue, {name}"] = f"{float(found.smallest):.4g} ± {float(found.smallest_error):.1g}"
    if ways:
        figures.append(loss_interpolation(ways))
    return Section(heading, [facts, *figures], reading=SECTIONS["landscape_section"])
