"""Training as pure functions: initialise, forward, error, backpropagate, update; and `fit`, which runs them.

Also the losses of one example, checkpoints, snapshots and explanations over them, the reading of a training history and
of what each layer did in it, sweeps over an optimizer's settings, spectra of weights, and the landscape of the loss
over the params. A model is any `apply(params, batch)`.
"""

from jaxplain.readout import binary_cross_entropy, cross_entropy, squared_error
from jaxplain.train.checkpoint import load, save
from jaxplain.train.diagnosis import Diagnosis, diagnose
from jaxplain.train.dynamics import (
    LearningDynamics,
    PredictionDepth,
    explain_over,
    explanation_drift,
    forgetting_events,
    learning_dynamics,
    prediction_depth,
)
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
from jaxplain.train.snapshot import Snapshots
from jaxplain.train.sweep import Sweep, hyperparameter_sweep
from jaxplain.train.trainable import as_trainable
from jaxplain.train.tuned import tuned_lens

__all__ = [
    "Diagnosis",
    "Fit",
    "History",
    "Interpolation",
    "LayerHistory",
    "LearningDynamics",
    "MeanLoss",
    "Metrics",
    "Plane",
    "PredictionDepth",
    "Sharpness",
    "Snapshots",
    "Spectrum",
    "Surface",
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
    "explain_over",
    "explanation_consistency",
    "explanation_distillation",
    "explanation_drift",
    "fit",
    "forgetting_events",
    "hyperparameter_sweep",
    "init",
    "interpolation",
    "learning_dynamics",
    "load",
    "loss_surface",
    "mean_loss",
    "mode_connectivity",
    "occlusion_penalty",
    "plane_through",
    "predict",
    "prediction_depth",
    "principal_plane",
    "random_plane",
    "right_for_the_right_reasons",
    "save",
    "sharpness",
    "squared_error",
    "train_step",
    "training_run",
    "tuned_lens",
    "weight_spectra",
]
