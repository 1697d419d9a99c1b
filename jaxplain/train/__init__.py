"""Training as pure functions: initialise, forward, error, backpropagate, update; and `fit`, which runs them.

Also the losses of one example, checkpoints, the reading of a training history, and the landscape of the loss over the
params. A model is any `apply(params, batch)`.
"""

from jaxplain.readout import binary_cross_entropy, cross_entropy, squared_error
from jaxplain.train.checkpoint import load, save
from jaxplain.train.diagnosis import Diagnosis, diagnose
from jaxplain.train.epoch import Fit, History, Metrics, TrainState
from jaxplain.train.fit import eval_step, fit, init, train_step
from jaxplain.train.inference import assess, predict
from jaxplain.train.landscape import (
    Interpolation,
    MeanLoss,
    Plane,
    Sharpness,
    Surface,
    interpolation,
    loss_surface,
    mean_loss,
    mode_connectivity,
    plane_through,
    principal_plane,
    random_plane,
    sharpness,
)
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
from jaxplain.train.trainable import as_trainable
from jaxplain.train.tuned import tuned_lens

__all__ = [
    "Diagnosis",
    "Fit",
    "History",
    "Interpolation",
    "MeanLoss",
    "Metrics",
    "Plane",
    "Sharpness",
    "Surface",
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
    "init",
    "interpolation",
    "load",
    "loss_surface",
    "mean_loss",
    "mode_connectivity",
    "occlusion_penalty",
    "plane_through",
    "predict",
    "principal_plane",
    "random_plane",
    "right_for_the_right_reasons",
    "save",
    "sharpness",
    "squared_error",
    "train_step",
    "training_run",
    "tuned_lens",
]
