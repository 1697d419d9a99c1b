"""Make the notebooks of this folder from the scripts of the folder above: cut them into cells and execute these.

    python examples/notebooks/make.py                 # those whose script changed since
    python examples/notebooks/make.py quickstart text # these
    python examples/notebooks/make.py --all           # all of them: about 20 minutes on two cores
    python examples/notebooks/make.py --check         # say which have to be made, and make none

What is kept is what a run says and draws, and nothing of when and where: pictures are small, paths and addresses are
taken out, progress bars and the times of cells are left out. Made again on the same machine, a notebook has the same
bytes, unless its script prints seconds. Needs the extras [notebooks] and [examples].
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))
from cells import MADE_BY, SCRIPTS, cells, scripts  # noqa: E402

DPI, COLOURS = 80, 128
"""Of the pictures kept: enough to be read at the width of a notebook."""

LARGEST = 150_000
"""Bytes of a notebook; pictures of one that is larger get fewer colours."""

_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]{6,}")
_CELL_FILE = re.compile(r"\S*/ipykernel_\d+/\d+\.py:\d+")
_SETTINGS = f"figure.dpi: {DPI}\nsavefig.dpi: {DPI}\n"


def path_of(script: Path) -> Path:
    """Where the notebook of a script is."""
    return FOLDER / f"{script.stem}.ipynb"


def is_current(script: Path) -> bool:
    """Whether the notebook of a script is there and has the script's cells."""
    path = path_of(script)
    if not path.exists():
        return False
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    own = [(cell["cell_type"], "".join(cell["source"])) for cell in stored]
    return own == [tuple(cell) for cell in cells(script.read_text(encoding="utf-8"), script.name)]


def blank(script: Path) -> Any:
    """A notebook that was not executed; its identifiers are the places of its cells."""
    import nbformat

    made = nbformat.v4.new_notebook()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    for place, (kind, source) in enumerate(cells(script.read_text(encoding="utf-8"), script.name)):
        made.cells.append(new[kind](source, id=f"cell-{place:02d}"))
    return made


def executed(script: Path) -> Any:
    """A notebook with what its cells print and draw, from a kernel of its own in a folder of its own."""
    from nbclient import NotebookClient

    made = blank(script)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "notebooks"  # beside copies of the scripts, as this folder is beside the scripts
        place.mkdir()
        for path in SCRIPTS.glob("*.py"):
            shutil.copy(path, folder)
        (Path(folder) / "matplotlibrc").write_text(_SETTINGS, encoding="utf-8")
        own = {"MATPLOTLIBRC": folder, "IPYTHONDIR": folder, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        own |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false", "PYTHONPATH": _python_path()}
        settings = {"timeout": 3600, "kernel_name": "python3", "resources": {"metadata": {"path": str(place)}}}
        NotebookClient(made, record_timing=False, **settings).execute(env={**os.environ, **own})
        clean(made, (folder, str(SCRIPTS.parent)))
    return made


def _python_path() -> str:
    """Where the package is: beside the examples, whatever is installed."""
    return os.pathsep.join([str(SCRIPTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def clean(notebook: Any, folders: tuple[str, ...]) -> None:
    """Take out what differs from run to run: paths, addresses, progress bars, what was kept of the execution."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            kept = [_cleaned(output, folders) for output in cell.outputs if not _is_bar(output)]
            cell.outputs = _joined(kept)


def _is_bar(output: Any) -> bool:
    return "jaxplain-progress" in output.get("data", {}).get("text/html", "")


def _cleaned(output: Any, folders: tuple[str, ...]) -> Any:
    """An output without paths and addresses; its pictures in few colours."""

    def plain(text: str) -> str:
        for folder in folders:
            text = text.replace(f"{folder}/", "").replace(folder, ".")
        return _ADDRESS.sub("0x...", _CELL_FILE.sub("cell", text))

    if "text" in output:
        output["text"] = plain(output["text"])
    for kind, value in output.get("data", {}).items():
        output["data"][kind] = _small(value) if kind == "image/png" else plain(value)
    output.pop("transient", None)
    if "metadata" in output:
        output["metadata"] = {}
    return output


def _joined(outputs: list[Any]) -> list[Any]:
    """Outputs with what was printed in one go: how it was cut is chance. What was warned of comes first."""
    streams = {name: "".join(o["text"] for o in outputs if o.get("name") == name) for name in ("stderr", "stdout")}
    joined: list[Any] = []
    for output in sorted(outputs, key=lambda output: output.get("name") != "stderr"):
        if output.get("name") == "stderr":
            output["text"], streams["stderr"] = streams["stderr"], ""
            if not output["text"]:
                continue
        if joined and output.get("name") == "stdout" == joined[-1].get("name"):
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def written(notebook: Any) -> str:
    """A notebook as the text of its file, its pictures in as many colours as there is room for."""
    import nbformat

    text = nbformat.writes(notebook) + "\n"
    for colours in (COLOURS // 2, COLOURS // 4):
        if len(text.encode()) > LARGEST:
            for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
                if "image/png" in output.get("data", {}):
                    output["data"]["image/png"] = _small(output["data"]["image/png"], colours)
            text = nbformat.writes(notebook) + "\n"
    return text


def _small(picture: str, colours: int = COLOURS) -> str:
    """A PNG in few colours, without notes on who wrote it."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        buffer, format="PNG", optimize=True
    )
    return base64.b64encode(buffer.getvalue()).decode("ascii") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make notebooks from scripts.")
    parser.add_argument("names", nargs="*", help="scripts without '.py'; by default those that changed")
    parser.add_argument("--all", action="store_true", help="all, whether they changed or not")
    parser.add_argument("--check", action="store_true", help="only say which have to be made; exit with 1 if any")
    options = parser.parse_args()
    known = {path.stem: path for path in scripts()}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such script with a `main`: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = options.names or list(known)
    wanted = [known[name] for name in chosen if options.all or options.names or not is_current(known[name])]
    if options.check:
        print("\n".join(f"{MADE_BY} {path.stem}" for path in wanted) or "all notebooks are as their scripts")
        sys.exit(bool(wanted))
    for path in wanted:
        began = time.perf_counter()
        text = written(executed(path))
        if len(text.encode()) > LARGEST:
            print(f"{path.stem}: {len(text.encode()):,} bytes, more than {LARGEST:,}; draw less", file=sys.stderr)
        path_of(path).write_text(text, encoding="utf-8")
        print(f"{path_of(path)}: {len(text.encode()) / 1e3:.0f} kB in {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
