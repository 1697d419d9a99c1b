"""Wrong values in the place of every argument of dictionaries and autoencoders, told by the argument's name."""

import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept
from shared.bad_calls import KEY, LABELS, VECTORS, Axes, fault

ROWS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
AXES = Axes(np.eye(5, dtype=np.float32))
GOOD = {
    "f": jaxplain.loss(VECTORS.apply, VECTORS.params), "layer": "hidden", "layers": "hidden", "x": VECTORS.rows,
    "dictionary": AXES, "activations": ROWS, "key": KEY, "first": ROWS, "second": ROWS, "index": 1, "h": ROWS[0],
    "head": jnp.sum, "dictionaries": {"hidden": AXES}, "atoms": np.eye(5), "codes": np.abs(ROWS), "k": 2,
    "batches": [VECTORS.rows], "architecture": concept.top_k(2), "steps": 2, "clean": VECTORS.x, "penalty": 1.0,
}  # fmt: skip
SPECIAL = {
    "train_autoencoder": {"atoms": 4},
    "stability": {"dictionaries": [AXES, AXES]},
    "matryoshka": {"sizes": (2, 4)},
    "layer_site": {"x": VECTORS.x},
}
REFUSED = {
    "int": ("text", "fraction", "complex", "dictionary"),
    "int | None": ("text", "fraction", "complex"),
    "float": ("text", "ragged list", "nan", "object", "empty array"),
    "str": ("negative", "object", "array of objects"),
    "bool": ("text", "object"),
    "Callable[..., Any]": ("none", "text", "empty array"),
    "Array": ("text", "dictionary", "fraction"),
    "ArrayLike": ("text", "ragged list", "object", "dictionary"),
    "Dictionary": ("none", "text", "dictionary"),
    "Architecture": ("none", "text", "function"),
    "tuple[int, ...]": ("text", "ragged list", "object", "negative"),
    "Mapping[str, Dictionary]": ("none", "text", "object"),
    "Sequence[Dictionary]": ("none", "text", "object"),
    "Any": ("none", "text", "object"),
}
"""By an argument's annotation: what is refused of it at once, so that nothing is compiled."""
OWN = (
    *("activation_stream", "batch_top_k", "concept_curves", "feature_circuit", "feature_score", "gated"),
    *("judge_dictionary", "jump_relu", "layer_site", "logit_weights", "loss_recovered", "match_atoms", "matryoshka"),
    *("recovery", "relu_l1", "stability", "top_k", "train_autoencoder"),
)
FREE = {"targets", "corrupt", "progress", "optimizer"}
"""Arguments that None is right for, or whose kind only the function can tell."""


def test_every_argument_is_held(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    found, tried = {}, 0
    for name in OWN:
        function = getattr(concept, name)
        parameters = inspect.signature(function).parameters
        plain = {p: v for p, v in parameters.items() if v.kind is not v.VAR_POSITIONAL}
        given = {p: SPECIAL.get(name, {}).get(p, GOOD.get(p, v.default)) for p, v in plain.items()}
        for parameter in set(plain) - FREE:
            for kind in REFUSED.get(function.__annotations__.get(parameter, ""), ()):

                def call(p, bad, function=function, given=given):
                    args = {**given, p: bad}
                    places = [
                        n
                        for n, v in inspect.signature(function).parameters.items()
                        if v.kind == v.POSITIONAL_OR_KEYWORD
                    ]
                    more = (LABELS,) if function is concept.loss_recovered else ()
                    return function(
                        *(args[n] for n in places), *more, **{n: v for n, v in args.items() if n not in places}
                    )

                said = fault(SimpleNamespace(parameters=tuple(plain), call=call), parameter, kind)
                tried += 1
                if said:
                    found[name, parameter, kind] = said
    assert found == {}
    assert tried > 150


def test_a_layer_of_one_number_has_no_features_to_stream():
    def f(x):
        with jax.named_scope("sum"):
            total = jnp.tanh(x.sum())
        return 2 * total

    stream = concept.activation_stream(f, "sum", [ROWS], batch_size=2, buffer=4)
    with pytest.raises(ValueError, match="'sum' holds one number for each example"):
        next(iter(stream(KEY)))
