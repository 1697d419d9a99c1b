"""The section of examples: what is in its table, values inside its pictures, one script by its hash or none."""

import base64
import hashlib
import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from jaxplain import plot, report
from jaxplain.report.foreign import POLICY
from jaxplain.report.raster import map_data, pooled
from jaxplain.report.reading import SECTIONS
from jaxplain.report.script import SCRIPT
from jaxplain.report.style import GALLERY
from shared.html_page import Page

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random((4, 6, 5))
MAPS = {"saliency": np.abs(GENERATOR.normal(size=(4, 6, 5))), "<coarse>": GENERATOR.normal(size=(4, 3, 2, 1))}
HOSTILE = (
    "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)",
    "javascript:alert(1)", "a\0b\x1bc", "\u202egnp.exe\u202c", "\u2066\u2069", "&lt;b&gt;", "{policy}",
    "</option></select>", "\ud800", "`${1}`",
)  # fmt: skip


def section(**more):
    settings = {
        "predicted": [0, 1, 1, 0],
        "scores": [3.0, -1.0, np.nan, 2.0],
        "gaps": {"saliency": [0.0, 0.5, -2.0, 0.1]},
        "names": ["cat", "dog"],
    }
    return report.examples_section(IMAGES, MAPS, [0, 1, 0, 1], **{**settings, **more})


def write(tmp_path, made, **settings):
    return report.report(tmp_path / "page.html", made, **settings).read_text(encoding="utf-8")


def test_a_table_with_what_it_is_sorted_and_filtered_by(tmp_path):
    text = write(tmp_path, [section()])
    page = Page(text)
    heads = [head for head in page.all("th") if head["scope"] == "col"]
    assert [head.get("data-first") for head in heads] == [
        "ascending", None, None, None, "ascending", "ascending", "descending", "descending",
    ]  # fmt: skip
    rows = [row for row in page.all("tr") if "data-keys" in row]
    assert [row["data-keys"].split()[-4:] for row in rows] == [
        ["0", "0", "3", "0"], ["1", "1", "-1", "0.5"], ["0", "1", "NaN", "-2"], ["1", "0", "2", "0.1"],
    ]  # fmt: skip
    assert [(row["data-class"], row["data-right"]) for row in rows] == [("0", "1"), ("1", "1"), ("0", "0"), ("1", "0")]
    for words in (
        "example",
        "input",
        "saliency",
        "<coarse>",
        "class",
        "prediction",
        "score",
        "gap, saliency",
        "✗ wrong",
    ):
        assert words in page.texts
    assert SECTIONS["examples_section"] in page.texts
    assert [option["value"] for option in page.all("option")] == ["", "0", "1", "", "1", "0"]
    images = page.all("img")
    assert len(images) == 12
    for image in images:
        assert image["alt"]
        assert image["loading"] == "lazy"
    assert all(row.get("role") == "row" for row in rows)
    assert len([head for head in page.all("th") if head["scope"] == "row"]) == 4


def test_a_map_holds_its_values():
    values = np.array([[0.0, 1.0, -2.0], [0.5, 2.0, 1e-4]])
    kind, data = map_data(values, 2.0).split(",")
    assert kind == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    read = (256 * pixels[..., 0] + pixels[..., 1] - 32768) / 32767 * 2.0
    np.testing.assert_allclose(read, values, atol=2 / 32767)
    assert pixels[0, 0].tolist() == [128, 0, 0]
    zero = np.asarray(Image.open(io.BytesIO(base64.b64decode(map_data(0 * values, 0.0).split(",")[1]))))
    assert (zero == [128, 0, 0]).all()
    small = pooled(np.arange(2 * 5 * 4.0).reshape(2, 5, 4), 3)
    assert small.shape == (2, 3, 2)
    assert small[0, 0].tolist() == [0 + 1 + 4 + 5, 2 + 3 + 6 + 7]
    assert small[0, 2].tolist() == [16 + 17, 18 + 19]


def test_one_script_by_its_hash_or_none(tmp_path):
    text = write(tmp_path, [section()])
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script == SCRIPT
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed.pop("script-src") == f"'sha256-{digest}'"
    assert allowed == dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert "://" not in text
    assert not re.search(r"<[^>]* on[a-z]+=", text)
    plain = write(tmp_path, [section()], interactive=False)
    for none in ("<script", "data-by", "aria-live"):
        assert none not in plain
    assert f'content="{POLICY}"' in plain
    assert 'type="radio"' in plain  # methods and colours are switched by CSS
    assert len(text) - len(plain) < 9_500
    assert "<script" not in write(tmp_path, [("Nothing to sort", plot.attribution_bar([1.0]))])


def test_hostile_words_stay_words(tmp_path):
    bare = Page(write(tmp_path, [section()], interactive=False))
    for evil in HOSTILE:
        made = report.examples_section(
            IMAGES[:1], {evil: MAPS["saliency"][:1]}, [evil], predicted=[evil], gaps={evil: [0.1]}, heading=evil
        )
        rows = report.examples_section(None, {evil: np.ones((1, 1))}, [evil], features=[evil])
        cells = plot.confusion_matrix([0], [0], names=[evil]) if "\ud800" not in evil and "\0" not in evil else "none"
        text = write(tmp_path, [made, rows, (evil, cells)], title=evil, facts={evil: evil}, interactive=False)
        page = Page(text)
        assert {tag for tag, _ in page.elements} <= {tag for tag, _ in bare.elements} | {
            "ul",
            "bdi",
            "span",
            "li",
            "i",
            "figure",
            "figcaption",
            "caption",
            "a",
            "nav",
        }
        for tag, attributes in page.elements:
            assert not any(name.startswith("on") for name in attributes), (evil, tag)
            assert not str(attributes.get("href", "#")).startswith("javascript"), (evil, tag)
        assert not re.search("[\0-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text.replace("\n", "")), evil
        if "\ud800" not in evil and not re.search("[\0\x1b\u2066\u202e]", evil):
            assert page.texts.count(evil) + sum(evil in t for t in page.texts) >= 5, evil


def test_rows_of_a_table_are_bars(tmp_path):
    x = np.array([[1.0, 2.0, 3.0]])
    made = report.examples_section(x, {"gradient": np.array([[0.5, -2.0, 0.0]])}, features=["age", "dose", "<c>"])
    text = write(tmp_path, [made])
    bars = re.findall(
        r'<li><span>(.*?)</span> <span><i class="(\w+)" style="width: ([\d.]+)rem"></i> (.*?)</span></li>', text
    )
    assert bars == [
        ("<bdi>dose</bdi> = 2", "against", "6.00", "-2"),
        ("<bdi>age</bdi> = 1", "for", "1.50", "+0.5"),
        (f"<bdi>{html.escape('<c>')}</bdi> = 3", "for", "0.00", "+0"),
    ]


def test_many_examples_are_cut_and_said(tmp_path):
    made = section(limit=3)
    assert made.content[0] == "The first 3 of 4 examples."
    assert len(made.content[1]) == 3
    assert (
        section(resolution=4).content[0]
        == "Of maps of more than 4 pixels a side a cell is the sum of a square of them."
    )


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: section(predicted=[0]), ValueError, "`predicted`"),
        (lambda: section(scores=[1.0]), ValueError, r"`scores` has shape \(1,\), but there are 4 examples"),
        (lambda: section(gaps={"a": ["x"] * 4}), TypeError, "`gaps` has to hold a number for each example"),
        (lambda: report.examples_section(IMAGES[:2], MAPS), ValueError, "`inputs` holds 2 examples, but"),
        (lambda: report.examples_section(IMAGES, {}), ValueError, "`attributions` is empty"),
        (lambda: report.examples_section(None, np.full((2, 3), np.nan)), ValueError, "NaN"),
        (lambda: report.examples_section(None, {"a": [[1.0]], "b": [[[1.0]]]}), ValueError, "make a section of each"),
        (lambda: report.examples_section(np.ones((2, 3, 3, 2)), np.ones((2, 3, 3))), ValueError, "2 channels"),
        (lambda: report.examples_section(None, np.ones((2, 3)), features=["a"]), ValueError, "`features` holds 1"),
        (lambda: section(names=["cat"]), ValueError, "`names` holds 1 names, but there is class 1"),
        (lambda: section(limit=0), ValueError, "`limit`"),
    ],
)  # fmt: skip
def test_wrong_calls_are_told(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_numbers_are_not_broken_in_two():
    """A score of 1e-12 was written in two lines beside long names of classes."""
    maps = np.ones((2, 4, 4))
    section = report.examples_section(maps, maps, ["a", "b"], scores=[1e-12, -1e12], gaps=[0.0, 1.0])
    made = section.content.html(1, interactive=True)
    assert made.count('<td role="cell" class="number" data-head="score">') == 2
    assert made.count('<td role="cell" class="number" data-head="gap">') == 2
    assert made.count('class="number"') == 4
    assert ".gallery tbody td.number { white-space: nowrap; }" in GALLERY
