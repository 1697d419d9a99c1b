"""Which prediction is marked as right: whatever the form of the classes, and where several have one name."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import report

MAPS = {"gradient": np.ones((3, 2, 2))}


def columns(labels, predicted=None, **more):
    gallery = report.examples_section(None, MAPS, labels, predicted=predicted, **more).content
    return {column.title: list(column.cells) for column in gallery.columns}, gallery


FORMS = {
    "floats": np.array([0.0, 1.0, 2.0]),
    "whole numbers": np.array([0, 1, 2], np.int8),
    "a list": [0, 1, 2],
    "of jax": jnp.array([0, 1, 2]),
    "bfloat16": jnp.array([0, 1, 2], jnp.bfloat16),
    "texts": ["0", "1", "2"],
}


def test_a_class_is_right_in_any_form():
    said = {form: np.asarray(value).astype(np.asarray(value).dtype)[[0, 2, 2]] for form, value in FORMS.items()}
    for one, labels in FORMS.items():
        for other, predicted in said.items():
            if (one == "texts") != (other == "texts"):
                with pytest.raises(ValueError, match=r"`labels` is .* but `predicted` .*one form"):
                    columns(labels, predicted)
                continue
            cells, gallery = columns(labels, predicted)
            assert gallery.right == [True, False, True], (one, other)
            assert cells["class"] == ["0", "1", "2"]
    assert columns([0, 1, 1], np.array([False, True, False]))[1].right == [True, True, False]
    assert columns(np.array([False, True, True]), np.array([0.0, 1.0, 0.0]))[1].right == [True, True, False]
    assert columns([True, False, True], [True, True, True])[0]["class"] == ["True", "False", "True"]


def test_classes_of_one_name_are_told_apart():
    """As the two cranes of ImageNet, a bird and a machine."""
    cells, gallery = columns([0, 2, 2], [2, 2, 1], names=["crane", "dog", "crane"])
    assert gallery.right == [False, True, False]
    assert gallery.classes == ["crane (class 0)", "crane (class 2)"]
    assert gallery.own == [0, 1, 1]
    said = [re.sub(" <span.*", "", cell) for cell in cells["prediction"]]
    assert said == ["crane (class 2)", "crane (class 2)", "dog"]
    keys = {column.title: list(column.keys) for column in gallery.columns if column.keys is not None}
    assert (keys["class"], keys["prediction"]) == ([0, 1, 1], [1, 1, 0])


def test_texts_that_are_no_numbers_come_last():
    assert columns(["nan", "10", "2"])[1].classes == ["2", "10", "nan"]
    assert columns(["10", "nan", "2"])[1].classes == ["2", "10", "nan"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: columns(np.eye(3)), r"`labels` has shape \(3, 3\).*argmax"),
        (lambda: columns([0, 1, 2], [[0], [1], [2]]), r"`predicted` has shape \(3, 1\)"),
        (lambda: report.examples_section(np.ones((3, 4)), {"a": np.ones((3, 5))}), "has 5 columns, but `inputs` 4"),
        (lambda: report.examples_section(None, {1: np.ones((3, 2)), "1": np.ones((3, 2))}), "two methods"),
    ],
)
def test_what_would_be_shown_wrong_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
