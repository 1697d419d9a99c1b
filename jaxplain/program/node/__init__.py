"""What groups of equations mean: activations, affine layers, normalisations, softmax; and a rule for each node.

Recognition is by what a group computes, never by a module's name. Which rules there are stands in `explain.backward`.
"""

from jaxplain.program.node.biases import Bias, biases, feeds, scaled
from jaxplain.program.node.chains import Layer, in_weights, layer_of, shared_sum, weights_of
from jaxplain.program.node.embedding import AlongLookups, BehindLookups, LookedUp, look_up
from jaxplain.program.node.flat import Step, Value, flatten, widened
from jaxplain.program.node.last import LastOperations
from jaxplain.program.node.nodes import KINDS, Graph, Node, build
from jaxplain.program.node.probe import RECTIFIERS
from jaxplain.program.node.rewrite import (
    Call,
    Opened,
    OwnDerivative,
    Rule,
    calls_of,
    inputs_of,
    open_score,
    pull,
    pull_with_flow,
    without_rule,
)
from jaxplain.program.node.routes import Decision, decisions
from jaxplain.program.node.signs import never_negative
from jaxplain.program.node.smooth import smoothed

__all__ = [
    "KINDS",
    "RECTIFIERS",
    "AlongLookups",
    "BehindLookups",
    "Bias",
    "Call",
    "Decision",
    "Graph",
    "LastOperations",
    "Layer",
    "LookedUp",
    "Node",
    "Opened",
    "OwnDerivative",
    "Rule",
    "Step",
    "Value",
    "biases",
    "build",
    "calls_of",
    "decisions",
    "feeds",
    "flatten",
    "in_weights",
    "inputs_of",
    "layer_of",
    "look_up",
    "never_negative",
    "open_score",
    "pull",
    "pull_with_flow",
    "scaled",
    "shared_sum",
    "smoothed",
    "weights_of",
    "widened",
    "without_rule",
]
