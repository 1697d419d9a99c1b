"""Foreign HTML in a page: held by a frame whatever it is, and told where it is plainly there to run or load."""

import contextlib
import html
import re
from html.parser import HTMLParser

import jax.numpy as jnp
import pytest

import jaxplain
from jaxplain.plot import tokens_html
from jaxplain.report import report
from jaxplain.report.foreign import POLICY, framed
from shared.hostile_html import HOSTILE


class Display:
    def __init__(self, text):
        self.text = text

    def _repr_html_(self):
        return self.text


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.ends = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.ends.append(tag)


def frame_of(page):
    """The attributes of the one frame, read from the page's text without trusting a parser."""
    (attributes,) = re.findall(r'<iframe (sandbox="" title="[^"<>]*" style="[^"<>]*" srcdoc="[^"<>]*")></iframe>', page)
    return dict(re.findall(r'(\w+)="([^"]*)"', attributes))


def test_hostile_markups_are_refused_or_held(tmp_path):
    empty = report(tmp_path / "empty.html", [("Foreign", Display(""))]).read_text(encoding="utf-8")
    head = html.unescape(frame_of(empty)["srcdoc"])
    assert f'content="{POLICY}"' in head
    held = {}
    for name, markup in HOSTILE.items():
        with contextlib.suppress(ValueError):
            page = report(tmp_path / "page.html", [("Foreign", Display(markup))]).read_text(encoding="utf-8")
            held[name] = frame_of(page)
            assert html.unescape(held[name]["srcdoc"]) == head + markup
            # without what the frame holds and its guessed height, the page is the page around nothing
            bare = [re.sub(r'style="height[^"]*" srcdoc="[^"]*"', "", text) for text in (page, empty)]
            assert bare[0] == bare[1]
    assert (len(HOSTILE), len(held)) == (95, 28)
    for name, markup in HOSTILE.items():  # a policy does not hold connections that links and frames open
        if re.search("<(link|i?frame)", markup, re.IGNORECASE):
            assert name not in held


@pytest.mark.parametrize(
    "tag", ["link", "LINK", "iframe", "IFrame", "frame", "object", "embed", "script", "base", "meta"]
)
@pytest.mark.parametrize(
    "where", ["<{0} x>", "<!--><{0}>-->", "<svg><style><{0}/></style></svg>", "<p title='</p><{0}", "<textarea><{0} a"]
)
def test_what_passes_a_policy_is_refused_wherever_it_stands(tag, where):
    with pytest.raises(ValueError, match=f"'Here' holds <{tag.lower()}>"):
        framed(where.format(tag), "Here")


def test_the_page_forbids_network_and_script_to_itself(tmp_path):
    page = report(tmp_path / "page.html", [("A", "text")]).read_text(encoding="utf-8")
    found = Elements(page).found
    policy = {"http-equiv": "Content-Security-Policy", "content": POLICY}
    assert found[:4] == [("html", {"lang": "en"}), ("head", {}), ("meta", {"charset": "utf-8"}), ("meta", policy)]
    allowed = dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert allowed == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_what_is_ours_is_kept(tmp_path):
    drawing = jaxplain.draw(lambda x: jnp.tanh(x).sum())(jnp.ones(3))
    markup = tokens_html(["a", "<b>"], [0.1, -0.2])
    page = report(tmp_path / "page.html", [("Text", markup), ("Model", drawing)]).read_text(encoding="utf-8")
    assert html.unescape(frame_of(page)["srcdoc"]).endswith(str(markup))
    (image,) = (attributes for tag, attributes in Elements(page).found if tag == "img")
    assert image["alt"] == "Model"
    assert image["src"].startswith("data:image/svg+xml;base64,")


def test_a_frame_is_as_high_as_its_content_needs_about():
    def height(markup):
        return float(re.search(r"height: ([\d.]+)rem", framed(markup, "A"))[1])

    line = 1.9
    assert height("one") == pytest.approx(3.4)
    assert height("<br>one" * 10) == pytest.approx(line * 10 + 1.5)
    assert height("<tr><td>x</td></tr>" * 10) == height("<br>one" * 10)
    assert height("<p>one</p>") > height("one")
    assert height("x" * 700) == height("<br>one" * 10)
    assert height("<style>" + "p { color: red }\n" * 100 + "</style>one") == pytest.approx(3.4)
    assert height('<svg height="280"></svg>') == pytest.approx(line * 10 + 1.5)
    assert height("<p>one</p>" * 1000) == 40


@pytest.mark.parametrize("value", [None, 3, b"<p>", ["<p>"]])
def test_markup_that_is_no_text(tmp_path, value):
    with pytest.raises(TypeError, match=f"section 'A' returned {type(value).__name__}, not a text"):
        report(tmp_path / "page.html", [("A", Display(value))])


def test_text_that_has_no_encoding_is_written(tmp_path):
    page = report(tmp_path / "page.html", [("\udcff", "\ud800")]).read_text(encoding="utf-8")
    assert "&#56575;" in page
