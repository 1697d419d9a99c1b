"""Double precision: no method is held back by constants of single precision. Run in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "double_precision.py"


def run(*parts):
    environment = {**os.environ, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, SCRIPT, *parts], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.count("exact")


@pytest.mark.slow
def test_paths_and_layers_are_exact_to_double_precision():
    assert run("by_quadrature") == 4


@pytest.mark.slow
def test_all_methods_are_exact_to_double_precision():
    parts = ("by_rules", "by_linear_scores", "by_metrics", "large_scores_are_no_infinities", "counterfactuals")
    assert run(*parts) == 29
