"""`train`: what `fit` does, kept in a folder that the other commands read."""

import csv
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain.command import main
from jaxplain.train import fit, load

MODULE = """
import numpy as np

def apply(params, x):
    return x @ params["w"] + params["b"][None]

def build():
    return apply, {"w": np.zeros((3, 2), np.float32), "b": np.zeros(2, np.float32)}

def data():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int32)

def doubled(x):
    return 2 * x
"""
PARAMS = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "linear.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("linear", None)


def train(*more):
    base = (
        "train",
        "--model",
        "linear.py:build",
        "--data",
        "linear.py:data",
        "--out",
        "run",
        "--optimizer",
        "sgd(0.5)",
    )
    return main([*base, "--batch-size", "16", "--key", "3", *more])


def fitted(epochs):
    import linear

    x, y = linear.data()
    settings = {"optimizer": optax.sgd(0.5), "epochs": epochs, "batch_size": 16, "progress": False}
    return fit(linear.build()[0], PARAMS, (x, y), key=jax.random.key(3), **settings)


@pytest.mark.slow
def test_training_is_fit_and_goes_on(here, capsys):
    assert train("--epochs", "2") == 0
    told = capsys.readouterr()
    assert "after 2 epochs: loss" in told.out
    assert "explain --checkpoint run" in told.out
    assert train("--epochs", "2") == 2
    assert "pass --resume" in capsys.readouterr().err
    assert train("--epochs", "3", "--resume", "--quiet") == 0
    assert capsys.readouterr().out == ""
    expected = fitted(3)
    found = load("run/params", PARAMS)
    np.testing.assert_allclose(found["w"], expected.params["w"], rtol=1e-6)
    curves = json.loads((here / "run" / "history.json").read_text())
    np.testing.assert_allclose(curves["loss"], expected.history.loss, rtol=1e-6)
    rows = list(csv.DictReader((here / "run" / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert (here / "run" / "learning_curves.png").stat().st_size > 1000
    assert train("--epochs", "4", "--resume", "--optimizer", "sgd(0.25)") == 2
    assert "another `optimizer`" in capsys.readouterr().err


@pytest.mark.slow
def test_validation_patience_losses_and_a_page(here, capsys):
    more = (
        "--validation",
        "0.25",
        "--patience",
        "1",
        "--loss",
        "cross_entropy",
        "--epochs",
        "3",
        "--transform",
        "linear.py:doubled",
    )
    assert train(*more, "--set", "record_layers=True") == 0
    assert "validation loss" in capsys.readouterr().out
    curves = json.loads((here / "run" / "history.json").read_text())
    assert len(curves["validation_loss"]) == len(curves["loss"])
    import linear

    x, y = linear.data()
    np.savez(here / "held.npz", inputs=x[:8], targets=y[:8])
    assert train("--out", "other", "--validation", "held.npz", "--epochs", "1", "--quiet") == 0
    assert main(["report", "--training", "run", "--page", "page.html"]) == 0
    assert "How it was trained" in (here / "page.html").read_text()
    np.save(here / "only.npy", x)
    assert train("--data", "only.npy", "--out", "third") == 2
    assert "training needs inputs and targets" in capsys.readouterr().err
