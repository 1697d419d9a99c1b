"""The layers of a model while it is trained, and what their weights are afterwards.

Gradients, updates and dead units of each layer and epoch, what is remarkable about them, and the spectra of weights.
"""

from jaxplain.train.layer.group import Group, groups_of
from jaxplain.train.layer.history import LayerHistory, layer_history
from jaxplain.train.layer.recorder import recorded_columns, recording, take, unrecorded, without_record
from jaxplain.train.layer.remark import flow, remarks
from jaxplain.train.layer.spectrum import Spectrum, weight_spectra

__all__ = [
    "Group",
    "LayerHistory",
    "Spectrum",
    "flow",
    "groups_of",
    "layer_history",
    "recorded_columns",
    "recording",
    "remarks",
    "take",
    "unrecorded",
    "weight_spectra",
    "without_record",
]
