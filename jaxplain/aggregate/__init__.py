"""From local to global: statistics of a whole dataset's attributions in one pass, with a state that merges.

An aggregator has four pure functions: `init` (from the shape of one attribution), `update` (with a batch; jittable),
`merge` (of two states, in any grouping) and `compute`. `aggregate_batches` runs a whole pass, `combine` makes one
aggregator of several.
"""

from jaxplain.aggregate.aggregator import Aggregator
from jaxplain.aggregate.ranking import TopK, top_k
from jaxplain.aggregate.run import aggregate_batches, combine
from jaxplain.aggregate.statistic import Moments, moments

__all__ = ["Aggregator", "Moments", "TopK", "aggregate_batches", "combine", "moments", "top_k"]
