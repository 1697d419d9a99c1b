"""`explain` and `report`, thin over the functions; errors in one line."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import open_explanations
from jaxplain.command import main
from jaxplain.train.checkpoint import save

MODULE = """
import flax.linen as nn
import jax, jax.numpy as jnp, numpy as np
from flax import nnx


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.relu(nn.Conv(3, (3, 3))(x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(4)(x.mean((1, 2)))


def linen():
    return Network()


def pair():
    return Network().apply, Network().init(jax.random.key(0), jnp.ones((1, 6, 6, 1)), train=False)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.dropout = nnx.Linear(36, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.dropout(x.reshape(x.shape[0], -1)))


def model():
    return Model(nnx.Rngs(0))


def preprocess(x):
    return (x / 255).astype(np.float32)


def data():
    generator = np.random.default_rng(0)
    return generator.integers(0, 255, (10, 6, 6, 1)).astype(np.float32), generator.integers(0, 4, 10)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A module with models, data in files, and a checkpoint."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "command_models.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import command_models

    x, y = command_models.data()
    np.savez(folder / "set.npz", inputs=x, targets=y)
    np.save(folder / "set.npy", x)
    apply, params = command_models.pair()
    params = jax.tree.map(lambda p: p + 0.1, params)
    save(folder / "run", {"params": params})
    yield folder, apply, params, x, y
    sys.path.remove(str(folder))


def explain(folder, *more, out="out", model="pair", data="set.npz"):
    source = data if ":" in data else str(folder / data)
    return main(
        [
            *("explain", "--model", f"command_models:{model}", "--data", source, "--out", str(folder / out)),
            *("--batch-size", "4", "--transform", "command_models:preprocess", *more),
        ]
    )


@pytest.mark.slow
def test_inputs_are_prepared_on_the_device(made):
    folder, apply, params, x, y = made
    options = ("explain", "--model", "command_models:pair", "--data", str(folder / "set.npz"))
    settings = ("--method", "gradient", "--batch-size", "4", "--quiet", "--prepare", "command_models:preprocess")
    assert main([*options, "--out", str(folder / "prepared"), *settings]) == 0
    f = jaxplain.logit(lambda params, x: apply(params, x, train=False), jax.tree.map(lambda p: p - 0.1, params))
    expected = jaxplain.explain_batch(jaxplain.gradient(f), jnp.asarray(x / 255, jnp.float32), y)
    np.testing.assert_allclose(open_explanations(folder / "prepared")["attribution"], expected, atol=1e-5)


@pytest.mark.slow
def test_explain_is_the_function(made, capsys):
    folder, apply, params, x, y = made
    checkpoint = ("--checkpoint", str(folder / "run"), "--at", "params")
    assert explain(folder, *checkpoint, "--set", "steps=4") == 0
    assert "10 examples in" in capsys.readouterr().out
    f = jaxplain.logit(lambda params, x: apply(params, x, train=False), params)
    expected = jaxplain.explain_batch(jaxplain.integrated_gradients(f, steps=4), x / 255, y)
    found = open_explanations(folder / "out")
    np.testing.assert_allclose(found["attribution"], expected, atol=1e-6)
    assert explain(folder, *checkpoint, "--set", "steps=4") == 0  # nothing is left to do
    assert explain(folder, *checkpoint, "--set", "steps=4", "--no-resume") == 2
    assert "error: explain_dataset:" in capsys.readouterr().err
    assert explain(folder, *checkpoint, "--set", "steps=5") == 2
    assert "steps is 4 there and 5 here" in capsys.readouterr().err
    assert explain(folder, *checkpoint, "--set", "steps=4", out="linen", model="linen") == 0
    np.testing.assert_allclose(open_explanations(folder / "linen")["attribution"], expected, atol=1e-6)


@pytest.mark.slow
def test_wrappers_predicted_targets_and_reductions(made):
    folder, *_ = made
    wrapped = ("--method", "gradient", "--wrapper", "smoothgrad", "--wrapper-set", "sigma=0.1", "samples=2")
    more = ("--target", "predicted", "--reduce", "channel_sum", "--dtype", "float16", "--quiet", "--key", "3")
    assert explain(folder, *wrapped, *more, out="wrapped", model="model", data="set.npy") == 0
    found = open_explanations(folder / "wrapped")
    assert found["attribution"].shape == (10, 6, 6)
    assert found["attribution"].dtype == np.float16
    np.testing.assert_array_equal(found["target"][:], found["prediction"][:])
    assert explain(folder, "--target", "2", "--reduce", "top_features:3", "--score", "margin", "--batch-size", "auto",
                   out="top", data="command_models:data") == 0  # fmt: skip
    assert (open_explanations(folder / "top")["target"][:] == 2).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--method", "integrated"), "there is no 'integrated'; it is called integrated_gradients here"),
        (("--set", "steps"), "'steps' has to be name=value"),
        (("--set", "steps=0"), "`steps` has to be at least 1"),
        (("--set", "pace=3"), "pace"),
        (("--reduce", "top_features"), "channel_sum or top_features:K"),
        (("--target", "best"), "'best' is no whole number"),
        (("--target", "7"), "7 is outside"),
        (("--batch-size", "many"), "'many' is no whole number"),
        (("--checkpoint", "/nowhere"), "no Orbax checkpoint"),
        (("--model", "command_models"), "package.module:name"),
        (("--model", "command_models:missing"), "has no missing"),
        (("--model", "no_such_module:build"), "No module named"),
        (("--model", "command_models:linen"), "pass --checkpoint"),
        (("--data", "nothing.npz"), "there is no file"),
        (("--data", "nothing"), "no .npz or .npy file"),
        (("--inputs", "images"), "has no array 'images'"),
        (("--wrapper", "smoothgrad"), "sigma"),
    ],
)
def test_mistakes_are_one_line(made, more, message, capsys):
    assert explain(made[0], *more, out="mistake") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (made[0] / "mistake").exists()


@pytest.mark.slow
def test_report_is_a_page(made, capsys):
    folder, *_ = made
    assert explain(folder, "--set", "steps=4", "--quiet", out="page") == 0
    page = folder / "page.html"
    common = ["report", str(folder / "page"), "--page", str(page)]
    with_data = ("--data", str(folder / "set.npz"), "--transform", "command_models:preprocess")
    for more in ((), with_data):
        assert main([*common, *more, "--examples", "3", "--title", "Ten <images>"]) == 0
        text = page.read_text(encoding="utf-8")
        for expected in ("Ten &lt;images&gt;", "integrated_gradients", "completeness gap, median", "mean gap", "<img"):
            assert expected in text
    assert main(["report", str(folder / "nowhere")]) == 2
    assert "no explanations" in capsys.readouterr().err


def test_a_page_of_a_table_and_of_other_shapes(tmp_path):
    from jaxplain.report.explanations import explanations_page

    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    cases = {
        "table": (jaxplain.gradient(lambda x: jnp.sin(x).sum()), x),
        "pytree": (jaxplain.gradient(lambda x: (x["a"] ** 2).sum()), {"a": x}),
        "one number": (lambda x: x[:1], x),
    }
    for name, (e, data) in cases.items():
        found = jaxplain.explain_dataset(e, data, batch_size=4, out="memory").explanations
        page = explanations_page(tmp_path / "page.html", found, data=data)
        assert "explained" in page.read_text(encoding="utf-8"), name
    with pytest.raises(ValueError, match="8 examples and the explanations 9"):
        explanations_page(tmp_path / "page.html", found, data=x[:8])


@pytest.mark.slow
def test_the_module_runs():
    shown = subprocess.run([sys.executable, "-m", "jaxplain", "--help"], capture_output=True, text=True, check=True)
    assert "python -m jaxplain explain" in shown.stdout
