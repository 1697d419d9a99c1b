"""What "absent" means: baselines, groups of features that go together, and inputs with parts replaced.

A baseline is a number, an array of x's shape, or a function of `x` or of `(key, x)`. No score is known here.
"""

from jaxplain.baseline.absent import (
    as_baseline,
    blur,
    gaussian_noise,
    is_background,
    mean,
    resolve,
    sample,
    uniform_noise,
    zeros,
)
from jaxplain.baseline.counter_class import nearest_counter_class
from jaxplain.baseline.features import Features, Groups, as_groups, attribution_leaves, feature_sums, features
from jaxplain.baseline.imputation import imputed, linear_imputation, noisy_linear_imputation
from jaxplain.baseline.replacing import Perturbing, merged, replaced
from jaxplain.baseline.segmentation import superpixels
from jaxplain.baseline.unchanged import warn_where_equal

__all__ = [
    "Features",
    "Groups",
    "Perturbing",
    "as_baseline",
    "as_groups",
    "attribution_leaves",
    "blur",
    "feature_sums",
    "features",
    "gaussian_noise",
    "imputed",
    "is_background",
    "linear_imputation",
    "mean",
    "merged",
    "nearest_counter_class",
    "noisy_linear_imputation",
    "replaced",
    "resolve",
    "sample",
    "superpixels",
    "uniform_noise",
    "warn_where_equal",
    "zeros",
]
