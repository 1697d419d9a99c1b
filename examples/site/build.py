"""Build the documentation site, without network: `python examples/site/build.py`, then open `out/site/html/index.html`.

    python examples/site/build.py [--output FOLDER] [--bare] [--all]

The pages are put together in the output folder: those written by hand, the reference made of docstrings, a picture for
each method, the path with its figures, the examples run with `--quick`. A warning of Sphinx is an error, and so is a
page that would load anything from elsewhere. What has not changed is not made again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import gallery
import lessons
import reference
import sweep

import jaxplain

SITE = Path(__file__).parent
ROOT = SITE.parents[1]
ONCE = "--xla_backend_optimization_level=0"
"""Half of a cold build compiles programs that run once and are small: that is worth more than how fast they run."""

PROJECT = ("changelog", "contributing", "stability")
"""Pages about the project itself, each shown where its file lies beside this one."""


def assemble(source: Path, images: Path | None, examples: bool) -> None:
    """Put the pages together."""
    found = [name for name in PROJECT if (SITE / f"{name}.md").exists()]
    filled = {"%gallery%": "gallery/index" if examples else "", "%project%": "\n".join(found)}
    for page in sorted(SITE.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for mark, value in filled.items():
            text = text.replace(f"{mark}\n", f"{value}\n" if value else "")
        if "%table%" in text:
            text = text.replace("%table%", reference.table())
        if page.parent.name == "path" and images is not None:
            text = lessons.illustrated(text, page.stem, images)
        reference.renew(source / page.relative_to(SITE), text)
    reference.write(source / "reference", images)


def draw(images: Path) -> int:
    """The figures of the path and of the reference, one process each; 0 where nothing was wrong."""
    images.mkdir(parents=True, exist_ok=True)
    programs = [subprocess.Popen([sys.executable, SITE / f"{name}.py", images]) for name in ("lessons", "pictures")]
    return max([program.wait() for program in programs])


def sphinx(source: Path, output: Path, examples: Path | None, everything: bool = False) -> int:
    """Run Sphinx; its exit status."""
    from sphinx.cmd.build import main

    if examples is not None:
        gallery.copy(examples)
        os.environ["JAXPLAIN_EXAMPLES"] = str(examples)
        os.environ.update({"JAXPLAIN_ALL_EXAMPLES": "yes"} if everything else {})
    folders = ["-d", str(output / "doctrees"), "-c", str(SITE), str(source), str(output / "html")]
    return int(main(["-b", "html", "-W", "--keep-going", "-q", "-j", "2", *folders]))


def main() -> int:
    """Build; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "site", help="where everything is put")
    parser.add_argument(
        "--bare", action="store_true", help="without pictures and examples: the words alone, in seconds"
    )
    parser.add_argument("--all", action="store_true", help="run the slow examples, too")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    source, images = output / "source", None if arguments.bare else output / "source" / "pictures"
    jaxplain.keep_programs(quiet=True)
    if images is not None and draw(images):
        return 1
    assemble(source, images, examples=not arguments.bare)
    status = sphinx(source, output, None if arguments.bare else output / "examples", arguments.all)
    loads = [f"{path}: {load}" for path, load in sweep.external(output / "html")]
    print(*loads, sep="\n", end="\n" if loads else "")
    print(f"{output / 'html' / 'index.html'}" if not (status or loads) else "the site was not built as it should be")
    return status or bool(loads)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", ONCE)
    sys.exit(main())
