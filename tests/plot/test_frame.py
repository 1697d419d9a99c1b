"""Figures of data frames: names of columns, categories in words, attributions found by name."""

import numpy as np
import pytest

from jaxplain import plot

pd = pytest.importorskip("pandas", reason="the extra [tables] is not installed")
pl = pytest.importorskip("polars", reason="the extra [tables] is not installed")

ROWS = {"area": [50.0, 70.0, None, 41.0], "city": ["Ulm", "Bonn", "Ulm", None], "new": [True, False, True, True]}
A = np.array([[0.5, -2.0, 0.1], [1.0, 3.0, -0.1], [0.2, 2.0, 0.0], [-0.4, 1.0, 0.3]])
FRAMES = [pd.DataFrame(ROWS), pl.DataFrame(ROWS)]


def ticks(axis):
    return [text.get_text().strip() for text in axis]


def test_a_summary_keeps_the_names_and_finds_attributions_by_name():
    for df in FRAMES:
        axes = plot.summary(df, A).axes[0]
        assert ticks(axes.get_yticklabels()) == ["city", "area", "new"]
        turned = type(df)({name: A[:, k] for k, name in [(2, "new"), (0, "area"), (1, "city")]})
        other = plot.summary(df, turned).axes[0]
        assert ticks(other.get_yticklabels()) == ["city", "area", "new"]
        assert [dots.get_offsets().tolist() for dots in other.collections] == [
            dots.get_offsets().tolist() for dots in axes.collections
        ]
        assert ticks(plot.summary(df, A, names=["A", "C", "N"]).axes[0].get_yticklabels()) == ["C", "A", "N"]
        with pytest.raises(ValueError, match=r"`attributions` has the columns .*, but the values have"):
            plot.summary(df, type(df)({"area": A[:, 0], "city": A[:, 1], "old": A[:, 2]}))


def test_dependence_takes_categories():
    for df in FRAMES:
        figure = plot.dependence(df, A, "city", colour_by="new")
        axes = figure.axes[0]
        assert ticks(axes.get_xticklabels()) == ["Bonn", "Ulm"]
        assert axes.get_xlabel() == "city"
        assert "1 examples without a value" in axes.get_title()
        assert sorted(np.round(axes.collections[0].get_offsets()[:, 0]).tolist()) == [0, 1, 1]
        assert {"False", "True"} <= set(ticks(figure.axes[1].get_yticklabels()))
        assert plot.dependence(df, A, "area").axes[0].get_xlabel() == "area"
        with pytest.raises(ValueError, match="`feature` holds 'town', which is none of `names`"):
            plot.dependence(df, A, "town")


def test_a_waterfall_writes_values_in_words():
    wanted = ["city = Ulm", "area = 50", "new = True"]
    named = pd.DataFrame(A, columns=list(ROWS))
    for values in (FRAMES[0][:1], FRAMES[1][:1], FRAMES[0].iloc[0], {name: own[0] for name, own in ROWS.items()}):
        for attributions in (A[0], named.iloc[0], named[:1], named.iloc[0][::-1]):
            axes = plot.waterfall(attributions, 1.0, -0.4, values=values).axes[0]
            assert ticks(axes.get_yticklabels()) == wanted
    axes = plot.waterfall(A[0], 1.0, values=[50.0, "Ulm", True], names=list(ROWS)).axes[0]
    assert ticks(axes.get_yticklabels()) == wanted
    axes = plot.waterfall(A[2], 1.0, values=FRAMES[0][2:3]).axes[0]
    assert ticks(axes.get_yticklabels())[1] == "area = missing"
    with pytest.raises(ValueError, match="`values` has 4 rows; pass one, such as df"):
        plot.waterfall(A[0], 1.0, values=FRAMES[0])
    with pytest.raises(ValueError, match="`values` holds 2 values, but there are 3 attributions"):
        plot.waterfall(A[0], 1.0, values=["a", 1.0])


def test_samples_and_bars_of_a_frame():
    for df in FRAMES:
        axes = plot.samples(df).axes[0]
        assert ticks(axes.get_xticklabels()) == list(ROWS)
        assert [text.get_text() for text in axes.texts[:3]] == ["50", "Ulm", "True"]
        assert [text.get_text() for text in axes.texts[6:12]] == ["missing", "Ulm", "True", "41", "missing", "True"]
    named = pd.DataFrame(A, columns=list(ROWS))
    assert ticks(plot.attribution_bar(named).axes[0].get_yticklabels()) == ["city", "area", "new"]
    assert ticks(plot.attribution_bar(named.iloc[0]).axes[0].get_yticklabels()) == ["city", "area", "new"]
    with pytest.raises(ValueError, match="is empty"):
        plot.samples(FRAMES[0][:0])
    with pytest.raises(TypeError, match="column 'when' holds dates"):
        plot.samples(pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}))


def test_effects_take_a_frame_of_data():
    from types import SimpleNamespace

    effect = {"area": SimpleNamespace(grid=np.array([40.0, 60.0]), score=np.array([0.0, 1.0]))}
    for df in FRAMES:
        line = plot.effects(effect, data=df).axes[0].lines[-1]
        assert line.get_xdata().tolist() == [50, 70, 41]


def test_the_other_figures_of_tables_take_frames():
    for df in FRAMES:
        named = type(df)({name: A[:, k] for k, name in enumerate(ROWS)})
        bar = plot.force(named[:1], 1.0, values=df[:1])
        said = [text for axes in bar.axes for text in ticks(axes.get_yticklabels())]
        assert any("city = Ulm" in text for text in said), said
        lines = plot.decision(named, 1.0).axes[0]
        assert {"city", "area", "new"} <= set(ticks(lines.get_yticklabels()))
        bars = plot.cohorts(named, ["a", "a", "b", "b"]).axes[0]
        assert ticks(bars.get_yticklabels()) == ["city", "area", "new"]
