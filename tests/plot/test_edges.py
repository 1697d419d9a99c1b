"""Figures of numbers at their edges: f(x) that is f(b), curves that are constant, letters that cannot be seen."""

import io

import numpy as np
import pytest

from jaxplain import plot
from jaxplain.plot.tabular.addition import GAP


def drawn(figure):
    """A figure that was drawn; a warning is an error here."""
    figure.savefig(io.BytesIO(), dpi=20)
    return figure


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))


def test_rounding_is_no_completeness_gap():
    """Where f(x) is f(b), or all is large, 1e-3 of their difference is less than float32 holds."""
    cancelled = np.array([1, -1 + 3e-7], np.float32)
    for kind, more in ((plot.force, [1.0, 1.0]), (plot.waterfall, [1.0, 1.0]), (plot.decision, [1.0, 1.0])):
        assert GAP not in words(kind(cancelled, *more)), kind
    large = np.float32(20000.0), np.float32(20000.0) + np.float32(0.002)  # neighbours in float32
    assert large[1] > large[0]
    assert GAP not in words(plot.force([0.0, 0.001], *large))
    for f_x in (1.00001, 0.5, 1.5):  # and a gap is one, on either side
        assert GAP in words(plot.force(cancelled, 1.0, f_x)), f_x
        assert GAP in words(plot.decision(np.stack([cancelled, cancelled]), 1.0, [1.0, f_x])), f_x


def test_constant_curves_of_any_size_are_drawn():
    for value, mark in ((1e6, "background"), (-1e20, "background"), (1e300, "line")):
        low, high = drawn(plot.series(np.full(5, value), np.arange(5.0), mark=mark)).axes[0].get_ylim()
        assert low < value < high
    drawn(plot.force([1e-12, -2e-12], 1e6))
    drawn(plot.decision([[1e-12, -2e-12]], 1e6))


def test_numbers_stand_behind_names_from_right_to_left():
    """The names end with a mark of the other direction, which gives it to all that follows."""
    name = "\u200e\u05e9\u05dc\u05d5\u05dd\u200e"
    names, values = [name.strip("\u200e"), "a"], [-3.0, 1.0]
    assert f"{name} = -3: -2" in words(plot.force([-2.0, 1.0], 0.0, names=names, values=values))
    assert f"{name} = -3" in words(plot.waterfall([-2.0, 1.0], 0.0, names=names, values=values))
    assert f"{name} (2 examples)" in words(plot.cohorts(np.ones((4, 2)), [names[0], "b"] * 2))
    assert "a = 1: +1" in words(plot.force([-2.0, 1.0], 0.0, names=names, values=values))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.logo(np.ones((2, 2)), np.full((2, 2), 0.5), letters="AB"), "2 positions that are no one-hot"),
        (lambda: plot.logo(np.ones((2, 2)), [[1, 0], [1, 1]], letters="AB"), "first is 1"),
        (lambda: plot.logo(np.ones((2, 2)), letters="A\u200b"), "letters that can be seen"),
        (lambda: plot.cohorts(np.ones((3, 2)), np.array(["1", 1, 2], object)), "two groups have one name"),
        (lambda: plot.sound(np.ones(9), np.ones((4, 2)), rate=10, frequencies=[1, 6]), "none above 5 Hz"),
        (lambda: plot.force([1, 2], 0, names=["a", "a"], order=["a"]), "'a', which 2 of `names` are"),
        (lambda: plot.dependence(np.ones((3, 2)), np.ones((3, 2)), "a", names=["a", "a"]), "'a', which 2 of `names`"),
    ],
)
def test_what_would_be_drawn_wrong_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_dollars_in_values_are_no_mathematics():
    """A text with two dollars would be drawn in italics without them."""
    for kind in (plot.force, plot.waterfall):
        assert r"price = \$10-\$20" in words(kind([1.0, 2.0], 0.0, names=["price", "b"], values=["$10-$20", 1.0]))
    pandas = pytest.importorskip("pandas", reason="data frames")
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "price": ["$10-$20", "$20-$30", "$10-$20"]})
    found = words(plot.dependence(frame, np.ones((3, 2)), "a", colour_by="price"))
    assert r"\$20-\$30" in found
    assert " $20-$30" not in found


def test_columns_of_one_name_keep_their_values():
    pandas = pytest.importorskip("pandas", reason="data frames")
    found = pandas.Series([1.0, -2.0, 4.0], index=["a", "a", "b"])
    values = pandas.Series([10.0, 20.0, 30.0], index=["a", "a", "b"])
    said = words(plot.force(found, 0.0, values=values))
    for part in ("a = 10: +1", "a = 20: -2", "b = 30: +4"):
        assert part in said
    for more in ({"values": values.iloc[[2, 0, 1]]}, {"names": ["b", "a", "a"]}):
        with pytest.raises(ValueError, match="has 'a' 2 times, in another order"):
            plot.force(found, 0.0, **more)
    with pytest.raises(ValueError, match="`values` has 'a' 2 times, in another order"):
        plot.force([4.0, 1.0, -2.0], 0.0, names=["b", "a", "a"], values=values)
