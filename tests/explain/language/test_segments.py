"""Tokens put together to units: by a real tokenizer's offsets, by every kind of unit, and what leaves tokens out."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from jaxplain.language import segments

TEXT = 'Dr. Who? "No," it\'s half-done.\n\nNew lines\ncount: 3.14 too'


def places(text, pattern=r"\s?\w+|[^\w\s]|\s"):
    """Pieces of a text as many tokenizers make them, each word with the space before it."""
    return [match.span() for match in re.finditer(pattern, text)]


def parts(found, offsets, text=TEXT):
    """The text of each unit's tokens."""
    joined = {}
    for group, (begin, end) in zip(found.groups, offsets, strict=True):
        joined[group] = joined.get(group, "") + text[begin:end]
    return [joined[group].strip() for group in sorted(joined)]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("word", ["Dr", ".", "Who", "?", '"', "No", ',"', "it's", "half-done", ".", "New", "lines", "count", ":",
                  "3.14", "too"]),
        ("sentence", ["Dr.", "Who?", "\"No,\" it's half-done.", "New lines\ncount: 3.14 too"]),
        ("line", ["Dr. Who? \"No,\" it's half-done.", "New lines", "count: 3.14 too"]),
        ("paragraph", ["Dr. Who? \"No,\" it's half-done.", "New lines\ncount: 3.14 too"]),
    ],
)  # fmt: skip
def test_units_of_a_text(by, names):
    offsets = places(TEXT)
    found = segments(TEXT, offsets, by=by)
    assert list(found.names) == names
    assert [re.sub(r"\s", "", p) for p in parts(found, offsets)] == [re.sub(r"\s", "", n) for n in names]
    assert found.groups.min() == 0
    assert found.groups.max() == len(names) - 1


def test_every_token_is_in_the_unit_of_its_first_character():
    draw = np.random.default_rng(0)
    for _ in range(50):
        text = "".join(draw.choice(list("ab .\n!"), 30))
        if not text.strip():
            continue
        cuts = sorted({0, 30, *draw.integers(0, 30, 8).tolist()})
        offsets = list(itertools.pairwise(cuts))
        for by in ("token", "word", "sentence", "line", "paragraph"):
            found = segments(text, offsets, by=by)
            assert len(found.groups) == len(offsets)
            assert sorted(set(found.groups)) == list(range(len(found.names)))


def test_tokens_without_characters_are_a_unit_of_their_own_and_white_space_goes_with_what_is_before():
    found = segments("a  b", [(0, 0), (0, 1), (1, 3), (3, 4), (0, 0)], by="word")
    assert found.groups.tolist() == [2, 0, 0, 1, 2]
    assert found.names == ("a", "b", "<special>")
    assert segments(" a", [(0, 1), (1, 2)]).groups.tolist() == [0, 0]
    assert segments("漢字。仮名。", [(i, i + 1) for i in range(6)], by="sentence").groups.tolist() == [0, 0, 0, 1, 1, 1]
    assert segments("ab", [(0, 1), (0, 1), (1, 2)], by="token").groups.tolist() == [0, 0, 1]  # two bytes of a letter


def test_turns_documents_and_fields():
    chat = "<|user|>Hi there<|model|>Hello"
    tokens = [(0, 8), (8, 10), (10, 16), (16, 25), (25, 30)]
    found = segments(chat, tokens, by=re.compile(r"<\|\w+\|>"))
    assert found.groups.tolist() == [0, 0, 0, 1, 1]
    assert found.names == ("<|user|>Hi there", "<|model|>Hello")
    text = "first. second. third."
    offsets = places(text)
    assert segments(text, offsets, by=["first.", "second.", "third."]).groups.tolist() == [0, 0, 1, 1, 2, 2]
    fields = {"who": "second.", "rest": (0, 6), "end": (14, 21)}
    found = segments(text, offsets, by=fields)
    assert found.names == ("rest", "who", "end")
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_tokenizer_of_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.BPE(unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 1)]
    )
    encoded = tokenizer.encode(TEXT)
    found = segments(TEXT, encoded.offsets, by="sentence")
    assert found.names[-1] == "<special>"
    assert found.groups[0] == len(found.names) - 1
    joined = ["".join(TEXT[b:e] for g, (b, e) in zip(found.groups, encoded.offsets, strict=True) if g == n)
              for n in range(len(found.names) - 1)]  # fmt: skip
    assert [j.strip() for j in joined] == list(found.names[:-1])


@pytest.mark.parametrize(
    ("arguments", "by", "error", "words"),
    [
        (("a b", [(0, 1), (2, 3)]), ["a"], ValueError, r"1 of 2 tokens are in no unit: 1 \('b'\)"),
        (("a b", [(0, 1), (2, 3)]), {"x": (0, 2), "y": (1, 3)}, ValueError, "the units 'x' and 'y' overlap"),
        (("a b", [(0, 1), (2, 3)]), {"x": (0, 9)}, ValueError, r"`by\['x'\]` is \(0, 9\), which is no place"),
        (("a b", [(0, 1), (2, 3)]), {"x": 1}, ValueError, r"has to be \(begin, end\) or a text"),
        (("a b", [(0, 1), (2, 3)]), ["c"], ValueError, r"the text of `by\[0\]` is not in the text"),
        (("a b", [(0, 1), (2, 3)]), {}, ValueError, "holds no units"),
        (("a b", [(0, 1), (2, 3)]), "chapter", ValueError, "`by` is 'chapter'; it has to be one of 'token', 'word'"),
        (("a b", [(0, 1), (2, 3)]), re.compile("x"), ValueError, "matches nothing"),
        (("a b", [(0, 1), (2, 4)]), "word", ValueError, r"token 1 has the place \(2, 4\)"),
        (("a b", [0, 1]), "word", ValueError, r"`offsets` has to be whole numbers \[T, 2\]"),
        (("a b", [(0.0, 1.0)]), "word", ValueError, r"`offsets` has to be whole numbers"),
        ((5, [(0, 1)]), "word", TypeError, "`text` has to be a text"),
    ],
)
def test_what_is_refused_says_why(arguments, by, error, words):
    with pytest.raises(error, match=words):
        segments(*arguments, by=by)
