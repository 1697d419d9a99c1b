"""A section of a page: examples with what the model said of them and why, to sort, to filter and to look at closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.program import public
from jaxplain.report.gallery import Column, Gallery, bars_html, map_html, picture_html
from jaxplain.report.page import Section
from jaxplain.report.raster import map_data, picture_data, pooled
from jaxplain.report.reading import SECTIONS
from jaxplain.report.word import clean, comparable, titles, told_apart

NAME = "examples_section"

PICTURE = 128
"""Most pixels of an input's side."""


@public
def examples_section(
    inputs: Any,
    attributions: Any,
    labels: Any = None,
    *,
    predicted: Any = None,
    scores: Any = None,
    gaps: Any = None,
    names: Sequence[Any] | None = None,
    features: Sequence[Any] | None = None,
    limit: int = 500,
    resolution: int = 64,
    heading: str = "Examples",
) -> Section:
    """Make a report's section of explained examples: a table to sort and filter, with a map by each method.

    The reader switches methods and scales of colours, sorts by what is known, filters by class, score, gap and whether
    the prediction is right, reads values under the pointer, and looks at one example closely, all by keyboard, too.

    Args:
        inputs: Images `[B, H, W]` or `[B, H, W, C]`, or rows of a table `[B, D]`; None leaves them out.
        attributions: `{method: [B, h, w(, C)]}` of images (summed over channels) or `{method: [B, D]}` of rows, in
            units of the score; or one array.
        labels: `[B]`, true classes, or texts. Classes of one name are told apart by their numbers.
        predicted: `[B]`, classes that the model said, in the form of `labels`.
        scores: `[B]`, the score that was explained.
        gaps: `[B]`, the completeness gap, or `{method: [B]}`; filtered by the first one's size.
        names: Names of the classes, `[K]`.
        features: Names of a table's columns, `[D]`.
        limit: Most examples in the page, the first ones.
        resolution: Most cells of a map's side; of a larger one a cell is the sum of a square of pixels.
        heading: The section's heading.

    Returns:
        The section. Cost in the page: for an example and method 0.7 kB of 8 x 8 cells, up to 15 kB of 64 x 64.

    Raises:
        ValueError: Shapes or counts that do not match, NaN in inputs or attributions, nothing to show.
        TypeError: No arrays of numbers.

    Example:
        >>> section = examples_section(np.zeros((2, 4, 4)), {"gradient": np.ones((2, 4, 4))}, [0, 1], scores=[3.0, 1.0])
        >>> [column.title for column in section.content.columns]
        ['example', 'input', 'gradient', 'class', 'score']
    """
    by_method = attributions if isinstance(attributions, Mapping) else {"attribution": attributions}
    if len({str(method) for method in by_method}) < len(by_method):
        raise ValueError(f"{NAME}: two methods of `attributions` have one name: {list(by_method)}.")
    maps = {str(method): check_numbers(value, f"attributions[{method!r}]") for method, value in by_method.items()}
    if not maps:
        raise ValueError(f"{NAME}: `attributions` is empty; pass {{method: [B, ...]}}.")
    size = len(next(iter(maps.values())))
    count = min(check.count(limit, NAME, "limit"), size)
    given = None if inputs is None else check_numbers(inputs, "inputs")
    for argument, value in {**{f"attributions[{m!r}]": v for m, v in maps.items()}, "inputs": given}.items():
        if value is not None and len(value) != size:
            raise ValueError(f"{NAME}: `{argument}` holds {len(value)} examples, but the attributions {size}.")
        if given is not None and value is not None and value.ndim == given.ndim == 2 and value.shape != given.shape:
            raise ValueError(
                f"{NAME}: `{argument}` has {value.shape[1]} columns, but `inputs` {given.shape[1]}; pass the columns "
                "that were explained, or None."
            )
    if labels is not None and predicted is not None:
        labels, predicted = comparable(labels, predicted, NAME)
    byte = getattr(inputs, "dtype", None) == np.uint8
    columns, ends = picture_columns(given, maps, count, features, check.count(resolution, NAME, "resolution"), byte)
    spaces = gaps if isinstance(gaps, Mapping) else {} if gaps is None else {"": gaps}
    numbers = {"score": scores} if scores is not None else {}
    numbers |= {f"gap, {method}" if method else "gap": value for method, value in spaces.items()}
    known = {t: one_each(v, size, "scores" if t == "score" else "gaps")[:count] for t, v in numbers.items()}
    gallery = as_gallery(
        [str(row) for row in range(count)],
        columns,
        methods=list(maps),
        ends=ends,
        labels=None if labels is None else titles(labels, size, names, NAME)[:count],
        predicted=None if predicted is None else titles(predicted, size, names, NAME, "predicted")[:count],
        numbers=known,
        names=names,
    )
    words = [] if count == size else [f"The first {count} of {size} examples."]
    if any(value.ndim > 2 and max(value.shape[1:3]) > resolution for value in maps.values()):
        words.append(f"Of maps of more than {resolution} pixels a side a cell is the sum of a square of them.")
    return Section(heading, [*words, gallery] if words else gallery, reading=SECTIONS["examples_section"])


def check_numbers(value: Any, argument: str) -> np.ndarray:
    """A finite array `[B, ...]` of numbers that is not empty."""
    array = _floats(value, argument, "be an array of real numbers")
    if array.size == 0 or not 2 <= array.ndim <= 4:
        raise ValueError(
            f"{NAME}: `{argument}` has shape {array.shape}; it has to be [B, D], [B, H, W] or [B, H, W, C], not empty."
        )
    check.finite(array, NAME, argument)
    return array


def one_each(value: Any, size: int, argument: str) -> np.ndarray:
    """One number for each example; NaN where it is not defined."""
    array = _floats(value, argument, "hold a number for each example")
    if array.shape != (size,):
        raise ValueError(f"{NAME}: `{argument}` has shape {array.shape}, but there are {size} examples.")
    return array


def _floats(value: Any, argument: str, due: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype.kind in "USOc":
            raise TypeError(f"it has dtype {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:  # one of the errors of traced values is a TypeError, too
        raise TypeError(f"{NAME}: `{argument}` has to {due}; {error}.") from None


def picture_columns(
    inputs: np.ndarray | None,
    maps: Mapping[str, np.ndarray],
    count: int,
    features: Sequence[Any] | None,
    resolution: int,
    byte: bool = False,
) -> tuple[list[Column], list[float]]:
    """A column of inputs where they are images, one of each method, and where the methods' scales end."""
    columns = []
    if inputs is not None and inputs.ndim > 2:
        shown = in_range(inputs, byte)[:count]
        drawn = [picture_data(image, PICTURE) for image in shown]
        cells = [picture_html(address, shown.shape[1:3], f"input {row}") for row, address in enumerate(drawn)]
        columns.append(Column("input", cells))
    flat = [value.ndim == 2 for value in maps.values()]
    if any(flat) and not all(flat):
        raise ValueError(f"{NAME}: `attributions` holds rows [B, D] and maps [B, h, w]; make a section of each.")
    if all(flat):
        return columns + _rows(inputs, maps, count, features), []
    cells_of = {m: pooled((v.sum(axis=-1) if v.ndim == 4 else v)[:count], resolution) for m, v in maps.items()}
    ends = [float(np.abs(values).max()) for values in cells_of.values()]
    for place, (method, values) in enumerate(cells_of.items()):
        cells = [_map(row, own, (ends[place], max(ends)), method) for row, own in enumerate(values)]
        columns.append(Column(method, cells, method=place))
    return columns, ends


def _map(row: int, values: np.ndarray, ends: tuple[float, float], method: str) -> str:
    """One map, with what a reader who does not see it needs: its range, and where it is strongest."""
    end = float(np.abs(values).max())
    down, across = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    alt = (
        f"attribution of example {row} by {method}, from {values.min():.3g} to {values.max():.3g}, strongest in row "
        f"{down + 1}, column {across + 1}"
    )
    return map_html(map_data(values, end), values.shape, end, ends, method, alt)


def _rows(
    inputs: np.ndarray | None, maps: Mapping[str, np.ndarray], count: int, features: Sequence[Any] | None
) -> list[Column]:
    columns = []
    for place, (method, values) in enumerate(maps.items()):
        size = values.shape[1]
        if features is not None and (isinstance(features, str) or len(features) != size):
            raise ValueError(f"{NAME}: `features` holds {len(features)} names, but there are {size} features.")
        heads = [f"feature {k}" for k in range(size)] if features is None else [str(name) for name in features]
        own = inputs if inputs is not None and inputs.shape == values.shape else None
        cells = [bars_html(heads, values[row], None if own is None else own[row]) for row in range(count)]
        columns.append(Column(method, cells, method=place))
    return columns


def in_range(inputs: np.ndarray, byte: bool = False) -> np.ndarray:
    """Images `[B, H, W]`, `[B, H, W, 3]` or `[B, H, W, 4]` in [0, 1]: bytes by 255, others by the set's ends."""
    if inputs.ndim == 4 and inputs.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{NAME}: `inputs` has {inputs.shape[-1]} channels (shape {inputs.shape}); 1, 3 or 4 can be shown. Pass "
            "one channel, inputs[..., c]."
        )
    images = inputs[..., 0] if inputs.ndim == 4 and inputs.shape[-1] == 1 else inputs
    if byte:
        return images / 255
    low, high = float(images.min()), float(images.max())
    return images if low >= 0 and high <= 1 else (images - low) / max(high - low, 1e-12)


def as_gallery(
    rows: Sequence[str],
    pictures: Sequence[Column],
    *,
    methods: Sequence[str],
    ends: Sequence[float],
    labels: Sequence[str] | None,
    predicted: Sequence[str] | None,
    numbers: Mapping[str, np.ndarray],
    words: Mapping[str, Sequence[str]] | None = None,
    names: Sequence[Any] | None = None,
) -> Gallery:
    """The table: what names the rows, their pictures, classes and predictions, and numbers."""
    columns = [Column("example", [clean(row) for row in rows], range(len(rows)), "ascending"), *pictures]
    order = {name: (float(place), "") for place, name in enumerate(told_apart(() if names is None else names))}
    classes = [] if labels is None else sorted(set(labels), key=lambda text: order.get(text, _natural(text)))
    if labels is not None:
        columns.append(Column("class", [clean(own) for own in labels], _ranks(labels, order), "ascending"))
    right = None
    if predicted is not None:
        right = None if labels is None else [own == said for own, said in zip(labels, predicted, strict=True)]
        columns.append(Column("prediction", _predictions(predicted, right), _ranks(predicted, order), "ascending"))
    places: dict[str, int] = {}
    for title, values in numbers.items():
        places.setdefault(title.partition(",")[0], len(columns))
        columns.append(Column(title, [_number(value) for value in values], list(values), number=True))
    for title, texts in (words or {}).items():
        columns.append(Column(title, [clean(text) for text in texts], _ranks(texts, order), "ascending"))
    own = [] if labels is None else [classes.index(label) for label in labels]
    return Gallery(columns, methods, ends, classes, own, right, score=places.get("score"), gap=places.get("gap"))


def _natural(text: str) -> tuple[float, str]:
    """Numbers before words, and by their size."""
    try:
        number = float(text)
    except ValueError:
        number = np.inf
    return (np.inf if np.isnan(number) else number), text


def _ranks(texts: Sequence[str], order: Mapping[str, tuple[float, str]]) -> list[float]:
    """Places of texts in the order of the classes, or numbers before words."""
    ranks = {text: rank for rank, text in enumerate(sorted(set(texts), key=lambda t: order.get(t, _natural(t))))}
    return [float(ranks[text]) for text in texts]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def _predictions(predicted: Sequence[str], right: Sequence[bool] | None) -> list[str]:
    if right is None:
        return [clean(said) for said in predicted]
    marks = ('<span class="wrong">✗ wrong</span>', '<span class="right">✓ right</span>')
    return [f"{clean(said)} {marks[own]}" for said, own in zip(predicted, right, strict=True)]
