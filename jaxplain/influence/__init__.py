"""Which training examples did it: attribution of a trained model's scores to the examples it was trained on.

One rule everywhere: `values[q, i]` is the derivative of query score q with respect to the weight of training example i,
in units of the score for one whole example. Positive raises the score; removing example i changes it by about
`-values[q, i]`.

    run = train.training_run(apply, params, data, key=key, optimizer=optimizer)    # the run of `fit`, as a function
    queries = query_scores(apply, test_data)                                       # params -> [Q], here losses
    found = unrolled(run, queries)                      # [Q, N], exact, through all of training; run(weights) -> params
    quality = linear_datamodeling_score(found, masks, retrain(run, masks, queries))
    top = top_examples(found, 5)                        # helpful and harmful training examples of each query

Where the run is not at hand: `influence_function` (curvature at its end), `tracin`, `trak`, `gradient_similarity`,
`representer_points`, `knn_shapley`. By retraining: `leave_one_out`, `data_shapley`, `banzhaf`. Each is judged by the
same retrainings (`compare_influence`, `leave_out_curve`, `mislabel_curve`, `counterfactual_curve`, `tail_patch`).
"""

from jaxplain.influence.curvature import influence_function
from jaxplain.influence.judge import (
    Curve,
    DatamodelingScore,
    compare_influence,
    counterfactual_curve,
    leave_out_curve,
    linear_datamodeling_score,
    mislabel_curve,
)
from jaxplain.influence.neighbours import knn_shapley
from jaxplain.influence.representer import representer_points
from jaxplain.influence.result import Influence, Queries, Top, log_odds, query_scores, top_examples
from jaxplain.influence.retrain import leave_one_out, random_masks, retrain, retraining
from jaxplain.influence.similarity import gradient_similarity, self_influence, tracin
from jaxplain.influence.smoothness import metasmoothness
from jaxplain.influence.stream import top_over_blocks
from jaxplain.influence.tail import tail_patch
from jaxplain.influence.trak import trak
from jaxplain.influence.unroll import unrolled
from jaxplain.influence.valuation import banzhaf, beta_shapley, data_out_of_bag, data_shapley

__all__ = [
    "Curve",
    "DatamodelingScore",
    "Influence",
    "Queries",
    "Top",
    "banzhaf",
    "beta_shapley",
    "compare_influence",
    "counterfactual_curve",
    "data_out_of_bag",
    "data_shapley",
    "gradient_similarity",
    "influence_function",
    "knn_shapley",
    "leave_one_out",
    "leave_out_curve",
    "linear_datamodeling_score",
    "log_odds",
    "metasmoothness",
    "mislabel_curve",
    "query_scores",
    "random_masks",
    "representer_points",
    "retrain",
    "retraining",
    "self_influence",
    "tail_patch",
    "top_examples",
    "top_over_blocks",
    "tracin",
    "trak",
    "unrolled",
]
