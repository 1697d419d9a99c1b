"""One of two processes is killed: the other one ends with an error in a stated time, and a rerun finishes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxplain import open_explanations

HERE = Path(__file__).parent
LIMIT = 60
"""Seconds: the heartbeat of one_of_two_processes.py, and what it takes to leave."""


def begin(folder):
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE.parents[1]}"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", str(HERE / "one_of_two_processes.py")]
    return [
        subprocess.Popen(
            [*command, str(process), str(port), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]


def lines(folder):
    return sum(path.read_bytes().count(b"\n") for path in (folder / "jaxplain-run").glob("finished-*.log"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_other_one_ends_and_a_rerun_finishes(tmp_path, victim):
    folder = tmp_path / "a"
    processes = begin(folder)
    try:
        limit = time.monotonic() + 120
        while lines(folder) < 6:
            assert time.monotonic() < limit, "nothing was written"
            time.sleep(0.01)
        os.kill(processes[victim].pid, signal.SIGKILL)
        killed = time.monotonic()
        printed, _ = processes[1 - victim].communicate(timeout=LIMIT)
    finally:
        for process in processes:
            process.kill()
        processes[victim].communicate()
    assert processes[1 - victim].returncode != 0, printed
    assert printed.strip()
    assert time.monotonic() - killed < LIMIT
    assert 0 < open_explanations(folder).finished.sum() < 160
    again = begin(folder)
    printed = [process.communicate(timeout=200)[0] for process in again]
    assert [process.returncode for process in again] == [0, 0], "\n".join(printed)
    found = open_explanations(folder)
    assert found.finished.all()
    np.testing.assert_array_equal(found["attribution"][:], 2.0 * np.arange(160.0)[:, None].repeat(3, 1))
