"""How each kind of figure is read: one sentence for each, and what ties a figure to its own."""

from jaxplain.plot.caption.drawn import drawn, reading
from jaxplain.plot.caption.sentence import READINGS

__all__ = ["READINGS", "drawn", "reading"]
