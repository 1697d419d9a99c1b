"""Training on explanations: penalties for `fit`, each an ordinary function of an explanation or of scores.

All are called `penalty(params, x, target, key, *inputs) -> scalar` for one example and may be added up by a function of
the caller's. What makes an explanation of the params, `method(params) -> e`, is given by the caller; e is called as
everywhere, `e(x, target, *inputs)`.

    def method(params):
        return jaxplain.gradient(jaxplain.log_probability(apply, params))

    penalty = right_for_the_right_reasons(method, mask, weight=10.0)
    result = fit(apply, params, data, key=key, penalty=penalty)
"""

from jaxplain.train.prior.adversarial import adversarial_loss
from jaxplain.train.prior.agreement import explanation_consistency, explanation_distillation
from jaxplain.train.prior.attribution_prior import attribution_prior
from jaxplain.train.prior.reasons import cam_guidance, occlusion_penalty, right_for_the_right_reasons

__all__ = [
    "adversarial_loss",
    "attribution_prior",
    "cam_guidance",
    "explanation_consistency",
    "explanation_distillation",
    "occlusion_penalty",
    "right_for_the_right_reasons",
]
