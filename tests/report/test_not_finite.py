"""A page of explanations of which some are not finite: they are said to be, and stay out of the means."""

import re
import warnings

import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain import report
from jaxplain.dataset import explain_dataset
from shared.html_page import Page


def page(tmp_path, x):
    e = jaxplain.gradient(lambda x: (x * jnp.log(x)).sum())  # 1 + log x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names the examples
        found = explain_dataset(e, x, batch_size=4, out="memory").explanations
    return Page(report.explanations_page(tmp_path / "page.html", found, data=x).read_text(encoding="utf-8"))


def test_means_are_of_what_is_finite(tmp_path):
    for shape in ((4, 3), (4, 3, 3)):
        x = np.full(shape, np.e**2, np.float32)
        x[1, 0] = 0
        made = page(tmp_path, x)
        said = " ".join(made.texts)
        assert said.count("not finite, what is NaN or infinite is drawn as 0") == 1
        images = [image for image in made.all("img") if "map" in image.get("class", "")]
        assert not any("nan" in str(value) for image in images for value in image.values())
        if len(shape) == 3:  # the mean of the others is 3 everywhere
            assert re.search("from 3 to 3,", images[-1]["alt"])
        else:
            assert "The strongest features" in made.texts


def test_nothing_finite_has_no_means(tmp_path):
    assert "The strongest features" not in page(tmp_path, np.zeros((2, 3), np.float32)).texts


def test_one_pixel_that_is_nan_leaves_the_inputs(tmp_path):
    """All inputs were missing without a word, and so were those in half precision."""
    x = np.linspace(1, 2, 48, dtype=np.float32).reshape(3, 4, 4)
    whole = [image["src"] for image in page(tmp_path, x).all("img") if image.get("class") == "input"]
    x[1, 2, 2] = np.nan
    found = [image["src"] for image in page(tmp_path, x).all("img") if image.get("class") == "input"]
    assert len(found) == len(whole) == 3
    assert len(set(found) & set(whole)) == 2
    half = page(tmp_path, jnp.asarray(x, jnp.bfloat16))
    assert len([image for image in half.all("img") if image.get("class") == "input"]) == 3


def test_a_row_with_nan_says_so(tmp_path):
    """Its values stand beside its bars."""
    x = np.ones((2, 2), np.float32)
    x[1, 0] = np.nan
    assert "feature 0 = nan" in " ".join(page(tmp_path, x).texts).replace("  ", " ")
