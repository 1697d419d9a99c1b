"""The order of imports and other facts of the source tree, held by reading it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import jaxplain

ROOT = Path(jaxplain.__file__).parent

STAGES: tuple[dict[str, tuple[str, ...]], ...] = (
    {"types": ("types",)},
    {"check": ("check",)},
    {"program": ("program",)},
    {"criterion": ("criterion",), "batching": ("batching",), "checkpoint": ("checkpoint",), "nnx": ("nnx",)},
    {
        "score": ("score",),
        "baseline": ("baseline", "counter_class", "features", "imputation", "segmentation"),
        "capture": ("capture", "layers", "draw"),
    },
    {
        "explain": ("explain",),
        "evaluate": ("evaluate",),
        "data": ("data",),
        "models": ("models",),
        "train": ("train", "trainable", "epoch", "feed", "host_loop", "inference", "diagnosis", "safetensors"),
    },
    {"aggregate": ("aggregate",), "effects": ("effects", "importance")},
    {"dataset": ("dataset",)},
    {"plot": ("plot",)},
    {"report": ("report",)},
    {"command": ("page", "command", "__main__")},
)
"""From left to right; in a stage, the families that know nothing of each other, and the modules of each."""

FOREIGN = {
    "flax": ("models", "nnx", "program.tags", "trainable"),
    "haiku": ("program.tags",),
    "equinox": ("program.tags",),
    "optax": ("train", "epoch", "host_loop", "explain"),
    "matplotlib": ("plot", "report"),
    "jax.extend": ("program.compat",),
    "jax._src": (),
}
"""Who may import what is heavy or changes often."""


def sources() -> dict[str, str]:
    """Module name (without the package's) to source."""
    files = [file for file in sorted(ROOT.rglob("*.py")) if file != ROOT / "__init__.py"]
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}
    return {name: file.read_text(encoding="utf-8") for file, name in names.items()}


def imported(source: str) -> list[str]:
    """Full names of all modules and names that a source imports, at any depth of it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def place(module: str) -> tuple[int, str]:
    """Stage and family of a module."""
    first = module.partition(".")[0]
    for number, families in enumerate(STAGES):
        for family, members in families.items():
            if first in members:
                return number, family
    raise AssertionError(f"{module} has no place in the order of imports; give it one in STAGES")


def violations(tree: dict[str, str]) -> list[str]:
    """Imports that point to the right or to another family of the same stage, and foreign ones in the wrong place."""
    found = []
    for module, source in tree.items():
        for name in imported(source):
            if name.startswith("jaxplain."):
                other = name.removeprefix("jaxplain.")
                (stage, family), (target, relatives) = place(module), place(other)
                if target > stage or (target == stage and family != relatives):
                    found.append(f"{module} imports {other}")
            for package, allowed in FOREIGN.items():
                inside = any(module == a or module.startswith(f"{a}.") for a in allowed)
                if (name == package or name.startswith(f"{package}.")) and not inside:
                    found.append(f"{module} imports {name}")
    return found


def cycles(tree: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle."""
    needs = {
        module: {
            name.removeprefix("jaxplain.") if name.removeprefix("jaxplain.") in tree else name[9:].rpartition(".")[0]
            for name in imported(source)
            if name.startswith("jaxplain.")
        }
        for module, source in tree.items()
    }
    left = dict(needs)
    while True:
        done = [module for module, others in left.items() if not (others & left.keys()) - {module}]
        if not done:
            return sorted(left)
        for module in done:
            del left[module]


def test_imports_point_one_way():
    assert violations(sources()) == []


def test_no_module_waits_for_itself():
    assert cycles(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("types", "from jaxplain import check"),
        ("program.tap", "from jaxplain.capture import capture"),
        ("explain.path", "from jaxplain.evaluate.axioms import completeness"),
        ("evaluate.axioms", "from jaxplain.explain.path import integrated_gradients"),
        ("evaluate.axioms", "def f():\n    import jaxplain.train"),
        ("aggregate.run", "import jaxplain.plot"),
        ("score", "import flax.linen as nn"),
        ("plot.heat", "from jax.extend import core"),
        ("train", "import matplotlib.pyplot"),
    ],
)
def test_a_wrong_import_is_caught(module, line):
    tree = sources()
    assert module in tree
    tree[module] += f"\n{line}\n"
    assert len(violations(tree)) == 1


def test_a_circle_is_caught():
    tree = sources()
    tree["program.compat"] += "\nfrom jaxplain.program.tap import run\n"
    assert "program.compat" in cycles(tree)


def test_names_say_what_is_inside():
    vague = {"utils", "common", "helpers", "core", "_src", "misc"}
    assert not [name for name in sources() if vague & set(name.split("."))]


def test_files_hold_one_concept():
    lengths = {name: source.count("\n") for name, source in sources().items()}
    assert {name: size for name, size in lengths.items() if size > 420} == {}


def test_every_public_name_is_listed_once_and_found():
    assert jaxplain.__all__ == sorted(set(jaxplain.__all__))
    for name in jaxplain.__all__:
        assert getattr(jaxplain, name).__doc__


def test_namespaces_are_imported_by_their_public_names():
    import jaxplain.image
    from jaxplain.objective import channel

    assert jaxplain.image is importlib.import_module("jaxplain.explain.image")
    assert channel is importlib.import_module("jaxplain.explain.objective").channel


def modules_after(line: str) -> set[str]:
    """The modules that a fresh Python holds after a line."""
    environment = {"PYTHONPATH": str(ROOT.parent), "PATH": "", "JAX_PLATFORMS": "cpu"}
    code = f"{line}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(run.stdout.split())


def test_importing_is_light():
    heavy = {"matplotlib", "scipy", "optax", "orbax", "sklearn", "torch", "tensorstore", "rich"}
    assert heavy & modules_after("import jaxplain") <= modules_after("import jax, flax")
    assert "jaxplain.plot" in modules_after("import jaxplain; jaxplain.plot")


def test_a_name_that_is_not_there_is_said():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = jaxplain.no_such_name
