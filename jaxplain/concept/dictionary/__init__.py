"""Dictionaries of activations: what each is made of, found by factorisation or clustering, and judged alike."""

from jaxplain.concept.dictionary.ace import SegmentConcepts, ace
from jaxplain.concept.dictionary.base import Dictionary, Importance, TopCodes, require_reconstruction
from jaxplain.concept.dictionary.coefficients import non_negative_coefficients
from jaxplain.concept.dictionary.craft import Craft, craft, sub_concepts, top_crops
from jaxplain.concept.dictionary.factorization import Factorization, non_negative_factorization
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
from jaxplain.concept.dictionary.linear import LinearDictionary, principal_components, random_directions
from jaxplain.concept.dictionary.maps import ConceptMaps, concept_maps
from jaxplain.concept.dictionary.means import MeansDictionary, k_means
from jaxplain.concept.dictionary.nonnegative import NonNegativeDictionary, non_negative_dictionary
from jaxplain.concept.dictionary.site import Site, layer_site, require_site
from jaxplain.concept.dictionary.sobol import SobolIndices, sobol_importance, sobol_indices

__all__ = [
    "ConceptCurves",
    "ConceptMaps",
    "Craft",
    "Dictionary",
    "Factorization",
    "Importance",
    "Judged",
    "LinearDictionary",
    "Matched",
    "MeansDictionary",
    "NonNegativeDictionary",
    "SegmentConcepts",
    "Site",
    "SobolIndices",
    "TopCodes",
    "ace",
    "centred_square",
    "concept_curves",
    "concept_maps",
    "cosine_matrix",
    "craft",
    "judge_dictionary",
    "k_means",
    "layer_site",
    "match_atoms",
    "non_negative_coefficients",
    "non_negative_dictionary",
    "non_negative_factorization",
    "over_blocks",
    "principal_components",
    "random_directions",
    "require_reconstruction",
    "require_site",
    "sobol_importance",
    "sobol_indices",
    "stability",
    "sub_concepts",
    "top_crops",
]
