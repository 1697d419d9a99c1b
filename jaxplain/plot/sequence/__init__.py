"""Figures of what runs along an axis: time series and sound, and which of their stretches decided."""

from jaxplain.plot.sequence.series import series
from jaxplain.plot.sequence.sound import sound

__all__ = ["series", "sound"]
