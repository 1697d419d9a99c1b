"""Complexity: over how many features is an attribution spread?"""

from jaxplain.evaluate.complexity.complexity import effective_complexity, entropy, sparseness

__all__ = [
    "effective_complexity",
    "entropy",
    "sparseness",
]
