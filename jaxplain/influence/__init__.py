"""Which training examples did it: attribution of a trained model's scores to the examples it was trained on.

One rule everywhere: `values[q, i]` is the derivative of query score q with respect to the weight of training example i,
in units of the score for one whole example. Positive raises the score; removing example i changes it by about
`-values[q, i]`.
"""

from jaxplain.influence.curvature import influence_function
from jaxplain.influence.neighbours import knn_shapley
from jaxplain.influence.representer import representer_points
from jaxplain.influence.result import Influence, Queries, Top, log_odds, query_scores, top_examples
from jaxplain.influence.similarity import gradient_similarity, self_influence, tracin
from jaxplain.influence.smoothness import metasmoothness
from jaxplain.influence.trak import trak
from jaxplain.influence.unroll import unrolled

__all__ = [
    "Influence",
    "Queries",
    "Top",
    "gradient_similarity",
    "influence_function",
    "knn_shapley",
    "log_odds",
    "metasmoothness",
    "query_scores",
    "representer_points",
    "self_influence",
    "top_examples",
    "tracin",
    "trak",
    "unrolled",
]
