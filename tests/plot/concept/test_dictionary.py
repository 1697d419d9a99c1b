"""The gallery of concepts: order, bars, pieces, and what cannot be drawn."""

import numpy as np
import pytest

from jaxplain import plot

CROPS = np.random.default_rng(0).random((3, 4, 5, 5, 3))


def test_rows_are_in_the_order_of_importance_and_bars_have_one_scale():
    codes = np.arange(12.0).reshape(3, 4)
    figure = plot.concept_gallery(CROPS, [0.2, np.nan, 0.6], values=codes, names=["a_b", "$x", "c"])
    rows = [figure.axes[start : start + 5] for start in range(0, 15, 5)]
    assert [row[0].get_ylabel() for row in rows] == ["c", "a_b", r"\$x"]
    widths = [row[0].patches[0].get_width() for row in rows[:2]]
    assert widths == [0.6, 0.2]
    assert not rows[2][0].patches
    assert len({row[0].get_xlim() for row in rows}) == 1
    assert [row[0].texts[0].get_text() for row in rows] == ["0.6", "0.2", "not measured"]
    np.testing.assert_array_equal(rows[1][3].images[0].get_array(), CROPS[0, 2])
    assert rows[1][3].get_title() == "2"
    assert "3 concepts" in figure.get_label()


def test_only_the_most_important_are_drawn_and_it_is_said():
    figure = plot.concept_gallery(CROPS, [0.2, 0.1, -0.6], limit=2)
    assert len(figure.axes) == 10
    assert figure.get_suptitle() == "first 2 of 3 concepts, by importance"


def test_texts_are_pieces_too():
    figure = plot.concept_gallery([["one", "two $3"], ["", "a " * 40]], [-0.1, 0.5])
    assert [a.texts[0].get_text() for a in figure.axes[4:6]] == ["one", r"two \$3"]
    assert figure.axes[1].texts[0].get_text() == "(empty)"
    assert figure.axes[3].patches[0].get_width() == -0.1


def test_what_cannot_be_drawn_is_told():
    for bad, words in {
        lambda: plot.concept_gallery(CROPS, [0.2, 0.1]): "`crops` holds 3, but `importance` holds 2",
        lambda: plot.concept_gallery(CROPS[0, 0], [0.2] * 4): r"`crops` has shape \(5, 5, 3\)",
        lambda: plot.concept_gallery(CROPS, np.ones((3, 1))): r"`importance` has shape \(3, 1\)",
        lambda: plot.concept_gallery(CROPS, [1, 2, 3], values=np.ones((3, 2))): r"`values` has shape \(3, 2\)",
        lambda: plot.concept_gallery([["a"], ["b", "c"]], [1, 2]): "equally many texts",
        lambda: plot.concept_gallery(CROPS[:, :0], [1, 2, 3]): "`crops` is empty",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            bad()
