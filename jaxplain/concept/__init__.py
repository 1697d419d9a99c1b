"""What a network's features mean: directions, dictionaries and clusters between inputs and classes, tested by chance.

A concept is something that people name or that a factorisation finds in a layer's activations. Nothing here trains the
network that is explained, and nothing draws.
"""

from jaxplain.concept.autoencoder import (
    Architecture,
    Autoencoder,
    Trained,
    Transcoder,
    activation_stream,
    batch_top_k,
    gated,
    jump_relu,
    matryoshka,
    relu_l1,
    top_k,
    train_autoencoder,
)
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
    "Architecture",
    "Autoencoder",
    "ConceptCurves",
    "Dictionary",
    "Importance",
    "Judged",
    "Matched",
    "Site",
    "TopCodes",
    "Trained",
    "Transcoder",
    "activation_stream",
    "batch_top_k",
    "concept_curves",
    "gated",
    "judge_dictionary",
    "jump_relu",
    "layer_site",
    "match_atoms",
    "matryoshka",
    "relu_l1",
    "stability",
    "top_k",
    "train_autoencoder",
]
