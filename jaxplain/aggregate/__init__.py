"""From local to global: what a whole dataset says, in one pass, with a state that merges.

An aggregator has four pure functions: `init` (from the shape of one attribution), `update` (with a batch; jittable),
`merge` (of two states, in any grouping) and `compute`. `aggregate_batches` runs a whole pass, `combine` makes one
aggregator of several. Effects and importances of features, units of a layer and the activation atlas stand here too.
"""

from jaxplain.aggregate.aggregator import Aggregator
from jaxplain.aggregate.atlas import activation_atlas
from jaxplain.aggregate.effects import accumulated_local_effects, individual_conditional_expectation, partial_dependence
from jaxplain.aggregate.importance import permutation_importance
from jaxplain.aggregate.ranking import TopK, top_k
from jaxplain.aggregate.run import aggregate_batches, combine
from jaxplain.aggregate.statistic import Moments, moments
from jaxplain.aggregate.unit import top_activations, unit_activity

__all__ = [
    "Aggregator",
    "Moments",
    "TopK",
    "accumulated_local_effects",
    "activation_atlas",
    "aggregate_batches",
    "combine",
    "individual_conditional_expectation",
    "moments",
    "partial_dependence",
    "permutation_importance",
    "top_activations",
    "top_k",
    "unit_activity",
]
