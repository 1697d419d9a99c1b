"""Language models: scores of text, attribution of what was generated, units that people read, circuits.

For sequences of token ids: `x` `[T]` for one example, with outputs `[T, K]`. What is explained may be any model that
JAX can trace; nothing is registered or re-implemented.
"""

from jaxplain.explain.language.context_cite import Citation, context_cite
from jaxplain.explain.language.generation import explain_generation
from jaxplain.explain.language.scores import contrastive, entropy, kl_to, token_log_probability, token_logit
from jaxplain.explain.language.segments import Segments, segments
from jaxplain.explain.language.sequence import sequence_log_probability

__all__ = [
    "Citation",
    "Segments",
    "context_cite",
    "contrastive",
    "entropy",
    "explain_generation",
    "kl_to",
    "segments",
    "sequence_log_probability",
    "token_log_probability",
    "token_logit",
]
