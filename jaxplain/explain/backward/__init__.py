"""Other rules for the backward pass: relevance propagation, DeepLIFT, guided backpropagation, FullGrad."""

from jaxplain.explain.backward.backward import audit
from jaxplain.explain.backward.balance import relevance_balance
from jaxplain.explain.backward.deep_lift import deep_lift, deep_shap
from jaxplain.explain.backward.full_grad import full_grad, full_grad_terms
from jaxplain.explain.backward.guided import deconvnet, guided_backprop
from jaxplain.explain.backward.lrp import excitation_backprop, lrp

__all__ = [
    "audit",
    "deconvnet",
    "deep_lift",
    "deep_shap",
    "excitation_backprop",
    "full_grad",
    "full_grad_terms",
    "guided_backprop",
    "lrp",
    "relevance_balance",
]
