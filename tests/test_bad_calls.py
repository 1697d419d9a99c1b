"""Wrong values in the place of every argument of every public function, from its signature; and in the call."""

import importlib.util

import jax
import numpy as np
import pytest

import jaxplain
from shared.bad_calls import BAD, KEY, LABELS, PICTURES, ROWS, VECTOR, VECTOR_PARAMS, VECTORS, dense, fault, publics

NEEDED = {"skimage": ("image_regions", "baseline.superpixels"), "pandas": ("data.table",)}
WITHOUT = [name for package, names in NEEDED.items() if not importlib.util.find_spec(package) for name in names]
EVERY = [public for public in publics() if public.full not in WITHOUT]
SPACES = sorted({public.space for public in EVERY})
ARGUMENTS = 1100
"""At least so many arguments of public functions there are."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Texts and functions are tried as paths, too."""
    monkeypatch.chdir(tmp_path)


def test_every_public_function_is_swept():
    assert len(EVERY) >= 285
    assert sum(len(public.parameters) for public in EVERY) >= ARGUMENTS
    assert not [public.full for public in EVERY if public.space not in SPACES]


# What is refused at once, for every function: a sample that compiles nothing.
SAMPLE = {
    "bool": ("text", "fraction", "object", "none"),
    "int": ("text", "fraction", "complex", "dictionary"),
    "float": ("text", "ragged list", "nan", "object"),
    "str": ("negative", "object", "array of objects"),
    "Callable[..., Any]": ("none", "text", "empty array"),
    "Array": ("none", "text", "dictionary", "fraction"),
    "Arrays": ("text", "array of objects", "object", "ragged list"),
}


def test_a_sample_of_bad_calls():
    tried, found = 0, {}
    for public in EVERY:
        for parameter in public.parameters:
            for kind in SAMPLE.get(public.function.__annotations__.get(parameter, ""), ()):
                if parameter == "params" or (kind == "nan" and parameter == "floor"):
                    continue
                tried += 1
                said = fault(public, parameter, kind)
                if said:
                    found[public.full, parameter, kind] = said
    assert found == {}
    assert tried > 2000


@pytest.mark.slow
@pytest.mark.parametrize("public", EVERY, ids=[public.full for public in EVERY])
def test_every_bad_call_is_told_or_answered(public):
    found = {(p, kind): said for p in public.parameters for kind in BAD if (said := fault(public, p, kind))}
    assert found == {}


F, CNN, GRADIENT = VECTORS.f, PICTURES.f, jaxplain.gradient(VECTORS.f)
NOISY = jaxplain.smoothgrad(GRADIENT, sigma=0.1)
NAMES = np.array(["a", "b", "c"])
AXES = [
    *("ablation_cam", "class_activation_map", "conductance", "eigen_cam", "eigen_grad_cam", "grad_cam", "layer_cam"),
    *("grad_cam_plus_plus", "guided_grad_cam", "hires_cam", "internal_influence", "score_cam", "xgrad_cam"),
    *("activation_patching", "attribution_patching", "capture", "split"),
]
E = jaxplain.evaluate
TRAIN = jaxplain.train
CALLS = {
    **{
        name: (lambda name=name: getattr(jaxplain, name)(CNN, "conv", batch_axis="bogus"), "`batch_axis`")
        for name in AXES
    },
    "intervene": (lambda: jaxplain.intervene(CNN, {"conv": lambda h: h}, batch_axis="bogus"), "`batch_axis`"),
    "a target as text": (lambda: GRADIENT(VECTOR, "1"), "logit: the `target` is '1'"),
    "a target as text in a batch": (lambda: jaxplain.explain_batch(GRADIENT, ROWS, "1"), "argument 1 after `x` is '1'"),
    "a target as text of lrp": (lambda: jaxplain.lrp(F, jaxplain.relevance.epsilon())(VECTOR, "1"), "`target` is '1'"),
    "a target as an object": (lambda: F(VECTOR, object()), "the `target` is <object"),
    "labels as text": (
        lambda: jaxplain.explain_batch(GRADIENT, ROWS, NAMES),
        "labels that are texts have to be numbered",
    ),
    "labels as texts": (lambda: jaxplain.explain_batch(GRADIENT, ROWS, ["a", "b", "c"]), "labels that are texts"),
    "labels as text of a metric": (lambda: E.evaluate_batch(E.deletion(F), ROWS, ROWS, NAMES), "labels that are texts"),
    "labels as text of a dataset": (
        lambda: jaxplain.explain_dataset(GRADIENT, (ROWS, NAMES), out="memory"),
        "an array of dtype <U1, not of numbers",
    ),
    "labels as text of training": (lambda: TRAIN.fit(dense, VECTOR_PARAMS, (ROWS, NAMES), key=KEY), "dtype <U1"),
    "a list as x": (lambda: GRADIENT([0.1, 0.2, 0.3, 0.4], 1), "gradient: `x.*` is a list of numbers"),
    "a list as x of a score": (lambda: F([0.1, 0.2, 0.3, 0.4], 1), "logit: `x.*` is a list of numbers"),
    "a list as x of a batch": (
        lambda: jaxplain.explain_batch(GRADIENT, ROWS.tolist(), 1),
        "explain_batch: `x` has to be",
    ),
    "a ragged list as x": (lambda: jaxplain.explain_batch(GRADIENT, [[0.1], [0.2, 0.3]], 1), "explain_batch: `x` has"),
    "a list as x of layers": (
        lambda: jaxplain.layers(F)([0.1, 0.2, 0.3, 0.4], 1),
        "layers: `x.*` is a list of numbers",
    ),
    "None as x": (lambda: F(None, 1), "logit: `x` holds no arrays"),
    "no values as x": (
        lambda: GRADIENT(np.zeros(0, np.float32), 1),
        r"gradient: `x` is empty: it has the shape \(0,\)",
    ),
    "no values as x of a batch": (
        lambda: jaxplain.explain_batch(GRADIENT, np.zeros((3, 0), np.float32), 1),
        r"explain_batch: `x` is empty: it has the shape \(3, 0\)",
    ),
    "e is None": (lambda: jaxplain.explain_batch(None, ROWS, 1), "explain_batch: `e` has to be a function, not None"),
    "e is a text": (lambda: jaxplain.explain_batch("gradient", ROWS, 1), "`e` has to be a function, not 'gradient'"),
    "e of a dataset": (lambda: jaxplain.explain_dataset(None, ROWS), "explain_dataset: `e` has to be a function"),
    "e of a wrapper": (lambda: jaxplain.smoothgrad("gradient", sigma=0.1), "smoothgrad: `e` has to be a function"),
    "no key for training": (
        lambda: TRAIN.fit(dense, VECTOR_PARAMS, (ROWS, LABELS), key=None),
        "fit: `key` has to be a key",
    ),
    "a loss by name": (
        lambda: TRAIN.fit(dense, VECTOR_PARAMS, (ROWS, LABELS), key=KEY, loss="ce"),
        "fit: `loss` has to be a function, not 'ce'",
    ),
    "targeted": (lambda: jaxplain.fgsm(F, epsilon=0.1, targeted="yes"), "fgsm: `targeted` has to be True or False"),
    "preserve": (lambda: jaxplain.extremal_perturbation(F, preserve="yes"), "`preserve` has to be True or False"),
    "mask": (lambda: jaxplain.fgsm(F, epsilon=0.1, mask=-1.0), r"fgsm: `mask` holds values outside of \[0, 1\]"),
    "mask of pgd": (lambda: jaxplain.pgd(F, epsilon=0.1, step_size=0.1, mask=2.0), "pgd: `mask` holds values outside"),
    "mask of counterfactual": (lambda: jaxplain.counterfactual(F, mask=-1.0), "counterfactual: `mask` holds values"),
    "cells": (
        lambda: jaxplain.rise(F, cells=1.5),
        "rise: `cells` has to be a whole number or a tuple of whole numbers",
    ),
    "cells of a tuple": (lambda: jaxplain.rise(F, cells=(1.5, 2)), "rise: `cells` has to be"),
    "no key at the call": (lambda: NOISY(None, VECTOR, 1), "smoothgrad: it is random and needs a key first"),
    "a number as a key": (
        lambda: jaxplain.explain_batch(NOISY, ROWS, 1, key=0),
        "explain_batch: `key` has to be a key",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call_is_told_in_the_terms_of_the_caller_before_compute(name, monkeypatch):
    bad, words = CALLS[name]
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)  # nothing is compiled
    with pytest.raises((TypeError, ValueError), match=words):
        bad()
