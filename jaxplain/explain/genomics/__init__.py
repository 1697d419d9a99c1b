"""Sequences of nucleotides as one-hot rows: references of the same composition, mutations, hypothetical contributions.

For `x` `[L, A]` of one example: a position in each row, a letter in each column. The models are any that JAX can trace.
"""

from jaxplain.explain.genomics.hypothetical import hypothetical_contributions
from jaxplain.explain.genomics.mutation import saturation_mutagenesis
from jaxplain.explain.genomics.shuffle import dinucleotide_shuffle

__all__ = ["dinucleotide_shuffle", "hypothetical_contributions", "saturation_mutagenesis"]
