"""Families of networks, models written elsewhere as pure functions, and published weights."""

from jaxplain.models.networks import cnn, mlp, resnet, transformer
from jaxplain.models.nnx import from_nnx

__all__ = ["cnn", "from_nnx", "mlp", "resnet", "transformer"]
