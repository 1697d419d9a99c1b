"""Nothing is lost: names of leaves, places of chunks, what travels with a copy, damaged files, kills at every step."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxplain import explain_dataset, gradient, open_explanations
from jaxplain.dataset import channel_sum, store
from jaxplain.dataset.ledger import finished_chunks
from shared import dataset_cases as cases
from shared.trees import trees

PARAMS, X, Y = cases.arrays()
BATCH = 8
OWN = "jaxplain-run"


def explain(folder, e=None, data=(X, Y), **settings):
    e = cases.deterministic(PARAMS) if e is None else e
    return explain_dataset(e, data, out=folder, **{"batch_size": BATCH, "progress": False, **settings})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run that tests only read."""
    folder = tmp_path_factory.mktemp("explanations") / "whole"
    explain(folder)
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "copied"))


def identical(one, other):
    assert list(one) == list(other)
    for a, b in zip(jax.tree.leaves(dict(one)), jax.tree.leaves(dict(other)), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def as_dictionaries(tree):
    """Containers as dictionaries of their keys' texts, as they come back."""
    if isinstance(tree, dict):
        return {str(key): as_dictionaries(value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return as_dictionaries({"value": tree.value} if len(tree) == 1 else tree._asdict())
    if isinstance(tree, tuple | list):
        return as_dictionaries(dict(enumerate(tree)))
    return np.asarray(tree)


def plain(tree):
    """What is read back, and what was expected, without the `value` that stands between a variable and its array."""
    if isinstance(tree, dict):
        tree = {key: plain(value) for key, value in tree.items()}
        return tree["value"] if set(tree) == {"value"} and not isinstance(tree["value"], dict) else tree
    return np.asarray(tree)


def goes_through(folder, tree):
    """Each leaf is an array of three examples, and its own attribution under the gradient of half its square."""
    data = jax.tree.map(lambda number: np.full((3, 1), number, np.float32), tree)
    e = gradient(lambda x: sum((leaf**2).sum() / 2 for leaf in jax.tree.leaves(x)))
    found = explain_dataset(e, {"inputs": data}, batch_size=2, out=folder, progress=False).explanations
    got, expected = plain(found["attribution"]), plain(as_dictionaries(data))
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(tree=trees(st.integers(1, 99), most=5))
@example(tree={"key": 1, "query": 2, "value": 3})
@example(tree={"a": {"b": 1}, "a/b": 2, "a.b": 3, "\\": 4, "..": 5})
def test_any_tree_goes_through(tmp_path_factory, tree):
    goes_through(tmp_path_factory.mktemp("trees") / "a", tree)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, database=None)
@given(tree=trees(st.integers(1, 99), most=5))
def test_a_hundred_and_fifty_trees_go_through(tmp_path_factory, tree):
    goes_through(tmp_path_factory.mktemp("trees") / "a", tree)


class Clashing(NamedTuple):
    attribution: object
    id: object


def test_fields_of_reserved_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"returns the fields \['id'\] beside 'attribution'"):
        explain(tmp_path / "a", lambda x: Clashing(x, x.sum()), X)


def test_a_path_that_would_be_read_otherwise_is_refused_before_anything_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    explain("runs/v2")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in ("runs\\v2", "runs\\", "x.__lock/y", "a\0b", "~nobody-here/x"):
        for call in (lambda path: explain(path, cases.deterministic(PARAMS), (X + 1, Y)), open_explanations):
            with pytest.raises(ValueError, match=r"`(out|path)` is"):
                call(path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "a\\b").mkdir()
    monkeypatch.chdir(tmp_path / "a\\b")
    with pytest.raises(ValueError, match="a backslash in it"):
        explain("here")
    explain("~/x")
    assert open_explanations("~/x").finished.all()
    assert (tmp_path / "home" / "x").is_dir()


def test_no_array_is_opened_with_delete_existing():
    assert "delete_existing" not in Path(store.__file__).read_text()


def test_swapped_chunks_are_noticed(copied):
    first, second = (copied / "attribution" / "c" / number / "0" / "0" for number in "13")
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    found = open_explanations(copied)
    np.testing.assert_array_equal(found["score"][:], found["score"][:])
    message = r"chunk 1 of 'attribution' in .* is corrupt: its checksum is not that of what was written there.*c/1/0/0"
    with pytest.raises(ValueError, match=message):
        found["attribution"][BATCH]
    with pytest.raises(ValueError, match=message):
        explain(copied)
    first.unlink()
    second.unlink()
    explain(copied)


def test_chunks_of_another_run_are_noticed(copied, tmp_path):
    explain(tmp_path / "other", data=(X + 1, Y))
    shutil.rmtree(copied / "score" / "c")
    shutil.copytree(tmp_path / "other" / "score" / "c", copied / "score" / "c")
    with pytest.raises(ValueError, match=r"of 'score' in .* is corrupt: its checksum"):
        open_explanations(copied)["score"][3]
    with pytest.raises(ValueError, match=r"of 'score' in .* is corrupt: its checksum"):
        explain(copied)


def test_what_completeness_rests_on_is_visible(whole, tmp_path):
    target = tmp_path / "visible"
    shutil.copytree(whole, target, ignore=lambda _, names: [name for name in names if name.startswith(".")])
    identical(open_explanations(target), open_explanations(whole))
    explain(target)
    shutil.rmtree(target / OWN)
    for call in (open_explanations, explain):
        with pytest.raises(ValueError, match=f"lacks its subfolder {OWN}.*Copy {OWN}"):
            call(target)


def test_a_folder_of_an_earlier_version_is_named(copied):
    path = copied / "zarr.json"
    group = json.loads(path.read_text())
    group["attributes"]["jaxplain"]["format"] = 1
    path.write_text(json.dumps(group))
    for call in (open_explanations, explain):
        with pytest.raises(ValueError, match=r"is of the format 1; this version of jaxplain .* the format 2"):
            call(copied)


def damages(group):
    """The file of a group in which one thing is another, for every thing in it."""
    known = group["attributes"]["jaxplain"]
    for name in known:
        yield {key: value for key, value in known.items() if key != name}
        for other in (None, [], {}, "x", -1, True):
            if other != known[name]:
                yield {**known, name: other}
    for name in ("../../x", "a\\b", ""):
        yield {**known, "names": [name]}
    yield from (None, [], "x", 3)


def test_damaged_attributes_are_named_and_nothing_is_deleted(copied):
    path = copied / "zarr.json"
    text = path.read_text()
    group = json.loads(text)
    wholes = ["", text[:100], "[]", "null", "{}", "[" * 100_000, '{"attributes": 3}', "\x00"]
    wholes += [json.dumps({**group, "attributes": {"jaxplain": known}}) for known in damages(group)]
    chunks = sorted((copied / "attribution" / "c").rglob("*"))
    for damaged in wholes:
        path.write_text(damaged)
        for call in (open_explanations, explain):
            with pytest.raises(ValueError, match=r"copied/zarr.json is damaged|is of the format"):
                call(copied)
    assert len(wholes) > 70
    path.unlink()
    with pytest.raises(ValueError, match=r"its file zarr.json is missing"):
        explain(copied)
    assert sorted((copied / "attribution" / "c").rglob("*")) == chunks
    path.write_text(text)
    explain(copied)


def test_a_damaged_ledger_costs_its_chunks_only(copied, whole):
    path = copied / OWN / "finished-0.log"
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"chunk": 1', b'"chunk": 4')
    path.write_bytes(b"\n".join([*lines, b"garbage", b"\xff" * 9]))
    assert open_explanations(copied).finished.sum() == cases.COUNT - BATCH
    explain(copied)
    identical(open_explanations(copied), open_explanations(whole))


class Stop(Exception):
    pass


def interrupted(stop):
    class Records:
        def __len__(self):
            return cases.COUNT

        def __getitem__(self, i):
            if i == stop:
                raise Stop(i)
            return X[i], Y[i]

    return Records()


@pytest.mark.parametrize("reduce", [None, channel_sum()])
def test_an_aggregate_is_equal_to_the_bit_whatever_was_interrupted(tmp_path, reduce):
    settings = {"aggregate": cases.aggregate(), "reduce": reduce, "batch_size": 4}
    expected = explain(tmp_path / "whole", data=interrupted(-1), **settings).aggregate
    for stop in (9, 21, 40):
        folder = tmp_path / f"{stop}"
        with pytest.raises(Stop):
            explain(folder, data=interrupted(stop), **settings)
        lost = folder / "attribution" / "c" / "1"
        if stop == 40 and lost.exists():
            shutil.rmtree(lost)  # and one in the middle is lost
        found = explain(folder, data=interrupted(-1), **{**settings, "batch_size": 4}).aggregate
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    again = explain(tmp_path / "40", data=interrupted(-1), **settings).aggregate
    jax.tree.map(np.testing.assert_array_equal, again, expected)


def test_a_full_disk_is_called_so(tmp_path, monkeypatch):
    def full(*args, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match=r"the disk of .* is full") as caught:
        explain(tmp_path / "a")
    assert not isinstance(caught.value, PermissionError)


@pytest.mark.slow
def test_killed_at_some_steps_of_the_end(tmp_path):
    killed_at_the_end(tmp_path, 8)


@pytest.mark.slow
def test_killed_at_each_step_of_the_end(tmp_path):
    killed_at_the_end(tmp_path, 1)


def killed_at_the_end(tmp_path, stride):
    """A stream, whose arrays get their length at the end: killed before renamings and changes of length."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here.parents[1]}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", str(here / "killed_at_the_end.py"), str(tmp_path), str(stride)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    steps = list(map(int, result.stdout.split()))
    assert len(steps) >= (2 if stride > 1 else 9)
    expected = open_explanations(tmp_path / "whole")
    for step in steps:
        found = open_explanations(tmp_path / f"{step}")
        assert found.finished.all()
        assert found.settings["data"]["count"] == cases.COUNT
        identical(found, expected)
        assert len(finished_chunks(tmp_path / f"{step}" / OWN)) == -(-cases.COUNT // BATCH)
        with np.load(tmp_path / f"{step}.npz") as one, np.load(tmp_path / "whole.npz") as other:
            for name in other.files:
                np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(("axis", "side"), [(0, 0), (0, 2), (1, 0), (1, 2), (1, 100)])
def test_a_shape_that_is_not_that_of_the_chunks_is_damage(copied, axis, side):
    file = copied / "attribution" / "zarr.json"
    known = json.loads(file.read_text())
    known["shape"][axis] = side
    file.write_text(json.dumps(known))
    with pytest.raises(ValueError, match=r"attribution/zarr\.json is damaged"):
        open_explanations(copied)
