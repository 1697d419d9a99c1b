"""Objectives: what an optimised input is to make large; they add, scale and negate as ordinary functions.

`neuron`, `channel`, `direction`, `position` and `deep_dream` read a layer; `inversion`, `caricature` and `style`
compare a layer with that of a given input; `diversity` compares inputs optimised together; `score` makes an objective
of any score, such as a class' logit.

    channel(f, "conv_1", 3) - 0.5 * channel(f, "conv_1", 7) + 0.1 * score(logit(apply, params), 2)
"""

from jaxplain.explain.visualization.objective.algebra import Objective, interpolation, negative, score
from jaxplain.explain.visualization.objective.layer import (
    Direction,
    OnLayer,
    channel,
    deep_dream,
    direction,
    neuron,
    picked,
    position,
    reading,
)
from jaxplain.explain.visualization.objective.likeness import Inversion, caricature, inversion, style
from jaxplain.explain.visualization.objective.together import diversity, each

__all__ = [
    "Direction",
    "Inversion",
    "Objective",
    "OnLayer",
    "caricature",
    "channel",
    "deep_dream",
    "direction",
    "diversity",
    "each",
    "interpolation",
    "inversion",
    "negative",
    "neuron",
    "picked",
    "position",
    "reading",
    "score",
    "style",
]
