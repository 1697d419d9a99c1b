import base64
import io
import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxplain.plot import attribution_bar, tokens_html
from jaxplain.report.page import Section, Table, report
from shared.html_page import Page


def write(tmp_path, sections, **settings):
    return Page(report(tmp_path / "run.html", sections, **settings).read_text(encoding="utf-8"))


def test_page_holds_everything_and_needs_nothing(tmp_path):
    sections = [
        ("Data", ["Two\n\nparagraphs", attribution_bar([1.0, -2.0])]),
        ("Scores", {"saliency": {"deletion": 0.123456, "insertion": np.float32(0.5)}, "random": {"deletion": np.nan}}),
        Section("Layers", Table(["path", "parameters"], [["dense", 12800]], "all layers"), collapsed=True),
        ("Text", tokens_html(["a", "b"], [0.1, 0.2])),
    ]
    page = write(tmp_path, sections, title="Digits", facts={"seed": 0, "accuracy": 0.98765, "ok": True})
    assert [attributes.get("open", "missing") for attributes in page.all("details")] == [None, None, "missing", None]
    assert [link["href"] for link in page.all("a")] == ["#section-0", "#section-1", "#section-2", "#section-3"]
    for text in ("Two", "paragraphs", "0.1235", "0.5", "undefined", "12,800", "all layers", "0.9877", "yes", "Digits"):
        assert text in page.texts
    assert not {"script", "link"} & {tag for tag, _ in page.elements}
    source = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "://" not in source
    assert "prefers-color-scheme: dark" in source


def test_figures_are_embedded_with_their_alternative_text(tmp_path):
    plain = Figure(figsize=(2, 1))
    plain.add_subplot()
    sections = [
        ("Named", attribution_bar([1.0, -2.0])),
        ("Plain", plain),
        Section("Told", plain, alt='a "quoted" <text>'),
    ]
    images = write(tmp_path, sections, dpi=50).all("img")
    assert [image["alt"] for image in images] == ["Bars of 2 features by attribution", "Plain", 'a "quoted" <text>']
    kind, data = images[1]["src"].split(",")
    assert kind == "data:image/png;base64"
    decoded = base64.b64decode(data)
    assert decoded[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(decoded[16:20], "big") == 100
    assert plain.get_dpi() == 100
    # 2 inches of 96 pixels; on a narrow screen as wide as makes its letters of 10 points (13.3 pixels) 11 pixels high
    assert (images[1]["width"], images[1]["style"]) == ("192", "--usual: 158px; --narrow: 158px")


def test_svg_figures(tmp_path):
    (image,) = write(tmp_path, [("Plain", attribution_bar([1.0]))], image_format="svg").all("img")
    kind, data = image["src"].split(",")
    assert kind == "data:image/svg+xml;base64"
    assert b"<svg" in base64.b64decode(data)


@pytest.mark.parametrize("image_format", ["png", "svg"])
def test_same_data_same_bytes(tmp_path, image_format):
    pages = []
    for _ in range(2):
        sections = [("A", attribution_bar([1.0, 2.0])), ("B", {"x": 1})]
        pages.append(report(tmp_path / "run.html", sections, image_format=image_format).read_bytes())
    assert pages[0] == pages[1]


def test_all_text_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>&\"'"
    sections = [
        Section(evil, evil),
        ("rows", [{evil: evil}, {evil: 2}]),
        ("names", {evil: evil}),
        ("table", Table([evil, "b"], [[evil, evil]], evil)),
        ("matrix", np.arange(4.0).reshape(2, 2)),
        ("words", tokens_html([evil], [1.0])),
    ]
    page = write(tmp_path, sections, title=evil, facts={evil: evil})
    assert not page.all("script")
    assert page.texts.count(evil) >= 10


def test_notebook_html_is_kept_and_refused_if_it_loads_or_runs(tmp_path):
    class Display:
        def __init__(self, text):
            self.text = text

        def _repr_html_(self):
            return self.text

    page = write(tmp_path, [("Frame", Display("<table><tr><td>kept</td></tr></table>"))])
    (frame,) = page.all("iframe")
    assert frame["srcdoc"].endswith("<table><tr><td>kept</td></tr></table>")
    before = os.listdir(tmp_path)
    loads = [
        "<script>1</script>",
        '<p onclick="f()">x</p>',
        '<img src="http://example.org/a.png">',
        '<a href=" JavaScript:f()">x</a>',
        '<p style="background: url(x.png)">x</p>',
        "<style>@import 'x.css';</style>",
        '<link rel="stylesheet" href="x.css">',
    ]
    for text in loads:
        with pytest.raises(ValueError, match="neither runs scripts nor loads files"):
            report(tmp_path / "other.html", [("Bad", Display(text))])
    assert os.listdir(tmp_path) == before


def test_nothing_half_written(tmp_path, monkeypatch):
    target = report(tmp_path / "run.html", [("A", "first")])
    before = target.read_bytes()
    with pytest.raises(TypeError, match="content of section 'B' holds object"):
        report(target, [("A", "second"), ("B", object())])
    assert target.read_bytes() == before

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            report(target, [("A", "third")])
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.html"]


def test_replaces_a_page(tmp_path):
    report(tmp_path / "run.html", [("A", "first")])
    page = write(tmp_path, [("A", "second")])
    assert "second" in page.texts
    assert "first" not in page.texts


def test_paths_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        report(tmp_path / "missing" / "run.html", [("A", "x")])
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        report(tmp_path / "file" / "run.html", [("A", "x")])
    with pytest.raises(IsADirectoryError, match=r"such as .*report\.html"):
        report(tmp_path, [("A", "x")])
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="is read-only"):
        report(tmp_path / "run.html", [("A", "x")])
    assert os.listdir(tmp_path) == ["file"]


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report("run.html", [("A", "x")]).exists()
    assert os.listdir() == ["run.html"]


@pytest.mark.parametrize(
    ("error", "sections", "message"),
    [
        (ValueError, [], "`sections` is empty"),
        (TypeError, ["text"], r"`sections\[0\]` is str"),
        (TypeError, [("A", 3)], "holds int"),
        (TypeError, [("A", [io.StringIO()])], "holds StringIO"),
        (ValueError, [("A", Table(["a", "b"], [[1]]))], r"differ in length \(\[1, 2\]\)"),
    ],
)
def test_bad_content(tmp_path, error, sections, message):
    with pytest.raises(error, match=message):
        report(tmp_path / "run.html", sections)
    assert os.listdir(tmp_path) == []


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match="`image_format` is 'gif'"):
        report(tmp_path / "run.html", [("A", "x")], image_format="gif")
