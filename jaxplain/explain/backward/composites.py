"""The field's named composites of rules, as mappings for `lrp`: from kinds of operations to rules.

A key is a kind or name of an operation (`"dense"`, `"convolution"`, `"softmax"`), `"first"` for the layers with weights
that see the input first, or the path of a module. Take one and add to it: `{**epsilon_plus(), "head": epsilon(0.1)}`.
"""

from __future__ import annotations

from typing import Any

from jaxplain.explain.backward.rules import STABILISER, AlphaBeta, Epsilon, Flat, Gamma, Stop, ZBox
from jaxplain.program import public
from jaxplain.program.node import Rule

Composite = dict[str, Rule]


@public
def epsilon_plus(*, stabiliser: float = STABILISER) -> Composite:
    """Epsilon at dense layers, z-plus at convolutions."""
    return {"dense": Epsilon(stabiliser), "convolution": AlphaBeta(1.0, 0.0, True, STABILISER)}


@public
def epsilon_plus_flat(*, stabiliser: float = STABILISER) -> Composite:
    """`epsilon_plus`, with the flat rule at the first layer."""
    return {**epsilon_plus(stabiliser=stabiliser), "first": Flat(STABILISER)}


@public
def epsilon_alpha2_beta1(*, stabiliser: float = STABILISER) -> Composite:
    """Epsilon at dense layers, alpha = 2 and beta = 1 at convolutions."""
    return {"dense": Epsilon(stabiliser), "convolution": AlphaBeta(2.0, 1.0, True, STABILISER)}


@public
def epsilon_alpha2_beta1_flat(*, stabiliser: float = STABILISER) -> Composite:
    """`epsilon_alpha2_beta1`, with the flat rule at the first layer."""
    return {**epsilon_alpha2_beta1(stabiliser=stabiliser), "first": Flat(STABILISER)}


@public
def epsilon_gamma_box(
    low: Any = 0.0, high: Any = 1.0, *, gamma: float = 0.25, stabiliser: float = STABILISER
) -> Composite:
    """Epsilon at dense layers, gamma at convolutions, z-box at the first layer.

    Args:
        low: The smallest value of the input, as in `z_box`.
        high: The largest.
        gamma: As in `gamma`.
        stabiliser: Of the dense layers.
    """
    return {
        "dense": Epsilon(stabiliser),
        "convolution": Gamma(gamma, STABILISER),
        "first": ZBox(low, high, STABILISER),
    }


@public
def deep_taylor(low: Any = 0.0, high: Any = 1.0) -> Composite:
    """Deep Taylor decomposition: z-plus at all layers, z-box at the first one.

    For ReLU networks with non-positive biases, whose relevance it keeps positive where f(x) is.

    Args:
        low: The smallest value of the input, as in `z_box`.
        high: The largest.

    Source: Montavon et al. 2017.
    """
    plus = AlphaBeta(1.0, 0.0, True, STABILISER)
    return {"dense": plus, "convolution": plus, "first": ZBox(low, high, STABILISER)}


@public
def attn_lrp(*, gamma: float | None = None, stabiliser: float = STABILISER) -> Composite:
    """AttnLRP for transformers, which is what `lrp` does by itself at attention.

    Softmax by its first-order Taylor expansion, half of a matrix product's relevance to each factor, normalisation as
    a constant scale, activations passed through; layers with weights by epsilon, or by gamma where it is given (the
    source's choice for vision transformers).

    Args:
        gamma: As in `gamma`; None uses epsilon.
        stabiliser: Of the layers and products.

    Source: Achtibat et al. 2024, "AttnLRP: attention-aware layer-wise relevance propagation for transformers",
    propositions 3.1 to 3.4.
    """
    proportional = Epsilon(stabiliser)
    layer = proportional if gamma is None else Gamma(gamma, stabiliser)
    return {"dense": layer, "convolution": layer, "product": proportional, "normalization": proportional}


@public
def cp_lrp(*, gamma: float | None = None, stabiliser: float = STABILISER) -> Composite:
    """CP-LRP for transformers: as `attn_lrp`, with attention weights as constants.

    Args:
        gamma: As in `attn_lrp`.
        stabiliser: As in `attn_lrp`.

    Source: Ali et al. 2022, "XAI for transformers: better explanations through conservative propagation", section 4.
    """
    return {**attn_lrp(gamma=gamma, stabiliser=stabiliser), "softmax": Stop()}
