"""Training as pure functions: initialise, forward, error, backpropagate, update; and `fit`, which runs them.

Also the losses of one example, checkpoints, the reading of a training history and of what each layer did in it, sweeps
over an optimizer's settings, and spectra of weights. A model is any
`apply(params, batch)`.
"""

from jaxplain.readout import binary_cross_entropy, cross_entropy, squared_error
from jaxplain.train.checkpoint import load, save
from jaxplain.train.diagnosis import Diagnosis, diagnose
from jaxplain.train.epoch import Fit, History, Metrics, TrainState
from jaxplain.train.fit import eval_step, fit, init, train_step
from jaxplain.train.inference import assess, predict
from jaxplain.train.layer import LayerHistory, Spectrum, weight_spectra
from jaxplain.train.prior import (
    adversarial_loss,
    attribution_prior,
    cam_guidance,
    explanation_consistency,
    explanation_distillation,
    occlusion_penalty,
    right_for_the_right_reasons,
)
from jaxplain.train.run import TrainingRun, training_run
from jaxplain.train.sweep import Sweep, hyperparameter_sweep
from jaxplain.train.trainable import as_trainable
from jaxplain.train.tuned import tuned_lens

__all__ = [
    "Diagnosis",
    "Fit",
    "History",
    "LayerHistory",
    "Metrics",
    "Spectrum",
    "Sweep",
    "TrainState",
    "TrainingRun",
    "adversarial_loss",
    "as_trainable",
    "assess",
    "attribution_prior",
    "binary_cross_entropy",
    "cam_guidance",
    "cross_entropy",
    "diagnose",
    "eval_step",
    "explanation_consistency",
    "explanation_distillation",
    "fit",
    "hyperparameter_sweep",
    "init",
    "load",
    "occlusion_penalty",
    "predict",
    "right_for_the_right_reasons",
    "save",
    "squared_error",
    "train_step",
    "training_run",
    "tuned_lens",
    "weight_spectra",
]
