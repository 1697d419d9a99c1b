"""Looking inside a model: its layers and what they cost, its graph, its values read, replaced and cut at.

Whatever the framework: sites are found in the traced program. What attributes a layer by a method of `explain` stands
there.
"""

from jaxplain.internals.attention import Layer, attention_weights, attentions, read_weights, with_weights_moved
from jaxplain.internals.capture import capture, changed, cut, intervene, split
from jaxplain.internals.draw import Drawing, draw, drawing
from jaxplain.internals.fused import fused_attentions
from jaxplain.internals.layers import layers
from jaxplain.internals.patching import activation_patching, attribution_patching
from jaxplain.internals.spatial import Places, masked_input, normalized, on_grid, places, resized, spread, without_axis

__all__ = [
    "Drawing",
    "Layer",
    "Places",
    "activation_patching",
    "attention_weights",
    "attentions",
    "attribution_patching",
    "capture",
    "changed",
    "cut",
    "draw",
    "drawing",
    "fused_attentions",
    "intervene",
    "layers",
    "masked_input",
    "normalized",
    "on_grid",
    "places",
    "read_weights",
    "resized",
    "split",
    "spread",
    "with_weights_moved",
    "without_axis",
]
