"""Verdicts on unstable and dead runs, and remarks on layers; the others are in `test_fit.py`."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from jaxplain import train

FLAT = [0.7] * 8


def layers(dead=(0, 0, 0), gradient=(1.0, 1.0, 1.0), update=1e-3, epochs=8):
    """Three layers that do the same in every epoch."""
    rows = np.ones((epochs, 3))
    return train.LayerHistory(
        rows * gradient, rows * update, rows, rows * dead, ("a", "b", "c"), (64, 64, 64), (10, 10, 10), (True,) * 3
    )


def history(loss, accuracy=None, record=None, gradient=None):
    return SimpleNamespace(loss=loss, accuracy=accuracy, gradient_norm=gradient, layers=record)


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (history([1.0, 0.3, 0.8, 0.2]), "unstable", r"rose from 0.3 .epoch 2. to 0.8, by more than 25%"),
        (history([1.0, 0.3, 0.31, 0.2]), "still learning", "of the fall"),  # a small rise
        (history([1.0, 0.0001, 0.002, 0.0001]), "fits well", "training loss"),  # the noise of a loss near zero
        (history([0.70, 0.69, 0.699, 0.69]), "underfits", "training loss 0.69"),  # the noise of one that never falls
        (history([1.0, 3.0, 1.0]), "unstable", "to 3"),
        (history([-1.0, -3.0, -1.0, -3.5]), "unstable", "to -1"),  # a negative log-likelihood
        (history([2.300, 2.31, 2.3, 2.302], [0.1] * 4), "underfits", "10.0%"),  # noise at chance, no divergence
        (
            history([2.31, 2.30, 2.305, 2.297, 2.304, 2.3, 2.308, 2.295], [0.1] * 8),
            "underfits",
            "10.0%",
        ),  # nor learning
        (history([1.0, 0.9, 0.8, 0.7], [0.5] * 4, layers(dead=(10, 2, 0), epochs=4)), "dead", "10 of 10 units of a"),
        (history([1.0, 0.9, 0.8, 0.7], [0.5] * 4, layers(dead=(9, 2, 0), epochs=4)), "still learning", "of the fall"),
        (history(FLAT, [0.5] * 8, gradient=[1.0] * 7 + [0.0]), "dead", "gradient was zero in epoch 8"),
        (history(FLAT, [0.5] * 8, layers(dead=(0, 6, 2))), "dead", "6 of 10 units of b got no gradient in epoch 8"),
        (history(FLAT, [0.5] * 8, layers(dead=(0, 4, 2))), "underfits", "50.0%"),
        (history(FLAT, [0.95] * 8, layers(dead=(0, 6, 2))), "fits well", "95.0%"),  # what is left is enough
    ],
)
def test_unstable_and_dead(found, verdict, words):
    diagnosis = train.diagnose(found)
    assert diagnosis.verdict == verdict
    assert re.search(words, diagnosis.rule)
    assert str(diagnosis).startswith("The model ")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (layers(), []),
        (layers(dead=(0, 6, 2)), ["6 of 10 units of b are dead"]),
        (layers(dead=(5, 6, 10)), ["10 of 10 units of c, 6 of 10 units of b, 5 of 10 units of a are dead"]),
        (layers(dead=(10, 0, 0), gradient=(0.0, 1.0, 1.0)), ["10 of 10 units of a are dead"]),
        (
            layers(gradient=(1e-4, 1.0, 1.0)),
            ["the gradient vanishes on its way back: at a it is 0.0001 times that at c"],
        ),
        (layers(gradient=(1e4, 1.0, 1.0)), ["the gradient explodes on its way back: at a it is 1e+04 times that at c"]),
        (layers(update=1e-6), ["a step changes the weights by 1e-06 of their size, which is little, try a higher"]),
        (layers(update=0.5), ["a step changes the weights by 0.5 of their size, which is much, try a lower"]),
        (layers(update=np.inf), []),  # weights that began at zero
    ],
)
def test_remarks_on_layers(record, words):
    diagnosis = train.diagnose(history(FLAT, [0.95] * 8, record))
    assert diagnosis.verdict == "fits well"
    assert len(diagnosis.remarks) == len(words)
    for remark, start in zip(diagnosis.remarks, words, strict=True):
        assert remark.startswith(start)
        assert f"Also, {start}" in str(diagnosis)
    assert set(diagnosis.numbers) >= {"dead_units", "gradient_flow"}
    assert ("update_ratio" in diagnosis.numbers) == np.isfinite(record.update_ratio).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_layers_that_are_not_finite_are_told_by_the_verdict(bad):
    for broken in (layers(gradient=(bad, 1.0, bad)), layers(update=bad), layers(gradient=(1.0, bad, bad), update=bad)):
        diagnosis = train.diagnose(history([1.0] + [bad] * 7, None, broken))
        assert diagnosis.rule == "training loss is not finite from epoch 2 on"
        assert diagnosis.remarks == ()
        assert "epoch 8" in str(broken)


def test_every_history_gets_one_verdict_and_settings_move_it():
    draw = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        epochs = int(draw.integers(1, 12))
        loss = np.exp(draw.normal(size=epochs) * draw.choice([0.01, 1.0]) - draw.choice([0.0, 0.3]) * np.arange(epochs))
        accuracy = draw.random(epochs) if draw.random() < 0.5 else None
        record = layers(dead=draw.integers(0, 11, 3), gradient=10.0 ** draw.integers(-6, 6, 3), epochs=epochs)
        found = train.diagnose(history(loss, accuracy, record if draw.random() < 0.7 else None))
        seen.add(found.verdict)
        assert np.isfinite(list(found.numbers.values())).all()
    assert seen == {"diverges", "unstable", "still learning", "dead", "underfits", "fits well"}
    jumps = history([1.0, 0.3, 0.8, 0.2])
    assert train.diagnose(jumps, jump=0.9).verdict == "fits well"
    dead = history(FLAT, [0.5] * 8, layers(dead=(0, 6, 2)))
    assert train.diagnose(dead, dead_share=0.7).verdict == "underfits"
    steep = history(FLAT, [0.95] * 8, layers(gradient=(1e-4, 1, 1)))
    assert train.diagnose(steep, imbalance=1e5).remarks == ()
