"""Wrong values in the place of every argument of every public function, told by the argument's name before compute."""

import inspect
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxplain import influence, train
from shared.bad_calls import BAD, KEY, LABELS, VECTORS, fault

ROWS = VECTORS.rows
DATA = (np.repeat(ROWS, 2, 0), np.array([0, 1, 1, 0, 2, 1]))
RUN = train.training_run(VECTORS.apply, VECTORS.params, DATA, key=KEY, epochs=1, batch_size=6)
QUERIES = influence.query_scores(VECTORS.apply, (ROWS, LABELS))
FOUND = influence.Influence(np.random.default_rng(0).normal(size=(3, 6)), None, "score", True, "by hand", {})
MASKS = np.array([[1, 0, 1, 1, 1, 0], [0, 1, 1, 0, 1, 1], [1, 1, 1, 0, 0, 1]], np.float32)
GOOD = {
    "run": RUN, "queries": QUERIES, "apply": VECTORS.apply, "params": VECTORS.params, "data": DATA, "key": KEY,
    "influence": FOUND, "masks": MASKS, "scores": np.eye(3), "damping": 0.5,
    "checkpoints": jax.tree.map(lambda a: a[None], VECTORS.params),
}  # fmt: skip
SPECIAL = {
    "random_masks": {"masks": 3, "count": 6},
    "unrolled": {"masks": 2},
    "retrain": {"weights": MASKS},
    "knn_shapley": {"features": ROWS, "labels": LABELS, "query_features": ROWS, "query_labels": LABELS},
    "representer_points": {"queries": (ROWS, LABELS)},
    "trak": {"queries": (ROWS, LABELS)},
    "compare_influence": {"methods": {"a": FOUND}},
    "mislabel_curve": {"suspicion": np.arange(6.0), "planted": np.arange(6) < 2},
    "top_over_blocks": {"method": lambda block: FOUND, "blocks": [1]},
    "log_odds": {"outputs": np.array([1.0, 2.0, 3.0]), "target": 1},
}
REFUSED = {
    "int": ("text", "fraction", "complex", "dictionary"),
    "float": ("text", "ragged list", "nan", "object", "empty array"),
    "str": ("negative", "object", "array of objects"),
    "bool": ("text", "object"),
    "Callable[..., Any]": ("none", "text", "empty array"),
    "Array": ("text", "dictionary", "fraction"),
    "Array | None": ("text", "dictionary"),
    "ArrayLike": ("text", "ragged list", "object", "dictionary"),
    "Number | None": ("text", "ragged list", "complex", "nan"),
    "Number | str": ("text", "ragged list", "complex", "negative"),
    "Sequence[int]": ("text", "ragged list", "fraction", "object"),
    "TrainingRun": ("none", "text", "dictionary", "function"),
    "Influence": ("none", "text", "dictionary"),
    "Any": ("none", "text", "object"),
}
"""By an argument's annotation: what is refused of it at once, so that nothing is compiled."""
FREE = {"weights", "held_out", "costs", "others"}
"""Arguments that None is right for, or whose kind only the function can tell."""


def test_every_argument_is_held(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    found, tried = {}, 0
    for name in influence.__all__:
        function = getattr(influence, name)
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        given = {p: SPECIAL.get(name, {}).get(p, GOOD.get(p, v.default)) for p, v in parameters.items()}
        for parameter in set(parameters) - FREE:
            for kind in REFUSED.get(function.__annotations__.get(parameter, ""), ()):

                def call(p, bad, function=function, given=given):
                    return function(**{**given, p: bad})

                public = SimpleNamespace(parameters=tuple(parameters), call=call)
                said = fault(public, parameter, kind)
                tried += 1
                if said:
                    found[name, parameter, kind] = said
    assert found == {}
    assert tried > 250


@pytest.mark.parametrize("kind", BAD)
def test_what_a_run_is_made_of_is_held(kind):
    def call(parameter, bad):
        given = {"apply": VECTORS.apply, "params": VECTORS.params, "data": DATA, "key": KEY, "settings": None}
        return train.training_run(**{**given, parameter: bad})

    names = ("data", "weights", "settings", "every", "patience", "optimizer", "loss", "epochs", "batch_size")
    public = SimpleNamespace(parameters=names, call=call)
    assert {name: said for name in names if (said := fault(public, name, kind))} == {}
