"""Dictionaries of activations: what each is made of, found by factorisation or clustering, and judged alike."""

from jaxplain.concept.dictionary.base import Dictionary, Importance, TopCodes
from jaxplain.concept.dictionary.site import Site, layer_site, require_site

__all__ = ["Dictionary", "Importance", "Site", "TopCodes", "layer_site", "require_site"]
