"""What a caller passes to a figure, as checked NumPy arrays and texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxplain import check
from jaxplain.score import ModelScore

LEFT_TO_RIGHT = "\u200e"
"""A mark that is not seen."""


def numbers(value: Any, name: str, argument: str, *, finite: bool = True) -> np.ndarray:
    """A concrete, not empty array of real numbers in float64; `finite` also refuses NaN and infinities."""
    if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves(value)):
        raise TypeError(f"{name}: `{argument}` is being traced; draw outside of jit, vmap and grad.")
    try:
        array = np.asarray(value)
        if array.dtype.kind in "USOc":
            raise TypeError(f"it has dtype {array.dtype}")
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: `{argument}` has to be an array of real numbers; {error}.") from None
    if array.size == 0:
        raise ValueError(f"{name}: `{argument}` is empty (shape {array.shape}); there is nothing to draw.")
    if finite and not np.isfinite(array).all():  # what is infinite in float32 alone is drawn
        check.finite(array, name, argument)
    return array


def table_of(value: Any, name: str, argument: str) -> np.ndarray:
    """An array of numbers or texts; rows of different lengths are refused."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: `{argument}` has rows of different lengths.") from error


def batch(value: Any, name: str, argument: str, shapes: Mapping[int, str], *, finite: bool = True) -> np.ndarray:
    """`numbers` with one of the allowed ranks; `shapes` says how to write the shape of each."""
    array = numbers(value, name, argument, finite=finite)
    if array.ndim not in shapes:
        wanted = " or ".join(shapes.values())
        raise ValueError(f"{name}: `{argument}` has shape {array.shape}; it has to be {wanted}.")
    return array


def same_length(first: Any, second: Any, name: str, arguments: tuple[str, str]) -> None:
    """Require that two sequences hold as many examples."""
    for value, argument in zip((first, second), arguments, strict=True):
        if np.ndim(value) == 0:
            raise ValueError(f"{name}: `{argument}` is a single number; pass one for each example.")
    if len(first) != len(second):
        raise ValueError(f"{name}: `{arguments[0]}` holds {len(first)}, but `{arguments[1]}` holds {len(second)}.")


def images(value: Any, name: str, argument: str = "images") -> np.ndarray:
    """Images `[B, H, W]` or `[B, H, W, C]` with C in 1, 3, 4 as `[B, H, W]` or `[B, H, W, C]` in the range 0 to 1.

    8-bit integers are divided by 255 and floats in [0, 1] kept; anything else is brought to that range by the whole
    set's least and greatest value, so that images of one set stay comparable.
    """
    array = batch(value, name, argument, {3: "[B, H, W]", 4: "[B, H, W, C]"})
    if array.ndim == 3 and array.shape[-1] in (1, 3, 4) and min(array.shape[:2]) > 4:
        raise ValueError(
            f"{name}: `{argument}` has shape {array.shape}, which looks like one image; add the batch axis with "
            f"`{argument}[None]`."
        )
    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name}: `{argument}` has {array.shape[-1]} channels (shape {array.shape}); 1, 3 or 4 can be drawn. Draw "
            f"one channel at a time, `{argument}[..., c]`."
        )
    if getattr(value, "dtype", None) == np.uint8:
        array = array / 255
    elif array.min() < 0 or array.max() > 1:
        low, high = array.min(), array.max()
        array = (array - low) / max(high - low, np.finfo(float).tiny)
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def plain(text: Any) -> str:
    """Text that matplotlib draws as it stands: no mathematics between dollars, nothing hidden by an underscore.

    One that is written from right to left stands between marks of the other direction: without them a number beside it
    is drawn on its other side, with its sign behind it.
    """
    escaped = str(text).replace("$", r"\$")
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in escaped):
        return f"{LEFT_TO_RIGHT}{escaped}{LEFT_TO_RIGHT}"
    return f" {escaped}" if escaped.startswith("_") else escaped


def spoken(text: str) -> str:
    """Words that hold texts made for matplotlib as they are read aloud or by a browser."""
    return text.replace(r"\$", "$")


def visible(token: str) -> str:
    """A token with its white space as signs, so that every token has a box."""
    signs = {"\n": "↵", "\t": "→", "\r": "↵"}
    text = "".join(signs.get(character, character) for character in token)
    return text if text.strip() else "␣" * max(len(text), 1)


def texts(value: Sequence[Any] | None, size: int, name: str, argument: str, default: str = "{}") -> list[str]:
    """`size` texts; numbers in the form of `default` where none were given."""
    if value is None:
        return [default.format(index) for index in range(size)]
    if isinstance(value, str) or len(value) != size:
        count = "one text" if isinstance(value, str) else f"{len(value)}"
        raise ValueError(f"{name}: `{argument}` holds {count}, but {size} are needed.")
    return [plain(item) for item in value]


def classes(value: Any, size: int, name: str, argument: str = "labels") -> np.ndarray:
    """Labels `[B]` as integers, none of them negative."""
    array = numbers(value, name, argument)
    if array.ndim != 1 or (array != np.round(array)).any():
        raise ValueError(
            f"{name}: `{argument}` has to be integers [B], not {array.ravel()[:3]} ... of shape {array.shape}."
        )
    if len(array) != size:
        raise ValueError(f"{name}: `{argument}` holds {len(array)}, but there are {size} examples.")
    if array.min() < 0:
        raise ValueError(f"{name}: `{argument}` holds {int(array.min())}; classes run from 0.")
    return array.astype(int)


def label_texts(labels: Any, size: int, names: Sequence[Any] | None, name: str) -> list[str]:
    """What to write at each of `size` examples: nothing, a text, the name of a class, or a number."""
    if labels is None:
        return [""] * size
    if not hasattr(labels, "dtype") and all(isinstance(item, str) for item in _row(labels, name, "labels")):
        return texts(labels, size, name, "labels")
    array = numbers(labels, name, "labels")
    if array.shape != (size,):
        raise ValueError(f"{name}: `labels` has shape {array.shape}, but there are {size} examples.")
    if names is None:
        return [f"{value:.4g}" for value in array]
    return [class_names(names, array, name)[index] for index in classes(array, size, name)]


def _row(value: Any, name: str, argument: str) -> list[Any]:
    """The items of a sequence."""
    if isinstance(value, str) or not hasattr(value, "__len__"):
        raise TypeError(f"{name}: `{argument}` has to be a sequence of numbers or texts, not {check.short(value)}.")
    return list(value)


def class_names(names: Sequence[Any], labels: np.ndarray, name: str) -> list[str]:
    """Names of classes, enough for every label."""
    if len(names) <= labels.max():
        raise ValueError(
            f"{name}: `names` holds {len(names)} names, but `labels` holds class {int(labels.max())}; give one name "
            "for each class, from 0."
        )
    return [plain(item) for item in names]


def number(value: float) -> str:
    """A number as figures write it: three significant digits, whole up to 100,000; zero has no sign."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 99_999.5 else f"{value + 0.0:.3g}"


def signed(value: float) -> str:
    """What is added to a score: a number with its sign."""
    return f"{'+' if value >= 0 else ''}{number(value)}"


def apart(values: Sequence[float] | np.ndarray) -> list[str]:
    """Numbers as texts, with as many digits as tell them apart."""
    texts = [number(value) for value in values]
    for digits in range(4, 18):
        if len(set(texts)) >= len(set(values)):
            break
        texts = [f"{value:.{digits}g}" for value in values]
    return texts


UNITS = {
    "logit": "logit",
    "output": "output",
    "probability": "probability",
    "log_probability": "log-probability, nats",
    "margin": "margin of logits",
    "loss": "loss",
}
"""What the scores of a model are measured in, by their names."""


def measured(what: str, units: Any, name: str) -> str:
    """What an axis shows, with its unit behind it where that is given: as a text, or as the score that has it."""
    if units is None:
        return what
    if isinstance(units, ModelScore):
        return f"{what} ({UNITS.get(units.name, units.name)})"
    if not isinstance(units, str) or not units.strip():
        raise TypeError(
            f"{name}: `units` has to be a text, such as 'logit', or the score that was explained where jaxplain.logit "
            f"or another function of its kind made it, not {check.short(units)}."
        )
    return f"{what} ({plain(units)})"


def feature_order(values: np.ndarray, limit: int, name: str, order: Any = None, names: Any = None) -> np.ndarray:
    """Indices of the features drawn, at most `limit`: the largest first, or the first ones of a given order."""
    limit = check.count(limit, name, "limit")
    if order is None:
        return np.argsort(-np.abs(values), kind="stable")[:limit]
    if isinstance(order, str) or not hasattr(order, "__len__") or getattr(order, "shape", None) == ():
        raise TypeError(f"{name}: `order` has to be a sequence of names or indices, not {check.short(order)}.")
    if len(order) == 0:
        raise ValueError(f"{name}: `order` is empty; name at least one feature.")
    known = [] if names is None else [str(item) for item in names]
    found = [feature_index(item, known, len(values), name, "order") for item in order]
    if len(set(found)) < len(found):
        twice = next(item for item, k in zip(order, found, strict=True) if found.count(k) > 1)
        raise ValueError(f"{name}: `order` holds feature {twice!r} twice.")
    return np.array(found[:limit])


def feature_index(feature: Any, known: list[str], size: int, name: str, argument: str) -> int:
    """The index of a feature that is given by its index or its name."""
    if isinstance(feature, str):
        if feature not in known:
            raise ValueError(f"{name}: `{argument}` holds {feature!r}, which is none of `names`: {known[:5]} ...")
        if known.count(feature) > 1:
            raise ValueError(
                f"{name}: `{argument}` holds {feature!r}, which {known.count(feature)} of `names` are; pass its index."
            )
        return known.index(feature)
    if not 0 <= check.count(feature, name, argument, least=0) < size:
        raise ValueError(f"{name}: `{argument}` holds {feature}, but there are {size} features, from 0.")
    return int(feature)


def others(count: int) -> str:
    """The words for features that are not drawn by themselves."""
    return "1 other feature" if count == 1 else f"{count} other features"
