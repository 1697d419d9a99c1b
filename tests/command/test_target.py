"""`--target`, and data whose targets are no labels: a regression gets through, or is told what to write."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxplain
from jaxplain import open_explanations
from jaxplain.command import main

MODULE = """
import jax, numpy as np

def two(params, x):
    return jax.numpy.tanh(x) @ params

def one(params, x):
    return two(params, x)[:, :1]

def flat(params, x):
    return two(params, x)[:, 0]

def params():
    return jax.random.normal(jax.random.key(0), (4, 2))

def hidden(params, x):
    with jax.named_scope("hidden"):
        h = jax.numpy.tanh(x)
    return h @ params

def build_hidden(): return hidden, params()
def pairs(): return inputs(), inputs()[::-1].copy(), np.arange(6) % 2

def build_two(): return two, params()
def build_one(): return one, params()
def build_flat(): return flat, params()

def inputs():
    return np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)

def numbers(): return inputs(), np.linspace(-3, 3, 6)
def column(): return inputs(), np.linspace(-3, 3, 6)[:, None]
def both(): return inputs(), np.linspace(-3, 3, 12).reshape(6, 2)
def labels(): return inputs(), np.arange(6) % 2
def three_labels(): return inputs(), np.arange(6) % 3
def zeros_and_ones(): return inputs(), (np.arange(6) % 2).astype(np.float32)[:, None]
def one_hot(): return inputs(), np.eye(2, dtype=np.float32)[np.arange(6) % 2]

def stream():
    x, y = labels()
    return ((x[rows : rows + 2], y[rows : rows + 2]) for rows in (0, 2, 4))
"""
REGRESSION = "--score output --target 0 to explain the output, --score 'loss(squared_error)'"


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "own_model.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def called(command, model, data, *more):
        subject = ("--model", f"own_model.py:{model}", "--data", f"own_model.py:{data}", "--method", "gradient")
        return main([command, *subject, *more, *(("--quiet", "--out", "out") if command == "explain" else ())])

    yield called
    sys.modules.pop("own_model", None)


@pytest.mark.parametrize(
    ("model", "data", "score", "message"),
    [
        ("one", "numbers", "logit", REGRESSION),
        ("one", "column", "output", REGRESSION),
        ("flat", "numbers", "output", REGRESSION),
        ("flat", "column", "probability", REGRESSION),
        ("two", "both", "output", "--score output --target K"),
        ("two", "both", "logit", "the targets are numbers (float64 [6, 2])"),
        ("two", "one_hot", "output", "the targets are numbers"),
        ("one", "labels", "logit", "--score probability, log_probability or margin"),
        ("one", "zeros_and_ones", "probability", "make them integers of shape [6]"),
        ("two", "three_labels", "logit", "target 2 is outside the model's 2 outputs"),
        ("one", "numbers", "loss", "loss: targets run from -3.0 to 3.0, but cross_entropy"),
    ],
)
def test_targets_that_are_no_labels_are_told_what_to_write(run, capsys, model, data, score, message):
    for command in ("explain", "evaluate"):
        more = ("--metric", "sparseness") if command == "evaluate" else ()
        assert run(command, f"build_{model}", data, "--score", score, *more) == 2, command
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(("model", "data"), [("one", "column"), ("flat", "numbers"), ("two", "both")])
def test_the_output_of_a_regression_is_explained(run, capsys, model, data):
    assert run("explain", f"build_{model}", data, "--score", "output", "--target", "0") == 0, capsys.readouterr().err
    import own_model

    f = jaxplain.output(getattr(own_model, model), own_model.params())
    expected = jaxplain.explain_batch(jaxplain.gradient(f), own_model.inputs(), 0)
    np.testing.assert_allclose(open_explanations("out")["attribution"], expected, atol=1e-6)
    folder = ("evaluate", "out", "--model", f"own_model.py:build_{model}", "--data", f"own_model.py:{data}")
    assert main([*folder, "--score", "output", "--metric", "deletion(steps=2)"]) == 0, capsys.readouterr().err


def test_one_hot_targets_pick_a_class(run, capsys):
    assert run("explain", "build_two", "one_hot") == 0, capsys.readouterr().err
    import own_model

    x, y = own_model.labels()
    expected = jaxplain.explain_batch(jaxplain.gradient(jaxplain.logit(*own_model.build_two())), x, y)
    np.testing.assert_allclose(open_explanations("out")["attribution"], expected, atol=1e-6)


def test_squared_error_has_no_predicted_class(run, capsys):
    assert run("explain", "build_one", "numbers", "--score", "loss(squared_error)", "--target", "predicted") == 2
    assert "squared_error has no predicted class" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "score"), [("one", "probability"), ("flat", "margin"), ("two", "probability")])
def test_evaluate_explains_what_the_model_predicts(run, capsys, model, score):
    """Without targets, and where it is asked for: of one unit the class 1 where it is above 0."""
    import own_model

    outputs = np.asarray(getattr(own_model, model)(own_model.params(), own_model.inputs()))
    predicted = outputs.argmax(-1) if model == "two" else (outputs.reshape(-1) > 0).astype(int)
    assert len(set(predicted.tolist())) == 2
    own_model.predictions = lambda: (own_model.inputs(), predicted)
    scores = []
    for data, more in (("inputs", ()), ("labels", ("--target", "predicted")), ("predictions", ())):
        call = ("--score", score, "--metric", "deletion(steps=2)", "--out", f"{data}.json", *more)
        assert run("evaluate", f"build_{model}", data, *call) == 0, capsys.readouterr().err
        scores.append(json.loads(Path(f"{data}.json").read_text())["scores"]["gradient"]["deletion(steps=2) (zeros)"])
    assert scores[0] == scores[1] == scores[2]


def test_folders_say_themselves_what_was_explained(run, capsys):
    call = ("evaluate", "out", "--model", "own_model.py:build_two", "--data", "own_model.py:labels")
    assert main([*call, "--metric", "sparseness", "--target", "1"]) == 2
    assert "--target: the folders say what was explained" in capsys.readouterr().err


def test_the_first_batch_of_a_stream_is_explained_too(run, capsys):
    assert run("explain", "build_two", "stream", "--batch-size", "2") == 0, capsys.readouterr().err
    import own_model

    x, y = own_model.labels()
    expected = jaxplain.explain_batch(jaxplain.gradient(jaxplain.logit(*own_model.build_two())), x, y)
    np.testing.assert_allclose(open_explanations("out")["attribution"], expected, atol=1e-6)


def test_arrays_are_asked_for_in_the_place_of_a_stream(run, capsys):
    assert run("explain", "build_two", "stream") == 0, capsys.readouterr().err
    for call in (("report", "out"), ("visualize", "out", "--out", "figures")):
        assert main([*call, "--data", "own_model.py:stream"]) == 2
        assert "gives a stream of batches, but arrays are needed" in capsys.readouterr().err


def test_pairs_are_explained_and_not_judged(run, capsys):
    call = ("--model", "own_model.py:build_hidden", "--data", "own_model.py:pairs", "--method")
    method = "activation_patching(path='hidden', axes=0)"
    assert main(["explain", *call, method, "--out", "out", "--quiet"]) == 0, capsys.readouterr().err
    import own_model

    x, corrupt, y = own_model.pairs()
    e = jaxplain.internals.activation_patching(jaxplain.logit(*own_model.build_hidden()), "hidden", axes=0)
    np.testing.assert_allclose(open_explanations("out")["attribution"], jaxplain.explain_batch(e, x, corrupt, y), 1e-5)
    assert main(["evaluate", *call, method, "--metric", "sparseness"]) == 2
    assert "--method: activation_patching(path='hidden', axes=0) compares two inputs" in capsys.readouterr().err
    assert main(["explain", *call, method, "--out", "other", "--target", "1"]) == 2
    assert "Leave it out, and give everything in the data: (inputs, corrupt, ...)" in capsys.readouterr().err


def test_masks_are_those_of_the_examples_and_devices_reach_the_run(run, monkeypatch):
    import jaxplain.dataset

    seen = {}

    def noted(*args, **settings):
        seen.update(settings)
        raise ValueError("enough")

    np.save("masks.npy", np.arange(6)[:, None] == np.arange(4))
    monkeypatch.setattr("jaxplain.evaluate.compare", noted)
    run("evaluate", "build_two", "labels", "--metric", "pointing_game", "--mask", "@masks.npy", "--examples", "2")
    np.testing.assert_array_equal(seen["mask"], np.load("masks.npy")[:2])
    monkeypatch.setattr(jaxplain.dataset, "explain_dataset", noted)
    for more, length in ((("--devices", "1"), 1), ((), 0)):
        run("explain", "build_two", "labels", *more)
        assert (seen["mesh"] is None) == (length == 0)
        assert seen["resume"]
    run("explain", "build_two", "labels", "--no-resume")
    assert not seen["resume"]


def test_data_without_targets_are_told_where_to_find_some(tmp_path, capsys, monkeypatch):
    (tmp_path / "own_model.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    inputs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.savez("with.npz", inputs=inputs, label=np.arange(6) % 2)
    np.savez("without.npz", inputs=inputs)
    explain = ("explain", "--method", "gradient", "--quiet", "--out", "out", "--model")
    for data, named in (
        ("with.npz", "; --targets NAME takes them from another of its arrays (label)"),
        ("without.npz", ""),
    ):
        assert main([*explain, "own_model.py:build_two", "--data", data]) == 2
        told = f"--target: {data} has no targets{named}. Pass --target predicted, or --target K for output K of the 2."
        assert told in capsys.readouterr().err
    assert main([*explain, "own_model.py:build_two", "--data", "with.npz", "--targets", "label"]) == 0
    sys.modules.pop("own_model", None)
