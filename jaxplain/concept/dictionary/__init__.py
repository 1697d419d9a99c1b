"""Dictionaries of activations: what each is made of, found by factorisation or clustering, and judged alike."""

from jaxplain.concept.dictionary.base import Dictionary, Importance, TopCodes
from jaxplain.concept.dictionary.judge import (
    ConceptCurves,
    Judged,
    Matched,
    centred_square,
    concept_curves,
    cosine_matrix,
    judge_dictionary,
    match_atoms,
    over_blocks,
    stability,
)
from jaxplain.concept.dictionary.site import Site, layer_site, require_site

__all__ = [
    "ConceptCurves",
    "Dictionary",
    "Importance",
    "Judged",
    "Matched",
    "Site",
    "TopCodes",
    "centred_square",
    "concept_curves",
    "cosine_matrix",
    "judge_dictionary",
    "layer_site",
    "match_atoms",
    "over_blocks",
    "require_site",
    "stability",
]
