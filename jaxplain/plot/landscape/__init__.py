"""Figures of the landscape of a loss: its surface over a plane with the path of training, the way between solutions."""

from jaxplain.plot.landscape.line import loss_interpolation
from jaxplain.plot.landscape.surface import loss_surface

__all__ = ["loss_interpolation", "loss_surface"]
