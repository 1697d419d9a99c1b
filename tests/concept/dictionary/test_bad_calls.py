"""Wrong values in the place of every argument of every function of this family, told by the argument's name."""

import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp

from jaxplain import concept
from shared.bad_calls import fault
from shared.dictionary_calls import ATOMS, CALLS, CRAFT, DICTIONARY, GROUPS, HEAD, KEY, OUTPUTS, ROWS, SCORES, F, H, X

GOOD = {
    "activations": ROWS, "atoms": ATOMS, "k": 2, "key": KEY, "f": F, "layer": "layer", "x": X, "dictionary": DICTIONARY,
    "head": HEAD, "h": H[0], "concept": 0, "found": CRAFT, "groups": GROUPS, "outputs": jnp.sin, "dimension": 2,
}  # fmt: skip
SPECIAL = {
    "sobol_indices": {"f": lambda mask: mask.sum()},
    "sparse_surrogate": {"x": SCORES},
    "tree_surrogate": {"x": SCORES},
    "concept_readout": {"activations": H, "outputs": OUTPUTS},
}
ARGUMENTS = {"craft": (0,), "sub_concepts": (0,), "ace": (0,), "sobol_importance": (X[0], 0)}
REFUSED = {
    "int": ("none", "text", "fraction", "complex", "dictionary", "negative"),
    "float": ("text", "ragged list", "nan", "object", "empty array"),
    "bool": ("text", "object"),
    "str": ("negative", "object", "none"),
    "Callable[..., Any]": ("none", "text", "empty array"),
    "Array": ("text", "dictionary", "fraction", "none"),
    "Array | None": ("text", "dictionary"),
    "ArrayLike": ("text", "ragged list", "object", "dictionary", "empty array", "wrong shape"),
    "Arrays": ("text", "object", "none", "empty array"),
    "Number": ("text", "complex", "negative"),
    "Dictionary": ("none", "text", "empty array"),
    "Craft": ("none", "text", "dictionary"),
    "int | None": ("text", "fraction", "negative"),
}
"""By an argument's annotation: what is refused of it before anything is compiled."""
RIGHT = {("ace", "baseline", "negative"), ("tree_surrogate", "depth", "none")}
"""What is right there: a ground of -1."""


def test_every_argument_is_held(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    found, tried = {}, 0
    for name in CALLS:
        function = getattr(concept, name)
        parameters = {n: p for n, p in inspect.signature(function).parameters.items() if n != "args"}
        given = {n: SPECIAL.get(name, {}).get(n, GOOD.get(n, p.default)) for n, p in parameters.items()}
        order = [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]

        extra = ARGUMENTS.get(name, ())

        def call(parameter, bad, function=function, given=given, order=order, extra=extra):
            values = {**given, parameter: bad}
            keywords = {n: v for n, v in values.items() if n not in order}
            return function(*(values[n] for n in order), *extra, **keywords)

        for parameter in parameters:
            for kind in REFUSED.get(function.__annotations__.get(parameter, ""), ()):
                if (name, parameter, kind) in RIGHT:
                    continue
                tried += 1
                said = fault(SimpleNamespace(parameters=tuple(parameters), call=call), parameter, kind)
                if said:
                    found[name, parameter, kind] = said
    assert found == {}
    assert tried > 200
