"""What is read and written where: folders of another model, folders that are not there, names that are taken."""

import sys

import numpy as np
import pytest

from jaxplain.command import main

MODULE = """
import numpy as np

def apply(params, x):
    return x @ params["w"] + params["b"][None]

def build(seed=0):
    w = np.random.default_rng(seed).normal(size=(4, 2)).astype(np.float32)
    return apply, {"w": w, "b": np.zeros(2, np.float32)}

def other():
    return build(1)

def data(seed=0):
    x = np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int32)

def others():
    return data(1)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "places.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("places", None)


def said(capsys, *arguments):
    """The exit status and the one line of an error."""
    status = main(arguments)
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return status, error


SUBJECT = ("--model", "places.py:build", "--data", "places.py:data")


def test_a_folder_is_judged_with_the_model_and_the_data_of_its_own(here, capsys):
    wrapped = ("--wrapper", "smoothgrad", "--wrapper-set", "sigma=0.1", "samples=2")
    for out, more in {"plain": (), "wrapped": wrapped}.items():
        assert main(["explain", *SUBJECT, "--out", out, "--method", "gradient", "--quiet", *more]) == 0
    judge = ("evaluate", "plain", "wrapped", "--metric", "sparseness")
    assert said(capsys, *judge, *SUBJECT) == (0, "")
    for out in ("plain", "wrapped"):
        judge = ("evaluate", out, "--metric", "sparseness", "--examples", "3")
        status, error = said(capsys, *judge, "--model", "places.py:other", "--data", "places.py:data")
        assert status == 2
        assert f"{out} explains something else than --model, --checkpoint and --data name" in error
        assert "differs in model parameters: params['w']. Name those" in error
        status, error = said(capsys, *judge, "--model", "places.py:build", "--data", "places.py:others")
        assert status == 2
        assert "differs in data: the examples 0 to 5 are others. Name those" in error


def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(here, capsys, monkeypatch):
    (here / "folder.json").mkdir()
    model, judge = ("--model", "places.py:never"), ("evaluate", "--method", "gradient", "--metric", "sparseness")
    data = ("--data", "places.py:never")
    for command, out, words in (
        (judge, "no/such/scores.json", "the folder no/such is not there; make it first"),
        (judge, "folder.json", "folder.json is a folder; name a file"),
        (("layers",), "no/such/layers.csv", "the folder no/such is not there; make it first"),
        (("train",), "places.py/run", "places.py is a file; name a folder elsewhere"),
        (("train",), "places.py", "places.py is a file; name a folder."),
        (("explain",), "places.py/run", "places.py is a file; name a folder elsewhere"),
        (("visualize", "--class", "1"), "places.py/run", "places.py is a file; name a folder elsewhere"),
    ):
        status, error = said(capsys, *command, *model, *data, "--out", out)
        assert status == 2
        assert error.startswith("error: --out: ")
        assert words in error
    monkeypatch.setattr("os.access", lambda path, mode: False)
    for command, out in ((judge, "scores.json"), (("train",), "run"), (("explain",), "run")):
        status, error = said(capsys, *command, *model, *data, "--out", out)
        assert (status, "cannot be written; name another place" in error) == (2, True)


def test_broken_files_and_folders_that_are_named_twice_are_told(here, capsys):
    np.save(here / "objects.npy", np.array([{}], object), allow_pickle=True)
    (here / "broken.npy").write_bytes(b"xx")
    (here / "empty.npy").write_bytes(b"")
    explain = ("explain", "--model", "places.py:build", "--out", "run", "--method", "integrated_gradients")
    for name in ("objects.npy", "broken.npy", "empty.npy"):
        status, error = said(capsys, *explain, "--data", name)
        assert (status, f"--data: {name} is not an .npy file of numbers, or a broken one" in error) == (2, True)
        status, error = said(capsys, *explain, "--data", "places.py:data", "--set", f"baseline=@{name}")
        assert (status, f"--set baseline: {name} is not an .npy file" in error) == (2, True)
    status, error = said(capsys, "evaluate", "x", "y", "x", *SUBJECT, "--metric", "sparseness")
    assert (status, error) == (2, "error: evaluate: the folder x is named twice.")


def test_seeds_are_those_that_jax_tells_apart(here, capsys):
    for key in ("-1", "99999999999999999999", "4294967296", "1.5", "x"):
        status, error = said(capsys, "train", *SUBJECT, "--out", "run", f"--key={key}", "--validation", "0.5")
        assert status == 2
        assert f"argument --key: '{key}' has to be a whole number from 0 to 4294967295" in error


def test_values_that_are_none_are_one_line(here, capsys):
    method = ("explain", *SUBJECT, "--out", "run", "--quiet", "--method", "integrated_gradients", "--set")
    for text, words in {
        "steps=1/0": "`steps` has to be a whole number, not '1/0'",
        "baseline=1/0": "'1/0' is no value: division by zero",
        "baseline={[1]: 2}": "what stands before a colon has to be a text or a number",
        "baseline=zeros[0]": "'zeros[0]' is no value: _Zeros has no rows",
        "baseline=data[6]": "--set baseline: data[6] is beyond the 6 rows that there are",
        "baseline=data[-7]": "--set baseline: data[-7] is beyond the 6 rows that there are",
    }.items():
        status, error = said(capsys, *method, text)
        assert status == 2, error
        assert words in error


def test_figures_of_different_objectives_are_different_files():
    from jaxplain.command.visualize import _file_names

    labels = ["score(1) + score(0)", "score(1) - score(0)", "a" * 70, "a" * 71, "A" * 60, "all!", "+", "-", "all"]
    names = list(_file_names(labels).values())
    assert len({name.lower() for name in names}) == len(labels)
    assert _file_names(labels)["all"] == "all"
    assert _file_names(["conv:3", "class 1"]) == {"conv:3": "conv_3", "class 1": "class_1"}


def test_an_interruption_says_what_goes_on(here, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxplain.train.fit", interrupted)
    status, error = said(capsys, "train", *SUBJECT, "--out", "run", "--quiet")
    assert (status, "the same command (of train with --resume) goes on" in error) == (130, True)
