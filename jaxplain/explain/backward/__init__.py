"""Other rules for the backward pass: relevance propagation, DeepLIFT, guided backpropagation, patterns, FullGrad."""

from jaxplain.explain.backward.backward import audit
from jaxplain.explain.backward.balance import relevance_balance
from jaxplain.explain.backward.deep_lift import DeepLift, deep_lift, deep_shap
from jaxplain.explain.backward.estimation import Patterns, estimate_patterns
from jaxplain.explain.backward.full_grad import full_grad, full_grad_terms
from jaxplain.explain.backward.guided import deconvnet, guided_backprop
from jaxplain.explain.backward.lrp import excitation_backprop, lrp
from jaxplain.explain.backward.pattern import pattern_attribution, pattern_net

__all__ = [
    "DeepLift",
    "Patterns",
    "audit",
    "deconvnet",
    "deep_lift",
    "deep_shap",
    "estimate_patterns",
    "excitation_backprop",
    "full_grad",
    "full_grad_terms",
    "guided_backprop",
    "lrp",
    "pattern_attribution",
    "pattern_net",
    "relevance_balance",
]
