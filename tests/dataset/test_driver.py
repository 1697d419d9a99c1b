"""The dataset driver in one process: equal to `explain_batch`, whatever the batches, the data's kind and the output."""

import dataclasses
import io
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import explain_dataset
from jaxplain.aggregate import moments, top_k
from jaxplain.data import Dataset, batches
from jaxplain.dataset import channel_sum, group_sum, memory, top_features
from jaxplain.dataset import run as running
from jaxplain.dataset.reader import read_ahead
from jaxplain.program import host_bytes
from shared import dataset_cases as cases

PARAMS, X, Y = cases.arrays()
KEY = jax.random.key(3)
MAKES = {"deterministic": cases.deterministic, "random": cases.random, "adaptive": cases.adaptive}


def in_memory(e, data, **settings):
    return explain_dataset(e, data, out="memory", **{"batch_size": 8, "key": KEY, **settings}).explanations


@pytest.fixture(scope="module")
def expected():
    return {name: jaxplain.explain_batch(make(PARAMS), X, Y, key=KEY) for name, make in MAKES.items()}


@pytest.mark.parametrize("name", list(MAKES))
@pytest.mark.sampled(3)
def test_equal_to_explain_batch_whatever_the_batch_size(name, expected):
    e = MAKES[name](PARAMS)
    for size in (8, 50):
        found = in_memory(e, (X, Y), batch_size=size)
        assert found.count == cases.COUNT
        assert found.finished.all()
        np.testing.assert_allclose(found["attribution"], expected[name], atol=2e-3 if name == "adaptive" else 1e-5)


@pytest.mark.optimized
def test_draws_are_the_same_to_the_bit_whatever_the_batch_size():
    class Draw(jaxplain.Function):
        @property
        def needs_key(self):
            return True

        def __call__(self, key, x):
            return jax.random.normal(key, x.shape)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(cases.COUNT))
    expected = jax.vmap(lambda key: jax.random.normal(key, (4, 3)))(keys)
    for size in (1, 7):
        np.testing.assert_array_equal(in_memory(Draw(), X, batch_size=size)["attribution"], expected)


def test_what_is_known_of_each_example():
    found = in_memory(cases.deterministic(PARAMS), (X, Y), ids=[f"example {i}" for i in range(cases.COUNT)])
    outputs = np.asarray(cases.network(PARAMS, X))
    np.testing.assert_array_equal(found["prediction"], outputs.argmax(-1))
    np.testing.assert_allclose(found["score"], outputs[np.arange(cases.COUNT), Y], atol=1e-5)
    np.testing.assert_array_equal(found["target"], Y)
    np.testing.assert_allclose(found["baseline_score"], 0, atol=1e-6)
    gap = found["attribution"].sum((1, 2)) - (found["score"] - found["baseline_score"])
    np.testing.assert_allclose(found["gap"], gap, atol=1e-5)
    assert found["finite"].all()
    assert found.find("example 7") == 7
    np.testing.assert_array_equal(found.example("example 7")["attribution"], found["attribution"][7])
    with pytest.raises(KeyError, match="no explained example has the id 'example 70'"):
        found.find("example 70")
    with pytest.raises(KeyError, match="known are"):
        found["steps"]


def test_adaptive_methods_tell_steps_and_whether_the_tolerance_was_reached():
    found = in_memory(cases.adaptive(PARAMS), (X, Y))
    assert found["reached"].all()
    assert (found["steps"] >= 8).all()
    assert (np.abs(found["gap"]) <= 1e-4 * (np.abs(found["score"] - found["baseline_score"]) + 1e-3) + 1e-6).all()


def test_predicted_and_fixed_targets_keep_the_data_s_labels(expected):
    predicted = np.asarray(cases.network(PARAMS, X)).argmax(-1)
    e = cases.deterministic(PARAMS)
    for data in (X, (X, Y)):
        found = in_memory(e, data, target="predicted")
        np.testing.assert_array_equal(found["target"], predicted)
        np.testing.assert_allclose(found["attribution"], jaxplain.explain_batch(e, X, predicted), atol=1e-6)
    np.testing.assert_array_equal(found["label"], Y)
    found = in_memory(e, (X, Y), target=2)
    np.testing.assert_allclose(found["attribution"], jaxplain.explain_batch(e, X, 2), atol=1e-6)
    assert (found["target"] == 2).all()
    with pytest.raises(ValueError, match="'predicted' or one class"):
        in_memory(e, X, target="best")
    with pytest.raises(ValueError, match="needs a score of a model"):
        in_memory(jaxplain.gradient(lambda x, k: x.sum()), X, target="predicted")


def test_predicted_target_of_a_head_of_one_unit():
    def head(params, x):
        return x.reshape(x.shape[0], -1) @ params

    weights = PARAMS["first"][:, :1]
    sign = (X.reshape(len(X), -1) @ weights)[:, 0] > 0
    for make, target in ((jaxplain.logit, np.zeros(len(X), int)), (jaxplain.probability, sign.astype(int))):
        found = in_memory(jaxplain.gradient(make(head, weights)), X, target="predicted")
        np.testing.assert_array_equal(found["prediction"], sign)
        np.testing.assert_array_equal(found["target"], target)


class Records:
    """A source of single examples, as Grain's are."""

    def __len__(self):
        return cases.COUNT

    def __getitem__(self, i):
        return {"inputs": X[i], "targets": Y[i], "id": f"r{i}"}


def streams():
    """Batches of uneven lengths."""
    for start in range(0, cases.COUNT, 10):
        yield X[start : start + 10], Y[start : start + 10]


@pytest.mark.parametrize("kind", ["jax", "dataset", "memmap", "records", "stream", "batches", "transform"])
def test_every_kind_of_data_gives_the_same(kind, expected, tmp_path):
    np.save(tmp_path / "x.npy", X)
    data = {
        "jax": lambda: (jnp.asarray(X), jnp.asarray(Y)),
        "dataset": lambda: Dataset(X, Y),
        "memmap": lambda: (np.load(tmp_path / "x.npy", mmap_mode="r"), Y),
        "records": Records,
        "stream": streams,
        "batches": lambda: batches((X, Y), 6),
        "transform": lambda: (X * 2, Y),
    }[kind]()
    settings = {"transform": lambda x: x / 2} if kind == "transform" else {}
    found = in_memory(cases.random(PARAMS), data, **settings)
    np.testing.assert_allclose(found["attribution"], expected["random"], atol=1e-5)
    assert found.ids.tolist() == [f"r{i}" if kind == "records" else i for i in range(cases.COUNT)]


def test_shuffled_batches_draw_by_the_examples_own_index(expected):
    found = in_memory(cases.random(PARAMS), batches((X, Y), 6, key=KEY))
    np.testing.assert_allclose(found["attribution"], expected["random"][found["index"]], atol=1e-5)
    assert sorted(found["index"].tolist()) == list(range(cases.COUNT))


def test_pytrees_and_further_arguments():
    def f(x, scale):
        return (x["a"] * scale).sum() + (x["b"] ** 2).sum()

    data = ({"a": X, "b": X[:, 0]}, np.arange(cases.COUNT, dtype=np.float32))
    found = in_memory(jaxplain.gradient(f), data)
    np.testing.assert_allclose(found["attribution"]["b"], 2 * X[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found["attribution"]["a"][:, 0, 0], np.arange(cases.COUNT))
    out = {"a": np.zeros_like(X), "b": np.zeros_like(X[:, 0])}
    explain_dataset(jaxplain.gradient(f), data, batch_size=8, out=out)
    np.testing.assert_array_equal(out["b"], found["attribution"]["b"])


def test_reduced_before_it_is_written(expected):
    whole = np.asarray(expected["deterministic"])
    e = cases.deterministic(PARAMS)
    channels = in_memory(e, (X, Y), reduce=channel_sum(), dtype="float16")["attribution"]
    assert channels.dtype == np.float16
    np.testing.assert_allclose(channels, whole.sum(-1), rtol=2e-3, atol=1e-3)
    groups = np.arange(12).reshape(4, 3) % 5
    summed = in_memory(e, (X, Y), reduce=group_sum(groups))["attribution"]
    np.testing.assert_allclose(summed[:, 1], whole[:, groups == 1].sum(-1), atol=1e-5)
    best = in_memory(e, (X, Y), reduce=top_features(2))["attribution"]
    order = np.argsort(-np.abs(whole.reshape(-1, 12)), axis=-1)[:, :2]
    np.testing.assert_array_equal(best["places"], order)
    np.testing.assert_allclose(best["values"], np.take_along_axis(whole.reshape(-1, 12), order, -1), atol=1e-6)


@pytest.mark.parametrize("data", ["arrays", "stream"])
def test_aggregates_in_the_same_pass(data, expected):
    source = (X, Y) if data == "arrays" else streams()
    result = explain_dataset(cases.deterministic(PARAMS), source, batch_size=8, aggregate=cases.aggregate())
    assert result.explanations is None
    whole = np.asarray(expected["deterministic"])
    for k in range(cases.CLASSES):
        np.testing.assert_allclose(result.aggregate["mean"].mean[k], whole[np.equal(Y, k)].mean(0), atol=1e-5)
    values = np.asarray(cases.network(PARAMS, X))[np.arange(cases.COUNT), Y]
    np.testing.assert_array_equal(result.aggregate["best"].indices, np.argsort(-values)[:3])


def test_aggregates_see_what_is_not_reduced(expected):
    result = explain_dataset(
        cases.deterministic(PARAMS), (X, Y), batch_size=8, out="memory", reduce=channel_sum(), aggregate=moments()
    )
    np.testing.assert_allclose(result.aggregate.mean, expected["deterministic"].mean(0), atol=1e-6)


def test_one_program_and_new_parameters_do_not_retrace():
    traces = []

    def net(params, x):
        traces.append(1)
        return cases.network(params, x)

    for index in range(2):
        params = jax.tree.map(lambda p, index=index: p + index, PARAMS)
        e = jaxplain.integrated_gradients(jaxplain.logit(net, params), steps=4)
        in_memory(e, (X, Y), batch_size=16)
        if index == 0:
            first = len(traces)
            counted = running.lower_rows.__globals__["_explain"].plain._cache_size()
    assert running.lower_rows.__globals__["_explain"].plain._cache_size() == counted
    assert len(traces) - first <= first  # shapes are looked at again, the program is not


def test_bad_values_are_marked_and_warned_of():
    bad = X.copy()
    bad[5] = np.nan
    with pytest.warns(RuntimeWarning, match=r"1 of 43 examples have attributions with NaN or infinities \(ids 5\)"):
        found = in_memory(cases.deterministic(PARAMS), (bad, Y))
    assert np.flatnonzero(~found["finite"]).tolist() == [5]
    assert np.isnan(found["attribution"][5]).all()


def test_refusals():
    e = cases.deterministic(PARAMS)
    with pytest.raises(ValueError, match="target 9 is outside the model's 4 outputs"):
        in_memory(e, (X, np.full(cases.COUNT, 9)))
    with pytest.raises(ValueError, match="nothing would be kept"):
        explain_dataset(e, (X, Y))
    with pytest.raises(ValueError, match="is random and needs a key"):
        in_memory(cases.random(PARAMS), (X, Y), key=None)
    with pytest.raises(TypeError, match="threefry"):
        in_memory(cases.random(PARAMS), (X, Y), key=jax.random.key(0, impl="rbg"))
    with pytest.raises(ValueError, match="lengths"):
        in_memory(e, (X, Y[:5]))
    with pytest.raises(ValueError, match="empty"):
        in_memory(e, (X[:0], Y[:0]))
    with pytest.raises(ValueError, match="no examples"):
        in_memory(e, [])
    with pytest.raises(TypeError, match="`data` is int"):
        in_memory(e, 3)
    with pytest.raises(ValueError, match="at least 1"):
        in_memory(e, (X, Y), batch_size=0)
    with pytest.raises(ValueError, match=r"shape \(43, 4, 3\)"):
        explain_dataset(e, (X, Y), out=np.zeros((43, 4)))
    with pytest.raises(TypeError, match="cannot be written into"):
        explain_dataset(e, (X, Y), out=jnp.zeros((43, 4, 3)))
    with pytest.raises(TypeError, match="`aggregate` has to be an Aggregator"):
        explain_dataset(e, (X, Y), aggregate="mean")
    with pytest.raises(TypeError, match="`reduce`"):
        in_memory(e, (X, Y), reduce="channels")
    with pytest.raises(ValueError, match="`ids` has shape"):
        in_memory(e, (X, Y), ids=[1, 2])
    with pytest.raises(ValueError, match="top_k: `update` needs `score`"):
        explain_dataset(lambda x: x, X, aggregate=top_k(2))


def test_errors_of_data_come_out_where_they_happen():
    def broken():
        yield X[:10], Y[:10]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        in_memory(cases.deterministic(PARAMS), broken())

    def other():
        yield X[:10], Y[:10]
        yield X[:10]

    with pytest.raises(ValueError, match="differ in structure"):
        in_memory(cases.deterministic(PARAMS), other())


def test_reading_ahead_is_bounded_and_stops():
    read = []

    def items():
        for i in range(100):
            read.append(i)
            yield i

    ahead = read_ahead(items)
    assert next(ahead) == 0
    ahead.close()
    assert len(read) < 10


@pytest.mark.slow
def test_automatic_batch_size_is_the_largest_that_fits(monkeypatch):
    e = cases.deterministic(PARAMS)
    sizes = []
    share = running.largest_batch

    def noted(*args):
        sizes.append(share(*args))
        return sizes[-1]

    monkeypatch.setattr(running, "largest_batch", noted)
    found = in_memory(e, (X, Y), batch_size="auto")
    monkeypatch.setattr(memory, "free_bytes", lambda devices: 20_000)
    small = in_memory(e, (X, Y), batch_size="auto")
    monkeypatch.setattr(memory, "free_bytes", lambda devices: 1)
    in_memory(e, (X, Y), batch_size="auto")
    assert sizes[0] == 64  # all 43 at once
    assert 1 < sizes[1] < 64
    assert sizes[2] == 1
    np.testing.assert_allclose(found["attribution"], small["attribution"], atol=1e-5)


def test_a_trial_that_runs_out_of_memory_takes_half(monkeypatch):
    class Analysis:
        temp_size_in_bytes = argument_size_in_bytes = output_size_in_bytes = 0

        def memory_analysis(self):
            return self

    devices = running.Devices(None)
    tried = []

    def fits(size):
        tried.append(size)
        return size <= 16

    assert memory.largest_batch(lambda size: Analysis(), fits, devices, 100) == 16
    assert tried == [128, 64, 32, 16]
    assert memory.out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"))
    assert host_bytes() > 0


def test_closures_and_equinox_like_explanations_run():
    found = in_memory(lambda x: 2 * x, X)
    np.testing.assert_array_equal(found["attribution"], 2 * X)
    assert set(found) == {"attribution", "finite", "id", "index"}


def test_methods_that_return_more_than_an_attribution():
    e = dataclasses.replace(cases.deterministic(PARAMS), with_gap=True)
    found = in_memory(e, (X, Y))
    assert (found["steps"] == 8).all()
    assert found["reached"].dtype == bool


def test_importing_the_package_does_not_import_the_driver():
    code = "import sys, jaxplain; assert 'tensorstore' not in sys.modules and 'jaxplain.dataset' not in sys.modules"
    subprocess.run([sys.executable, "-c", code + "; jaxplain.explain_dataset"], check=True)


def test_grain_sources_and_loaders(expected):
    grain = pytest.importorskip("grain")
    e = cases.random(PARAMS)
    pairs = list(zip(X, Y, strict=True))
    source = grain.MapDataset.source(pairs)
    loader = grain.DataLoader(
        data_source=pairs,
        sampler=grain.samplers.IndexSampler(cases.COUNT, shuffle=False, seed=0, num_epochs=1),
        operations=[grain.transforms.Batch(10)],
        worker_count=0,
    )
    for data in (source, source.batch(10), source.to_iter_dataset().batch(10), loader):
        np.testing.assert_allclose(in_memory(e, data)["attribution"], expected["random"], atol=1e-5)


def test_a_bar_on_a_terminal_and_silence_elsewhere(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    in_memory(lambda x: x, X, progress=True)
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    in_memory(lambda x: x, X, progress=True)
    assert "43/43" in terminal.getvalue()


def test_a_baseline_that_moves_what_has_no_derivative_is_refused():
    x = {"num": np.ones((3, 2), np.float32), "cat": np.array([2, 1, 2])}
    table = jnp.array([0.0, 10.0, 20.0])
    e = jaxplain.integrated_gradients(
        lambda x: 2 * x["num"].sum() + table[x["cat"]], baseline={"num": jnp.zeros(2), "cat": jnp.array(0)}
    )
    with pytest.raises(ValueError, match=r"differs from `x\['cat'\]`"):
        explain_dataset(e, x, out="memory")


def test_what_is_too_large_for_its_dtype_is_not_finite():
    with pytest.warns(RuntimeWarning, match="2 of 6 examples have attributions with NaN or infinities"):
        found = in_memory(lambda x: x * jnp.where(x[:1] > 4, 1e5, 1.0), np.arange(6.0)[:, None] + 1, dtype="float16")
    np.testing.assert_array_equal(found["finite"], np.isfinite(found["attribution"][:, 0]))
