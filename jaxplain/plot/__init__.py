"""Figures from arrays: what went in, what the model answered, why, and how it learnt.

Every function returns a `matplotlib.figure.Figure` that is made without pyplot: nothing needs a display, no backend is
switched and no figure stays open. Save one with `figure.savefig(path)`; a notebook shows it as the last value of a
cell. Each figure's label (`figure.get_label()`) says in words what it shows, which `report` uses as the alternative
text, and `reading(figure)` says in one sentence how it is read.

Values are drawn as they are: nothing is normalised, and the only sums are those over channels that the functions name.
"""

from jaxplain.plot.activation import activation_gallery, activations, filters
from jaxplain.plot.caption import reading
from jaxplain.plot.comparison import comparison
from jaxplain.plot.concept import attribution_clusters, concept_gallery, concept_scores, feature_dashboard
from jaxplain.plot.curve import curves
from jaxplain.plot.dynamics import (
    Animation,
    attribution_animation,
    attribution_strip,
    drift_curves,
    example_dynamics,
    lens_over_training,
    prediction_depths,
)
from jaxplain.plot.effect import effects, importance
from jaxplain.plot.feature import attribution_bar, dependence, summary, waterfall
from jaxplain.plot.heat import heatmaps
from jaxplain.plot.influential import influential_examples
from jaxplain.plot.landscape import loss_interpolation, loss_surface
from jaxplain.plot.layer import attention_heads, layer_table, lens_table, patching_map
from jaxplain.plot.learning import learning_curves
from jaxplain.plot.parameter import parameter_histograms
from jaxplain.plot.picture import samples, top_examples
from jaxplain.plot.prediction import confusion_matrix, predictions
from jaxplain.plot.score import scores_table
from jaxplain.plot.sequence import logo, series, sound
from jaxplain.plot.tabular import cohorts, decision, force
from jaxplain.plot.text import Markup, TokenFigure, token_map, tokens, tokens_html
from jaxplain.plot.timing import timings
from jaxplain.plot.trace import traces
from jaxplain.plot.training import gradient_flow, singular_values, validation_curve, weight_matrices
from jaxplain.plot.unit import activation_atlas, unit_gallery

__all__ = [
    "Animation",
    "Markup",
    "TokenFigure",
    "activation_atlas",
    "activation_gallery",
    "activations",
    "attention_heads",
    "attribution_animation",
    "attribution_bar",
    "attribution_clusters",
    "attribution_strip",
    "cohorts",
    "comparison",
    "concept_gallery",
    "concept_scores",
    "confusion_matrix",
    "curves",
    "decision",
    "dependence",
    "drift_curves",
    "effects",
    "example_dynamics",
    "feature_dashboard",
    "filters",
    "force",
    "gradient_flow",
    "heatmaps",
    "importance",
    "influential_examples",
    "layer_table",
    "learning_curves",
    "lens_over_training",
    "lens_table",
    "logo",
    "loss_interpolation",
    "loss_surface",
    "parameter_histograms",
    "patching_map",
    "prediction_depths",
    "predictions",
    "reading",
    "samples",
    "scores_table",
    "series",
    "singular_values",
    "sound",
    "summary",
    "timings",
    "token_map",
    "tokens",
    "tokens_html",
    "top_examples",
    "traces",
    "unit_gallery",
    "validation_curve",
    "waterfall",
    "weight_matrices",
]
