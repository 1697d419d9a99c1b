"""Values as they are written: literals, the library's names and calls, objects by name; nothing is evaluated."""

import sys

import numpy as np
import optax
import pytest

import jaxplain
from jaxplain import baseline, image, objective, regulariser, relevance, transform
from jaxplain.command import kind as kinds
from jaxplain.command.asked import asked, stand_in
from jaxplain.command.kind import Kind, kind_of
from jaxplain.command.value import Waits, written
from jaxplain.train import squared_error

MODULE = """
from jaxplain import relevance
calls = []
ANSWER = 42
def rule(stabiliser=1e-3):
    calls.append(stabiliser)
    return relevance.epsilon(stabiliser)
"""


def read(text, setting, function=None, given=()):
    kind = kinds.kind(setting) if function is None else kind_of(function, setting)
    return written(text, f"--set {setting}").read(kind or Kind({}), dict(given))


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_values.py").write_text(MODULE)
    np.save(tmp_path / "groups.npy", np.arange(4))
    np.savez(tmp_path / "many.npz", a=np.ones(2))
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("own_values", None)


def test_literals_are_as_python_reads_them():
    cases = ("3", "-3", "1e-6", "None", "True", "[1, 2]", "(1, (2, 3.5))", "{'a': [1]}", "'text'", "1 / 4", "()")
    expected = (3, -3, 1e-6, None, True, [1, 2], (1, (2, 3.5)), {"a": [1]}, "text", 0.25, ())
    assert [read(case, "steps") for case in cases] == list(expected)


def test_what_is_no_literal_is_a_text_where_texts_are_taken():
    for text in ("conv", "encoder/0", "encoder/*/conv", "a.b", "trapezoid", "blocks/0/attn:1", "data", "a b", "", "("):
        assert read(text, "layer", jaxplain.grad_cam) == text
    assert read("[conv, dense/1]", "steps") == ["conv", "dense/1"]


@pytest.mark.parametrize(
    ("setting", "text", "expected"),
    [
        ("rule", "epsilon_plus", relevance.epsilon_plus()),
        ("rule", "epsilon(1e-6)", relevance.epsilon(1e-6)),
        ("rule", "epsilon_gamma_box(low=-1, high=1.0, gamma=0.5)", relevance.epsilon_gamma_box(-1, 1.0, gamma=0.5)),
        ("rule", "{'dense': epsilon, 'a': z_box(0, 1)}", {"dense": relevance.epsilon(), "a": relevance.z_box(0, 1)}),
        ("baseline", "blur(3)", baseline.blur(3)),
        ("baseline", "zeros", baseline.zeros()),
        ("baseline", "0.5", 0.5),
        ("baseline", "blur(sigma=2, axes=(0,))", baseline.blur(2, axes=(0,))),
        ("image", "alpha(fourier((4, 4, 1), decay=2))", image.alpha(image.fourier((4, 4, 1), decay=2))),
        ("transforms", "[jitter(2), scale(0.9, high=1.1)]", [transform.jitter(2), transform.scale(0.9, high=1.1)]),
        ("regularisers", "(l2(0.1), total_variation(weight=1))", (regulariser.l2(0.1), regulariser.total_variation(1))),
        ("loss", "squared_error", squared_error),
    ],
)  # fmt: skip
def test_the_librarys_names_are_its_objects(setting, text, expected):
    found = read(text, setting)
    assert str(found) == str(expected)
    assert type(found) is type(expected)


def test_optimizers_are_nested():
    found = read("chain(clip(1.0), adam(cosine_decay_schedule(1e-2, decay_steps=10), b1=0.8))", "optimizer")
    expected = optax.chain(optax.clip(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, 10), b1=0.8))
    params = {"w": np.ones(3, np.float32)}
    one, _ = found.update(params, found.init(params), params)
    two, _ = expected.update(params, expected.init(params), params)
    np.testing.assert_array_equal(one["w"], two["w"])


def test_what_the_data_and_the_model_give_is_waited_for():
    data = np.arange(6, dtype=np.float32).reshape(3, 2)
    with pytest.raises(Waits):
        read("mean(data)", "baseline")
    given = {"data": lambda: data, "score": stand_in}
    np.testing.assert_array_equal(read("data[:2]", "baseline", given=given), data[:2])
    np.testing.assert_array_equal(read("mean(data)", "baseline", given=given)(data[0]), [2.0, 3.0])
    found = read("channel('conv', 2) - 2 * neuron(conv, [0, 1])", "objective", given=given)
    expected = objective.channel(stand_in(), "conv", 2) - 2 * objective.neuron(stand_in(), "conv", [0, 1])
    assert str(found) == str(expected)


def test_objects_are_named_by_module_and_by_file(here):
    assert read("@own_values.py:ANSWER", "rule") == 42
    assert str(read("@own_values.py:rule(0.5)", "rule")) == str(relevance.epsilon(0.5))
    assert str(read("@own_values:rule(stabiliser=0.25)", "rule")) == str(relevance.epsilon(0.25))
    assert str(read("{'dense': @own_values.py:rule()}", "rule")["dense"]) == str(relevance.epsilon(1e-3))
    assert sys.modules["own_values"].calls == [0.5, 0.25, 1e-3]
    np.testing.assert_array_equal(read("@groups.npy", "groups"), np.arange(4))
    np.testing.assert_array_equal(read("@many.npz:a", "window"), np.ones(2))
    assert read("'@own_values.py:rule'", "layer", jaxplain.grad_cam) == "@own_values.py:rule"


@pytest.mark.parametrize(
    ("setting", "text", "message"),
    [
        ("baseline", "blurr(3)", "there is no 'blurr'; nearest: blur"),
        ("rule", "epsilon_pluss", "nearest: epsilon_plus"),
        ("baseline", "blur", "blur needs `sigma`; write blur(SIGMA)"),
        ("baseline", "mean", "mean needs `data`; write mean(data)"),
        ("baseline", "blur(3, radius=2)", "there is no setting `radius`"),
        ("baseline", "blur(1, 2, 3)", "blur takes sigma by place"),
        ("baseline", "blur(3, sigma=3)", "write every setting once"),
        ("baseline", "blur(-1)", "sigma"),
        ("baseline", "blur(*[1])", "by place"),
        ("baseline", "blur(**{'sigma': 1})", "once, as name=value"),
        ("optimizer", "adamm(1e-3)", "nearest: adam"),
        ("rule", "@own_values.py:rulle", "own_values.py has no rulle; nearest: rule"),
        ("rule", "@nowhere.py:rule", "there is no file nowhere.py"),
        ("groups", "@nowhere.npy", "there is no file nowhere.npy"),
        ("groups", "@many.npz", "write many.npz:NAME, of a"),
        ("baseline", "data['a']", "a whole number or first:last"),
    ],
)
def test_what_is_wrong_is_said(here, setting, text, message):
    given = {"data": lambda: np.ones((2, 2))}
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as told:
        read(text, setting, given=given)
    assert message in str(told.value)
    assert str(told.value).startswith("--set ")


INJECTIONS = (
    "__import__('os').system('touch owned')",
    "open('owned', 'w')",
    "(lambda: open('owned', 'w'))()",
    "[open('owned', 'w') for _ in (1,)]",
    "blur.__globals__['__builtins__']['open']('owned', 'w')",
    "epsilon.__class__.__mro__",
    'f\'{open("owned", "w")}\'',
    "(x := open('owned', 'w'))",
    "blur(open('owned', 'w'))",
    "blur(__import__('os').system('touch owned'))",
    "{open('owned', 'w'): 1}",
    "data[open('owned', 'w')]",
    "eval('1')",
    "exec('1')",
    "getattr(blur, '__globals__')",
    "9 ** 9 ** 9",
    "'a' * 10 ** 10",
    "1 if open('owned', 'w') else 2",
    "not open('owned', 'w')",
    "@own_values.py:__builtins__(1)",
    "_reference_0_(1)",
    "await blur(1)",
    "(" * 5000 + ")" * 5000,
)


def test_nothing_is_evaluated(here):
    given = {"data": lambda: np.ones((2, 2))}
    strict = ("baseline", "rule", "groups", "image", "objective", "transforms", "optimizer", "reduce")
    for text in INJECTIONS:
        for setting in strict:
            with pytest.raises((ValueError, TypeError)):
                read(text, setting, given=given)
        for function, setting in ((jaxplain.grad_cam, "layer"), (jaxplain.occlusion, "window")):
            if "@" not in text:  # a text, which is looked at and refused by the library
                assert isinstance(read(text, setting, function, given), str | dict)
    assert not (here / "owned").exists()


def test_a_functions_settings_are_checked_before_there_is_a_model():
    found = asked("integrated_gradients(steps=4)", "method", "--method", ["baseline=blur(1)"])
    e = found.check(stand_in())
    assert (e.steps, str(e.baseline)) == (4, str(baseline.blur(1)))
    cases = {
        ("grad_cam",): "grad_cam needs `layer`: --set layer=...; `jaxplain layers",
        ("lrp(epsilon, epsilon)",): "lrp takes rule by place",
        ("integrated_gradients", "n_steps=3"): "it is called `steps` here",
        ("integrated_gradients", "steps=0"): "`steps` has to be at least 1",
        ("integrated_gradients", "steps=many"): "`steps` has to be",
        ("integrated_gradients(steps=3)", "steps=4"): "`steps` is set twice",
        ("integrated_gradients", "steps"): "'steps' has to be name=value",
        ("deep_shap", "baseline=data", "rule=bogus"): "rule",
        ("deep_shap", "baseline=data", "batch_size=x"): "`batch_size` has to be",
        ("gradient + 1",): "has to be a name, a call",
        ("IntegratedGradients",): "it is called integrated_gradients here",
        ("gradcam",): "it is called grad_cam here",
        ("smoothgrad",): "it is a wrapper around one: --wrapper smoothgrad",
        ("activation_maximization",): "jaxplain visualize",
        ("gradiant",): "nearest: gradient",
        ("@nothing_there:method",): "No module named 'nothing_there'",
    }
    for (text, *pairs), message in cases.items():
        with pytest.raises((ValueError, TypeError, ImportError)) as told:
            asked(text, "method", "--method", pairs).check(stand_in())
        assert message in str(told.value), (text, str(told.value))
        assert str(told.value).count(",") < 12, "nearest names, not all"
