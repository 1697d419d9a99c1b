"""How many points at once where `batch_size` is None: the rule, on simulated platforms and memories."""

import dataclasses
import inspect

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import evaluate, explain_batch, explain_dataset
from jaxplain.explain.batch import lower_rows
from jaxplain.program import ROWS, chunk, chunk_size, filled, fitting, is_open, kept, most_points
from shared.methods import METHODS
from shared.metrics import METRICS

X = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def f(x):
    return jnp.sin(x).sum() * x[0]


@pytest.fixture
def accelerator(monkeypatch):
    """The CPU taken for an accelerator on which eight rows at once are right."""
    monkeypatch.setitem(ROWS, "cpu", 8)


def sizes(e):
    """The numbers of points of an explanation, the outermost first."""
    inner = getattr(e, "explain", getattr(e, "score", None))
    return [e.batch_size, *sizes(inner)] if hasattr(e, "batch_size") else [] if inner is None else sizes(inner)


def test_the_rule():
    assert most_points(32, "gpu") == most_points(32, "tpu") == 8
    assert [most_points(count, "gpu") for count in (1, 3, 200, 256, 10_000)] == [256, 85, 1, 1, 1]
    assert {most_points(count, "cpu") for count in (1, 32)} == {1}


def test_nested_numbers_multiply_to_at_most_the_rule():
    inner = jaxplain.integrated_gradients(f, steps=4)
    e = jaxplain.smoothgrad(inner, sigma=0.1, samples=16)
    assert sizes(filled(e, 32)) == [8, 32]  # of the inner one's four points, eight times
    assert sizes(filled(e, 2)) == [1, 2]
    mine = jaxplain.smoothgrad(jaxplain.integrated_gradients(f, steps=8, batch_size=3), sigma=0.1)
    assert sizes(filled(mine, 32)) == [10, 3]
    chosen = jaxplain.smoothgrad(inner, sigma=0.1, batch_size=5)
    assert sizes(filled(chosen, 32)) == [5, 6]
    both = jaxplain.integrated_gradients(f, batch_size=7)
    assert filled(both, 32) is both
    assert not is_open(both)
    unknown = jaxplain.smoothgrad(jaxplain.occlusion(f, window=(1,)), sigma=0.1)  # nobody knows how many windows
    assert sizes(filled(unknown, 32)) == [1, 32]
    assert [sizes(inner) for inner in filled(jaxplain.xrai(f), 32).explain.parts] == [[32], [32]]


def test_a_number_is_the_most_and_chunks_are_equal():
    for total in range(1, 40):
        assert chunk_size(total, None) == 1
        for most in range(1, 45):
            size = chunk_size(total, most)
            chunks = -(-total // size)
            assert 1 <= size <= min(most, total)
            assert chunks == -(-total // min(most, total))  # no more turns than with the number itself
            assert chunks * size - total < chunks  # less than one copy a turn
    seen = jax.make_jaxpr(jaxplain.integrated_gradients(f, steps=8, batch_size=3))(X[0])
    assert "f32[3,3]" in str(seen)
    assert "f32[4,3]" not in str(seen)


def test_memory_bounds_the_number():
    e, asked = jaxplain.integrated_gradients(f), []

    def fits(e):
        asked.append(e.batch_size)
        return e.batch_size <= 9

    assert fitting(e, 64, fits) == 8
    assert asked == [64, 32, 16, 8]
    asked.clear()
    assert fitting(e, 8, fits) == 8
    assert asked == [8]
    assert fitting(e, 64, lambda e: False) == 1


def programs(e):
    """The lengths of the loops in the program of a batch of `X`."""
    return lower_rows(e, X, None, ()).as_text()


@pytest.mark.usefixtures("accelerator")
@pytest.mark.slow
def test_explain_batch_fills_it_in_and_compiles_once():
    e, compiled = jaxplain.integrated_gradients(f, steps=16), []
    explained = explain_batch(jaxplain.integrated_gradients(f, steps=16, batch_size=1), X)
    jax.clear_caches()

    def note(name, _, **__):
        compiled.extend([name] if name.endswith("backend_compile_duration") else [])

    jax.monitoring.register_event_duration_secs_listener(note)
    once = explain_batch(e, X)
    count = len(compiled)
    again = explain_batch(e, X)
    assert len(compiled) == count
    (filled_once,) = kept(e, "_with_points", dict).values()
    assert filled_once.batch_size == 4  # eight rows of two examples
    jax.clear_caches()
    compiled.clear()
    explain_batch(jaxplain.integrated_gradients(f, steps=16, batch_size=4), X)
    assert len(compiled) == count
    np.testing.assert_array_equal(once, again)
    np.testing.assert_allclose(once, explained, rtol=1e-6)


@pytest.mark.usefixtures("accelerator")
def test_what_has_no_room_takes_half(monkeypatch):
    needs = iter([30, 20, 10])
    monkeypatch.setattr(chunk, "free_bytes", lambda device: 10)
    monkeypatch.setattr(chunk, "needed_bytes", lambda compiled: next(needs))
    e = jaxplain.integrated_gradients(f, steps=16)
    explain_batch(e, X)
    assert [known.batch_size for known in kept(e, "_with_points", dict).values()] == [1]
    assert not list(needs)[1:]


@pytest.mark.usefixtures("accelerator")
def test_elsewhere_it_is_one():
    e = jaxplain.integrated_gradients(f, steps=16)
    plain = jax.jit(jax.vmap(e)).lower(X).as_text()
    one = jax.jit(jax.vmap(dataclasses.replace(e, batch_size=1))).lower(X).as_text()
    assert plain == one
    assert plain != jax.jit(jax.vmap(dataclasses.replace(e, batch_size=4))).lower(X).as_text()


@pytest.mark.usefixtures("accelerator")
def test_the_numbers_drawn_do_not_depend_on_it():
    key = jax.random.key(3)
    e = jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.2, samples=6)
    one = jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.2, samples=6, batch_size=1)
    np.testing.assert_allclose(explain_batch(e, X, key=key), explain_batch(one, X, key=key), rtol=1e-5)
    metric, slow = (evaluate.deletion(f, steps=3, batch_size=size) for size in (None, 1))
    found = evaluate.evaluate_batch(metric, X, X)
    np.testing.assert_allclose(found, evaluate.evaluate_batch(slow, X, X), rtol=1e-6)
    assert [known.batch_size for known in kept(metric, "_with_points", dict).values()] == [4]


@pytest.mark.usefixtures("accelerator")
def test_a_batch_over_several_devices_counts_its_part(monkeypatch):
    seen = []
    monkeypatch.setattr(chunk, "_devices_of", lambda x: jax.devices()[:1] * 2)
    monkeypatch.setattr(chunk, "most_points", lambda examples, platform: seen.append(examples) or 1)
    explain_batch(jaxplain.integrated_gradients(f), jnp.concatenate([X, X]))
    assert seen == [2]


@pytest.mark.usefixtures("accelerator")
def test_what_is_spread_over_processes_stays_at_one(monkeypatch):
    """Each process would ask its own device for memory, and could run another program than the others."""
    e = jaxplain.integrated_gradients(f)
    monkeypatch.setattr(type(X), "is_fully_addressable", property(lambda array: False))
    assert chunk.with_points(e, lower_rows, X, None, ()) is e


def test_a_run_records_the_number_and_goes_on_with_it(tmp_path, monkeypatch):
    e, rows, used = jaxplain.integrated_gradients(f, steps=8), np.tile(X, (4, 1)), []
    original = jaxplain.dataset.run.Plan.filled

    def noted(plan, points):
        used.append(points)
        return original(plan, points)

    monkeypatch.setattr(jaxplain.dataset.run.Plan, "filled", noted)
    monkeypatch.setitem(ROWS, "cpu", 8)
    settings = {"out": tmp_path / "run", "batch_size": 2, "progress": False}
    explain_dataset(e, rows, **settings)
    for file in sorted((tmp_path / "run").rglob("finished-*.log")):
        file.unlink()
    monkeypatch.delitem(ROWS, "cpu")  # resumed on a machine where the rule says one
    found = explain_dataset(e, rows, **settings)
    assert used == [4, 4]
    np.testing.assert_allclose(found.explanations["attribution"], jax.vmap(e)(rows), rtol=1e-5)


def test_every_method_with_points_is_open():
    """The exceptions are those whose number means something else, or whose best was measured to be another."""
    exceptions = {"activation_maximization", "feature_inversion", "deep_dream", "receptive_field"}
    for name in jaxplain.__all__:
        parameter = inspect.signature(getattr(jaxplain, name)).parameters.get("batch_size")
        if parameter is not None and name not in exceptions | {"explain_dataset"}:
            assert parameter.default is None, name
    held = [row.build(jaxplain.logit(lambda p, x: x * p, 1.0)) for row in METHODS if "batch_size" in str(row)]
    assert all(is_open(e) for e in held if hasattr(e, "batch_size"))
    assert METRICS


@pytest.mark.parametrize("bad", [0, -1, 2.5, "all"])
def test_bad_numbers_are_refused(bad):
    for make in (jaxplain.integrated_gradients, jaxplain.kernel_shap, jaxplain.shapley_values, evaluate.deletion):
        with pytest.raises((TypeError, ValueError), match="batch_size"):
            make(f, batch_size=bad)
