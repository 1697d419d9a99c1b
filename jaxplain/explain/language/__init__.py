"""Language models: scores of text, attribution of what was generated, units that people read, circuits.

For sequences of token ids: `x` `[T]` for one example, with outputs `[T, K]`. What is explained may be any model that
JAX can trace; nothing is registered or re-implemented.
"""

from jaxplain.explain.language.circuit import (
    Areas,
    Checks,
    Lens,
    Linear,
    ablation,
    attention_flow,
    attention_rollout,
    attention_weights,
    circuit_areas,
    circuit_checks,
    circuit_curve,
    circuit_graph,
    circuit_score,
    detached,
    edge_attribution,
    edge_patching,
    edges,
    gradient_rollout,
    greedy_circuit,
    lens,
    node_attribution,
    node_patching,
    path_patching,
    site_attribution,
    sweep,
    threshold_circuit,
    value_weighted_norms,
)
from jaxplain.explain.language.context_cite import Citation, context_cite
from jaxplain.explain.language.generation import explain_generation
from jaxplain.explain.language.scores import contrastive, entropy, kl_to, token_log_probability, token_logit
from jaxplain.explain.language.segments import Segments, segments
from jaxplain.explain.language.sequence import sequence_log_probability

__all__ = [
    "Areas",
    "Checks",
    "Citation",
    "Lens",
    "Linear",
    "Segments",
    "ablation",
    "attention_flow",
    "attention_rollout",
    "attention_weights",
    "circuit_areas",
    "circuit_checks",
    "circuit_curve",
    "circuit_graph",
    "circuit_score",
    "context_cite",
    "contrastive",
    "detached",
    "edge_attribution",
    "edge_patching",
    "edges",
    "entropy",
    "explain_generation",
    "gradient_rollout",
    "greedy_circuit",
    "kl_to",
    "lens",
    "node_attribution",
    "node_patching",
    "path_patching",
    "segments",
    "sequence_log_probability",
    "site_attribution",
    "sweep",
    "threshold_circuit",
    "token_log_probability",
    "token_logit",
    "value_weighted_norms",
]
