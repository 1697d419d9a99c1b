"""What training does over its steps, read from the snapshots of a run: explanations, learnt examples, depths."""

from jaxplain.train.dynamics.drift import explanation_drift
from jaxplain.train.dynamics.examples import LearningDynamics, forgetting_events, learning_dynamics
from jaxplain.train.dynamics.explain import explain_over
from jaxplain.train.dynamics.probes import PredictionDepth, prediction_depth

__all__ = [
    "LearningDynamics",
    "PredictionDepth",
    "explain_over",
    "explanation_drift",
    "forgetting_events",
    "learning_dynamics",
    "prediction_depth",
]
