"""Figures of what training does over its steps: explanations, examples, layers."""

from jaxplain.plot.dynamics.animation import Animation, attribution_animation
from jaxplain.plot.dynamics.depth import lens_over_training, prediction_depths
from jaxplain.plot.dynamics.examples import drift_curves, example_dynamics
from jaxplain.plot.dynamics.strip import attribution_strip

__all__ = [
    "Animation",
    "attribution_animation",
    "attribution_strip",
    "drift_curves",
    "example_dynamics",
    "lens_over_training",
    "prediction_depths",
]
