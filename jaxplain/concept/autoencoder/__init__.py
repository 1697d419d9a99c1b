"""Sparse autoencoders and transcoders: dictionaries of more atoms than dimensions, trained on activations."""

from jaxplain.concept.autoencoder.architecture import (
    Architecture,
    batch_top_k,
    gated,
    jump_relu,
    matryoshka,
    relu_l1,
    top_k,
)
from jaxplain.concept.autoencoder.fitting import Trained, train_autoencoder
from jaxplain.concept.autoencoder.model import Autoencoder, SparseModel, Transcoder
from jaxplain.concept.autoencoder.norm import of_unit_norm, random_atoms
from jaxplain.concept.autoencoder.stream import activation_stream

__all__ = [
    "Architecture",
    "Autoencoder",
    "SparseModel",
    "Trained",
    "Transcoder",
    "activation_stream",
    "batch_top_k",
    "gated",
    "jump_relu",
    "matryoshka",
    "of_unit_norm",
    "random_atoms",
    "relu_l1",
    "top_k",
    "train_autoencoder",
]
