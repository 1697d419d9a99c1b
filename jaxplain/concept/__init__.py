"""What a network's features mean: directions, dictionaries and clusters between inputs and classes, tested by chance.

A concept is something that people name or that a factorisation finds in a layer's activations. Nothing here trains the
network that is explained, and nothing draws.
"""

from jaxplain.concept.dictionary import Dictionary, Importance, Site, TopCodes, layer_site

__all__ = ["Dictionary", "Importance", "Site", "TopCodes", "layer_site"]
