"""What a notebook shows of any result: a table of its parts or a line, never all its numbers."""

import dataclasses
import importlib
import inspect
import pkgutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.program import shown
from shared.html_rows import rows_of

FAMILIES = "aggregate concept data dataset evaluate explain influence internals train types".split()  # noqa: SIM905
"""Where results are made."""

INNER = """
    attention.Layer backward.Rewritten column.Column cost.Costs cost.Share detached.Linear edges.Pair edges.Patched
    edges.Replaced epoch.Run estimate.Steps estimate.Work fit.Recipe flow.Flow flow.Ran folder.Run fused.FusedAttention
    generation.Row gradients.Rows graph.Graph graph.Node group.Group held.Held host_loop.HostLoop kernel.Design
    kronecker.Factors labels.Chosen layers.Layer ledger.Finished manifest.Entry occlusion.Slide owen.Unions
    plan.Plan ranking.TopKState reader.Batch recorder.Recorded reduce.Strongest rows.Pieces run.Placed run.Plan
    sampling.PairMoments similarity.Pieces snapshot.Album source.Rows spacing.Points spacing.Spacing spatial.Places
    statistic.MomentsState statistic.Sum stream.Block stream.Read stream.Streams types.Layer unit.UnitsState
""".split()  # noqa: SIM905
"""States, settings and rows that no public function returns by themselves."""


def results():
    """Every named tuple and dataclass of the families, but functions, by name."""
    for family in FAMILIES:
        package = importlib.import_module(f"jaxplain.{family}")
        places = pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}.")
        for module in (package, *(importlib.import_module(place.name) for place in places)):
            for name, value in vars(module).items():
                own = inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
                if own and not issubclass(value, jaxplain.Function) and is_result(value):
                    yield value


def is_result(kind):
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def says(kind):
    """How a class shows itself, if not by all its fields."""
    for name in ("_repr_html_", "_repr_svg_", "_ipython_display_"):
        if hasattr(kind, name):
            return name
    plain = kind.__repr__
    return "" if plain is tuple.__repr__ or "fget" in repr(plain) or _is_generated(plain) else "__repr__"


def _is_generated(plain):
    """Whether a class's text was made for it: by `dataclass` or `NamedTuple`."""
    return not hasattr(plain, "__code__") or "jaxplain" not in plain.__code__.co_filename


def test_every_result_shows_itself():
    silent = {f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}" for kind in results() if not says(kind)}
    assert silent == set(INNER)


def test_a_result_of_many_numbers_is_a_short_table():
    tried = 0
    many = np.arange(20_000, dtype=np.float32)
    for kind in results():
        if getattr(kind.__dict__.get("_repr_html_"), "__qualname__", "").startswith("shown."):
            fields = kind._fields if issubclass(kind, tuple) else [f.name for f in dataclasses.fields(kind)]
            for value in (many, jnp.zeros((3, 4)), None, "<b>", (1, 2)):
                markup = kind(**dict.fromkeys(fields, value))._repr_html_()
                rows = rows_of(markup)
                assert len(rows) == len(fields) + 1
                assert len(markup) < 500 + 150 * len(fields), kind
                assert "<b>" not in markup
                tried += 1
    assert tried >= 150


def test_few_numbers_are_shown():
    @shown
    @dataclasses.dataclass
    class Found:
        """What was found: rather little. More of it."""

        mean_value: object
        labels: object = None

    def row(value):
        return rows_of(Found(value)._repr_html_())[1]

    assert rows_of(Found(1)._repr_html_())[0] == ["Found", ""]
    assert "<p>What was found</p>" in Found(1)._repr_html_()
    assert row(np.array([1.0, 2.5])) == ["mean value", "1, 2.5"]
    assert row(np.array([True, False])) == ["mean value", "True, False"]
    assert row(jnp.arange(9)) == ["mean value", "i32[9]"]
    assert row(np.float32(0.123456789)) == ["mean value", "0.123457"]
    assert row(None) == ["mean value", "-"]
    assert row(Found(np.ones((3, 3)), 2)) == ["mean value", "mean value f64[3,3], labels 2"]
    assert row(jax.ShapeDtypeStruct((2,), jnp.float32)) == ["mean value", "f32[2]"]
    jax.jit(lambda x: row(x) and x)(jnp.ones(2))


@pytest.mark.parametrize("kind", ["mechanisms", "retraining", "models", "audit", "attentions"])
def test_tables_that_were_text_are_tables(kind):
    from jaxplain.evaluate.axioms.verdict import MechanismTable
    from jaxplain.evaluate.comparison.compare_models import ModelComparison
    from jaxplain.evaluate.comparison.retraining import Retrainings
    from jaxplain.explain.backward.backward import Rewritten, RewrittenTable
    from jaxplain.internals.fused import AttentionTable, FusedAttention

    half = np.array([[0.5]])
    table, head, text = {
        "mechanisms": lambda: (
            MechanismTable(("<m>",), ("and",), ("why?",), half, half > 1, {}, 0.02),
            ["method", "and", "passed"],
            "and: why?; mean error",
        ),
        "retraining": lambda: (
            Retrainings(("a", "random"), np.array([0.0, 0.5]), np.ones((2, 2, 3)), "morf"),
            ["method", "0%", "50%", "area"],
            "retrained 3 times",
        ),
        "models": lambda: (
            ModelComparison((0, 0), *[np.ones((2, 2))] * 2, np.ones((2, 2, 3)), *[np.ones(3)] * 2, np.arange(2)),
            None,
            "<p>re-seeded: 100.0% of predictions alike",
        ),
        "audit": lambda: (
            RewrittenTable([Rewritten("p", "relu", "k", "<r>", 1)]),
            ["path", "operation", "kind", "rule", "equations"],
            "&lt;r&gt;",
        ),
        "attentions": lambda: (
            AttentionTable([FusedAttention("p", 1, 2, 3, 4, "float32", False, "no")]),
            list(FusedAttention._fields),
            "float32",
        ),
    }[kind]()
    markup = table._repr_html_()
    assert rows_of(markup)[:1] == ([head] if head else [])
    assert text in markup


def test_an_array_that_was_given_away_is_a_shape():
    @shown
    class Kept(NamedTuple):
        """What is kept."""

        few: jax.Array

    few = jnp.arange(3.0) + 1
    few.delete()
    assert "f32[3]" in Kept(few)._repr_html_()
