"""Wrong values in the place of every argument of every public function, told by the argument's name."""

import inspect
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxplain import concept
from shared.bad_calls import BAD, fault
from shared.concept_calls import ASKED, KEY, head, score, setting

S = setting()
VECTORS = S.vectors
GOOD = {
    "head": head, "f": score, "path": "hidden", "paths": ["hidden"], "key": KEY, "activations": S.rows,
    "concepts": S.labels, "inputs": S.rows, "x": S.asked, "vectors": VECTORS, "vector": np.ones(6, np.float32),
    "attributions": S.rows, "features": S.rows, "labels": np.arange(64) % 3, "query_features": S.asked,
    "query_labels": np.arange(ASKED) % 3, "regions": S.regions, "samples": 99,
}  # fmt: skip
SPECIAL = {
    "layer_consistency": {"results": {"a": concept.tcav(head, VECTORS, S.asked, 1, samples=0)}},
    "tcav_t_test": {"samples": 3},
    "region_scores": {"activations": S.asked},
}
REFUSED = {
    "int": ("text", "fraction", "complex", "dictionary"),
    "int | None": ("text", "fraction", "dictionary"),
    "float": ("text", "ragged list", "nan", "object", "empty array"),
    "float | None": ("text", "ragged list", "nan", "dictionary"),
    "str": ("negative", "object", "array of objects"),
    "Callable[..., Any]": ("none", "text", "empty array"),
    "ArrayLike": ("text", "ragged list", "object", "dictionary"),
    "Array": ("text", "dictionary", "none"),
    "Arrays": ("text", "object", "ragged list"),
    "Number": ("text", "ragged list", "complex", "nan"),
    "Number | None": ("text", "ragged list", "complex", "nan"),
    "Sequence[str]": ("none", "fraction", "object"),
    "Mapping[str, Any]": ("none", "text", "object"),
    "ConceptVectors": ("none", "text", "dictionary"),
    "ConceptRegions": ("none", "text", "dictionary"),
    "Any": ("text", "object", "array of objects"),
}
"""By an argument's annotation: what is refused of it at once."""
FREE = {"args"}


def test_every_argument_is_held():
    found, tried = {}, 0
    for name in concept.__all__:
        function = getattr(concept, name)
        if not inspect.isfunction(function) or not function.__module__.startswith(
            ("jaxplain.concept.vector", "jaxplain.concept.cluster")
        ):
            continue
        signature = inspect.signature(function).parameters
        names = [p for p, v in signature.items() if v.kind is not v.VAR_POSITIONAL]
        given = {p: SPECIAL.get(name, {}).get(p, GOOD.get(p, signature[p].default)) for p in names}
        shared = [1] if "args" in signature else []
        first = [p for p in names if signature[p].kind is signature[p].POSITIONAL_OR_KEYWORD]
        for parameter in set(names) - FREE:
            for kind in REFUSED.get(function.__annotations__.get(parameter, ""), ()):

                def call(p, bad, function=function, given=given, first=first, shared=shared):
                    values = {**given, p: bad}
                    rest = {key: value for key, value in values.items() if key not in first}
                    return function(*(values[key] for key in first), *shared, **rest)

                public = SimpleNamespace(parameters=tuple(names), call=call)
                said = fault(public, parameter, kind)
                tried += 1
                if said:
                    found[name, parameter, kind] = said
    assert found == {}
    assert tried > 200


@pytest.mark.parametrize("kind", ["none", "text", "empty array", "dictionary", "function"])
def test_what_concepts_are_is_held(kind):
    def call(parameter, bad):
        return concept.concept_vectors(**{"activations": S.rows, "concepts": S.labels, parameter: bad})

    public = SimpleNamespace(parameters=("activations", "concepts"), call=call)
    assert {name: said for name in public.parameters if (said := fault(public, name, kind))} == {}
    assert kind in BAD
    assert jax.tree.leaves(VECTORS)
