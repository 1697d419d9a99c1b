"""Looking inside a model: its layers and what they cost, its graph, its values read, replaced and cut at.

Whatever the framework: sites are found in the traced program. What attributes a layer by a method of `explain` stands
there.
"""

from jaxplain.internals.capture import capture, cut, intervene, split
from jaxplain.internals.draw import draw
from jaxplain.internals.layers import layers
from jaxplain.internals.patching import activation_patching, attribution_patching
from jaxplain.internals.spatial import Places, masked_input, normalized, on_grid, places, resized, spread, without_axis

__all__ = [
    "Places",
    "activation_patching",
    "attribution_patching",
    "capture",
    "cut",
    "draw",
    "intervene",
    "layers",
    "masked_input",
    "normalized",
    "on_grid",
    "places",
    "resized",
    "split",
    "spread",
    "without_axis",
]
