"""Points that are set side by side, where all have one value."""

import io

import numpy as np

from jaxplain import plot
from jaxplain.plot.tabular.category import beside, piled


def test_equal_values_are_one_pile_of_any_size():
    """Five in a row: the middle, then by turns above and below; a warning is an error here."""
    wanted = 0.4 * np.array([0, -1, 1, -2, 2]) / 8
    tiny = np.finfo(float).tiny
    for value in (0.0, 3.0, -1e-300, 1e300):
        np.testing.assert_allclose(piled(np.full(5, value), tiny), wanted)
        np.testing.assert_allclose(beside(np.ones(5), np.full(5, value)), 1 + 0.8 * wanted)


def test_a_summary_of_equal_attributions_is_drawn():
    plot.summary(np.arange(6.0).reshape(3, 2), np.full((3, 2), 3.0)).savefig(io.BytesIO())
