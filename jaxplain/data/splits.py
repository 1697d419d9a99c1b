"""A labelled set of arrays, its division into training, validation and test, and standardisation."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxplain import check
from jaxplain.data.batching import common_length, take
from jaxplain.program import public, shown
from jaxplain.types import Array, Pytree


@shown
@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Examples as arrays, a pytree: names are static, everything else has one row for each example.

    Attributes:
        inputs: Array `[N, ...]` or a pytree of them; a tuple is what a model takes as several arguments.
        targets: Labels int32 `[N]`, or values float32 `[N]`; None where there are none.
        truth: What decides the target, where it is known: booleans `[N, ...]` of the (first) input's shape.
        feature_names: Names along the input's last axis of a table, in its order.
        class_names: Names of the labels 0, 1, ... in their order.
    """

    inputs: Pytree
    targets: Pytree = None
    truth: Pytree = None
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of examples."""
        return int(np.shape(jax.tree.leaves((self.inputs, self.targets))[0])[0])

    def take(self, rows: Any) -> Dataset:
        """Select examples by a slice, row numbers `[M]` or booleans `[N]`; names stay.

        Example:
            >>> import numpy as np
            >>> Dataset(np.arange(4.0), np.array([0, 1, 0, 1])).take(slice(2)).targets.tolist()
            [0, 1]
        """
        inputs, targets, truth = take((self.inputs, self.targets, self.truth), rows)
        return dataclasses.replace(self, inputs=inputs, targets=targets, truth=truth)

    def split(
        self,
        key: Array | None,
        *,
        test: float | int = 0.2,
        validation: float | int = 0,
        stratify: bool | None = None,
    ) -> Splits:
        """Divide the examples into training, validation and test sets without overlap.

        Args:
            key: PRNG key of the shuffle that comes first; the same key gives the same division. None keeps the order:
                the first examples train, those after them validate, the last ones test.
            test: Share of the examples (a float below 1) or their number (an integer) for the test set.
            validation: Likewise for the validation set; 0 makes none.
            stratify: Give every set the classes' shares of the whole, to within one example of each class. None does
                so where a key is given and the targets are integer labels `[N]`.

        Returns:
            The `Splits`. Cost: no model pass.

        Raises:
            ValueError: Sizes that leave a set empty, an empty dataset, arrays of unequal lengths; `stratify` without
                integer labels.
            TypeError: Sizes that are no numbers.

        Example:
            >>> import jax, numpy as np
            >>> data = Dataset(np.arange(10.0), np.array([0, 1] * 5))
            >>> train, test, *_ = data.split(jax.random.key(0), test=0.4)
            >>> len(train), sorted(test.targets.tolist())
            (6, [0, 0, 1, 1])
        """
        parts = {"inputs": self.inputs, "targets": self.targets, "truth": self.truth}
        count = common_length(parts, "split")
        sizes = [_size(test, count, "split", "test", 1), _size(validation, count, "split", "validation", 0)]
        if sum(sizes) >= count:
            raise ValueError(
                f"split: test={sizes[0]} and validation={sizes[1]} leave nothing of {count} examples to train on. "
                "Make them smaller."
            )
        labelled = _are_labels(self.targets)
        if stratify and not labelled:
            raise ValueError("split: `stratify` needs targets that are integer labels [N]. Leave it out.")
        by_class = labelled and key is not None if stratify is None else stratify
        rest = np.arange(count) if key is None else np.asarray(jax.random.permutation(key, count))
        labels = np.asarray(self.targets) if by_class else np.zeros(count, np.int32)
        rest, tested = _cut(rest, labels, sizes[0])
        rest, validated = _cut(rest, labels, sizes[1])
        return Splits(self.take(rest), self.take(tested), self.take(validated) if sizes[1] else None)


jax.tree_util.register_dataclass(Dataset, ["inputs", "targets", "truth"], ["feature_names", "class_names"])


def hold_out(train: Dataset, validation: float | int, name: str) -> tuple[Dataset, Dataset | None]:
    """Take the last examples of a training set, a share or a number of them, for validation; 0 takes none."""
    size = _size(validation, len(train), name, "validation", 0)
    if size >= len(train):
        raise ValueError(f"{name}: validation={size} leaves nothing of {len(train)} examples to train on.")
    return train.take(slice(len(train) - size)), train.take(slice(len(train) - size, None)) if size else None


@shown
class Standardization(NamedTuple):
    """How values were standardised: z = (x - mean) / scale, with the training set's mean and standard deviation."""

    mean: Any
    scale: Any

    def apply(self, values: Any) -> Any:
        """Map `values` `[..., *mean.shape]` in the original units to standard units."""
        return (values - _beside(self.mean, values)) / _beside(self.scale, values)

    def invert(self, values: Any) -> Any:
        """Map standard units back to the original ones, the inverse of `apply` up to rounding."""
        return values * _beside(self.scale, values) + _beside(self.mean, values)


def _beside(statistic: Any, values: Any) -> Any:
    return statistic.reshape((1,) * (values.ndim - statistic.ndim) + statistic.shape)


@shown
class Splits(NamedTuple):
    """A dataset divided for training; the statistics are those it was standardised with, or None.

    Example:
        >>> import numpy as np
        >>> train, test, validation, *_ = Dataset(np.arange(4.0)).split(None, test=1)
        >>> train.inputs.tolist(), test.inputs.tolist(), validation
        ([0.0, 1.0, 2.0], [3.0], None)
    """

    train: Dataset
    test: Dataset
    validation: Dataset | None = None
    input_statistics: Standardization | None = None
    target_statistics: Standardization | None = None


@public
def standardize(splits: Splits, *, targets: bool = False) -> Splits:
    """Standardise every set with the training set's statistics: z = (x - mean) / scale, feature by feature.

    A feature that is constant in the training set gets scale 1, so that it becomes 0 there.

    Args:
        splits: Sets whose inputs are one floating-point array `[N, ...]`.
        targets: Whether floating-point targets `[N, ...]` are standardised too.

    Returns:
        New splits in float32, with `input_statistics` (and `target_statistics`) to invert them by. Statistics are
        summed in float64. Cost: no model pass.

    Raises:
        TypeError: Inputs (or targets) that are not one floating-point array.

    Example:
        >>> import numpy as np
        >>> splits = standardize(Dataset(np.array([[1.0], [3.0], [5.0]])).split(None, test=1))
        >>> splits.train.inputs.tolist(), splits.test.inputs.tolist()
        ([[-1.0], [1.0]], [[3.0]])
        >>> splits.input_statistics.invert(splits.test.inputs).tolist()
        [[5.0]]
    """
    by_inputs = _statistics(splits.train.inputs, "inputs")
    by_targets = _statistics(splits.train.targets, "targets") if targets else None

    def moved(data: Dataset | None) -> Dataset | None:
        if data is None:
            return None
        values = data.targets if by_targets is None else _float32(by_targets.apply(data.targets))
        return dataclasses.replace(data, inputs=_float32(by_inputs.apply(data.inputs)), targets=values)

    train, test, validation = (moved(data) for data in splits[:3])
    assert train is not None  # for the type checker: `moved` gives None for None alone
    assert test is not None
    return Splits(train, test, validation, _narrow(by_inputs), None if by_targets is None else _narrow(by_targets))


def _statistics(values: Any, argument: str) -> Standardization:
    if not hasattr(values, "dtype") or not check.is_floating(values):
        kind = values.dtype if hasattr(values, "dtype") else type(values).__name__
        raise TypeError(f"standardize: `{argument}` have to be one floating-point array, not {kind}.")
    wide = np.asarray(values, np.float64)
    # The mean of equal numbers may miss them by a rounding error, so that their deviation is not exactly 0.
    constant = wide.max(axis=0) == wide.min(axis=0)
    return Standardization(wide.mean(axis=0), np.where(constant, 1.0, wide.std(axis=0)))


def _float32(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def _narrow(statistics: Standardization) -> Standardization:
    return Standardization(*map(_float32, statistics))


def _are_labels(targets: Any) -> bool:
    return hasattr(targets, "dtype") and np.ndim(targets) == 1 and np.issubdtype(targets.dtype, np.integer)


def _size(value: Any, count: int, name: str, argument: str, least: int) -> int:
    """The number of examples that a share or a number means."""
    if not isinstance(value, float | np.floating):
        return check.count(value, name, argument, least)
    if not least <= value * count < count or (value > 0 and round(value * count) == 0):
        raise ValueError(
            f"{name}: `{argument}` is {value}; a share lies between 0 and 1 and has to come to at least one of the "
            f"{count} examples, a number of examples is an integer."
        )
    return round(value * count)


def _cut(rows: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Take the last `size` of `rows`, divided over the classes by the method of largest remainders."""
    of_rows = labels[rows]
    classes, counts = np.unique(of_rows, return_counts=True)
    quota, remainder = np.divmod(counts * size, len(rows))
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    places = [np.flatnonzero(of_rows == c)[n - q :] for c, n, q in zip(classes, counts, quota, strict=True)]
    chosen = np.zeros(len(rows), bool)
    chosen[np.concatenate(places)] = True
    return rows[~chosen], rows[chosen]
