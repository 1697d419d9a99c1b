"""`explain --aggregate`, `--ids` and `--devices`."""

import jax
import numpy as np
import pytest

import jaxplain
from jaxplain import open_explanations
from jaxplain.command import main

MODULE = """
import jax, numpy as np
import jaxplain
from jaxplain.aggregate import Aggregator

def build():
    return (lambda p, x: jax.numpy.tanh(x) @ p), np.arange(8, dtype=np.float32).reshape(4, 2) - 3

def data():
    return np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32), np.array([0, 1, 1, 0, 0, 1, 0])

ids = [f"row {i}" for i in range(7)]
own = jaxplain.aggregate.moments(classes=2)
built = 0

def counted():
    global built
    built += 1
    return build()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "totals.py").write_text(MODULE)
    np.save(tmp_path / "ids.npy", np.arange(7) * 10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    import sys

    sys.modules.pop("totals", None)


def explain(*more, model="build"):
    subject = ("--model", f"totals.py:{model}", "--data", "totals.py:data", "--method", "gradient")
    return main(["explain", *subject, "--batch-size", "3", *more])


def expected():
    import totals

    apply, params = totals.build()
    x, y = totals.data()
    return np.asarray(jaxplain.explain_batch(jaxplain.gradient(jaxplain.logit(apply, params)), x, y)), y


def test_aggregates_are_written_without_explanations(here, capsys):
    assert explain("--aggregate", "moments", "top_k(2)", "@totals.py:own", "--aggregate-out", "all.npz") == 0
    assert "all.npz: moments.examples, moments.mean" in capsys.readouterr().out
    attributions, y = expected()
    with np.load("all.npz") as found:
        np.testing.assert_allclose(found["moments.mean"], attributions.mean(0), atol=1e-6)
        np.testing.assert_allclose(found["totals.py:own.mean"][1], attributions[y == 1].mean(0), atol=1e-6)
        assert found["top_k.indices"].shape == (2,)
    assert sorted(path.name for path in here.iterdir() if "npz" in path.name or path.is_dir()) in (
        ["__pycache__", "all.npz"],
        ["all.npz"],
    )


def test_equal_names_are_told_apart_by_what_was_written(here):
    assert explain("--aggregate", "top_k(1)", "top_k(2)", "--aggregate-out", "all.npz", "--quiet") == 0
    with np.load("all.npz") as found:
        assert (found["top_k(1).indices"].shape, found["top_k(2).indices"].shape) == ((1,), (2,))


def test_aggregates_lie_beside_explanations_that_have_names(here, capsys):
    assert explain("--out", "kept", "--ids", "@totals.py:ids", "--aggregate", "moments") == 0
    assert "kept.aggregate.npz: moments.examples" in capsys.readouterr().out
    found = open_explanations("kept")
    assert list(found.ids) == [f"row {i}" for i in range(7)]
    np.testing.assert_allclose(found["attribution"], expected()[0], atol=1e-6)
    assert explain("--out", "numbers", "--ids", "@ids.npy", "--quiet") == 0
    assert list(open_explanations("numbers").ids) == list(range(0, 70, 10))


def test_batches_are_spread_over_devices(here):
    assert explain("--out", "spread", "--devices", "all", "--quiet") == 0
    np.testing.assert_allclose(open_explanations("spread")["attribution"], expected()[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "explain: pass --out FOLDER, or --aggregate with --aggregate-out FILE.npz"),
        (("--aggregate", "moments"), "--aggregate: pass --aggregate-out FILE.npz, or --out"),
        (("--aggregate", "moment", "--out", "o"), "--aggregate: there is no 'moment'; nearest: moments"),
        (("--aggregate", "moments(clas=3)", "--out", "o"), "classes"),
        (("--aggregate", "top_k(0)", "--out", "o"), "--aggregate: top_k: `k`"),
        (("--aggregate", "moments", "moments", "--out", "o"), "--aggregate: moments is named twice"),
        (("--aggregate", "@totals.py:data", "--out", "o"), "--aggregate: @totals.py:data is function, no aggregator"),
        (("--aggregate-out", "a.npz", "--out", "o"), "--aggregate-out: there is nothing to write; pass --aggregate"),
        (("--aggregate", "moments", "--aggregate-out", "a.txt"), "--aggregate-out: a.txt has to end with .npz"),
        (("--aggregate", "moments", "--aggregate-out", "no/a.npz"), "--aggregate-out: the folder no is not there"),
        (("--aggregate", "moments", "--aggregate-out", "a.npz", "--ids", "@ids.npy"), "--ids: it is about the expl"),
        (("--aggregate", "moments", "--aggregate-out", "a.npz", "--reduce", "channel_sum"), "--reduce: it is about"),
        (("--aggregate", "moments", "--aggregate-out", "a.npz", "--dtype", "float16"), "--dtype: it is about"),
        (("--aggregate", "moments", "--aggregate-out", "a.npz", "--no-resume"), "--no-resume: it is about"),
        (("--out", "o", "--ids", "7"), "--ids: 7 is int; write @ids.npy"),
        (("--out", "o", "--ids", "@id.npy"), "--ids: there is no file id.npy"),
        (("--out", "o", "--devices", "0"), "--devices: 0 has to be at least 1"),
        (("--out", "o", "--devices", "some"), "--devices: 'some' is no whole number"),
        (("--out", "o", "--devices", "1000"), f"--devices: 1000 were asked for, but there are {jax.device_count()}"),
    ],
)
def test_mistakes_are_told_before_the_model_is_built(here, capsys, options, message):
    assert explain(*options, model="counted") == 2
    said = capsys.readouterr().err
    assert message in said, said
    assert said.count("\n") == 1
    import sys

    assert "totals" not in sys.modules or sys.modules["totals"].built == 0
    assert not (here / "o").exists()


def test_ids_of_another_number_are_refused(here, capsys):
    np.save("few.npy", np.arange(3))
    assert explain("--out", "o", "--ids", "@few.npy") == 2
    assert "ids" in capsys.readouterr().err
