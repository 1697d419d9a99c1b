"""Attentions that models write out, as one fused operation where a GPU has one.

`recognise` says what is an attention, `kernel` computes it, `region` gives it the derivatives of what is written,
`rewrite` puts it into a program.
"""

from jaxplain.program.fast.attention.kernel import CUDNN, WRITTEN, Implementation
from jaxplain.program.fast.attention.rewrite import Row, implementation, listed, rewritten, with_fused_attention

__all__ = [
    "CUDNN",
    "WRITTEN",
    "Implementation",
    "Row",
    "implementation",
    "listed",
    "rewritten",
    "with_fused_attention",
]
