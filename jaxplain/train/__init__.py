"""Training as pure functions: initialise, forward, error, backpropagate, update; and `fit`, which runs them."""

from jaxplain.models.safetensors import load_safetensors
from jaxplain.train.checkpoint import load, save
from jaxplain.train.diagnosis import Diagnosis, diagnose
from jaxplain.train.epoch import Fit, History, Metrics, TrainState
from jaxplain.train.fit import eval_step, fit, init, train_step
from jaxplain.train.inference import assess, predict

__all__ = [
    "Diagnosis",
    "Fit",
    "History",
    "Metrics",
    "TrainState",
    "assess",
    "diagnose",
    "eval_step",
    "fit",
    "init",
    "load",
    "load_safetensors",
    "predict",
    "save",
    "train_step",
]
