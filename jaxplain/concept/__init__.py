"""What a network's features mean: directions, dictionaries and clusters between inputs and classes, tested by chance.

A concept is something that people name or that a factorisation finds in a layer's activations. Nothing here trains the
network that is explained, and nothing draws.
"""

from jaxplain.concept.cluster import (
    Clusters,
    Counterfactuals,
    Prototypes,
    cluster_places,
    counterfactual_examples,
    prototypes,
    spray,
)
from jaxplain.concept.vector import (
    ConceptRegions,
    ConceptVectors,
    Consistency,
    Tcav,
    TTest,
    concept_regions,
    concept_score,
    concept_sensitivity,
    concept_similarity,
    concept_vectors,
    layer_consistency,
    region_scores,
    tcav,
    tcav_layers,
    tcav_t_test,
    through_concept,
)

__all__ = [
    "Clusters",
    "ConceptRegions",
    "ConceptVectors",
    "Consistency",
    "Counterfactuals",
    "Prototypes",
    "TTest",
    "Tcav",
    "cluster_places",
    "concept_regions",
    "concept_score",
    "concept_sensitivity",
    "concept_similarity",
    "concept_vectors",
    "counterfactual_examples",
    "layer_consistency",
    "prototypes",
    "region_scores",
    "spray",
    "tcav",
    "tcav_layers",
    "tcav_t_test",
    "through_concept",
]
