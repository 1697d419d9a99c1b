"""A training run killed at random moments ends as an uninterrupted one, to the bit, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def kill(tmp_path, kills):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here.parents[1]}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", str(here / "killed_training.py"), str(tmp_path), str(kills), "0"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.search(r"killed (\d+) times", result.stdout)[1]) >= kills - 1
    with np.load(tmp_path / "killed.npz") as one, np.load(tmp_path / "whole.npz") as other:
        assert one.files == other.files
        for name in other.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    for folder in ("killed", "whole"):
        kept = [f"snapshot_{step:07d}" for step in (0, 3, 4, 100, 217, 320)]
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ["epoch_00080", *kept]


@pytest.mark.slow
def test_killed_at_two_random_moments(tmp_path):
    kill(tmp_path, 2)


@pytest.mark.long
def test_killed_at_twenty_random_moments(tmp_path):
    kill(tmp_path, 20)
