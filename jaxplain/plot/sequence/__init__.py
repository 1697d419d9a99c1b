"""Figures of what runs along an axis, and which of its stretches decided: time series, sound, sequences of letters."""

from jaxplain.plot.sequence.logo import logo
from jaxplain.plot.sequence.series import series
from jaxplain.plot.sequence.sound import sound

__all__ = ["logo", "series", "sound"]
