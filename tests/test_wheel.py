"""The wheel: what is in it, and that it works from an empty folder."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    needed, have = 77, int(importlib.metadata.version("setuptools").partition(".")[0])
    if have < needed:
        pytest.skip(f"setuptools {have} cannot build it; {needed} or newer is needed, and none is fetched by tests")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("jaxplain", "tests", "examples", "bench"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    run = subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], cwd=tree, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Deprecat" not in run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"jaxplain-{SETTINGS['project']['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (meta,) = (archive.read(name).decode() for name in names if name.endswith("METADATA"))
        archive.extractall(tmp_path / "site")
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "jaxplain").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == package
    assert "jaxplain/py.typed" in package
    assert any(name.endswith("LICENSE") for name in names)
    assert "Description-Content-Type: text/markdown" in meta
    code = "import jax.numpy as jnp, jaxplain; print(jaxplain.__file__, jaxplain.gradient(jnp.sum)(jnp.ones(2)))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == [str(tmp_path / "site" / "jaxplain" / "__init__.py"), "[1.", "1.]"]


def test_the_version_is_said_alike():
    version = SETTINGS["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "examples" / "site" / "changelog.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.M)[1] == version


def test_every_extra_is_said_where_it_is_needed():
    """An extra that is named in the package, the examples or the tests is one that can be installed."""
    extras = set(SETTINGS["project"]["optional-dependencies"])
    said = set()
    for folder in ("jaxplain", "examples", "tests", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            said |= set(re.findall(r"extras? \[(\w+)\]", text)) | set(re.findall(r"jaxplain\[(\w+)\]", text))
    assert said <= extras
