"""Gradients, paths, noise, interactions: what needs derivatives of the score as it is."""

from jaxplain.explain.gradient.adaptive import refine
from jaxplain.explain.gradient.blur_path import blur_integrated_gradients
from jaxplain.explain.gradient.expected import ExpectedGradients, expected_gradients
from jaxplain.explain.gradient.gradient import gradient, input_x_gradient, saliency
from jaxplain.explain.gradient.guided_path import guided_integrated_gradients
from jaxplain.explain.gradient.hessian import integrated_hessians
from jaxplain.explain.gradient.layer import conductance, internal_influence
from jaxplain.explain.gradient.noise import smoothgrad, smoothgrad_squared, vargrad
from jaxplain.explain.gradient.path import (
    IntegratedGradients,
    integrated_gradients,
    integrated_gradients_with_gap,
)
from jaxplain.explain.gradient.region import image_regions, xrai

__all__ = [
    "ExpectedGradients",
    "IntegratedGradients",
    "blur_integrated_gradients",
    "conductance",
    "expected_gradients",
    "gradient",
    "guided_integrated_gradients",
    "image_regions",
    "input_x_gradient",
    "integrated_gradients",
    "integrated_gradients_with_gap",
    "integrated_hessians",
    "internal_influence",
    "refine",
    "saliency",
    "smoothgrad",
    "smoothgrad_squared",
    "vargrad",
    "xrai",
]
