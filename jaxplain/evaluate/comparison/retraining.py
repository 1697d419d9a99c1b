"""Remove and retrain: what a model can still learn once the features that a method found are gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.evaluate.batch import batched, example_keys
from jaxplain.evaluate.comparison.control import random_attribution
from jaxplain.evaluate.removal import Faithful, Task, parts_of_one, ranked, settings, share_of
from jaxplain.program import Function, as_function, chunked_map, html_table, public, setting
from jaxplain.types import Array, Pytree

NAME = "remove_and_retrain"
CONTROL = "random"
ORDERS = ("morf", "lerf")


@dataclasses.dataclass(frozen=True)
class Retrainings:
    """What retrained models reach. Made by `remove_and_retrain`; `print` shows it as text.

    Attributes:
        methods: Names of the rows; the last is 'random', the control.
        fractions: `[F]`, shares of the features that were removed, as whole features allow; the first is 0.
        values: `[methods, F, repeats]`, what `train_and_test` returned; at 0 all methods share the same trainings.
        order: 'morf' (most relevant removed, lower is better) or 'lerf' (least relevant removed, higher is better).
    """

    methods: tuple[str, ...]
    fractions: np.ndarray
    values: np.ndarray
    order: str

    @property
    def better(self) -> str:
        """Which values are better for the method."""
        return "lower" if self.order == "morf" else "higher"

    @property
    def mean(self) -> np.ndarray:
        """`[methods, F]`, over the repeats."""
        return self.values.mean(axis=-1)

    @property
    def deviation(self) -> np.ndarray:
        """`[methods, F]`, the standard deviation over the repeats: what another seed alone changes."""
        return self.values.std(axis=-1, ddof=1) if self.values.shape[-1] > 1 else np.full(self.mean.shape, np.nan)

    @property
    def area(self) -> np.ndarray:
        """`[methods]`, the area under the mean's curve divided by the range of the fractions."""
        width = np.diff(self.fractions)
        return ((self.mean[:, 1:] + self.mean[:, :-1]) / 2 * width).sum(axis=1) / width.sum()

    @property
    def beats_control(self) -> tuple[bool, ...]:
        """For each row whether its area is better than the control's."""
        sign = -1 if self.order == "morf" else 1
        return tuple(bool(sign * (area - self.area[-1]) > 0) for area in self.area)

    def __str__(self) -> str:
        """The curves as text, one line a method."""
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self._note()])

    def _repr_html_(self) -> str:
        heads, *rows = self._rows()
        return html_table(heads, rows, self._note())

    def _rows(self) -> list[list[str]]:
        """The heads, and a row for each method."""
        rows = [["method", *(f"{fraction:.0%}" for fraction in self.fractions), "area"]]
        for row, method in enumerate(self.methods):
            cells = [
                f"{mean:.3g}" + ("" if np.isnan(spread) else f" ±{spread:.1g}")
                for mean, spread in zip(self.mean[row], self.deviation[row], strict=True)
            ]
            rows.append([f"[{method}]" if method == CONTROL else method, *cells, f"{self.area[row]:.4g}"])
        return rows

    def _note(self) -> str:
        removed = "most" if self.order == "morf" else "least"
        return (
            f"retrained {self.values.shape[-1]} times without the {removed} relevant share of the features, ± the "
            f"standard deviation over the times; {self.better} is better; [control]"
        )


class _Ranks(Faithful):
    """The ranks of an example's features, and the values that replace them."""

    order: str = setting(default="morf")

    @property
    def better(self) -> None:
        """Nothing is judged."""
        return None

    def __call__(self, *inputs: Any) -> tuple[list[Any], Pytree]:
        """Rank the features of one example: for each leaf the rank of each value (None where it is held)."""
        task = Task(self, inputs)
        relevance = task.relevance if self.order == "morf" else -task.relevance
        return task.values(ranked(jnp.where(task.valid, relevance, -jnp.inf))), task.absent


class _Mean(Function):
    """The training data's mean in the place of an example; what holds no floating-point numbers stays the example's."""

    values: Any

    def __call__(self, x: Pytree) -> Pytree:
        """What replaces one example's values."""
        return jax.tree.map(lambda mean, leaf: mean if check.is_floating(leaf) else leaf, self.values, x)


def _nothing(x: Pytree) -> Array:
    return jnp.zeros(())


@public
def remove_and_retrain(
    train_and_test: Callable[..., Any],
    data: tuple[Pytree, Any],
    test: tuple[Pytree, Any],
    attributions: Mapping[str, tuple[Pytree, Pytree]],
    *,
    key: Array,
    order: str = "morf",
    fractions: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    repeats: int = 1,
    baseline: Any = None,
    groups: Any = None,
    batch_size: int = 1,
) -> Retrainings:
    """Train again on data without what each method found, and test what is left (ROAR; with 'lerf' KAR).

    For every method and fraction the most relevant share of each example's features is replaced, in training and in
    test data alike, and a model is trained from the start on what is left: since training and test data are alike, a
    fall of accuracy cannot come from inputs that the model has never seen. The curve of a good method falls fast
    ('morf'), or stays high if the least relevant are removed and the most relevant kept ('lerf'). Attributions drawn at
    random are always there as the control; the source found well-known methods no better than them. Two warnings: maps
    that are merely blurred can win (Song et al. 2023, "On pitfalls of remove-and-retrain"), and the mask itself can say
    what the class is, which a retrained model learns from it (`f_fidelity` is free of that).

    All trainings are one program, `batch_size` of them side by side.

    Args:
        train_and_test: `(key, (x, targets), (x_test, targets_test)) -> number`: trains from the start and returns the
            accuracy (or another number that is higher for a better model) on the test data; traceable by JAX, such as
            `lambda key, data, test: accuracy(jaxplain.train.fit(apply, initial(key), data, key=key).params, test)`.
        data: `(x, targets)` for training, `[N, ...]` each, or a data set with `inputs` and `targets`.
        test: The same for testing, `[T, ...]` each.
        attributions: Method name to its attributions of (training, test) inputs, of their shapes.
        key: A threefry key, for the control and the trainings; training r of every cell has the same key.
        order: 'morf' removes the most relevant features, 'lerf' the least relevant.
        fractions: Which shares of the features are removed, each above 0 and at most 1; rounded down to whole features,
            at least one. The whole data (0) are always trained on too.
        repeats: Trainings of each cell; the source takes 5.
        baseline: As in `deletion`, not random; None takes the mean over the training data, of each channel of images
            `[N, H, W, C]` (as the source) and of each feature otherwise, and leaves integers and booleans as they are.
        groups: As in `deletion`; not traced.
        batch_size: Trainings side by side; memory grows with it.

    Returns:
        `Retrainings`. Cost: repeats * (methods + 1) * (fractions + 1) trainings.

    Raises:
        ValueError: No methods or one called 'random', lengths and shapes that do not fit, fractions out of range or
            repeated, NaN in inputs or attributions, a training that ends in NaN (method, fraction and repeat named).
        TypeError: What is no function, a result that is not one number, a key that is no threefry key.

    Example:
        >>> x = jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> def train_and_test(key, data, test):  # the share of the targets' variance that least squares explains
        ...     w = jnp.linalg.lstsq(data[0], data[1])[0]
        ...     return 1 - jnp.mean((test[1] - test[0] @ w) ** 2) / jnp.var(test[1])
        >>> data = (x, x @ jnp.array([2.0, 1.0]))
        >>> a = jnp.abs(x) * jnp.array([[2.0, 1.0]])
        >>> methods, key = {"m": (a, a)}, jax.random.key(0)
        >>> found = remove_and_retrain(train_and_test, data, data, methods, key=key, fractions=(0.5,))
        >>> found.mean[0].round(3).tolist()
        [1.0, 0.2]

    Source: Hooker et al. 2019, "A benchmark for interpretability methods in deep neural networks" (ROAR and
    KAR).
    """
    check.function(train_and_test, NAME, "train_and_test", "(key, data, test) -> number")
    check.threefry(key, NAME)
    check.choice(order, ORDERS, NAME, "order")
    repeats, batch_size = check.count(repeats, NAME, "repeats"), check.count(batch_size, NAME, "batch_size")
    data, test = _pair(data, "data"), _pair(test, "test")
    stacked = _with_control(attributions, data[0], test[0], jax.random.fold_in(key, 0))
    baseline = _mean(data[0]) if baseline is None else baseline
    ranks = _Ranks(**settings(NAME, _nothing, baseline, groups, None), order=order)
    if ranks.needs_key:
        raise ValueError(f"{NAME}: a random `baseline` would differ between training and test; pass a fixed one.")
    total = _features(ranks, data[0], stacked[0])
    counts = _counts(fractions, total)
    training = _Training(as_function(train_and_test), ranks, jax.random.fold_in(key, 1), stacked, data, test)
    values = _trained(training, counts, repeats, batch_size)
    found = Retrainings((*attributions, CONTROL), np.asarray(counts) / total, values, order)
    _refuse_undefined(found)
    return found


def _pair(value: Any, argument: str) -> tuple[Pytree, Any]:
    """Inputs and targets of one length."""
    if hasattr(value, "inputs") and hasattr(value, "targets"):
        value = (value.inputs, value.targets)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{NAME}: `{argument}` has to be (x, targets) or a data set, not {check.short(value)}.")
    size = check.batch_length(value[0], NAME, f"{argument}[0]")
    check.finite(value[0], NAME, f"{argument}[0]")
    check.arrays(value[1], NAME, f"{argument}[1]")
    return value[0], batched(value[1], size, NAME, f"`{argument}[1]`")


def _with_control(attributions: Any, x: Pytree, test: Pytree, key: Array) -> tuple[Pytree, Pytree]:
    """Attributions of training and test inputs with a leading axis of methods, the control last."""
    if not isinstance(attributions, Mapping) or not attributions:
        raise ValueError(f"{NAME}: `attributions` has to be a dictionary of at least one method, name to attributions.")
    if CONTROL in attributions:
        raise ValueError(f"{NAME}: {CONTROL!r} is the name of the control; call the method otherwise.")
    parts = []
    for place, inputs in enumerate((x, test)):
        size = check.batch_length(inputs, NAME)
        rows = []
        for name, pair in attributions.items():
            argument = f"attributions[{name!r}]"
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"{NAME}: `{argument}` has to be (of training, of test inputs), not a {type(pair)}.")
            check.finite(pair[place], NAME, f"{argument}[{place}]")
            check.same_structure(inputs, pair[place], NAME, "x", f"{argument}[{place}]")
            rows.append(pair[place])
        keys = example_keys(jax.random.fold_in(key, place), jnp.arange(size))
        rows.append(jax.vmap(random_attribution())(keys, inputs))
        parts.append(jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows))
    return parts[0], parts[1]


def _mean(x: Pytree) -> _Mean:
    """The mean over examples, and over the places of images."""
    if not any(map(check.is_floating, jax.tree.leaves(x))):
        raise ValueError(
            f"{NAME}: `data[0]` holds no floating-point numbers ({check.describe(jax.tree.leaves(x)[0])}), which alone "
            "have a mean; pass as `baseline` what takes the place of removed features, such as the padding token."
        )

    def mean(leaf: Any) -> Any:
        axes = (0, 1, 2) if jnp.ndim(leaf) == 4 else (0,)
        return jnp.broadcast_to(jnp.mean(jnp.asarray(leaf), axis=axes), jnp.shape(leaf)[1:])

    return _Mean(jax.tree.map(lambda leaf: mean(leaf) if check.is_floating(leaf) else leaf[0], x))


def _features(ranks: _Ranks, x: Pytree, stacked: Pytree) -> int:
    """How many features an example has."""
    x, a = jax.tree.map(lambda leaf: leaf[0], x), jax.tree.map(lambda leaf: leaf[0, 0], stacked)
    return Task(ranks, (x, a)).known_total("pass concrete groups")


def _counts(fractions: Any, total: int) -> list[int]:
    counts = [0, *(share_of(part, total) for part in parts_of_one(fractions, NAME, "fractions"))]
    if sorted(set(counts)) != counts:
        raise ValueError(
            f"{NAME}: `fractions` {fractions!r} are {counts[1:]} of {total} features; pass ascending ones that differ."
        )
    return counts


class _Training(Function):
    """One training of the grid: a method's features removed, a model trained from the start, and what it reaches."""

    train_and_test: Any
    ranks: _Ranks
    key: Array
    stacked: tuple[Pytree, Pytree]
    data: tuple[Pytree, Any]
    test: tuple[Pytree, Any]

    def __call__(self, item: tuple[Array, Array, Array]) -> Array:
        """What is reached by (method, number of features removed, repeat)."""
        method, count, repeat = item
        parts = []
        for (x, targets), a in zip((self.data, self.test), self.stacked, strict=True):
            chosen = jax.tree.map(lambda leaf: leaf[method], a)
            parts.append((_without(self.ranks, x, chosen, count), targets))
        value = self.train_and_test(jax.random.fold_in(self.key, repeat), *parts)
        return check.scalar(value, f"{NAME}: train_and_test")


_train_all = jax.jit(chunked_map, static_argnums=2)


def _trained(training: _Training, counts: list[int], repeats: int, batch_size: int) -> np.ndarray:
    """`[methods, fractions, repeats]`."""
    methods = jax.tree.leaves(training.stacked[0])[0].shape[0]
    grid = (methods, len(counts) - 1, repeats)
    method, place, repeat = np.unravel_index(np.arange(np.prod(grid)), grid)
    # The whole data first: the same trainings for all methods.
    items = (
        np.concatenate([np.zeros(repeats, int), method]).astype(np.int32),
        np.concatenate([np.zeros(repeats, int), np.asarray(counts)[1:][place]]).astype(np.int32),
        np.concatenate([np.arange(repeats), repeat]).astype(np.int32),
    )
    found = np.asarray(_train_all(training, items, batch_size), np.float64)
    whole = np.broadcast_to(found[:repeats], (methods, 1, repeats))
    return np.concatenate([whole, found[repeats:].reshape(grid)], axis=1)


def _without(ranks: _Ranks, x: Pytree, attribution: Pytree, count: Array) -> Pytree:
    """Every example without so many of its features."""

    def one(x: Pytree, attribution: Pytree) -> Pytree:
        places, absent = ranks(x, attribution)
        leaves, structure = jax.tree.flatten(x)
        kept = [
            leaf if rank is None else jnp.where(rank < count, new, leaf)
            for leaf, new, rank in zip(leaves, jax.tree.leaves(absent), places, strict=True)
        ]
        return jax.tree.unflatten(structure, kept)

    return jax.vmap(one)(x, attribution)


def _refuse_undefined(found: Retrainings) -> None:
    bad = np.argwhere(~np.isfinite(found.values))
    if bad.size:
        method, place, repeat = (int(part) for part in bad[0])
        raise ValueError(
            f"{NAME}: {len(bad)} of {found.values.size} trainings ended in NaN or infinity, the first for "
            f"{found.methods[method]!r} with {found.fractions[place]:.0%} of the features removed (repeat {repeat}). "
            "Lower the learning rate, or look at that data."
        )
