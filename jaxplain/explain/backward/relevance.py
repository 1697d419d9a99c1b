"""The rules of layer-wise relevance propagation: how an operation shares the relevance of its outputs among its inputs.

`jaxplain.lrp(f, relevance.epsilon(1e-6))`. A rule for layers with weights sees a layer as z_k = sum_i x_i w_ik + b_k,
its bias and a BatchNorm behind it folded in. (.)+ and (.)- are the positive and the negative part. What goes to a bias
or to the stabiliser of a denominator is lost to the inputs; `relevance_balance` says how much, and where.

Sources: Bach et al. 2015, "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
propagation"; Montavon et al. 2017, "Explaining nonlinear classification decisions with deep Taylor decomposition";
Montavon et al. 2019, "Layer-wise relevance propagation: an overview"; Achtibat et al. 2024, "AttnLRP". Layer-wise
relevance propagation has been patented in some countries; whether that concerns your use is for you to find out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.explain.backward.composites import (
    attn_lrp,
    cp_lrp,
    deep_taylor,
    epsilon_alpha2_beta1,
    epsilon_alpha2_beta1_flat,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
)
from jaxplain.explain.backward.rules import (
    STABILISER,
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    PassThrough,
    Stop,
    WSquare,
    ZBox,
)
from jaxplain.program import public

__all__ = [
    "alpha_beta",
    "attn_lrp",
    "cp_lrp",
    "deep_taylor",
    "epsilon",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
    "flat",
    "gamma",
    "pass_through",
    "stop",
    "w_square",
    "z_box",
    "z_plus",
]


@public
def epsilon(stabiliser: float = STABILISER) -> Epsilon:
    """Share in proportion to contributions: R_i = sum_k x_i w_ik / (z_k + e sign z_k) R_k.

    With a larger stabiliser e, outputs with small z_k pass less on, which takes noise away; what they keep is lost. The
    rule also fits whatever else is linear in its inputs (sums, poolings, products, normalisations with a constant
    scale), where `lrp` uses it by itself.

    Args:
        stabiliser: e, positive, in units of z.

    Returns:
        A rule.

    Raises:
        ValueError: A stabiliser that is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain import lrp
        >>> f = lambda x: x @ jnp.array([1.0, -2.0])
        >>> [round(float(r), 3) for r in lrp(f, epsilon())(jnp.array([3.0, -1.0]))]
        [3.0, 2.0]

    Source: Bach et al. 2015, equation 58; Montavon et al. 2019, equation 10.4.
    """
    return Epsilon(check.positive(stabiliser, "epsilon", "stabiliser"))


@public
def gamma(value: Any = 0.25, *, stabiliser: float = STABILISER) -> Gamma:
    """Favour contributions of the output's sign: they count 1 + gamma times.

    With c_ik = x_i w_ik, for z_k > 0: R_i = sum_k (c_ik + g c_ik+) / sum_j (c_jk + g c_jk+) R_k; for z_k < 0 with c-.
    For inputs that are not negative this is w + g w+ of the source; as contributions are favoured and not weights, it
    is right for inputs of either sign.

    Args:
        value: g, zero or more: 0 is the epsilon rule, large values come close to alpha = 1, beta = 0.
        stabiliser: As in `epsilon`.

    Returns:
        A rule for layers with weights.

    Raises:
        ValueError: A negative value, a stabiliser that is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain import lrp
        >>> f = lambda x: x @ jnp.array([1.0, -1.0])
        >>> [round(float(r), 3) for r in lrp(f, gamma(1.0))(jnp.array([3.0, 1.0]))]
        [2.4, -0.4]

    Source: Montavon et al. 2019, equation 10.5; for either sign Andeol et al. 2021, "Learning domain invariant
    representations by joint Wasserstein distance minimization", appendix.
    """
    check.positive(value, "gamma", "value", zero=True)
    return Gamma(value, check.positive(stabiliser, "gamma", "stabiliser"))


@public
def alpha_beta(alpha: float = 2.0, beta: float = 1.0, *, stabiliser: float = STABILISER) -> AlphaBeta:
    """Share positive and negative contributions apart: R_i = sum_k (a c_ik+ / z_k+ - b c_ik- / z_k-) R_k.

    c_ik = x_i w_ik is a contribution (its sign counts, not that of the weight), z_k+ = sum_i c_ik+ + b_k+, and z_k-
    with the negative parts. The bias keeps its share.

    Args:
        alpha: a, at least 1.
        beta: b = alpha - 1, which is needed for relevance to be conserved.
        stabiliser: As in `epsilon`.

    Returns:
        A rule for layers with weights.

    Raises:
        ValueError: alpha - beta is not 1, or beta is negative.
        TypeError: One of them is no number.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain import lrp
        >>> f = lambda x: x @ jnp.array([1.0, -2.0])
        >>> [round(float(r), 3) for r in lrp(f, alpha_beta(1.0, 0.0))(jnp.array([3.0, -1.0]))]
        [3.0, 2.0]

    Source: Bach et al. 2015, equation 60.
    """
    for argument, value in (("alpha", alpha), ("beta", beta)):
        check.numbers(value, "alpha_beta", argument)
    if not (np.isclose(alpha - beta, 1.0) and beta >= 0):
        raise ValueError(
            f"alpha_beta: alpha - beta has to be 1 and beta 0 or more, or relevance is not conserved; alpha={alpha} "
            f"and beta={beta} differ by {alpha - beta:g}. Pass for example alpha=2, beta=1, or alpha=1, beta=0."
        )
    return AlphaBeta(float(alpha), float(beta), True, check.positive(stabiliser, "alpha_beta", "stabiliser"))


@public
def z_plus(*, bias: bool = True, stabiliser: float = STABILISER) -> AlphaBeta:
    """Share among positive contributions alone: R_i = sum_k c_ik+ / z_k+ R_k, which is alpha = 1, beta = 0.

    Args:
        bias: Whether a positive bias takes its share; False conserves relevance, as excitation backpropagation does.
        stabiliser: As in `epsilon`.

    Returns:
        A rule for layers with weights.

    Source: Montavon et al. 2017, equation 14.
    """
    return AlphaBeta(1.0, 0.0, bool(bias), check.positive(stabiliser, "z_plus", "stabiliser"))


@public
def z_box(low: Any, high: Any, *, stabiliser: float = STABILISER) -> ZBox:
    """For a first layer whose inputs have bounds, such as pixels.

    R_i = sum_k (x_i w_ik - l_i w_ik+ - h_i w_ik-) / sum_j (x_j w_jk - l_j w_jk+ - h_j w_jk-) R_k.

    Args:
        low: l, the smallest value that each input can have: a number, or an array that broadcasts to the input of the
            layer.
        high: h, the largest.
        stabiliser: As in `epsilon`.

    Returns:
        A rule for layers with weights. Concrete inputs outside the bounds are refused by `lrp` and `explain_batch`;
        those that are only traced give NaN.

    Raises:
        ValueError: A lower bound above the upper one; when applied, bounds that do not broadcast to the layer's input.
        TypeError: A bound that is no number or array of numbers.

    Source: Montavon et al. 2017, equation 19.
    """
    for argument, value in (("low", low), ("high", high)):
        check.numbers(value, "z_box", argument)
    if check.is_concrete(low) and check.is_concrete(high) and not np.all(np.asarray(low) <= np.asarray(high)):
        raise ValueError(f"z_box: `low` has to be at most `high`, not {low} and {high}.")
    return ZBox(low, high, check.positive(stabiliser, "z_box", "stabiliser"))


@public
def w_square(*, bias: bool = True, stabiliser: float = STABILISER) -> WSquare:
    """Share by squared weights, whatever the input: R_i = sum_k w_ik^2 / (sum_j w_jk^2 + b_k^2) R_k.

    For a first layer whose inputs have no bounds.

    Args:
        bias: Whether the bias takes its share, as it does in other rules; False is the source's rule, which conserves.
        stabiliser: As in `epsilon`.

    Returns:
        A rule for layers with weights.

    Source: Montavon et al. 2017, equation 12.
    """
    return WSquare(bool(bias), check.positive(stabiliser, "w_square", "stabiliser"))


@public
def flat(*, stabiliser: float = STABILISER) -> Flat:
    """Share evenly among the inputs that reach an output: a smooth picture of where a first layer looks.

    Args:
        stabiliser: As in `epsilon`.

    Returns:
        A rule for layers with weights.

    Source: Lapuschkin et al. 2019, "Unmasking Clever Hans predictors", supplement.
    """
    return Flat(check.positive(stabiliser, "flat", "stabiliser"))


@public
def pass_through() -> PassThrough:
    """Pass relevance on as it is: R_i = R_i, for operations with one input of the output's shape.

    What `lrp` uses for activation functions; for a normalisation it is the identity rule.

    Returns:
        A rule for any operation that keeps its input's shape.
    """
    return PassThrough()


@public
def stop() -> Stop:
    """End relevance: what the operation computes is a constant to the operations that use it.

    `{"softmax": stop()}` is CP-LRP: attention weights are constants, and the values get everything.

    Returns:
        A rule for any operation.
    """
    return Stop()
