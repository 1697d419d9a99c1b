"""What `save` keeps, replaces and leaves behind: every leaf of any tree, only checkpoints, nothing of the dead."""

import functools
import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxplain import train
from jaxplain.train import aside
from shared.trees import trees

DTYPES = ("float32", "bfloat16", "int8", "bool", "complex64")


@st.composite
def arrays(draw):
    shape = draw(st.sampled_from([(), (1,), (2, 3), (0, 2)]))
    return np.full(shape, draw(st.integers(0, 99)), draw(st.sampled_from(DTYPES)))


def restored_alike(folder, tree):
    train.save(folder, tree, overwrite=True)
    found = train.load(folder, jax.tree.map(jnp.zeros_like, tree))
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for saved, loaded in zip(jax.tree.leaves(tree), jax.tree.leaves(found), strict=True):
        assert saved.dtype == loaded.dtype
        np.testing.assert_array_equal(saved, loaded)


def comes_back(folder, tree):
    if any(leaf.size for leaf in jax.tree.leaves(tree)):
        restored_alike(folder, tree)
    else:
        with pytest.raises(ValueError, match="no arrays with values"):
            train.save(folder, tree)


@pytest.mark.slow
@example({"key": np.ones(2, np.float32), "query": np.full(2, 2.0, np.float32), "value": np.full(2, 3.0, np.float32)})
@example({"a": {"b": np.ones(1, np.int32)}, "a.b": np.zeros(1, np.int32), "a/b": np.full(1, 2, np.int32)})
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(tree=trees(arrays()))
def test_any_tree_comes_back(tmp_path_factory, tree):
    comes_back(tmp_path_factory.mktemp("trees") / "a", tree)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, database=None)
@given(tree=trees(arrays()))
def test_three_hundred_trees_come_back(tmp_path_factory, tree):
    comes_back(tmp_path_factory.mktemp("trees") / "a", tree)


def test_a_part_of_a_tree_with_awkward_names(tmp_path):
    tree = {"mlp/~/linear": {"w": jnp.ones(2), "value": jnp.zeros(1)}, "attention": {"value": jnp.full(3, 2.0)}}
    train.save(tmp_path / "a", tree)
    for part in ("mlp/~/linear", "attention"):
        found = train.load(tmp_path / "a", jax.tree.map(jnp.zeros_like, tree[part]), at=part)
        jax.tree.map(np.testing.assert_array_equal, found, tree[part])
    np.testing.assert_array_equal(train.load(tmp_path / "a", jnp.zeros(3), at="attention"), jnp.full(3, 2.0))


def test_leaves_that_are_no_numbers_are_refused(tmp_path):
    for leaf in ("text", np.array(["a"]), object(), np.datetime64("2020-01-01")):
        with pytest.raises(TypeError, match="`tree` at 'a/b' is"):
            train.save(tmp_path / "a", {"a": {"b": leaf}, "c": np.ones(1)})
    assert not list(tmp_path.iterdir())


def test_only_a_checkpoint_is_replaced(tmp_path):
    tree = {"w": jnp.ones(2)}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    train.save(tmp_path / "mixed", tree)
    (tmp_path / "mixed" / "notes").mkdir()
    before = sorted(path for path in tmp_path.rglob("*"))
    for name in ("thesis", "file", "mixed", "mixed/notes"):
        with pytest.raises(FileExistsError, match="only a checkpoint is replaced"):
            train.save(tmp_path / name, tree, overwrite=True)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    for make in (
        ocp.StandardCheckpointer,
        functools.partial(ocp.Checkpointer, ocp.PyTreeCheckpointHandler(use_ocdbt=False)),
    ):
        with make() as checkpointer:
            checkpointer.save(tmp_path / "orbax", {"params": {"w": np.zeros(3, np.float32)}})
        train.save(tmp_path / "orbax", tree, overwrite=True)
        assert train.load(tmp_path / "orbax", tree)["w"].tolist() == [1, 1]
        shutil.rmtree(tmp_path / "orbax")


def test_a_link_to_a_checkpoint_stays_a_link(tmp_path):
    train.save(tmp_path / "first", {"w": jnp.ones(2)})
    (tmp_path / "latest").symlink_to(tmp_path / "first")
    train.save(tmp_path / "latest", {"w": jnp.zeros(2)}, overwrite=True)
    assert (tmp_path / "latest").is_symlink()
    assert train.load(tmp_path / "first", {"w": jnp.ones(2)})["w"].tolist() == [0, 0]


def test_paths_that_would_be_read_otherwise(tmp_path, monkeypatch):
    tree = {"w": jnp.ones(2)}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    train.save("~/model", tree)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert train.load("~/model", {"w": jnp.zeros(2)})["w"].tolist() == [1, 1]
    for call in (lambda path: train.save(path, tree), lambda path: train.load(path, tree)):
        for path, error in (("runs\\v2", ValueError), ("~nobody-here/x", ValueError), ("", ValueError), (3, TypeError)):
            with pytest.raises(error, match=r"`path` (is|has to be)"):
                call(path)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def kill_while_saving(folder, name, moment):
    """A process that is killed while it saves: at its n-th renaming, or in the middle of writing."""
    code = f"""
import os, signal, sys
import jax.numpy as jnp
from jaxplain import train
from jaxplain.train import checkpoint
calls, real = [], os.replace
def replace(*args):
    calls.append(args)
    if len(calls) == {moment}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args)
from jaxplain.train import aside
aside.os.replace = replace
if {moment} == 0:
    from jaxplain.train import manifest
    manifest.write = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
train.save({str(folder / name)!r}, {{"w": jnp.zeros(2)}}, overwrite=True)
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=ENVIRONMENT, timeout=120, check=False)
    assert result.returncode == -signal.SIGKILL


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[2]), "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize("moment", [0, 1, 2])
@pytest.mark.sampled(3)
def test_what_a_killed_save_leaves_is_cleared_and_nothing_is_lost(tmp_path, moment):
    old, zeros = {"w": jnp.ones(2)}, {"w": jnp.zeros(2)}
    train.save(tmp_path / "a", old)
    kill_while_saving(tmp_path, "a", moment)
    assert list(tmp_path.glob(".a.*"))
    assert train.load(tmp_path / "a", zeros)["w"].tolist() == [1, 1]  # with moment 2 it had been moved away
    train.save(tmp_path / "a", zeros, overwrite=True)
    assert train.load(tmp_path / "a", old)["w"].tolist() == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_living_save_makes_is_left_alone(tmp_path):
    train.save(tmp_path / "a", {"w": jnp.ones(2)})
    with aside.made_aside(tmp_path / "a") as new:
        new.mkdir()
        (new / "begun").write_text("")
        train.save(tmp_path / "a", {"w": jnp.zeros(2)}, overwrite=True)
        assert (new / "begun").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    train.save(tmp_path / "a", {"w": jnp.ones(2)})

    def full(*args):
        raise ValueError(
            'RESOURCE_EXHAUSTED: Failed to write 6361088 bytes: No space left on device [os_error_code="28"]'
        )

    monkeypatch.setattr(ocp.Checkpointer, "save", full)
    with pytest.raises(OSError, match=r"save: .*/a could not be written, the disk is full") as caught:
        train.save(tmp_path / "a", {"w": jnp.zeros(2)}, overwrite=True)
    assert caught.value.errno == 28
    assert train.load(tmp_path / "a", {"w": jnp.zeros(2)})["w"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.slow
def test_a_disk_that_is_full_indeed(tmp_path):
    """On a file system of one megabyte, where one may be mounted."""
    (tmp_path / "disk").mkdir()
    code = """
import sys
import numpy as np
from jaxplain import train
tree = {"w": np.random.default_rng(0).normal(size=10**6)}
train.save(sys.argv[1] + "/small", {"w": np.ones(2)})
try:
    train.save(sys.argv[1] + "/large", tree)
except OSError as error:
    assert error.errno == 28, error
import os
print(sorted(os.listdir(sys.argv[1])), train.load(sys.argv[1] + "/small", {"w": np.zeros(2)})["w"])
"""
    script = (
        f'mount -t tmpfs -o size=1m tmpfs {tmp_path}/disk && exec {sys.executable} -W ignore -c "$0" {tmp_path}/disk'
    )
    mounted = shutil.which("unshare")
    command = [mounted or "unshare", "-Urm", "sh", "-c", script, code]
    if not mounted or subprocess.run([*command[:4], "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False)
    assert result.stdout.startswith("['small'] [1. 1.]"), result.stdout + result.stderr


def damages(file):
    data = file.read_bytes()
    yield "cut", data[: len(data) // 2]
    yield "empty", b""
    yield "zeros", bytes(len(data))
    yield "text", b'{"tree_metadata": [' * 40
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 255
    yield "flipped", bytes(flipped)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what Orbax leaves of failed reads
def test_a_damaged_checkpoint_is_named(tmp_path):
    """Each of its files, in each of six ways: an error that names it, or the values as they were."""
    tree = {"a": {"w": jnp.arange(300.0)}, "b": jnp.ones(3, jnp.int32)}
    train.save(tmp_path / "whole", tree)
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    seen, messages = 0, []
    for name in files:
        for how, data in [*damages(tmp_path / "whole" / name), ("gone", None)]:
            folder = tmp_path / "damaged"
            shutil.copytree(tmp_path / "whole", folder)
            (folder / name).unlink()
            if data is not None:
                (folder / name).write_bytes(data)
            try:
                found = train.load(folder, jax.tree.map(jnp.zeros_like, tree))
            except (ValueError, FileNotFoundError) as error:
                messages.append((name, how, str(error)))
            else:
                jax.tree.map(np.testing.assert_array_equal, found, tree)
            shutil.rmtree(folder)
            seen += 1
    gc.collect()
    assert seen == 6 * len(files)
    assert len(messages) > seen / 3
    assert [entry for entry in messages if str(folder) not in entry[2]] == []


def test_values_that_were_changed_are_noticed(tmp_path):
    train.save(tmp_path / "a", {"w": jnp.ones(2)})
    train.save(tmp_path / "b", {"w": jnp.zeros(2)})
    shutil.copy(tmp_path / "b" / "jaxplain.json", tmp_path / "a" / "jaxplain.json")
    with pytest.raises(ValueError, match=r"checkpoint at .*/a is damaged: the values of w are others"):
        train.load(tmp_path / "a", {"w": jnp.zeros(2)})
    path = tmp_path / "b" / "jaxplain.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(ValueError, match="is of the format 3"):
        train.load(tmp_path / "b", {"w": jnp.zeros(2)})
