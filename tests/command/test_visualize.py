"""`visualize` of a folder with examples that cannot be drawn: they are left out by name, the others stay."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.command import main
from jaxplain.dataset import explain_dataset

pytestmark = pytest.mark.filterwarnings("ignore:explain_dataset", "default:visualize")

MODULE = """
import numpy as np

def images():
    x = np.random.default_rng(0).uniform(0.5, 1, size=(12, 5, 5, 1)).astype(np.float32)
    x[3, 0], x[7, 1, 1], x[9, 2] = np.nan, np.inf, 0
    return x

def clean():
    x = images()
    x[9, 2] = 1
    return np.delete(x, (3, 7), axis=0)

def rows():
    return images()[:, 0, :, 0]

def nothing():
    return np.full((12, 5, 5, 1), np.nan, np.float32)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_data", None)


def logarithm(x):
    return jnp.log(x).sum()  # its gradient is infinite at 0


def test_what_is_not_finite_is_left_out_by_name(here, capsys, monkeypatch):
    import own_data

    drawn = {}
    monkeypatch.setattr("jaxplain.plot.heatmaps", lambda x, a, labels, **more: drawn.update(x=x, a=a, labels=labels))
    monkeypatch.setattr("jaxplain.command.visualize._save", lambda figure, out, name: out / name)
    explain_dataset(jaxplain.gradient(logarithm), own_data.images(), out="run", batch_size=4, progress=False)
    call = ["visualize", "run", "--data", "own_data.py:images", "--out", "figures", "--examples"]
    assert main([*call, "12"]) == 0
    error = capsys.readouterr().err
    assert "warning: visualize: 3 of 12 examples have NaN or infinities" in error
    assert all(name in error.partition("ids ")[2] for name in "379")
    assert sorted(map(int, drawn["labels"])) == [0, 1, 2, 4, 5, 6, 8, 10, 11]
    np.testing.assert_array_equal(drawn["x"], own_data.images()[list(map(int, drawn["labels"]))])
    np.testing.assert_allclose(drawn["a"], 1 / drawn["x"], rtol=1e-5)
    assert main([*call, "2"]) == 0  # a place that one of them would have taken goes to the next
    x, finite = own_data.images(), [0, 1, 2, 4, 5, 6, 8, 10, 11]
    best = sorted(finite, key=lambda row: -float(np.log(x[row]).sum()))[:2]
    assert list(map(int, drawn["labels"])) == best


def test_nothing_finite_is_refused(here, capsys):
    import own_data

    explain_dataset(jaxplain.gradient(logarithm), own_data.nothing(), out="run", batch_size=4, progress=False)
    assert main(["visualize", "run", "--data", "own_data.py:nothing", "--out", "figures"]) == 2
    assert "no example of run is finite" in capsys.readouterr().err


def test_what_is_not_explained_yet_is_said(here, capsys):
    import own_data

    class Cut(Exception):
        pass

    class Source:
        def __len__(self):
            return 10

        def __getitem__(self, i):
            if i > 5:
                raise Cut
            return own_data.clean()[i]

    with pytest.raises(Cut):
        explain_dataset(jaxplain.gradient(logarithm), Source(), out="run", batch_size=2, progress=False)
    assert main(["visualize", "run", "--data", "own_data.py:clean", "--out", "figures"]) == 0
    found = jaxplain.open_explanations("run")
    left = int((~found.finished).sum())
    assert 0 < left < 10
    assert f"warning: visualize: {left} of 10 examples are not explained yet" in capsys.readouterr().err
