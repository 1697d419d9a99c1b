"""Real sets that ship with scikit-learn: no download, the same everywhere."""

from __future__ import annotations

import importlib
from typing import Any

import jax
import numpy as np

from jaxplain.data.splits import Dataset, Splits, standardize
from jaxplain.program import public
from jaxplain.types import Array


@public
def digits(key: Array | None = None, *, test: float | int = 0.2, validation: float | int = 0) -> Splits:
    """Load 1,797 handwritten digits of 8x8 pixels in 10 classes.

    Args:
        key: PRNG key of the division; None takes `jax.random.key(0)`.
        test: Share (float) or number (integer) of examples to test on; classes keep their shares.
        validation: Likewise for validation; 0 makes none.

    Returns:
        Splits with images `[N, 8, 8, 1]` float32 in [0, 1] (the file's 0 to 16, divided by 16) and labels int32 `[N]`.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError, TypeError: Sizes that do not fit, as in `Dataset.split`.

    Example:
        >>> train, test, *_ = digits()
        >>> train.inputs.shape, test.inputs.shape
        ((1438, 8, 8, 1), (359, 8, 8, 1))

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), its test part.
    """
    raw = _scikit_learn("digits").load_digits()
    images = (raw.images[..., None] / 16).astype(np.float32)
    data = Dataset(images, raw.target.astype(np.int32), class_names=tuple(str(name) for name in raw.target_names))
    return data.split(_default(key), test=test, validation=validation)


@public
def breast_cancer(
    key: Array | None = None, *, test: float | int = 0.2, validation: float | int = 0, standardized: bool = True
) -> Splits:
    """Load 569 tumours with 30 measurements of cell nuclei each, malignant (0) or benign (1).

    Args:
        key: PRNG key of the division; None takes `jax.random.key(0)`.
        test: Share (float) or number (integer) of examples to test on; classes keep their shares.
        validation: Likewise for validation; 0 makes none.
        standardized: Standardise each feature with the training set's statistics; False keeps the file's units.

    Returns:
        Splits with inputs `[N, 30]` float32, labels int32 `[N]`, feature and class names, and (where standardised)
        `input_statistics`, whose `invert` gives the measured units back.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError, TypeError: Sizes that do not fit, as in `Dataset.split`.

    Example:
        >>> splits = breast_cancer()
        >>> splits.train.inputs.shape, splits.train.feature_names[0], splits.train.class_names
        ((455, 30), 'mean radius', ('malignant', 'benign'))

    Source: Wolberg, Street and Mangasarian, Breast Cancer Wisconsin (Diagnostic), UCI (1995).
    """
    raw = _scikit_learn("breast_cancer").load_breast_cancer()
    data = Dataset(
        raw.data.astype(np.float32),
        raw.target.astype(np.int32),
        feature_names=tuple(str(name) for name in raw.feature_names),
        class_names=tuple(str(name) for name in raw.target_names),
    )
    splits = data.split(_default(key), test=test, validation=validation)
    return standardize(splits) if standardized else splits


@public
def diabetes(
    key: Array | None = None, *, test: float | int = 0.2, validation: float | int = 0, standardized: bool = True
) -> Splits:
    """Load 442 patients with 10 measurements each and the disease's progression after a year, a regression.

    Args:
        key: PRNG key of the division; None takes `jax.random.key(0)`.
        test: Share (float) or number (integer) of examples to test on.
        validation: Likewise for validation; 0 makes none.
        standardized: Standardise features and targets with the training set's statistics; False keeps the file's
            units (sex is coded 1 and 2, the target runs from 25 to 346).

    Returns:
        Splits with inputs `[N, 10]` and targets `[N]` in float32, feature names, and (where standardised)
        `input_statistics` and `target_statistics`, whose `invert` gives the measured units back.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError, TypeError: Sizes that do not fit, as in `Dataset.split`.

    Example:
        >>> splits = diabetes()
        >>> splits.train.inputs.shape, splits.train.feature_names[:3]
        ((354, 10), ('age', 'sex', 'bmi'))

    Source: Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression, Annals of Statistics 32 (2004).
    """
    raw = _scikit_learn("diabetes").load_diabetes(scaled=False)
    names = tuple(str(name) for name in raw.feature_names)
    data = Dataset(raw.data.astype(np.float32), raw.target.astype(np.float32), feature_names=names)
    splits = data.split(_default(key), test=test, validation=validation)
    return standardize(splits, targets=True) if standardized else splits


def _default(key: Array | None) -> Array:
    return jax.random.key(0) if key is None else key


def _scikit_learn(name: str) -> Any:
    try:
        return importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ImportError(
            f"{name}: this set ships with scikit-learn, which could not be imported ({error}). Install it with "
            "`pip install 'jaxplain[examples]'`."
        ) from error
