"""The order of imports and other facts of the source tree, held by reading it."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import jaxplain

ROOT = Path(jaxplain.__file__).parent

STAGES: tuple[tuple[str, ...], ...] = (
    ("types",),
    ("check",),
    ("program",),
    ("readout",),
    ("score", "internals", "baseline"),
    ("explain", "evaluate", "data", "models"),
    ("train",),
    ("influence", "concept", "aggregate"),
    ("dataset",),
    ("plot",),
    ("report",),
    ("command",),
    ("__main__",),
)
"""From left to right; in a stage, families that know nothing of each other."""

INSIDE: dict[str, tuple[tuple[str, ...], ...]] = {
    "program": (("program.trace",), ("program.fast", "program.node")),
    "explain": (
        ("explain.backward", "explain.gradient", "explain.perturbation", "explain.shapley", "explain.visualization"),
        ("explain.cam",),  # guided Grad-CAM is made of a map and of a backward rule
        ("explain.genomics", "explain.language", "explain.vision"),  # explained by any of the methods
    ),
    "explain.visualization": (
        ("explain.visualization.image", "explain.visualization.objective", "explain.visualization.transform"),
    ),
    "concept": (
        ("concept.cluster", "concept.dictionary", "concept.vector"),
        ("concept.autoencoder",),  # dictionaries that are trained
    ),
    "evaluate": (
        (
            "evaluate.comparison",
            "evaluate.complexity",
            "evaluate.faithfulness",
            "evaluate.localization",
            "evaluate.randomization",
            "evaluate.robustness",
        ),
        ("evaluate.axioms",),  # symmetry and invariance measure distances as robustness does
    ),
}
"""The same for the folders inside a folder."""

FOREIGN = {
    "flax": ("models", "train.trainable", "program.trace.tags"),
    "haiku": ("program.trace.tags",),
    "equinox": ("program.trace.tags",),
    "optax": ("command.kind", "train", "explain.perturbation", "explain.visualization", "concept.autoencoder"),
    "matplotlib": ("plot", "report"),
    "jax.extend": ("program.trace.compat",),
    "jax._src": (),
}
"""Who may import what is heavy or changes often."""

LOOSE = {"__init__", "__main__", "check", "score", "types"}


def sources() -> dict[str, str]:
    """Module name (without the package's) to source; a folder's name stands for its `__init__`."""
    files = [file for file in sorted(ROOT.rglob("*.py")) if file != ROOT / "__init__.py"]
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}
    return {name: file.read_text(encoding="utf-8") for file, name in names.items()}


def folders(tree: dict[str, str]) -> set[str]:
    """Modules that hold others."""
    return {name.rpartition(".")[0] for name in tree} - {""}


@functools.cache
def imported(source: str) -> list[tuple[str, str]]:
    """Module and name of everything that a source imports, at any depth of it; the name is empty for `import a.b`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found += [(str(node.module), alias.name) for alias in node.names]
    return found


def own(tree: dict[str, str], source: str) -> list[tuple[str, str]]:
    """What a source imports of this package: module (without the package's name) and name in it."""
    pairs = []
    for module, name in imported(source):
        if module == "jaxplain":
            pairs.append((name, "") if name in tree else ("", name))
        elif module.startswith("jaxplain."):
            inner = module.removeprefix("jaxplain.")
            file = f"{inner}.{name}" in tree and name not in listed(tree[inner])
            pairs.append((f"{inner}.{name}", "") if file else (inner, name))
    return pairs


def stage(module: str) -> int:
    """Stage of a module."""
    first = module.partition(".")[0]
    for number, families in enumerate(STAGES):
        if first in families:
            return number
    raise AssertionError(f"{module} has no place in the order of imports; give it one in STAGES")


def inner_stage(module: str, inside: str) -> tuple[int, str]:
    """Stage of a module's folder among the folders of one; the folder's own files, which all stand on, have none."""
    for number, members in enumerate(INSIDE.get(inside, ())):
        for member in members:
            if module == member or module.startswith(f"{member}."):
                return number, member
    return -1, inside


def points_back(module: str, other: str) -> bool:
    """Whether an import goes to the right, or to another family of the same stage."""
    first, second = module.partition(".")[0], other.partition(".")[0]
    if first != second:
        return stage(other) >= stage(module)
    for inside in INSIDE:
        if all(part == inside or part.startswith(f"{inside}.") for part in (module, other)):
            (a, mine), (b, theirs) = inner_stage(module, inside), inner_stage(other, inside)
            if -1 not in (a, b) and mine != theirs and b >= a:
                return True
    return False


def private(module: str, other: str, name: str, tree: dict[str, str]) -> bool:
    """Whether an import reaches past a folder's list of names, into a file of another family."""
    home = module if module in folders(tree) else module.rpartition(".")[0]
    if other in folders(tree):
        names = listed(tree[other])
        return bool(name) and name not in names and f"{other}.{name}" not in folders(tree)
    folder = other.rpartition(".")[0]
    return folder != "" and not (home == folder or home.startswith(f"{folder}."))


@functools.cache
def listed(source: str) -> list[str]:
    """A module's `__all__`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def violations(tree: dict[str, str]) -> list[str]:
    """Imports that point to the right or past a folder's names, and foreign ones in the wrong place."""
    found = []
    for module, source in tree.items():
        for other, name in own(tree, source):
            if other and (points_back(module, other) or private(module, other, name, tree)):
                found.append(f"{module} imports {other} {name}".strip())
        for package, allowed in FOREIGN.items():
            inside = any(module == a or module.startswith(f"{a}.") for a in allowed)
            if not inside and any(full == package or full.startswith(f"{package}.") for full, _ in imported(source)):
                found.append(f"{module} imports {package}")
    return found


def cycles(tree: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, and folders that do."""
    inside = folders(tree)

    def circle(needs: dict[str, set[str]]) -> list[str]:
        left = dict(needs)
        while True:
            done = [module for module, others in left.items() if not (others & left.keys()) - {module}]
            if not done:
                return sorted(left)
            for module in done:
                del left[module]

    def folder(module: str) -> str:
        return module if module in inside else module.rpartition(".")[0]

    files = {m: {o for o, _ in own(tree, source) if o} for m, source in tree.items() if m not in inside}
    rooms: dict[str, set[str]] = {}
    for module, others in files.items():
        # what a folder's own files are to the folders below it (the ground, or what joins them) the stages say
        near = {folder(o) for o in others if not folder(o).startswith(f"{folder(module)}.")}
        rooms.setdefault(folder(module), set()).update(r for r in near if not folder(module).startswith(f"{r}."))
    return circle(files) + circle({room: others - {""} for room, others in rooms.items() if room})


def test_imports_point_one_way():
    assert violations(sources()) == []


def test_no_module_waits_for_itself():
    assert cycles(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("types", "from jaxplain import check"),
        ("program.trace.tap", "from jaxplain.internals import capture"),
        ("program.trace.tap", "from jaxplain.program.node import build"),
        ("program.node.flat", "from jaxplain.program.fast import fast_layout"),
        ("explain.gradient.path", "from jaxplain.evaluate import completeness"),
        ("explain.gradient.path", "from jaxplain.explain.cam import grad_cam"),
        ("explain.gradient.path", "from jaxplain.explain.perturbation import occlusion"),
        ("evaluate.axioms.completeness", "from jaxplain.explain import integrated_gradients"),
        ("evaluate.axioms.completeness", "def f():\n    import jaxplain.train"),
        ("evaluate.complexity.complexity", "from jaxplain.evaluate.axioms import completeness"),
        ("aggregate.run", "import jaxplain.plot"),
        ("dataset.run", "from jaxplain.explain.batch import explain_rows"),  # past the folder's names
        ("dataset.run", "from jaxplain.explain import _explain"),
        ("explain.shapley.exact", "from jaxplain.baseline.absent import resolve"),
        ("score", "import flax.linen as nn"),
        ("plot.heat", "from jax.extend import core"),
        ("train.fit", "import matplotlib.pyplot"),
    ],
)
@pytest.mark.sampled(8)
def test_a_wrong_import_is_caught(module, line):
    tree = sources()
    assert module in tree
    tree[module] += f"\n{line}\n"
    assert len(violations(tree)) == 1


def test_a_circle_is_caught():
    tree = sources()
    tree["program.trace.compat"] += "\nfrom jaxplain.program.trace.tap import run\n"
    assert "program.trace.compat" in cycles(tree)
    tree = sources()
    tree["baseline.absent"] += "\nfrom jaxplain.explain.gradient import gradient\n"
    assert {"baseline", "explain.gradient"} <= set(cycles(tree))


def test_names_say_what_is_inside():
    vague = {"utils", "common", "helpers", "core", "_src", "misc"}
    assert not [name for name in sources() if vague & set(name.split("."))]


def test_the_package_holds_folders():
    assert {file.stem for file in ROOT.glob("*.py")} == LOOSE
    assert {file.name for file in ROOT.iterdir() if file.is_file()} == {f"{name}.py" for name in LOOSE} | {"py.typed"}


def test_a_folder_is_a_family():
    tree = sources()
    inside = folders(tree)
    assert max(name.count(".") + 1 for name in inside) <= 3
    own_files = [name.rpartition(".")[0] for name in tree if name not in inside]
    sizes = {folder: own_files.count(folder) for folder in inside}
    assert {folder: size for folder, size in sizes.items() if size > 20} == {}
    assert sum(size > 14 for size in sizes.values()) <= len(sizes) // 4, "most hold at most 14 files"
    for folder in inside:
        says = ast.get_docstring(ast.parse(tree[folder]))
        assert says, folder
        assert listed(tree[folder]) == sorted(listed(tree[folder]), key=_order), folder
        assert listed(tree[folder]) or not own(tree, tree[folder]), folder


def _order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as the linter sorts them."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


def test_files_hold_one_concept():
    lengths = {name: source.count("\n") for name, source in sources().items()}
    assert {name: size for name, size in lengths.items() if size > 400} == {}


def test_functions_are_small():
    large = {}
    for name, source in sources().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False)
                size = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
                if size > 60:
                    large[f"{name}.{node.name}"] = size
    assert large == {}


def test_every_public_name_is_listed_once_and_found():
    assert jaxplain.__all__ == sorted(set(jaxplain.__all__))
    for name in jaxplain.__all__:
        assert getattr(jaxplain, name).__doc__


def test_namespaces_are_imported_by_their_public_names():
    import jaxplain.image
    from jaxplain.objective import channel

    assert jaxplain.image is importlib.import_module("jaxplain.explain.visualization.image")
    assert channel is importlib.import_module("jaxplain.explain.visualization.objective").channel


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
