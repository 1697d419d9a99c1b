"""Concepts that people name: directions and regions of a layer's activations, and whether a score depends on them.

body, head = jaxplain.split(f, path)
found = concept_vectors(activations, {"stripes": rows})    # [C, ...], of length 1, with accuracy on held-out examples
result = tcav(head, found, asked, x, label, key=key)       # scores, sensitivities, p against random concepts
e = gradient(through_concept(f, path, found.vectors[0]))   # e(x, x, label): what the class owes to the concept
"""

from jaxplain.concept.vector.direction import ConceptVectors, concept_similarity, concept_vectors
from jaxplain.concept.vector.layers import Consistency, layer_consistency, tcav_layers
from jaxplain.concept.vector.published import TTest, tcav_t_test
from jaxplain.concept.vector.region import ConceptRegions, concept_regions, region_scores
from jaxplain.concept.vector.sensitivity import concept_sensitivity
from jaxplain.concept.vector.testing import Tcav, tcav
from jaxplain.concept.vector.through import concept_score, through_concept

__all__ = [
    "ConceptRegions",
    "ConceptVectors",
    "Consistency",
    "TTest",
    "Tcav",
    "concept_regions",
    "concept_score",
    "concept_sensitivity",
    "concept_similarity",
    "concept_vectors",
    "layer_consistency",
    "region_scores",
    "tcav",
    "tcav_layers",
    "tcav_t_test",
    "through_concept",
]
