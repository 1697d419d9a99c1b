"""Pages in a real browser: silent, asking for nothing, readable light and dark and on a telephone, used by keyboard."""

import numpy as np
import pytest

from jaxplain import plot, report
from jaxplain.report import Section, Table
from shared.browser import Browser, binary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary() is None, reason="no Chromium (or Chrome) is installed to open the pages in"),
]

GENERATOR = np.random.default_rng(0)
COUNT = 12
MAPS = GENERATOR.normal(size=(COUNT, 8, 8))
SCORES = np.round(GENERATOR.normal(size=COUNT), 3)
SCORES[3] = np.nan
GAPS = np.round(0.1 * GENERATOR.normal(size=COUNT), 4)
LABELS, SAID = np.arange(COUNT) % 3, (np.arange(COUNT) % 3) * (np.arange(COUNT) % 4 > 0)
NAMES = [
    "cat",
    "</script><script>document.title='broken'</script>",
    "\u202edog\" onmouseover=\"document.title='broken'",
]

LOW = """
(() => {
  const number = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = colour => colour.slice(0, 3).map(c => linear(c / 255))
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = number(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const found = [], small = [];
  const look = (element, text, style) => {
    if (!element.getClientRects().length || style.visibility === "hidden") return;
    const [one, other] = [light(number(style.color)), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    seen += 1;
    if (contrast < 4.5) found.push([text.slice(0, 40), element.tagName, contrast]);
    if (parseFloat(style.fontSize) < 11) small.push([text.slice(0, 40), style.fontSize]);
  };
  let seen = 0;
  for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName)) continue;
    look(element, text, getComputedStyle(element));
  }
  for (const element of document.querySelectorAll("body *")) {
    for (const where of ["::before", "::after"]) {
      const style = getComputedStyle(element, where);
      if (!["none", "normal"].includes(style.content)) look(element, style.content, style);
    }
    if (["INPUT", "SELECT"].includes(element.tagName)) look(element, element.tagName, getComputedStyle(element));
  }
  return {found, small, seen, wide: document.documentElement.scrollWidth - innerWidth};
})()
"""
"""Texts of too little contrast, texts that are too small, and how far the page is wider than the window."""

LETTERS = """[...document.querySelectorAll(".drawn img")].map(image => {
  const box = image.getBoundingClientRect();
  return (box.width - 2 * parseFloat(getComputedStyle(image).paddingLeft)) / image.naturalWidth;
})"""


def sections():
    history = {"loss": [2.0, 1.0, 0.5], "validation_loss": [2.0, 1.2, 1.4], "accuracy": [0.5, 0.8, 0.9]}
    scores = {"saliency": {"deletion": [0.1, 0.2]}, "random": {"deletion": [0.4, 0.5]}}
    examples = report.examples_section(
        GENERATOR.random((COUNT, 8, 8)),
        {"saliency": MAPS, "coarse <b>": MAPS[:, ::2, ::2], "third": 10 * MAPS},
        LABELS, predicted=SAID, scores=SCORES, gaps=GAPS, names=NAMES,
    )  # fmt: skip
    return [
        examples,
        report.examples_section(MAPS[:, 0], MAPS[:, 1], features=[f"feature of a long name {k}" for k in range(8)]),
        Section("Scores", plot.scores_table(scores, better={"deletion": "lower"}), reading="One sentence."),
        ("Confusion", [plot.confusion_matrix(LABELS, SAID, names=NAMES), plot.attribution_bar([1.0, -2.0])]),
        ("Curves", ["Some words", plot.learning_curves(history), Table(["a", "b"], [["long " * 30, 1.0]], "words")]),
        ("Words", plot.tokens(["a", "fine", "film"], [0.1, 0.9, -0.5])),
        Section("Closed", {"a": 1, "b": "two"}, collapsed=True),
    ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return report.report(
        tmp_path_factory.mktemp("page") / "page.html", sections(), title="<i>A page</i>", facts={"a": 1}
    )


def silent(page):
    """Nothing was said in the console, nothing was asked of any network, and nothing ran that is not ours."""
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:image", "about:srcdoc"))] == []
    assert sum(url.startswith("file:") for url in page.asked) == 1
    assert page("document.title") == "<i>A page</i>"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_readable(browser, path, width, dark):
    page = browser.open(path, width, dark=dark)
    assert page("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    page("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    page("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    page("Promise.all([...document.images].map(image => image.decode())).then(() => 0)")
    found = page(LOW)
    assert found["seen"] > 300
    assert found["found"] == []
    assert found["small"] == []
    assert found["wide"] <= 0
    (frame,) = page.inside(LOW)
    assert (frame["seen"], frame["found"], frame["small"]) == (7, [], [])
    assert all(scale >= 0.95 * 96 / 110 for scale in page(LETTERS))  # of pictures with 110 dots an inch
    silent(page)
    page.close()


def test_examples_are_sorted_filtered_and_switched_by_keyboard(browser, path):
    page = browser.open(path)
    order = (
        "[...document.querySelector('.gallery tbody').rows].filter(row => !row.hidden)"
        ".map(row => row.cells[0].innerText.trim())"
    )
    count = "document.querySelector('.gallery output').textContent"
    focus = "document.activeElement.closest('label, th, button')?.textContent.trim()"

    def reach(words):
        for _ in range(120):
            page.press("Tab")
            if page(focus) == words or (page(focus) or "").startswith(words):
                return
        raise AssertionError(f"no key reaches {words!r}")

    assert page(count) == f"{COUNT} of {COUNT} examples"
    reach("side by side")
    assert page("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    visible = (
        "[...document.querySelector('.gallery').querySelectorAll('thead .by')]"
        ".filter(head => head.getClientRects().length).map(head => head.textContent)"
    )
    assert page(visible) == ["saliency", "coarse <b>", "third"]
    page.press("ArrowLeft")
    assert page(visible) == ["third"]
    page.press("ArrowRight")  # side by side again
    colours = "getComputedStyle(document.querySelector('.map')).filter"
    assert page(colours) == 'url("#colours-0")'
    reach("blue to red")
    page.press("ArrowRight")
    assert page(colours) == 'url("#colours-1")'
    end = "getComputedStyle(document.querySelector('.by-0 .end'), '::after').content"
    own = page(end)
    reach("each map")
    page.press("ArrowRight", "ArrowRight")
    assert page(end) == f'"±{10 * np.abs(MAPS).max():.3g}"' != own
    assert page(colours).startswith("contrast(")

    reach("class")
    page.press("ArrowDown")
    assert page(count) == f"4 of {COUNT} examples"
    assert page(order) == ["0", "3", "6", "9"]
    reach("prediction")
    page.press("ArrowDown", "ArrowDown")  # wrong
    wrong = [str(k) for k in range(COUNT) if LABELS[k] == 0 and SAID[k] != 0]
    assert page(order) == wrong
    reach("show all")
    page.press("Enter")
    assert page(count) == f"{COUNT} of {COUNT} examples"
    page.press("Shift+Tab", "Shift+Tab", "Shift+Tab")
    assert page(focus).startswith("score from")
    page.press("0")
    positive = [str(k) for k in range(COUNT) if SCORES[k] >= 0]
    assert page(order) == positive
    page.press("Tab", "Tab", "0.05")
    assert page(order) == [k for k in positive if abs(GAPS[int(k)]) <= 0.05]
    page.press("Tab", " ")

    reach("score")
    page.press("Enter")
    sort = "document.querySelector('th:is([aria-sort=descending], [aria-sort=ascending])').getAttribute('aria-sort')"
    assert page(sort) == "descending"
    falling = [str(k) for k in np.argsort(-np.nan_to_num(SCORES, nan=-9), kind="stable")]
    assert page(order) == falling
    assert page(count) == f"{COUNT} of {COUNT} examples, by score, descending"
    page.press(" ")
    assert page(sort) == "ascending"
    assert page(order) == [*falling[:-1][::-1], "3"]  # what has no score stays last
    silent(page)
    page.close()


def test_values_under_the_pointer_and_by_number(browser, path):
    page = browser.open(path)
    page("document.querySelector('.colours-1').click(), document.querySelector('.scale-2').click()")
    box = page(
        "(async () => { const map = document.querySelectorAll('.map')[3]; map.scrollIntoView(); await map.decode();"
        "const box = map.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })()"
    )
    page.move(box[0] + (5 + 0.5) / 8 * box[2], box[1] + (2 + 0.5) / 8 * box[3])
    said = page("document.querySelector('.tip').textContent")
    place, value = said.split(": ")
    assert place == "row 3, column 6"
    assert float(value) == pytest.approx(MAPS[1, 2, 5], rel=1e-2)
    assert page("document.querySelectorAll('th .near')[1].focus(), document.activeElement.textContent") == "1"
    page.press("Enter")
    assert page("document.querySelector('dialog').open") is True
    filters = "[...document.querySelectorAll('{} .map')].slice({}, {} + 3).map(map => getComputedStyle(map).filter)"
    assert page(filters.format("dialog", 0, 0)) == page(filters.format(".gallery", 3, 3))
    number = "document.activeElement.closest('label')?.textContent.trim()"
    for _ in range(4):
        if page(number) == "row":
            break
        page.press("Tab")
    page.press("ArrowUp", "ArrowUp", "Tab", "ArrowUp")
    spoken = page("document.querySelector('dialog output').textContent")
    values = [float(part.rpartition(" ")[2]) for part in spoken.split(", ")]
    assert values == pytest.approx([MAPS[1, 2, 1], MAPS[1, 2, 0], 10 * MAPS[1, 2, 1]], rel=1e-2)
    page.press("Escape")
    assert page("document.querySelector('dialog').open") is False
    silent(page)
    page.close()


def test_a_screen_reader_is_told_what_everything_is(browser, path):
    page = browser.open(path)
    nodes = page.tree()
    named = {(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in nodes}
    for known in (
        ("radio", "saliency"), ("radio", "blue to red"), ("radio", "all maps"), ("combobox", "class"),
        ("combobox", "prediction"), ("spinbutton", "score from"), ("spinbutton", "to"), ("spinbutton", "|gap| at most"),
        ("button", "show all"), ("columnheader", "score"), ("rowheader", "0"), ("group", "Colours"), ("table", ""),
    ):  # fmt: skip
        assert known in named, known
    blank = [
        role
        for role, name in named
        if role in ("button", "radio", "combobox", "spinbutton", "image", "link") and not name
    ]
    assert blank == []
    silent(page)
    page.close()


def test_without_the_script_nothing_runs_and_switches_hold(browser, path, tmp_path):
    plain = report.report(tmp_path / "plain.html", sections(), title="<i>A page</i>", interactive=False)
    page = browser.open(plain)
    assert page("document.querySelectorAll('.gallery button, .filters').length") == 0
    page("document.querySelector('.method-1').click()")
    assert page("document.querySelector('td.by-0').getClientRects().length") == 0
    silent(page)
    page.close()
    text = path.read_text(encoding="utf-8")
    evil = tmp_path / "evil.html"
    evil.write_text(
        text.replace("</main>", "<script>document.title = 'ran'</script><p onclick='1'>x</p></main>"), encoding="utf-8"
    )
    page = browser.open(evil)
    assert page("document.title") == "<i>A page</i>"  # the policy admits our script alone
    assert any("Content Security Policy" in said for said in page.said)
    page.close()


def test_five_hundred_examples(browser, tmp_path):
    count = 500
    maps = GENERATOR.normal(size=(count, 8, 8))
    section = report.examples_section(
        GENERATOR.random((count, 8, 8)),
        {"a": maps, "b": maps, "c": maps},
        np.arange(count) % 10,
        scores=np.arange(count),
    )
    path = report.report(tmp_path / "page.html", [section], title="<i>A page</i>")
    assert path.stat().st_size < 2_500_000
    page = browser.open(path)
    seconds = page(
        "(() => { const start = performance.now(); document.querySelector('th[data-first=descending] button').click();"
        "document.body.getBoundingClientRect(); return (performance.now() - start) / 1000; })()"
    )
    assert page("document.querySelector('tbody th').textContent") == "499"
    assert seconds < 2
    silent(page)
    page.close()
