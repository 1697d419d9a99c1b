"""The examples as pages: sphinx-gallery runs them with `--quick`, and shows what they print and what they draw.

It passes no arguments and looks for figures of pyplot; here `arguments` gives the former, and `figures` finds what an
example has saved. An example runs again when its text changes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import prose

ROOT = Path(__file__).parents[2]
QUICK = (
    *("checkpoint", "clever_hans", "concepts", "control", "detection", "keras_port", "map_similarity", "mixed_columns"),
    *("shaken_digits", "tabular", "time_series"),
)
"""Examples that take less than half a minute; the others are shown unrun, unless the site is built with `--all`."""

ABOUT = f"Scripts of ``examples/``. Run here, with ``--quick``: {', '.join(QUICK)}. The others take longer."


def titled(source: str, stem: str) -> str:
    """An example's source with its docstring as a page: a title, and the rest as it stands."""
    doc = re.match(r'"""(.*?)"""', source, re.DOTALL)
    if doc is None:
        raise ValueError(f"gallery: {stem}.py begins without a docstring.")
    title = stem.replace("_", " ").capitalize()
    text = "\n".join([title, "=" * len(title), "", *prose.docstring(doc[1].strip().splitlines())])
    return f'r"""{text.rstrip()}\n"""{source[doc.end() :]}'


def copy(folder: Path) -> None:
    """The examples with titles, in a folder of their own; what they import of each other lies beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    head = f"Examples\n========\n\n{ABOUT}\n"
    texts = {"README.rst": head}
    for script in sorted((ROOT / "examples").glob("*.py")):
        texts[script.name] = titled(script.read_text(encoding="utf-8"), script.stem)
    for name, text in texts.items():
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
            (folder / name).write_text(text, encoding="utf-8")


def scratch(script: str) -> Path:
    """Where an example writes what it makes, beside the copies."""
    path = Path(script)
    return path.parent.with_name("made") / path.stem


def arguments(gallery_conf: Any, script_vars: dict[str, Any]) -> list[str]:
    """The arguments that an example is run with."""
    folder = scratch(script_vars["src_file"])
    shutil.rmtree(folder, ignore_errors=True)
    return ["--quick", "--output", str(folder)]


def figures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Show the pictures that an example has saved, each once."""
    from sphinx_gallery.scrapers import figure_rst

    shown: list[str] = []
    for picture in sorted(scratch(block_vars["src_file"]).rglob("*.png")):
        target = next(block_vars["image_path_iterator"])
        shutil.move(picture, target)
        shown.append(target)
    return "".join(figure_rst([picture], gallery_conf["src_dir"]) for picture in shown)


def settings(folder: Path, everything: bool) -> dict[str, Any]:
    """What sphinx-gallery is told."""
    names = "|".join(script.stem for script in folder.glob("*.py")) if everything else "|".join(QUICK)
    return {
        "examples_dirs": str(folder),
        "gallery_dirs": "gallery",
        "filename_pattern": rf"/({names})\.py$",
        "reset_argv": "gallery.arguments",
        "image_scrapers": ("gallery.figures",),
        "reset_modules": (),
        "capture_repr": (),
        "within_subsection_order": "FileNameSortKey",
        "abort_on_example_error": True,
        "download_all_examples": False,
        "show_signature": False,
        "show_memory": False,
        "write_computation_times": False,
        "nested_sections": False,
        "min_reported_time": 10**6,
        "parallel": 2,
    }
