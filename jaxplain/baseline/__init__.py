"""What "absent" means: baselines, groups of features that go together, and inputs with parts replaced.

A baseline is a number, an array of x's shape, or a function of `x` or of `(key, x)`. No score is known here.
"""

from jaxplain.baseline.absent import blur, gaussian_noise, mean, sample, uniform_noise, zeros
from jaxplain.baseline.counter_class import nearest_counter_class
from jaxplain.baseline.embedded import Rows, at_lookups, rows_of, tokens_alone
from jaxplain.baseline.features import Features, Groups, as_groups, attribution_leaves, feature_sums, features
from jaxplain.baseline.given import Replacement, as_baseline, held, is_background, like_rows, replacement, resolve
from jaxplain.baseline.imputation import imputed, linear_imputation, noisy_linear_imputation
from jaxplain.baseline.replacing import Perturbing, merged, replaced
from jaxplain.baseline.segmentation import superpixels
from jaxplain.baseline.selection import DERIVATIVE, MIXTURE, representable
from jaxplain.baseline.unchanged import refuse_where_moved, warn_where_equal

__all__ = [
    "DERIVATIVE",
    "MIXTURE",
    "Features",
    "Groups",
    "Perturbing",
    "Replacement",
    "Rows",
    "as_baseline",
    "as_groups",
    "at_lookups",
    "attribution_leaves",
    "blur",
    "feature_sums",
    "features",
    "gaussian_noise",
    "held",
    "imputed",
    "is_background",
    "like_rows",
    "linear_imputation",
    "mean",
    "merged",
    "nearest_counter_class",
    "noisy_linear_imputation",
    "refuse_where_moved",
    "replaced",
    "replacement",
    "representable",
    "resolve",
    "rows_of",
    "sample",
    "superpixels",
    "tokens_alone",
    "uniform_noise",
    "warn_where_equal",
    "zeros",
]
