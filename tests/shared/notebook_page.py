"""Notebooks as pages that need no network, and a browser that looks at them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def browser() -> str | None:
    """Where Chromium is, if it is there."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def page(notebook: Path, target: Path) -> Path:
    """A notebook as one HTML file: cells and outputs as the converter draws them, without the scripts that it would
    load from elsewhere."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(template_name="basic").from_filename(str(notebook))
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=", body)
    head = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{html.escape(notebook.stem)}</title>'
    target.write_text(f"{head}<body>{body}</body></html>", encoding="utf-8")
    return target


@dataclass
class Opened:
    """What a browser saw: what it asked for besides the files, what it complained of, and what each page holds."""

    requests: list[str]
    console: list[str]
    pages: list[dict[str, Any]]


_INDEX = """<!DOCTYPE html><meta charset="utf-8"><title>all</title><body>%s<pre id="found"></pre><script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, images = [...page.images];
    return {title: page.querySelector("h1").firstChild.textContent, images: images.length,
            broken: images.filter((image) => !image.complete || !image.naturalWidth).length,
            cells: page.querySelectorAll(".cell").length};
  });
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""


def opened(pages: list[Path], folder: Path) -> Opened:
    """Open pages in one run of a headless browser, each in a frame."""
    frames = "".join(f'<iframe src="{path.name}" width="1200" height="800"></iframe>' for path in pages)
    (folder / "index.html").write_text(_INDEX % frames, encoding="utf-8")
    log = folder / "net.json"
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--no-first-run"]
    command += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"]
    command += ["--enable-logging=stderr", f"--log-net-log={log}", "--virtual-time-budget=20000", "--dump-dom"]
    run = subprocess.run([*command, f"file://{folder / 'index.html'}"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    events = (event.get("params") or {} for event in json.loads(log.read_text(encoding="utf-8"))["events"])
    # what the browser asks by itself (the time, its updates) has no origin
    pages_own = (params for params in events if params.get("initiator", "not an origin") != "not an origin")
    asked = [params["url"] for params in pages_own if re.match("https?|wss?", params.get("url", ""))]
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.S)
    return Opened(asked, console, json.loads(html.unescape(found[1])) if found and found[1] else [])
