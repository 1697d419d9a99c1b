"""Small networks of four families, models written in NNX as pure functions, and published weights.

The one folder that imports Flax for more than looking at a foreign model.
"""

from jaxplain.models.networks import cnn, mlp
from jaxplain.models.nnx import from_nnx
from jaxplain.models.residual import resnet
from jaxplain.models.safetensors import load_safetensors
from jaxplain.models.sequence import transformer
from jaxplain.models.torch_file import load_torch

__all__ = [
    "cnn",
    "from_nnx",
    "load_safetensors",
    "load_torch",
    "mlp",
    "resnet",
    "transformer",
]
