"""The section of learning dynamics: the hardest examples first, and only what it was given."""

import numpy as np
import pytest

from jaxplain import report, train

RIGHT = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1]], bool)


def dynamics():
    return train.LearningDynamics(np.array([0, 10, 20]), 1.0 - RIGHT, 1 * RIGHT, RIGHT)


def test_the_hardest_examples_stand_first(tmp_path):
    labels = [0, 1, 1, 0, 1]
    section = report.learning_dynamics_section(dynamics(), labels=labels, names=["cat", "dog"], k=3)
    words, figure, table = section.content
    assert words.startswith("5 examples at 3 checkpoints: 4 right at the end")
    assert figure.get_label().startswith("When examples were learnt")
    assert table.columns == [
        "example",
        "label",
        "learnt at step",
        "times forgotten",
        "says at the end",
        "loss at the end",
    ]
    assert table.rows == [
        [3, "cat", "wrong at the end", 0, "cat", 1.0],
        [2, "dog", 20, 1, "dog", 0.0],
        [1, "dog", 20, 0, "dog", 0.0],
    ]
    assert len(report.learning_dynamics_section(dynamics(), k=9).content[2].rows) == 5


@pytest.mark.slow
def test_all_of_it_in_a_page(tmp_path):
    depth = train.PredictionDepth(np.arange(3), np.ones(3, int), np.ones((2, 3), int), ("input", "output"))
    section = report.learning_dynamics_section(
        dynamics(), depth=depth, drift=[[0.1, 0.5, 1.0]], inputs=np.zeros((1, 4)), attributions=np.ones((1, 3, 4)),
        features=["a", "b", "c", "d"],
    )  # fmt: skip
    assert len(section.content) == 7
    page = report.report(tmp_path / "page.html", [section]).read_text()
    assert page.count("<img ") == 4
    assert "3 examples at 2 layers (input to output)" in page


def test_wrong_calls_are_told():
    make = report.learning_dynamics_section
    for call, kind, words in (
        (lambda: make(RIGHT), TypeError, "has to be a LearningDynamics"),
        (lambda: make(dynamics(), k=0), ValueError, "`k` has to be at least 1"),
        (lambda: make(dynamics(), labels=[1, 2]), ValueError, "there are 5 examples"),
        (lambda: make(dynamics(), names=["a"]), ValueError, "`names` holds 1 names, but there is class 1"),
        (lambda: make(dynamics(), names=[]), ValueError, "`names` holds 0 names"),
        (
            lambda: make(dynamics(), labels=[0, 0, 0, 0, 2], names=["a", "b"]),
            ValueError,
            "`names` holds 2 names, but there is class 2",
        ),
        (lambda: make(dynamics(), inputs=np.zeros((1, 4))), ValueError, "`inputs` and `attributions` go together"),
        (lambda: make(dynamics(), drift=[0.1, 1.0]), ValueError, "`steps`"),
    ):
        with pytest.raises(kind, match=words):
            call()
