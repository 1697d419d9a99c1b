"""Reading and copying run ahead of the device, inputs become numbers there, and nothing moves that need not."""

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
from jaxplain import aggregate, explain_dataset
from jaxplain.dataset import run as running
from shared.tables import halves

HERE = Path(__file__).parent
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 3)).astype(np.uint8)
LABELS = np.arange(10) % 3
WEIGHT = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)


def network(params, x):
    return jnp.tanh(x.reshape(x.shape[0], -1)) @ params


def scaled(x):
    return x.astype(jnp.float32) / 255.0


METHODS = {
    "gradients on a path": lambda f: jaxplain.integrated_gradients(f, steps=4),
    "a random one": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=2),
    "to a tolerance": lambda f: jaxplain.integrated_gradients(f, steps=4, tolerance=1e-3),
    "without derivatives": lambda f: jaxplain.occlusion(f, window=(2, 2)),
}


@pytest.mark.parametrize("name", halves(list(METHODS)))
def test_prepared_on_the_device_equals_transformed_on_the_host(name):
    e = METHODS[name](jaxplain.logit(network, WEIGHT))
    settings = {"key": jax.random.key(0), "batch_size": 4, "out": "memory", "progress": False}
    on_device = explain_dataset(e, (IMAGES, LABELS), prepare=scaled, **settings).explanations
    on_host = explain_dataset(e, (scaled(IMAGES), LABELS), **settings).explanations
    for part in on_host:
        np.testing.assert_allclose(on_device[part], on_host[part], rtol=1e-5, atol=1e-6, err_msg=part)


def test_what_travels_is_what_was_given(monkeypatch):
    seen, placed = [], running.Plan.placed

    def noted(plan, rows):
        seen.append(rows.x.dtype)
        return placed(plan, rows)

    monkeypatch.setattr(running.Plan, "placed", noted)
    e = jaxplain.gradient(jaxplain.logit(network, WEIGHT))
    explain_dataset(e, (IMAGES, LABELS), prepare=scaled, batch_size=4, out="memory", progress=False)
    assert set(seen) == {np.dtype(np.uint8)}


def test_a_run_prepared_in_another_way_is_another(tmp_path):
    e = jaxplain.gradient(jaxplain.logit(network, WEIGHT))
    settings = {"batch_size": 4, "out": tmp_path / "run", "progress": False}
    explain_dataset(e, (IMAGES, LABELS), prepare=scaled, **settings)
    explain_dataset(e, (IMAGES, LABELS), prepare=scaled, **settings)
    with pytest.raises(ValueError, match="another run"):
        explain_dataset(e, (IMAGES, LABELS), prepare=lambda x: x.astype(jnp.float32) / 128.0, **settings)
    with pytest.raises(ValueError, match="another run"):
        explain_dataset(e, (scaled(IMAGES), LABELS), **settings)
    with pytest.raises(TypeError, match="`prepare` has to be a function or None, not 3"):
        explain_dataset(e, (IMAGES, LABELS), prepare=3, **settings)


class Watched:
    """Examples one by one; `read` says how many have been asked for."""

    def __init__(self, count):
        self.count, self.read, self.second = count, 0, threading.Event()

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.read = max(self.read, i + 1)
        if i >= 5:  # of the second batch of four
            self.second.set()
        return np.full((4, 3), float(i), np.float32)


def test_the_next_batch_is_read_and_copied_while_one_is_computed(monkeypatch):
    data, late, copied = Watched(12), [], threading.Event()
    placed = running.Plan.placed

    def noted(plan, rows):
        found = placed(plan, rows)
        if rows.places[0] >= 4:
            copied.set()
        return found

    monkeypatch.setattr(running.Plan, "placed", noted)

    def wait(x):  # a device that is busy with its first batch until the second has been read and copied
        late.extend(event for event in (data.second, copied) if not event.wait(60))
        return x

    def score(x):
        return jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.float32), x.sum(), vmap_method="sequential")

    def explain(x):
        return x * score(x)

    found = explain_dataset(explain, data, batch_size=4, out="memory", progress=False)
    assert found.explanations.count == data.read == 12
    assert not late


def test_a_state_is_written_over_and_its_first_array_is_the_users(monkeypatch):
    e = jaxplain.gradient(jaxplain.logit(network, WEIGHT))
    states, update = [], running.Fold.update

    def noted(fold, *given):
        states.append(fold.state)
        return update(fold, *given)

    monkeypatch.setattr(running.Fold, "update", noted)
    found = explain_dataset(
        e, (scaled(IMAGES), LABELS), batch_size=4, aggregate=aggregate.moments(3), out="memory", progress=False
    )
    assert len(states) == 3
    assert all(leaf.is_deleted() for state in states for leaf in jax.tree.leaves(state))
    expected = np.stack([found.explanations["attribution"][k == LABELS].mean(0) for k in range(3)])
    np.testing.assert_allclose(found.aggregate.mean, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.optimized  # the CPU's quicker compiler has a tanh of 1e-9
@pytest.mark.parametrize("out", halves(["folder", "memory", None]))
@pytest.mark.sampled(4)
@pytest.mark.slow
def test_double_precision_for_a_while_holds_in_all_threads(out, tmp_path):
    with jax.enable_x64(True):
        e = jaxplain.gradient(jaxplain.logit(network, WEIGHT.astype(np.float64)))
        kept = tmp_path / "run" if out == "folder" else out
        x = IMAGES / 255.0
        found = explain_dataset(e, (x, LABELS), batch_size=4, aggregate=aggregate.moments(3), out=kept, progress=False)
        expected = jax.vmap(e)(x, LABELS)
    assert found.aggregate.mean.dtype == np.float64
    mean = np.stack([np.asarray(expected)[k == LABELS].mean(0) for k in range(3)])
    np.testing.assert_allclose(found.aggregate.mean, mean, rtol=1e-12)
    if out is not None:
        assert found.explanations["attribution"].dtype == np.float64
        np.testing.assert_allclose(found.explanations["attribution"], expected, rtol=1e-12)


def test_a_device_chosen_for_a_while_holds_in_all_threads():
    e = jaxplain.gradient(jaxplain.logit(network, WEIGHT))
    with jax.default_device(jax.devices("cpu")[0]):
        found = explain_dataset(e, (scaled(IMAGES), LABELS), batch_size=4, out="memory", progress=False)
    assert found.explanations.count == 10


@pytest.mark.optimized
@pytest.mark.slow
def test_eight_devices_exchange_what_the_aggregate_needs_alone():
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE.parents[1]}"}
    command = [sys.executable, str(HERE / "eight_transfers.py")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.rstrip().endswith("done")


class Own(aggregate.Aggregator):
    """An aggregator whose first state is a Python number."""

    def init(self, attribution):
        return {"sum": 0.0}

    def update(self, state, attribution, **_):
        return {"sum": state["sum"] + attribution.sum()}

    def merge(self, one, other):
        return jax.tree.map(jnp.add, one, other)

    def compute(self, state):
        return state


@pytest.mark.parametrize("out", ["folder", None])
def test_a_state_may_begin_as_a_number(out, tmp_path):
    kept = tmp_path / "run" if out else None
    x = np.ones((4, 3), np.float32)
    settings = {"aggregate": Own(), "out": kept, "batch_size": 2, "progress": False}
    assert float(explain_dataset(jaxplain.gradient(lambda x: (x * x).sum()), x, **settings).aggregate["sum"]) == 24.0


def test_a_preparation_in_numpy_is_told_where_it_belongs():
    e = jaxplain.gradient(jaxplain.logit(network, WEIGHT))
    with pytest.raises(TypeError, match=r"`prepare` .* written with jax\.numpy; .* belongs into `transform`"):
        explain_dataset(e, (IMAGES, LABELS), prepare=lambda x: np.sqrt(x), out="memory", progress=False)


class Reused:
    """A source that fills the same array again for every example."""

    def __init__(self):
        self.buffer = np.empty((4, 3), np.float32)

    def __len__(self):
        return 11

    def __getitem__(self, i):
        self.buffer[:] = i
        return self.buffer


def reused_batches(size):
    buffer = np.empty((size, 4, 3), np.float32)
    for start in range(0, 12, size):
        buffer[:] = np.arange(start, start + size)[:, None, None]
        yield buffer


@pytest.mark.parametrize("size", [2, 4, 5])
def test_buffers_that_are_filled_again_mix_up_no_examples(size):
    settings = {"batch_size": size, "out": "memory", "progress": False}
    found = explain_dataset(lambda x: x, Reused(), **settings).explanations["attribution"]
    np.testing.assert_array_equal(found[:, 0, 0], np.arange(11))
    found = explain_dataset(lambda x: x, reused_batches(4), **settings).explanations["attribution"]
    np.testing.assert_array_equal(found[:, 0, 0], np.arange(12))
