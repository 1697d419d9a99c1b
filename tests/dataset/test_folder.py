"""Explanations in a folder: read back, resumed after any kill, refused when anything differs, never half-written."""

import errno
import functools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import explain_dataset, open_explanations
from jaxplain.aggregate import moments
from jaxplain.dataset import channel_sum, store
from jaxplain.dataset.ledger import Finished, Ledger, finished_chunks
from jaxplain.dataset.lock import locked
from shared import dataset_cases as cases

PARAMS, X, Y = cases.arrays()
KEY = jax.random.key(3)
BATCH = 8


def explain(folder, e=None, data=(X, Y), **settings):
    e = cases.deterministic(PARAMS) if e is None else e
    return explain_dataset(e, data, out=folder, **{"batch_size": BATCH, **settings})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run that tests only read."""
    folder = tmp_path_factory.mktemp("explanations") / "whole"
    explain(folder)
    return folder


def copied(folder, target):
    import shutil

    shutil.copytree(folder, target)
    return target


def chunks_written(folder):
    return sorted(path.name for path in (Path(folder) / "attribution" / "c").iterdir())


def test_read_back_as_numpy_and_jax(whole):
    expected = np.asarray(jaxplain.explain_batch(cases.deterministic(PARAMS), X, Y))
    found = open_explanations(whole)
    column = found["attribution"]
    assert column.shape == (cases.COUNT, 4, 3)
    assert column.dtype == np.float32
    for index in (3, -1, slice(5, 20), [1, 30, 2], np.array([7]), (slice(2, 9), 1), (4, 2, 1), ..., slice(0, 0)):
        np.testing.assert_allclose(column[index], expected[index], atol=1e-6)
    np.testing.assert_allclose(np.asarray(column), expected, atol=1e-6)
    with pytest.raises(IndexError):
        column[cases.COUNT]
    np.testing.assert_allclose(found.example(17)["attribution"], expected[17], atol=1e-6)
    assert found.example(17)["target"] == Y[17]
    assert isinstance(open_explanations(whole, "jax")["score"][2:4], jax.Array)
    assert found.settings["method"]["steps"] == 8
    assert found.settings["versions"]["jax"] == jax.__version__
    with pytest.raises(ValueError, match="'numpy', 'jax', 'xarray'"):
        open_explanations(whole, "pandas")
    with pytest.raises(FileNotFoundError, match="no explanations"):
        open_explanations(whole / "attribution")


def test_read_back_as_xarray(whole):
    xarray = pytest.importorskip("xarray")
    found = open_explanations(whole, "xarray")
    assert isinstance(found, xarray.Dataset)
    np.testing.assert_array_equal(found["attribution"][3:5].values, open_explanations(whole)["attribution"][3:5])
    assert float(found["score"].sel(example=7)) == open_explanations(whole)["score"][7]


def test_other_readers_of_zarr_understand_the_folder(whole):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(whole, mode="r")
    np.testing.assert_array_equal(group["attribution"][:], np.asarray(open_explanations(whole)["attribution"]))
    assert group["attribution"].metadata.dimension_names[0] == "example"


def test_chunked_by_example_compressed_and_checked(whole):
    metadata = json.loads((whole / "attribution" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [BATCH, 4, 3]
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "blosc", "crc32c"]
    assert len(chunks_written(whole)) == -(-cases.COUNT // BATCH)


@pytest.mark.slow
def test_a_chunk_of_a_large_dataset_is_several_small_batches(tmp_path):
    x, y = np.tile(X, (20, 1, 1))[:600], np.tile(Y, 20)[:600]
    e = cases.deterministic(PARAMS)
    run = functools.partial(explain_dataset, e, (x, y), batch_size=2, out=tmp_path, aggregate=moments(), progress=False)
    first = run()
    assert first.explanations.settings["chunk"] == 18  # of 600 / 32, whole batches
    assert len(chunks_written(tmp_path)) == 34
    np.testing.assert_allclose(first.explanations["attribution"][:], jaxplain.explain_batch(e, x, y), atol=1e-6)
    log = tmp_path / "jaxplain-run" / "finished-0.log"
    log.write_bytes(b"\n".join(log.read_bytes().split(b"\n")[:20]))  # as if it had been killed
    again = run()
    np.testing.assert_array_equal(again.explanations["attribution"][:], first.explanations["attribution"][:])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), again.aggregate, first.aggregate)


def test_the_same_key_in_its_old_form_is_the_same_run(tmp_path):
    e = cases.random(PARAMS)
    first = explain(tmp_path, e, key=KEY)
    again = explain(tmp_path, e, key=jax.random.PRNGKey(3))
    np.testing.assert_array_equal(again.explanations["attribution"][:], first.explanations["attribution"][:])


def test_a_finished_run_is_not_computed_again(whole, tmp_path):
    folder = copied(whole, tmp_path / "again")
    before = {path: path.stat().st_mtime_ns for path in (folder / "attribution" / "c").rglob("*") if path.is_file()}
    for size in (BATCH, 5, "auto"):  # batches may be of another size
        assert explain(folder, batch_size=size).explanations.finished.all()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(FileExistsError, match="holds a run"):
        explain(folder, resume=False)


def another_network(params, x):
    return jnp.sin(x.reshape(x.shape[0], -1) @ params["first"]) @ params["second"]


def changed(array, row):
    array = array.copy()
    array[row] = array[row] + 1
    return array


def test_what_differs_is_refused_and_named(whole, tmp_path):
    params = {**PARAMS, "second": PARAMS["second"] + 1}
    ig = jaxplain.integrated_gradients
    score = cases.score(PARAMS)
    cases_ = [
        ({"e": cases.deterministic(params)}, r"model parameters: score.params\['second'\]"),
        ({"e": ig(score, steps=9)}, "method: steps is 8 there and 9 here"),
        ({"e": ig(score, steps=8, baseline=0.5)}, "method: baseline is 0.0 there and 0.5 here"),
        ({"e": ig(score, steps=8, rule="midpoint")}, "method: rule is gauss_legendre there and midpoint here"),
        ({"e": jaxplain.gradient(score)}, "method: is integrated_gradients there and gradient here"),
        ({"e": ig(jaxplain.probability(cases.network, PARAMS), steps=8)}, "score"),
        ({"e": ig(jaxplain.logit(another_network, PARAMS), steps=8)}, "model: score.apply is .*another_network here"),
        ({"data": (changed(X, 20), Y)}, "data: the examples 16 to 23 are others"),
        ({"data": (X, changed(Y % 3, 42))}, "data: the examples"),
        ({"data": (X[:40], Y[:40])}, "data: count is 43 there and 40 here"),
        ({"data": (X.astype(np.float64), Y)}, "data: inputs"),
        ({"data": (X[:, :, :2], Y), "e": jaxplain.gradient(lambda x, k: x.sum())}, "data: inputs"),
        ({"ids": np.arange(cases.COUNT) + 1}, "data: the examples 0 to 7"),
        ({"reduce": channel_sum()}, "settings: reduce"),
        ({"dtype": "float16"}, "settings: dtype is None there and float16 here"),
        ({"target": "predicted"}, "settings: target is None there and predicted here"),
    ]
    before = (whole / "zarr.json").read_bytes()
    for settings, message in cases_:
        with pytest.raises(ValueError, match=f"(?s)another run, which differs in.*{message}"):
            explain(whole, **settings)
    assert (whole / "zarr.json").read_bytes() == before
    assert open_explanations(whole).finished.all()


def test_another_key_is_refused_and_named(tmp_path):
    e = cases.random(PARAMS)
    explain(tmp_path / "a", e, key=KEY)
    with pytest.raises(ValueError, match="key: another PRNG key"):
        explain(tmp_path / "a", e, key=jax.random.key(4))
    explain(tmp_path / "a", e, key=KEY)


def test_code_that_is_written_anew_but_computes_the_same_is_the_same_run(whole):
    def renamed(params, x):
        hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ params["first"])
        return hidden @ params["second"]

    explain(whole, jaxplain.integrated_gradients(jaxplain.logit(renamed, PARAMS), steps=8))


def test_constants_of_closures_are_part_of_the_fingerprint(tmp_path):
    def closed_over(values):
        return lambda x: x * values[None]

    explain(tmp_path / "a", closed_over(np.arange(3, dtype=np.float32)), X)
    explain(tmp_path / "a", closed_over(np.arange(3, dtype=np.float32)), X)
    with pytest.raises(ValueError, match="its code computes something else"):
        explain(tmp_path / "a", closed_over(np.arange(3, dtype=np.float32) + 1), X)


class Stop(Exception):
    pass


def interrupted(stop):
    """Records that fail at one of them, as often as they are read."""

    class Records:
        def __len__(self):
            return cases.COUNT

        def __getitem__(self, i):
            if i == stop:
                raise Stop(i)
            return X[i], Y[i]

    return Records()


@pytest.mark.parametrize("kind", ["records", "stream"])
def test_an_error_keeps_what_is_finished_and_a_rerun_does_the_rest(kind, whole, tmp_path):
    folder = tmp_path / "a"

    def stream(stop):
        for start in range(0, cases.COUNT, 10):
            if start == stop:
                raise Stop(start)
            yield X[start : start + 10], Y[start : start + 10]

    with pytest.raises(Stop):
        explain(folder, data=interrupted(33) if kind == "records" else stream(30), aggregate=cases.aggregate())
    found = open_explanations(folder)
    assert 0 < found.finished.sum() < cases.COUNT
    np.testing.assert_array_equal(found["attribution"][:8], open_explanations(whole)["attribution"][:8])
    if kind == "records":  # how many there are is known
        with pytest.raises(ValueError, match="not explained yet"):
            found["attribution"][-1]
    written = finished_chunks(folder / "jaxplain-run")
    result = explain(folder, data=interrupted(-1) if kind == "records" else stream(-1), aggregate=cases.aggregate())
    assert set(written) < set(finished_chunks(folder / "jaxplain-run"))
    for name in ("attribution", "score", "gap", "id", "target"):
        np.testing.assert_array_equal(result.explanations[name], open_explanations(whole)[name])
    expected = explain_dataset(cases.deterministic(PARAMS), (X, Y), batch_size=BATCH, aggregate=cases.aggregate())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), result.aggregate, expected.aggregate
    )


def test_a_changed_stream_is_refused(tmp_path):
    def stream(x):
        yield x[:30], Y[:30]
        yield x[30:], Y[30:]

    explain(tmp_path / "a", data=stream(X))
    explain(tmp_path / "a", data=stream(X))
    with pytest.raises(ValueError, match="data: examples 24 and after"):
        explain(tmp_path / "a", data=stream(changed(X, 30)))
    with pytest.raises(ValueError, match="data: examples beyond 24"):
        explain(tmp_path / "a", data=iter([(X[:24], Y[:24])]))


def kill(tmp_path, kills):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here.parents[1]}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", str(here / "killed.py"), str(tmp_path), str(kills), "0"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "killed after" in result.stdout
    assert "0 were explained twice" in result.stdout
    killed, uninterrupted = open_explanations(tmp_path / "killed"), open_explanations(tmp_path / "whole")
    assert set(killed) == set(uninterrupted)
    assert killed.finished.all()
    for name in killed:
        np.testing.assert_array_equal(killed[name], uninterrupted[name], err_msg=name)
    with np.load(tmp_path / "killed-aggregate.npz") as one, np.load(tmp_path / "whole-aggregate.npz") as other:
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.slow
def test_killed_at_random_moments_the_result_is_that_of_an_uninterrupted_run(tmp_path):
    kill(tmp_path, 4)


@pytest.mark.long
def test_killed_at_twenty_random_moments(tmp_path):
    kill(tmp_path, 20)


def test_half_a_line_of_the_ledger_does_not_count(tmp_path):
    ledger = Ledger(tmp_path, 0)
    ledger.append(Finished(0, 8, "a"))
    path = tmp_path / "finished-0.log"
    line = path.read_bytes()
    for length in range(len(line)):
        path.write_bytes(line + line.replace(b'"chunk": 0', b'"chunk": 1')[:length])
        assert set(finished_chunks(tmp_path)) == {0}
        ledger.append(Finished(2, 8, "b"))
        assert set(finished_chunks(tmp_path)) == {0, 2}


def test_a_full_disk_keeps_what_is_finished(tmp_path, monkeypatch):
    folder, written = tmp_path / "a", []
    write = store.Store.write

    def full(self, start, rows):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(start)
        return write(self, start, rows)

    monkeypatch.setattr(store.Store, "write", full)
    with pytest.raises(OSError, match=r"chunk 3 could not be written.*No space left on device.*make room"):
        explain(folder)
    monkeypatch.undo()
    assert open_explanations(folder).finished.sum() == 3 * BATCH
    assert explain(folder).explanations.finished.all()


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_a_ledger_on_a_full_disk_fails(tmp_path):
    (tmp_path / "finished-0.log").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        Ledger(tmp_path, 0).append(Finished(0, 8, "a"))


def test_folders_that_cannot_be_written_or_hold_something_else(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        explain(tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"no run of explain_dataset \(notes.txt\)"):
        explain(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]
    with pytest.raises(PermissionError, match="cannot be written"):
        explain("/proc/explanations" if os.path.isdir("/proc") else "/explanations")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    with pytest.raises(PermissionError, match="cannot be written"):
        explain(tmp_path / "read_only")


def test_a_corrupt_chunk_is_named_and_the_others_are_intact(whole, tmp_path):
    for number, damage in enumerate(("flip", "cut", "header")):
        folder = copied(whole, tmp_path / damage)
        file = folder / "attribution" / "c" / "2" / "0" / "0"
        data = bytearray(file.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 1
        file.write_bytes(data[:10] if damage == "cut" else bytes(len(data)) if damage == "header" else data)
        found = open_explanations(folder)
        np.testing.assert_array_equal(found["attribution"][:16], open_explanations(whole)["attribution"][:16])
        message = r"chunk 2 of 'attribution' in .* \(examples 16 to 23\) is corrupt.*Delete the file .*c/2/0/0 "
        with pytest.raises(ValueError, match=message):
            found["attribution"][20]
        with pytest.raises(ValueError, match=message):
            explain(folder)
        if number == 0:
            file.unlink()
            assert open_explanations(folder).finished.sum() == cases.COUNT - BATCH
            explain(folder)
            np.testing.assert_array_equal(
                open_explanations(folder)["attribution"][:], open_explanations(whole)["attribution"][:]
            )


def test_two_runs_on_one_folder(whole, tmp_path):
    folder = copied(whole, tmp_path / "a")
    with locked(folder / "jaxplain-run" / "lock"), pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"):
        explain(folder)
    explain(folder)  # the lock is free again


def test_a_second_run_refuses_while_the_first_goes_on(tmp_path):
    begun, go_on, errors = threading.Event(), threading.Event(), []

    def stream():
        yield X[:20], Y[:20]
        begun.set()
        assert go_on.wait(60)
        yield X[20:], Y[20:]

    def first():
        try:
            explain(tmp_path / "a", data=stream())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    lock = tmp_path / "a" / "jaxplain-run" / "lock"
    while not (lock.exists() and lock.read_text()):
        assert thread.is_alive(), errors
    with pytest.raises(BlockingIOError, match="another run is writing"), locked(lock):
        pass
    go_on.set()
    thread.join()
    assert not errors
    assert open_explanations(tmp_path / "a").count == cases.COUNT


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    holder.stdout.readline()
    with pytest.raises(BlockingIOError), locked(path):
        pass
    holder.kill()
    holder.communicate()
    with locked(path):
        pass


def test_a_run_that_is_killed_while_it_makes_its_arrays_can_begin_again(tmp_path, monkeypatch):
    made = []
    opened = store._opened

    def dies(path, more, *, create):
        if create and len(made) == 2:
            raise KeyboardInterrupt
        made.append(path)
        return opened(path, more, create=create)

    monkeypatch.setattr(store, "_opened", dies)
    with pytest.raises(KeyboardInterrupt):
        explain(tmp_path / "a")
    monkeypatch.undo()
    assert explain(tmp_path / "a").explanations.finished.all()
