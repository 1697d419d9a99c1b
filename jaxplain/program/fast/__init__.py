"""What a backend is fast at: the same numbers from equations in another form.

Convolutions, pooling and loops. What changes a value beyond its rounding does not belong here.
"""

from jaxplain.program.fast.lanes import as_among_others
from jaxplain.program.fast.layout import fast_layout, traced_fast

__all__ = [
    "as_among_others",
    "fast_layout",
    "traced_fast",
]
