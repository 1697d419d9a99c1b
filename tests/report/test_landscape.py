"""The section of a landscape says in numbers what its figures show."""

import numpy as np
import pytest

from jaxplain import report, train

PLACE = np.linspace(-1, 1, 5)
SURFACE = train.Surface(PLACE, PLACE, PLACE[None] ** 2 + PLACE[:, None] ** 2 + 1, np.eye(3, 2), np.array([0.75, 0.15]))
SPECTRUM = train.Sharpness(np.array([4.0, 2.0]), np.array([0.1, 0.2]), None, -1.0, 0.3, 50)


def test_a_section_holds_numbers_and_figures(tmp_path):
    way = train.Interpolation(np.array([0.0, 1.0]), np.array([0.5, 0.2]), 0.0)
    section = report.landscape_section(SURFACE, spectra={"hessian": SPECTRUM}, ways={"straight": way})
    facts, *figures = section.content
    assert facts == {
        "lowest loss": 1.0,
        "highest loss": 3.0,
        "variance of the path in the plane": "90 %",
        "largest eigenvalues, hessian": "4 ± 0.1, 2 ± 0.2",
        "smallest eigenvalue, hessian": "-1 ± 0.3",
    }
    assert len(figures) == 2
    page = report.report(tmp_path / "page.html", [section]).read_text(encoding="utf-8")
    assert "a path of 3 points" in page
    with pytest.raises(TypeError, match=r"`spectra\['a'\]` is"):
        report.landscape_section(SURFACE, spectra={"a": way})
    several = SPECTRUM._replace(values=np.ones((3, 2)), error=np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"`spectra\['b'\]` holds eigenvalues of shape \(3, 2\)"):
        report.landscape_section(SURFACE, spectra={"b": several})
