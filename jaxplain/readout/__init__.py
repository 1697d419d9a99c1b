"""Reading a model's outputs: which part is meant, what a target picks from it, how wrong it is.

Shared by scores, which explain one example, and by training, which minimises over many.
"""

from jaxplain.readout.criterion import binary_cross_entropy, check_labels, cross_entropy, squared_error, wide
from jaxplain.readout.host import BlackBox, black_box
from jaxplain.readout.selection import Select, selector
from jaxplain.readout.target import Pick, index_range

__all__ = [
    "BlackBox",
    "Pick",
    "Select",
    "binary_cross_entropy",
    "black_box",
    "check_labels",
    "cross_entropy",
    "index_range",
    "selector",
    "squared_error",
    "wide",
]
