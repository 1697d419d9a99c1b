"""Bars in notebooks: there without widgets, one output, no time in it once it is done."""

import sys
import types

import numpy as np
import pytest

from jaxplain.dataset.progress import bar
from jaxplain.program import in_notebook, notebook_bar
from jaxplain.program import progress as module
from jaxplain.train import host_loop


class _Handle:
    """Stands for a notebook's output: every state that it had."""

    def __init__(self, bundle):
        self.states = [bundle]

    def update(self, bundle, raw):
        assert raw
        self.states.append(bundle)


@pytest.fixture
def outputs(monkeypatch):
    """The outputs of a notebook that is only pretended."""
    found = []

    def display(bundle, raw, display_id):
        assert raw
        assert display_id is True
        found.append(_Handle(bundle))
        return found[-1]

    own, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    own.get_ipython = lambda: types.SimpleNamespace(kernel=None)
    inner.display = display
    monkeypatch.setitem(sys.modules, "IPython", own)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return found


def test_a_terminal_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    shell = types.ModuleType("IPython")
    shell.get_ipython = lambda: None  # imported, as by other libraries, and not run by it
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert not in_notebook()


def test_a_bar_is_one_output_that_ends_with_the_last_state(outputs, monkeypatch):
    assert in_notebook()
    with notebook_bar("training", 4) as show:
        for done in range(1, 4):
            show(done, f"epoch {done}: loss <1")
    (output,) = outputs
    assert len(output.states) == 2  # three states within a moment: the first and the last are drawn
    assert output.states[-1]["text/plain"] == "epoch 3: loss <1 (3 of 4)"
    assert '<progress value="3" max="4"' in output.states[-1]["text/html"]
    assert "loss &lt;1" in output.states[-1]["text/html"]
    monkeypatch.setattr(module, "SECONDS", 0.0)

    def interrupted():
        with notebook_bar("explaining", None, 5) as show:
            show(7, "explaining")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert [state["text/plain"] for state in outputs[1].states] == ["explaining (5)", *["explaining (7)"] * 2]
    assert "value=" not in outputs[1].states[-1]["text/html"]


def test_training_and_explaining_show_one(outputs):
    with host_loop._bar(None, 3) as show:
        show(1, np.array([0.5, 0.25, 2.0, np.nan, np.nan]))
    assert outputs[0].states[-1]["text/plain"] == "epoch 1: loss 0.5  accuracy 0.25  gradient norm 2 (1 of 3)"
    with bar(True, 10, 2) as done:
        done(3)
        done(5)
    assert outputs[1].states[-1]["text/plain"] == "explaining (10 of 10)"
    with bar(False, 10, 0) as done:
        done(3)
    with host_loop._bar(False, 3) as show:
        show(1, None)
    assert len(outputs) == 2


CODE = """
import jax, jax.numpy as jnp, numpy as np, jaxplain
from jaxplain import train
x, y = np.ones((8, 3), np.float32), np.zeros(8, int)
apply = lambda params, x: x @ params
weights = jnp.ones((3, 2))
fitted = train.fit(apply, weights, (x, y), key=jax.random.key(0), epochs=3, batch_size=4)
found = jaxplain.explain_dataset(jaxplain.gradient(jaxplain.logit(apply, weights)), (x, y), batch_size=4, out="memory")
none = train.fit(apply, weights, (x, y), key=jax.random.key(0), epochs=3, batch_size=4, progress=False)
"""


@pytest.mark.slow
def test_in_a_real_kernel(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="the extra [notebooks] is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra [notebooks] is not installed")
    pytest.importorskip("ipykernel", reason="the extra [notebooks] is not installed")
    cells = [*map(nbformat.v4.new_code_cell, (CODE, "fitted", "jaxplain.report.Section('A', ['words', {'b': 1}])"))]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, second, third = (cell.outputs for cell in notebook.cells)
    assert [output.output_type for output in first] == ["display_data"] * 2  # nothing on standard error, no warning
    assert [output.data["text/plain"].split(" (")[1] for output in first] == ["3 of 3)", "8 of 8)"]
    assert "epoch 3: loss" in first[0].data["text/html"]
    assert "<table>" in second[0].data["text/html"]
    assert [output.data["text/html"].split(">")[0] for output in third] == ["<h3", "<p", '<div class="wide"']
