"""How a score goes as features are removed or inserted."""

from __future__ import annotations

from typing import NamedTuple

from jaxplain.program import shown
from jaxplain.types import Array


@shown
class Curve(NamedTuple):
    """How the score goes as features are removed or inserted, most relevant first.

    fraction: `[steps + 1]`, the share of the features removed (inserted) so far, from 0 to 1.
    score: `[steps + 1]`, the score at each of them, in float32 or wider.
    """

    fraction: Array
    score: Array
