"""What "absent" means: baselines, groups of features, and examples that equal their baseline."""

from jaxplain.baseline.absent import blur, gaussian_noise, mean, resolve, sample, uniform_noise, zeros
from jaxplain.baseline.counter_class import nearest_counter_class
from jaxplain.baseline.imputation import linear_imputation, noisy_linear_imputation

__all__ = [
    "blur",
    "gaussian_noise",
    "linear_imputation",
    "mean",
    "nearest_counter_class",
    "noisy_linear_imputation",
    "resolve",
    "sample",
    "uniform_noise",
    "zeros",
]
