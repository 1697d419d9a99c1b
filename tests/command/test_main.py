"""Every example of every `--help` as it stands there; exit statuses, mistakes in one line before anything is built."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import jaxplain
from jaxplain.command import main as run
from jaxplain.command.main import COMMANDS, PROGRAM, TINY

COUNTED = """
built = []
def build():
    built.append('model')
    return lambda params, x: x @ params, 1.0
def data():
    built.append('data')
    return [1.0], [0]
def failing():
    raise RuntimeError('no such weights')
def interrupted():
    raise KeyboardInterrupt
def number():
    return 3
def needing(size):
    return size
VALUE = 3
def preprocess(x):
    return x
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the file of the examples, and one whose functions count their calls."""
    (tmp_path / "tiny.py").write_text(TINY)
    (tmp_path / "counted.py").write_text(COUNTED)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in ("tiny", "counted"):
        sys.modules.pop(name, None)


def helped(capsys, *command):
    assert run([*command, "--help"]) == 0
    return capsys.readouterr().out


def examples(text):
    """The commands in a text of help, as lists of arguments."""
    return [shlex.split(row.strip())[3:] for row in text.splitlines() if row.startswith(f"  {PROGRAM} ")]


def test_help_shows_a_file_and_examples_of_every_command(capsys):
    text = helped(capsys)
    assert "".join(f"    {row}" if row.strip() else row for row in TINY.splitlines(keepends=True)) in text
    for word in (*COMMANDS, "exit status: 0", "130 interrupted"):
        assert word in text
    for name in COMMANDS:
        own = helped(capsys, name)
        assert [line[0] for line in examples(own)] == [name] * len(examples(own))
        assert examples(own), name
        assert max(map(len, own.splitlines())) < 320


@pytest.mark.slow
def test_every_example_of_every_help_works(here, capsys):
    ran = []
    for name in ("", *COMMANDS):
        for line in examples(helped(capsys, *([name] if name else []))):
            if not name and line[0] != "train":
                continue  # the same as a command's own first ones, after a training of the same name
            if name == "train" and line[-1] == "run":
                continue
            assert run(line) == 0, (line, capsys.readouterr().err)
            ran.append(line)
    assert len(ran) > 20
    assert {path.name for path in here.glob("*")} >= {"run", "explanations", "explanations.html", "training.html"}
    assert {path.suffix for path in (here / "units").iterdir()} == {".png"}
    table = json.loads((here / "scores.json").read_text())
    assert {"gradient", "random"} <= table["scores"].keys()
    assert table["scores"]["gradient"]["sparseness"]["mean"] > 0


def test_the_examples_without_computing_work(here, capsys):
    for name in COMMANDS:
        for line in examples(helped(capsys, name)):
            if "--list" in line:
                assert run(line) == 0
                assert len(capsys.readouterr().out.splitlines()) > 3


BASE = {
    "explain": "--model counted.py:build --data counted.py:data --out out",
    "train": "--model counted.py:build --data counted.py:data --out out",
    "evaluate": "--model counted.py:build --data counted.py:data --method gradient --metric sparseness",
    "visualize": "--model counted.py:build --data counted.py:data --out out --unit conv:0",
    "layers": "--model counted.py:build --data counted.py:data",
    "report": "",
}

MISTAKES = [
    ("explain", "--method integratd_gradients", "there is no 'integratd_gradients'; nearest: integrated_gradients"),
    ("explain", "--set steps=0", "`steps` has to be at least 1"),
    ("explain", "--set n_steps=3", "it is called `steps` here"),
    ("explain", "--method lrp --set rule=epsilonn", "nearest: epsilon"),
    ("explain", "--method lrp", "lrp needs `rule`"),
    ("explain", "--method expected_gradients --set baseline=data samples=x", "`samples` has to be"),
    ("explain", "--wrapper smooth --wrapper-set sigma=1", "nearest: smoothgrad"),
    ("explain", "--wrapper smoothgrad", "smoothgrad needs `sigma`: --wrapper-set sigma=..."),
    ("explain", "--wrapper-set sigma=1", "pass --wrapper"),
    ("explain", "--score logits", "nearest: logit"),
    ("explain", "--score probability --score-set activation=tanh", "activation"),
    ("explain", "--target best", "'best' is no whole number"),
    ("explain", "--target predict", "nearest: predicted"),
    ("explain", "--target -1", "at least 0"),
    ("explain", "--dtype floaty", "--dtype: there is no 'floaty'"),
    ("explain", "--reduce channels", "nearest: channel_sum"),
    ("explain", "--batch-size 0", "at least 1"),
    ("explain", "--checkpoint nowhere", "there is no Orbax checkpoint at nowhere"),
    ("explain", "--out counted.py", "is a file; name a folder"),
    ("explain", "--out .", "holds something that is no run"),
    ("explain", "--model tiny.py", "'tiny.py' has to be file.py:name or package.module:name, such as tiny.py:build"),
    ("explain", "--model tiny.py:bild", "tiny.py has no bild; nearest: build; write def bild(): ... there."),
    ("explain", "--model tiiny.py:build", "there is no file tiiny.py"),
    ("explain", "--model counted.py:needing", "needs arguments (size), but is called without any. Write def build()"),
    ("explain", "--model counted.py:VALUE", "is int, no function. Write def build(): return apply, params"),
    ("explain", "--data counted.py:VALUE", "Write def data(): return inputs, targets"),
    ("explain", "--data set.npz", "there is no file at set.npz"),
    ("explain", "--data nowhere", "no folder of images"),
    ("explain", "--transform counted.py:VALUE", "is int, no function; write def preprocess(x)"),
    ("explain", "--transform counted.py:build", "is called with one example's input (too many positional arguments)"),
    ("explain", "--metod gradient", "there is no option --metod; nearest: --method"),
    ("train", "--optimizer adamw1(1)", "nearest: adamw"),
    ("train", "--optimizer adam(rate=1)", "there is no setting `rate`"),
    ("train", "--optimizer adam", "adam needs `learning_rate`"),
    ("train", "--loss crossentropy", "nearest: cross_entropy"),
    ("train", "--loss mse", "it is called squared_error here"),
    ("train", "--epochs 0", "--epochs: 0 has to be at least 1"),
    ("train", "--patience 2", "pass --validation"),
    ("train", "--validation 1.5", "between 0 and 1"),
    ("train", "--set epochs=3", "has an option of its own: --epochs"),
    ("train", "--set on_divergence=3", "on_divergence"),
    ("train", "--set pace=3", "pace"),
    ("train", "--out .", "holds something else"),
    ("evaluate", "--metric delition", "nearest: deletion"),
    ("evaluate", "--metric deletion(steps=0)", "steps"),
    ("evaluate", "--metric deletion_curve", "a curve and not one number"),
    ("evaluate", "--metric max_sensitivity", "needs `radius`"),
    ("evaluate", "--metric pointing_game", "--mask @masks.npy"),
    ("evaluate", "--method gradiant", "nearest: gradient"),
    ("evaluate", "--removal zeros", "alone proves little"),
    ("evaluate", "--examples none", "no whole number"),
    ("evaluate", "--out table.txt", "has to end with .json or .csv"),
    ("evaluate", "--key 1 some_folder", "name either folders"),
    ("visualize", "--unit conv", "LAYER:INDEX"),
    ("visualize", "--class one", "no whole number"),
    ("visualize", "--objective chanel(conv,1)", "nearest: channel"),
    ("visualize", "--image fourrier((1,1,1))", "nearest: fourier"),
    ("visualize", "--set steps=0", "steps"),
    ("layers", "--shape 3,3", "pass --data, or --shape"),
    ("layers", "--out table.txt", "has to end with"),
    ("report", "", "name a folder that `explain` wrote"),
    ("report", "nowhere", "no explanations"),
    ("report", "--scores nowhere.json", "jaxplain evaluate --out nowhere.json writes one"),
    ("report", "--training nowhere", "jaxplain train --out nowhere writes it"),
]


def test_a_mistake_is_one_line_before_anything_is_built(here, capsys):
    for command, more, message in MISTAKES:
        assert run([command, *shlex.split(BASE[command]), *shlex.split(more)]) == 2, (command, more)
        told = capsys.readouterr()
        assert message in told.err, (command, more, told.err)
        assert re.fullmatch(r"error: [^\n]+\n", told.err), told.err
        assert told.err.count(", ") < 16, told.err
        assert "Traceback" not in told.err
        assert told.out == ""
        assert getattr(sys.modules.get("counted"), "built", []) == [], (command, more)
    assert not (here / "out").exists()


def test_exit_statuses(here, capsys):
    base = shlex.split("explain --data counted.py:data --out out --model")
    assert run([]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert run(["explian"]) == 2
    assert "there is no 'explian'; nearest: explain" in capsys.readouterr().err
    assert run(["explain"]) == 2
    assert "required: --model, --data;" in capsys.readouterr().err
    assert run([*base, "counted.py:failing"]) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"failed: --model counted.py:failing raised RuntimeError: no such weights \(.*, line 10\)[^\n]*\n", told
    )
    assert run([*base, "counted.py:failing", "--traceback"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert run([*base, "counted.py:interrupted"]) == 130
    assert capsys.readouterr().err == (
        "interrupted; what was written stays, and the same command (of train with --resume) goes on from there.\n"
    )
    assert run([*base, "counted.py:number"]) == 2
    assert "returned int; write def build(): return apply, params" in capsys.readouterr().err
    (here / "broken.py").write_text("def build(:\n")
    assert run([*base, "broken.py:build"]) == 1
    assert "SyntaxError" in capsys.readouterr().err


def test_lists_say_what_there_is(capsys):
    def listed(*words):
        assert run([*words]) == 0
        return capsys.readouterr().out

    text = listed("explain", "--list")
    for name in ("integrated_gradients", "grad_cam", "smoothgrad", "log_probability"):
        assert re.search(rf"^  {name} +\S", text, re.M), name
    assert "stabiliser (" in listed("explain", "--list", "epsilon")
    text = listed("explain", "--list", "grad_cam")
    assert "layer (needed): " in text
    assert "resize (True): " in text
    assert "by name: " in listed("explain", "--list", "lrp")
    assert "deletion" in listed("evaluate", "--list")
    assert "adamw" in listed("train", "--list", "optimizer")
    assert run(["explain", "--list", "grad_camm"]) == 2
    assert "nearest: grad_cam" in capsys.readouterr().err


def test_the_console_script_is_the_same_function():
    settings = tomllib.loads((Path(jaxplain.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["scripts"] == {"jaxplain": "jaxplain.command:main"}


@pytest.mark.slow
def test_help_and_mistakes_import_little(here):
    """Neither Flax nor optax nor matplotlib nor TensorStore for what is answered without them."""
    code = (
        "import sys; from jaxplain.command import main; code = main(sys.argv[1:]); "
        "print(code, *({'flax', 'optax', 'matplotlib', 'tensorstore', 'orbax'} & sys.modules.keys()))"
    )
    environment = {"PYTHONPATH": str(Path(jaxplain.__file__).parents[1]), "PATH": "", "JAX_PLATFORMS": "cpu"}
    for more, status in (("--help", "0"), ("explain --model a.py:b --data c.py:d --out e --set steps=0", "2")):
        call = [sys.executable, "-c", code, *shlex.split(more)]
        told = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
        assert told.stdout.splitlines()[-1] == status, told


def test_arrays_of_an_archive_are_named_before_they_are_read(here, capsys):
    np.savez(here / "set.npz", images=np.ones((2, 2)), targets=np.zeros(2))
    base = shlex.split("explain --model counted.py:build --data set.npz --out out")
    assert run(base) == 2
    assert "has no array 'inputs'; it has images, targets" in capsys.readouterr().err
    assert run([*base, "--inputs", "images", "--targets", "labels"]) == 2
    assert "has no array 'labels'" in capsys.readouterr().err
