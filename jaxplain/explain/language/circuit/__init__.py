"""Inside language models: attention through the layers, lenses, patching at scale, the residual stream and circuits.

Whatever can be traced: attentions and the residual stream are found by what is computed, in the traced program.
"""

from jaxplain.explain.language.circuit.attribution import edge_attribution
from jaxplain.explain.language.circuit.checks import Checks, circuit_checks
from jaxplain.explain.language.circuit.circuits import (
    Areas,
    circuit_areas,
    circuit_curve,
    greedy_circuit,
    threshold_circuit,
)
from jaxplain.explain.language.circuit.detached import Linear, detached
from jaxplain.explain.language.circuit.edges import circuit_score, edge_patching, edges, node_patching
from jaxplain.explain.language.circuit.graph import circuit_graph
from jaxplain.explain.language.circuit.lens import Lens, lens
from jaxplain.explain.language.circuit.nodes import node_attribution
from jaxplain.explain.language.circuit.norm import value_weighted_norms
from jaxplain.explain.language.circuit.path import path_patching
from jaxplain.explain.language.circuit.rollout import attention_flow, attention_rollout, gradient_rollout
from jaxplain.explain.language.circuit.site import site_attribution
from jaxplain.explain.language.circuit.sweep import ablation, sweep
from jaxplain.internals import attention_weights

__all__ = [
    "Areas",
    "Checks",
    "Lens",
    "Linear",
    "ablation",
    "attention_flow",
    "attention_rollout",
    "attention_weights",
    "circuit_areas",
    "circuit_checks",
    "circuit_curve",
    "circuit_graph",
    "circuit_score",
    "detached",
    "edge_attribution",
    "edge_patching",
    "edges",
    "gradient_rollout",
    "greedy_circuit",
    "lens",
    "node_attribution",
    "node_patching",
    "path_patching",
    "site_attribution",
    "sweep",
    "threshold_circuit",
    "value_weighted_norms",
]
