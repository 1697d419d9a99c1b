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
from jaxplain.concept.autoencoder.circuit import FeatureCircuit, Nodes, feature_circuit
from jaxplain.concept.autoencoder.feature import feature_score, logit_weights
from jaxplain.concept.autoencoder.fitting import Trained, train_autoencoder
from jaxplain.concept.autoencoder.model import Autoencoder, SparseModel, Transcoder
from jaxplain.concept.autoencoder.norm import of_unit_norm, random_atoms
from jaxplain.concept.autoencoder.recovery import LossRecovered, Recovery, loss_recovered, recovery
from jaxplain.concept.autoencoder.stream import activation_stream

__all__ = [
    "Architecture",
    "Autoencoder",
    "FeatureCircuit",
    "LossRecovered",
    "Nodes",
    "Recovery",
    "SparseModel",
    "Trained",
    "Transcoder",
    "activation_stream",
    "batch_top_k",
    "feature_circuit",
    "feature_score",
    "gated",
    "jump_relu",
    "logit_weights",
    "loss_recovered",
    "matryoshka",
    "of_unit_norm",
    "random_atoms",
    "recovery",
    "relu_l1",
    "top_k",
    "train_autoencoder",
]
