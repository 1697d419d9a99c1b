"""The driver over devices and processes: the same numbers as on one device."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxplain import explain_dataset, open_explanations
from jaxplain.dataset import devices as placing
from jaxplain.dataset.devices import Devices
from shared import dataset_cases as cases

HERE = Path(__file__).parent
PARAMS, X, Y = cases.arrays()
KEY = jax.random.key(3)


def python(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE.parents[1]}"}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.optimized
@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    process = python("eight_devices.py", tmp_path / "out")
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    assert printed.rstrip().endswith("done")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folders that two processes have written together."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [python("two_processes.py", process, port, folder) for process in range(2)]
    printed = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    return folder


def expected(e, **settings):
    return explain_dataset(e, (X, Y), key=KEY, out="memory", batch_size=3, **settings)


@pytest.mark.optimized
@pytest.mark.slow
def test_two_processes_write_one_array(two):
    alone = expected(cases.random(PARAMS), aggregate=cases.aggregate())
    found = open_explanations(two / "random")
    assert found.finished.all()
    for name in alone.explanations:  # three examples on each device, as here
        np.testing.assert_array_equal(found[name], alone.explanations[name], err_msg=name)
    logs = sorted(path.name for path in (two / "random" / "jaxplain-run").glob("finished-*.log"))
    assert logs == ["finished-0.log", "finished-1.log"]  # both wrote
    for process in range(2):
        with np.load(two / f"aggregate-{process}.npz") as merged:
            for name, leaf in zip(merged.files, jax.tree.leaves(alone.aggregate), strict=True):
                np.testing.assert_allclose(merged[name], leaf, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_parameters_divided_over_processes(two):
    alone, found = expected(cases.deterministic(PARAMS)).explanations, open_explanations(two / "model_across")
    assert found.count == cases.COUNT  # a stream: its length was found out
    assert found.settings["chunk"] == 1024  # so small a model fits as often as is asked for
    np.testing.assert_allclose(found["attribution"], alone["attribution"], atol=1e-5)
    np.testing.assert_array_equal(found["id"], alone["id"])


@pytest.mark.slow
def test_adaptive_methods_in_two_processes(two):
    found = open_explanations(two / "adaptive")
    assert found["reached"][:].all()
    alone = expected(cases.adaptive(PARAMS)).explanations
    np.testing.assert_allclose(found["attribution"], alone["attribution"], atol=1e-3)


@pytest.mark.optimized
@pytest.mark.slow
def test_what_two_processes_began_one_can_finish(two, tmp_path):
    folder = tmp_path / "begun"
    shutil.copytree(two / "random", folder)
    for number in (1, 4):
        (folder / "attribution" / "c" / str(number) / "0" / "0").unlink()
    assert not open_explanations(folder).finished.all()
    found = explain_dataset(
        cases.random(PARAMS), (X, Y), key=KEY, batch_size=3, out=folder, aggregate=cases.aggregate()
    )
    np.testing.assert_array_equal(found.explanations["attribution"], open_explanations(two / "random")["attribution"])
    assert found.aggregate["mean"].examples.sum() == cases.COUNT


def test_an_error_of_the_first_process_is_raised_in_all(monkeypatch):
    sent = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(placing.multihost_utils, "broadcast_one_to_all", lambda value: sent.append(value) or value)
    with pytest.raises(PermissionError, match="read-only"):
        placing.agree(None, PermissionError("read-only"))
    told = iter(sent)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(placing.multihost_utils, "broadcast_one_to_all", lambda value: next(told))
    with pytest.raises(PermissionError, match="read-only"):
        placing.agree(None)


def test_batches_are_rounded_up_to_the_mesh():
    mesh = jax.make_mesh((1,), ("anything",))
    assert Devices(mesh).share(7) == 7
    assert Devices(None).share(7) == 7
