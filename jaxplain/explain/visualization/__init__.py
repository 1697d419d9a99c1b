"""Inputs made to order: activation maximization, what it is composed of, and what stands on it.

Parameterisations stand in `image`, what is made large in `objective`, random changes on the way in `transform`,
penalties in `regulariser`.
"""

from jaxplain.explain.visualization.activation import activation_maximization, jitter, l2, pixels, total_variation
from jaxplain.explain.visualization.deconvolution import deconv_view
from jaxplain.explain.visualization.dream import deep_dream
from jaxplain.explain.visualization.inversion import (
    Settings,
    accentuate,
    activation_grid,
    feature_inversion,
    template,
    visualize_directions,
)
from jaxplain.explain.visualization.receptive import cut, receptive_field

__all__ = [
    "Settings",
    "accentuate",
    "activation_grid",
    "activation_maximization",
    "cut",
    "deconv_view",
    "deep_dream",
    "feature_inversion",
    "jitter",
    "l2",
    "pixels",
    "receptive_field",
    "template",
    "total_variation",
    "visualize_directions",
]
