"""From tokens to units that people read: words, sentences, paragraphs, documents, the fields of a template, turns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxplain import check
from jaxplain.program import public, shown

NAME = "segments"
SPECIAL = "<special>"
"""The name of the unit of tokens that stand for no character, such as those that begin a sequence or pad it."""

_APOSTROPHE, _CLOSING, _ELLIPSIS = "\u2019", "\"'\u201d\u2019)\\]", "\u2026"
_WIDE, _WIDE_CLOSING = "\u3002\uff01\uff1f", "\u300d\u300f\u201d\u2019"  # Chinese and Japanese full stops
_WORD = re.compile(rf"\w+(?:[-'{_APOSTROPHE}.]\w+)*|[^\w\s]+")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*")
# Up to a full stop that is followed by white space (and what closes a quotation), or by nothing; a wide one needs no
# space behind it.
_STOP = rf"[.!?{_ELLIPSIS}]+[{_CLOSING}]*(?=\s|$)|[{_WIDE}]+[{_WIDE_CLOSING}]*|(?=\n\s*\n)|$"
_SENTENCE = re.compile(rf"\S(?:(?!\n\s*\n).)*?(?:{_STOP})", re.DOTALL)
_UNITS = {"word": _WORD, "sentence": _SENTENCE, "line": _LINE, "paragraph": _PARAGRAPH}


@shown
class Segments(NamedTuple):
    """Which unit each token is in. Made by `segments`.

    groups: the unit of each token, integers `[T]` from 0 without gaps, as methods take them; names: of each unit, its
    text or what a template calls it.
    """

    groups: np.ndarray
    names: tuple[str, ...]


@public
def segments(text: str, offsets: Any, *, by: Any = "word") -> Segments:
    """Put tokens together to units of a text, from the places that a tokenizer gives for them.

    A token belongs to the unit that holds its first character that is no white space; one of white space alone to the
    unit before it. Tokens without characters (those that begin a sequence, or pad it) are a unit of their own, the
    last, called '<special>'. Units without a token are left out. No tokenizer is bundled: one of `transformers` gives
    the places by `tokenizer(text, return_offsets_mapping=True)["offset_mapping"]`, one of `tokenizers` by
    `tokenizer.encode(text).offsets`.

    Args:
        text: The text that was tokenized.
        offsets: `[T, 2]`, for each token the characters where it begins and ends; (0, 0) for one without any.
        by: 'token', 'word' (letters and digits, or signs, that follow one another), 'sentence' (up to a full stop,
            exclamation or question mark before white space, or an empty line), 'line', 'paragraph' (between empty
            lines); a compiled pattern of which every match begins a unit (the mark of a chat's turn, a document's
            heading); a list of texts that follow one another (retrieved documents); or a mapping from names to
            (begin, end) or to texts (the fields of a template).

    Returns:
        `Segments(groups, names)`: `groups` is what methods take (`jaxplain.shapley_values(f, groups=groups)`,
        `explain_generation(..., groups=groups)`, `context_cite`).

    Raises:
        ValueError: Units that overlap or leave tokens out, a text that is not there, offsets that are not `[T, 2]` or
            reach beyond the text, an unknown unit.
        TypeError: A text that is none.

    Example:
        >>> found = segments("A cat. It sat.", [(0, 1), (1, 5), (5, 6), (7, 9), (9, 13), (13, 14)], by="sentence")
        >>> found.groups.tolist(), found.names
        ([0, 0, 0, 1, 1, 1], ('A cat.', 'It sat.'))
    """
    if not isinstance(text, str):
        raise TypeError(f"{NAME}: `text` has to be a text, not {check.short(text)}.")
    places = _places(text, offsets)
    spans = _token_spans(text, places) if isinstance(by, str) and by == "token" else _spans(text, by)
    starts = [_first(text, begin, end) for begin, end in places]
    numbers = np.array([_unit(start, spans) for start in starts])
    _refuse_outside(text, places, starts, numbers)
    for token, start in enumerate(starts):
        if start is not None and numbers[token] < 0:  # white space goes with what stands before it
            before = [numbers[other] for other in range(token) if numbers[other] >= 0]
            after = [number for number in numbers[token:] if number >= 0]
            numbers[token] = before[-1] if before else after[0] if after else 0
    special = np.array([start is None for start in starts])
    numbers[special] = len(spans)
    names = [*(name for name, _, _ in spans), SPECIAL]
    kept, groups = np.unique(numbers, return_inverse=True)
    return Segments(groups.astype(np.int32), tuple(names[number] for number in kept))


def _places(text: str, offsets: Any) -> np.ndarray:
    try:
        places = np.asarray(offsets)
    except ValueError:
        places = np.zeros(0)
    if not np.issubdtype(places.dtype, np.integer) or places.ndim != 2 or places.shape[-1] != 2 or not len(places):
        raise ValueError(
            f"{NAME}: `offsets` has to be whole numbers [T, 2], where each token begins and ends in the text, not "
            f"{check.short(offsets)}. Tokenizers give them when asked (return_offsets_mapping=True)."
        )
    wrong = np.flatnonzero((places[:, 0] < 0) | (places[:, 1] < places[:, 0]) | (places[:, 1] > len(text)))
    if wrong.size:
        raise ValueError(
            f"{NAME}: token {wrong[0]} has the place {tuple(places[wrong[0]].tolist())}, which is none in a text of "
            f"{len(text)} characters. Pass the text as it was tokenized."
        )
    return places


def _first(text: str, begin: int, end: int) -> int | None:
    """The first character of a token that is no white space, or its last; None for one without characters."""
    if begin == end:
        return None
    return next((place for place in range(begin, end) if not text[place].isspace()), end - 1)


Span = tuple[str, int, int]


def _token_spans(text: str, places: np.ndarray) -> list[Span]:
    """Every token by itself; those that share a character (parts of a letter) together."""
    spans: list[Span] = []
    for begin, end in sorted({(int(b), int(e)) for b, e in places if b < e}):
        if spans and begin < spans[-1][2]:
            spans[-1] = (text[spans[-1][1] : end], spans[-1][1], max(end, spans[-1][2]))
        else:
            spans.append((text[begin:end], begin, end))
    return spans


def _spans(text: str, by: Any) -> list[Span]:
    """The units of a text: name, begin, end, in the order of the text."""
    if isinstance(by, re.Pattern):
        begins = [match.start() for match in by.finditer(text)]
        if not begins:
            raise ValueError(f"{NAME}: the pattern {by.pattern!r} matches nothing in the text.")
        ends = [*begins[1:], len(text)]
        before = [("", 0, begins[0])] if text[: begins[0]].strip() else []
        found = [*before, *(("", begin, end) for begin, end in zip(begins, ends, strict=True))]
        return [(text[begin:end].strip(), begin, end) for _, begin, end in found]
    if isinstance(by, Mapping):
        return _ordered([_named(text, str(name), place) for name, place in by.items()])
    if isinstance(by, Sequence) and not isinstance(by, str):
        return _in_order(text, by)
    check.choice(by, ("token", *_UNITS), NAME, "by")
    return [(match.group().strip(), *match.span()) for match in _UNITS[by].finditer(text)]


def _named(text: str, name: str, place: Any) -> Span:
    if isinstance(place, str):
        begin = text.find(place)
        if begin < 0 or not place:
            raise ValueError(f"{NAME}: the text of `by[{name!r}]` is not in the text.")
        return name, begin, begin + len(place)
    if not isinstance(place, tuple | list) or len(place) != 2 or not all(isinstance(v, int) for v in place):
        raise ValueError(f"{NAME}: `by[{name!r}]` has to be (begin, end) or a text, not {check.short(place)}.")
    if not 0 <= place[0] < place[1] <= len(text):
        raise ValueError(f"{NAME}: `by[{name!r}]` is {tuple(place)}, which is no place in {len(text)} characters.")
    return name, place[0], place[1]


def _ordered(spans: list[Span]) -> list[Span]:
    spans = sorted(spans, key=lambda span: span[1])
    for one, other in itertools.pairwise(spans):
        if other[1] < one[2]:
            raise ValueError(f"{NAME}: the units {one[0]!r} and {other[0]!r} overlap; a token can be in one alone.")
    if not spans:
        raise ValueError(f"{NAME}: `by` holds no units.")
    return spans


def _in_order(text: str, parts: Sequence[Any]) -> list[Span]:
    """The places of texts that follow one another."""
    spans: list[Span] = []
    for index, part in enumerate(parts):
        if not isinstance(part, str):
            raise ValueError(f"{NAME}: `by[{index}]` is {check.short(part)}; pass texts, or a mapping from names.")
        begin = text.find(part, spans[-1][2] if spans else 0)
        if begin < 0 or not part:
            raise ValueError(f"{NAME}: the text of `by[{index}]` is not in the text behind the units before it.")
        spans.append((part, begin, begin + len(part)))
    return _ordered(spans)


def _unit(start: int | None, spans: list[Span]) -> int:
    inside = (number for number, (_, begin, end) in enumerate(spans) if start is not None and begin <= start < end)
    return next(inside, -1)


def _refuse_outside(text: str, places: np.ndarray, starts: list[int | None], numbers: np.ndarray) -> None:
    outside = [
        t for t, start in enumerate(starts) if start is not None and numbers[t] < 0 and not text[start].isspace()
    ]
    if outside:
        listed = ", ".join(f"{t} ({text[slice(*places[t])]!r})" for t in outside[:3])
        raise ValueError(
            f"{NAME}: {len(outside)} of {len(places)} tokens are in no unit: {listed}{' ...' * (len(outside) > 3)}. "
            "The units have to cover the text; name the rest of it as units of their own."
        )
