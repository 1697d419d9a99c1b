"""The landscape of the loss over the params: surfaces over planes, lines and curves between solutions, sharpness.

objective = mean_loss(apply, params, data)                       # params -> scalar; any such function serves
surface = loss_surface(objective, principal_plane(objective, path))    # plot.loss_surface draws it, with the path
found = sharpness(objective, params, 3, key=key)                 # the largest eigenvalues of the Hessian
"""

from jaxplain.train.landscape.line import Interpolation, interpolation, mode_connectivity
from jaxplain.train.landscape.objective import MeanLoss, mean_loss
from jaxplain.train.landscape.plane import Plane, plane_through, principal_plane, random_plane
from jaxplain.train.landscape.sharpness import Sharpness, sharpness
from jaxplain.train.landscape.surface import Surface, loss_surface

__all__ = [
    "Interpolation",
    "MeanLoss",
    "Plane",
    "Sharpness",
    "Surface",
    "interpolation",
    "loss_surface",
    "mean_loss",
    "mode_connectivity",
    "plane_through",
    "principal_plane",
    "random_plane",
    "sharpness",
]
