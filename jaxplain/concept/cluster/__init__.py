"""Explanations of many examples that cluster, and examples that stand for a set or against an answer."""

from jaxplain.concept.cluster.example import Counterfactuals, Prototypes, counterfactual_examples, prototypes
from jaxplain.concept.cluster.picture import cluster_places
from jaxplain.concept.cluster.spray import Clusters, spray

__all__ = [
    "Clusters",
    "Counterfactuals",
    "Prototypes",
    "cluster_places",
    "counterfactual_examples",
    "prototypes",
    "spray",
]
