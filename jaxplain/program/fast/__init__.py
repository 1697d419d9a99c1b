"""What a backend is fast at: the same numbers from equations in another form.

Convolutions, pooling, attention and loops. What changes a value beyond its rounding does not belong here.
"""

from jaxplain.program.fast.attention import CUDNN, Row, implementation, with_fused_attention
from jaxplain.program.fast.attention import listed as attention_rows
from jaxplain.program.fast.lanes import as_among_others
from jaxplain.program.fast.layout import fast_layout, traced_fast
from jaxplain.program.fast.platform import platform_of

__all__ = [
    "CUDNN",
    "Row",
    "as_among_others",
    "attention_rows",
    "fast_layout",
    "implementation",
    "platform_of",
    "traced_fast",
    "with_fused_attention",
]
