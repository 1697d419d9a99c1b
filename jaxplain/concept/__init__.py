"""What a network's features mean: directions, dictionaries and clusters between inputs and classes, tested by chance.

A concept is something that people name or that a factorisation finds in a layer's activations. Nothing here trains the
network that is explained, and nothing draws.
"""

from jaxplain.concept.dictionary import (
    ConceptCurves,
    Dictionary,
    Importance,
    Judged,
    Matched,
    Site,
    TopCodes,
    concept_curves,
    judge_dictionary,
    layer_site,
    match_atoms,
    stability,
)

__all__ = [
    "ConceptCurves",
    "Dictionary",
    "Importance",
    "Judged",
    "Matched",
    "Site",
    "TopCodes",
    "concept_curves",
    "judge_dictionary",
    "layer_site",
    "match_atoms",
    "stability",
]
