"""Wrong values for every argument of every public function, made from its signature, and what may come of them.

A case takes a call that works, puts one wrong value in the place of one argument, and uses what comes out. Allowed are
a `ValueError` or `TypeError` that names the argument, and a result without NaN.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as Picture
from safetensors.numpy import save_file

import jaxplain
from jaxplain.program import needs_key
from shared.attending import blocks, weights
from shared.torch_files import STREAM, unpacked

SPACES = (
    "",
    "evaluate",
    "baseline",
    "aggregate",
    "data",
    "models",
    "train",
    "plot",
    "report",
    "relevance",
    "pattern",
    "image",
    "objective",
    "transform",
    "regulariser",
    "language",
    "genomics",
    "vision",
)

BAD = {
    "none": lambda: None,
    "text": lambda: "bogus",
    "number as text": lambda: "1",
    "negative": lambda: -1,
    "fraction": lambda: 1.5,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "true": lambda: True,
    "complex": lambda: 1j,
    "empty list": lambda: [],
    "ragged list": lambda: [[1.0, 2.0], [3.0]],
    "nested list": lambda: [[[0.5]]],
    "empty array": lambda: np.zeros(0, np.float32),
    "wrong shape": lambda: np.ones((2, 3, 5), np.float32),
    "array of objects": lambda: np.array([None, "a"], object),
    "object": lambda: object(),
    "dictionary": lambda: {"a": 1},
    "function": lambda: lambda *_, **__: None,
}
"""Made anew for each case."""


def convolutional(params: Any, x: Any) -> Any:
    """A batch-first image model with a layer that has a name."""
    with jax.named_scope("conv"):
        h = jax.nn.relu(
            jax.lax.conv_general_dilated(x, params["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )
    return h.mean(axis=(1, 2)) @ params["w"] + x.mean(axis=(1, 2, 3))[:, None]


def dense(params: Any, x: Any) -> Any:
    """A batch-first model of a vector."""
    with jax.named_scope("hidden"):
        h = jnp.tanh(x @ params["first"])
    return h @ params["second"]


def rectified(x: Any, *_: Any) -> Any:
    """A score of a vector, of dense layers with a ReLU between them."""
    return jax.nn.relu(jnp.asarray(x) @ VECTOR_PARAMS["first"]) @ VECTOR_PARAMS["second"][:, 0]


PACKAGE = str(Path(jaxplain.__file__).parent)
KEY = jax.random.key(0)
IMAGE = np.asarray(jax.random.uniform(jax.random.key(1), (6, 6, 1)))
VECTOR = np.asarray(jax.random.normal(jax.random.key(2), (4,)))
IMAGE_PARAMS = {
    "k": jax.random.normal(jax.random.key(3), (3, 3, 1, 2)),
    "w": jax.random.normal(jax.random.key(4), (2, 3)),
}
VECTOR_PARAMS = {
    "first": jax.random.normal(jax.random.key(5), (4, 5)),
    "second": jax.random.normal(jax.random.key(6), (5, 3)),
}


@dataclass(frozen=True)
class World:
    """A model and an input of it."""

    apply: Any
    params: Any
    x: Any
    layer: str
    target: int = 1

    @property
    def f(self) -> Any:
        """Its score."""
        return jaxplain.logit(self.apply, self.params)

    @property
    def rows(self) -> Any:
        """A few inputs."""
        return np.stack([0.5 * self.x, 0.1 + self.x, self.x])

    def call(self, e: Any) -> Any:
        """An explanation, of the world's input."""
        return e(*([KEY] if needs_key(e) else []), self.x, self.target)


PICTURES = World(convolutional, IMAGE_PARAMS, IMAGE, "conv")
VECTORS = World(dense, VECTOR_PARAMS, VECTOR, "hidden")


GRADIENT = jaxplain.gradient
ROWS = VECTORS.rows
PENALTIES = (
    *("adversarial_loss", "attribution_prior", "cam_guidance", "explanation_consistency", "explanation_distillation"),
    *("occlusion_penalty", "right_for_the_right_reasons"),
)
LANDSCAPES = (
    *("interpolation", "loss_surface", "mode_connectivity", "plane_through", "principal_plane", "random_plane"),
    "sharpness",
)
HALVES = np.array([0, 0, 1, 1])
SQUARE = np.arange(36).reshape(6, 6, 1) // 12
MASK = np.arange(36).reshape(6, 6) < 9
HISTORY = jaxplain.train.History(
    np.linspace(1.0, 0.1, 6), np.linspace(0.5, 0.9, 6), np.ones(6), np.linspace(1.1, 0.3, 6), np.linspace(0.5, 0.8, 6)
)
LAYERS = jaxplain.train.LayerHistory(
    *(np.ones((6, 2)), np.full((6, 2), 1e-3), np.ones((6, 2)), np.zeros((6, 2))),
    *(("a", "b"), (4, 4), (2, 2), (True, True)),
)
RUNS = np.linspace(1.0, 0.1, 6) * np.ones((2, 3, 1))
SWEEP = jaxplain.train.Sweep({"learning_rate": np.array([0.1, 0.2])}, jaxplain.train.History(RUNS, RUNS, RUNS))
PIXELS = jaxplain.image.pixels((6, 6, 1))


class Axes(jaxplain.concept.Dictionary):
    """Coordinates as concepts."""

    atoms: Any

    def encode(self, h: Any) -> Any:
        """The coordinates along the atoms."""
        return h @ self.atoms.T


SNAPSHOTS = jaxplain.train.Snapshots(
    np.array([0, 5, 9]), jax.tree.map(lambda leaf: jnp.stack([0.1 * leaf, 0.5 * leaf, leaf]), VECTOR_PARAMS)
)
RIGHT = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]], bool)
DYNAMICS = jaxplain.train.LearningDynamics(SNAPSHOTS.steps, 1.0 - RIGHT, 1 * RIGHT, RIGHT)
DEPTHS = jaxplain.train.PredictionDepth(np.arange(4) % 3, 1 * RIGHT[2], 1 * RIGHT[:2], ("input", "output"))
OVER_TRAINING = {"attributions": lambda w: np.ones((3, 3, 6, 6)) - 0.5, "steps": lambda w: [0, 5, 9]}
CLUSTERS = {
    "clusters": lambda w: _clusters(),
    "inputs": lambda w: np.ones((12, 6, 6, 1)),
    "labels": lambda w: None,
    "k": lambda w: 1,
}
DASHBOARD = {
    "dictionary": lambda w: Axes(np.eye(4, dtype=np.float32)),
    "activations": lambda w: ROWS,
    "inputs": lambda w: IMAGES[: len(ROWS)],
    "features": lambda w: [0, 1],
    "visualizations": lambda w: None,
    "logits": lambda w: None,
    "names": lambda w: None,
    "k": lambda w: 1,
}

SURFACE = {
    "surface": lambda w: jaxplain.train.Surface(np.arange(3.0), np.arange(2.0), np.arange(6.0).reshape(2, 3)),
    "path": lambda w: None,
}
ON_PICTURES = {
    *("ablation_cam", "accentuate", "activation_grid", "activation_maximization", "class_activation_map"),
    *("deconv_view", "deep_dream", "eigen_cam", "eigen_grad_cam", "extremal_perturbation", "feature_inversion"),
    *("full_grad", "grad_cam", "grad_cam_plus_plus", "guided_backprop", "guided_grad_cam", "hires_cam"),
    *("layer_cam", "receptive_field", "score_cam", "xgrad_cam", "xrai", "deconvnet", "excitation_backprop"),
    *(
        "evaluate.region_perturbation",
        "evaluate.road",
        "evaluate.road_curve",
        "evaluate.selectivity",
        "evaluate.continuity",
    ),
    *("evaluate.pointing_game", "evaluate.attribution_localization", "evaluate.focus", "evaluate.top_k_intersection"),
    "evaluate.earth_movers_distance",
    *("evaluate.relevance_mass_accuracy", "evaluate.relevance_rank_accuracy", "evaluate.roc_auc"),
    *("aggregate.activation_atlas", "aggregate.top_activations", "aggregate.unit_activity"),
    *("objective.caricature", "objective.channel", "objective.deep_dream", "objective.direction"),
    *("objective.diversity", "objective.inversion", "objective.neuron", "objective.position", "objective.reading"),
    *("objective.style", "objective.score", "objective.each", "objective.negative", "objective.interpolation"),
    *("baseline.blur", "baseline.noisy_linear_imputation", "blur_integrated_gradients"),
}
"""Functions that are for images or layers of them; the others are called with a vector."""

CHEAP = {"steps": 3, "samples": 4, "max_steps": 8, "redirect": 1}
"""Good values of settings that a call is faster with."""


def good(space: str, name: str, parameter: inspect.Parameter, world: World) -> Any:
    """A value that works for an argument that has to be given."""
    for table in (SPECIAL.get(f"{space}.{name}" if space else name, {}), SPECIAL.get(f"{space}.", {})):
        if parameter.name in table:
            return table[parameter.name](world)
    if parameter.default is not inspect.Parameter.empty:
        return CHEAP.get(parameter.name, parameter.default)
    return GENERAL[parameter.name](world)


GENERAL: dict[str, Callable[[World], Any]] = {
    "f": lambda world: world.f,
    "g": lambda world: world.f,
    "e": lambda world: GRADIENT(world.f),
    "method": lambda world: GRADIENT,
    "apply": lambda world: world.apply,
    "params": lambda world: world.params,
    "layer": lambda world: world.layer,
    "path": lambda world: world.layer,
    "key": lambda world: KEY,
    "x": lambda world: world.rows,
    "attribution": lambda world: world.rows,
    "baseline": lambda world: world.rows,
    "data": lambda world: world.rows,
    "inputs": lambda world: world.rows,
    "sigma": lambda world: 0.1,
    "radius": lambda world: 0.1,
    "window": lambda world: 2 if world is PICTURES else 1,
    "epsilon": lambda world: 0.1,
    "step_size": lambda world: 0.05,
    "groups": lambda world: SQUARE if world is PICTURES else HALVES,
    "image": lambda world: PIXELS,
    "objective": lambda world: jaxplain.objective.channel(world.f, world.layer, 0),
    "rule": lambda world: jaxplain.relevance.epsilon(),
    "outputs": lambda world: world.f,
    "representation": lambda world: lambda x, *_: x,
    "make": lambda world: lambda params: GRADIENT(jaxplain.logit(world.apply, params)),
    "swap": lambda world: lambda x: x,
    "classes": lambda world: 3,
    "shape": lambda world: (6, 6, 1),
    "weight": lambda world: 0.1,
    "size": lambda world: 4,
    "low": lambda world: 0.0,
    "high": lambda world: 1.0,
}
"""Good values of arguments that have to be given."""


def files(name: str) -> Path:
    """A file or folder of a kind, made once."""
    if not _FILES:
        folder = Path(tempfile.mkdtemp())
        (folder / "images" / "cat").mkdir(parents=True)
        Picture.new("L", (6, 4), 255).save(folder / "images" / "cat" / "1.png")
        np.savez(folder / "set.npz", inputs=ROWS, targets=np.arange(3))
        (folder / "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        idx = folder / "idx"
        idx.mkdir()
        (idx / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 0]))
        head = bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2])
        (idx / "t10k-images-idx3-ubyte").write_bytes(head + bytes([0, 255, 51, 0, 0, 0]))
        cifar = folder / "cifar"
        cifar.mkdir()
        for part in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            (cifar / part).write_bytes(bytes(3073 * 2))
        run = jaxplain.explain_dataset(
            GRADIENT(lambda x: (x**2).sum()), ROWS, batch_size=2, out=folder / "run", progress=False
        )
        assert run is not None
        save_file({"a": np.ones(2, np.float32)}, str(folder / "weights.safetensors"))
        (folder / "weights.pth").write_bytes(unpacked(STREAM))
        jaxplain.train.save(folder / "checkpoint", {"a": jnp.ones(2)})
        _FILES["folder"] = folder
    return _FILES["folder"] / name


_FILES: dict[str, Path] = {}


def fresh(name: str) -> Path:
    """A path where nothing is, for one case."""
    return Path(tempfile.mkdtemp(dir=files("."))) / name


OUTPUTS = np.array([0.5, -1.0, 2.0], np.float32)
ATOM = {"a": np.linspace(0.0, 1.0, 5), "random": np.linspace(0.0, 0.5, 5)}
SCORES = {"a": {"d": np.array([0.1, 0.4, 0.2])}, "random": {"d": np.array([0.3, 0.5, 0.1])}}
IMAGES = PICTURES.rows
LABELS = np.array([0, 1, 1])

WORDS = np.array([1, 2, 0], np.int32)
BLOCK = weights(jax.random.key(0), 1, 4, 2, 5)
SEQUENCE = np.asarray(jax.random.normal(jax.random.key(7), (3, 4)))
EDGES = (("input", "a"), ("input", "output"), ("a", "output"))
INSIDE = {"f": lambda w: attended, "sites": lambda w: "block_0/mlp", "path": lambda w: "block_0/mlp"}


def attended(x: Any) -> Any:
    """A score of a sequence, by attention and a perceptron around a residual stream."""
    return jnp.tanh(blocks(x, BLOCK, 2)[-1]).sum()


ROWS_OF_WORDS = np.asarray(jax.random.normal(KEY, (4, 4)))


def speaks(table: Any, ids: Any) -> Any:
    """A model of token ids: each position from itself."""
    return jnp.asarray(table)[ids]


def likely(x: Any) -> Any:
    """A log-probability of token ids."""
    return jax.nn.log_sigmoid(jnp.asarray(ROWS_OF_WORDS)[x].sum())


SPECIAL: dict[str, dict[str, Callable[[World], Any]]] = {
    "language.": {"apply": lambda w: speaks, "params": lambda w: ROWS_OF_WORDS},
    **{
        f"language.{name}": INSIDE
        for name in (
            *(
                "ablation",
                "attention_flow",
                "attention_rollout",
                "attention_weights",
                "circuit_checks",
                "circuit_curve",
                "circuit_score",
                "detached",
            ),
            *("edge_attribution", "edge_patching", "edges", "gradient_rollout", "node_attribution", "node_patching"),
            *("site_attribution", "sweep", "value_weighted_norms"),
        )
    },
    "language.path_patching": {"f": lambda w: attended, "path": lambda w: ("input", "output")},
    "language.lens": {"f": lambda w: attended, "paths": lambda w: "block_?"},
    "language.circuit_areas": {
        "curve": lambda w: [0.0, 0.5, 1.0],
        "whole": lambda w: 1.0,
        "fractions": lambda w: (0.5, 1),
    },
    "language.circuit_graph": {"edges": lambda w: EDGES, "kept": lambda w: [True, False, True]},
    "language.greedy_circuit": {"edges": lambda w: EDGES, "scores": lambda w: [1.0, 2.0, 3.0], "count": lambda w: 2},
    "language.threshold_circuit": {"edges": lambda w: EDGES, "scores": lambda w: [1.0, 2.0, 3.0], "count": lambda w: 2},
    "train.tuned_lens": {
        "f": lambda w: lambda x: blocks(x, BLOCK * 2, 2),
        "paths": lambda w: "block_?",
        "rows": lambda w: np.stack([SEQUENCE, 2 * SEQUENCE]),
        "epochs": lambda w: 1,
    },
    "language.context_cite": {"f": lambda w: likely, "groups": lambda w: None, "samples": lambda w: 4},
    "language.explain_generation": {
        "f": lambda w: jaxplain.language.token_logit(speaks, ROWS_OF_WORDS),
        "prompt": lambda w: [1, 2],
        "continuation": lambda w: [0, 3],
        "groups": lambda w: None,
        "key": lambda w: None,
    },
    "language.segments": {"text": lambda w: "a b", "offsets": lambda w: [(0, 1), (2, 3)]},
    "plot.concept_gallery": {"crops": lambda w: np.zeros((2, 3, 4, 4)), "importance": lambda w: [0.1, 0.7]},
    "plot.token_map": {
        "targets": lambda w: ["a"],
        "sources": lambda w: ["b", "c", "d"],
        "attributions": lambda w: OUTPUTS[None],
    },
    "accentuate": {"image": lambda w: PIXELS},
    "activation_grid": {"image": lambda w: PIXELS},
    "deep_dream": {"octaves": lambda w: 1},
    "black_box": {"predict": lambda w: lambda rows: np.stack([rows[:, 0]] * 3, axis=1)},
    "explain_batch": {"x": lambda w: w.rows},
    "explain_dataset": {
        "e": lambda w: GRADIENT(lambda x: (x**2).sum()),
        "out": lambda w: "memory",
        "progress": lambda w: False,
        "batch_size": lambda w: 2,
    },
    "extremal_perturbation": {"spacing": lambda w: (3, 3)},
    "fast_layout": {"f": lambda w: lambda x, *_: x},
    "feature_inversion": {"image": lambda w: PIXELS},
    "from_nnx": {"model": lambda w: _nnx()},
    "image_regions": {"image": lambda w: IMAGE, "scales": lambda w: (1.0,), "least": lambda w: 2},
    "intervene": {"changes": lambda w: {w.layer: lambda h: 0 * h}},
    "audit": {"e": lambda w: jaxplain.lrp(w.f, jaxplain.relevance.epsilon())},
    "open_explanations": {"path": lambda w: files("run")},
    "deep_lift": {"rule": lambda w: "rescale"},
    "deep_shap": {"rule": lambda w: "rescale"},
    "feature_permutation": {"samples": lambda w: 2},
    "relevance_balance": {"rule": lambda w: jaxplain.relevance.epsilon()},
    "excitation_backprop": {},
    "kernel_shap": {"samples": lambda w: 16},
    "lime": {"samples": lambda w: 16},
    "rise": {"cells": lambda w: 2},
    "xrai": {"regions": lambda w: np.stack([SQUARE[..., 0] == k for k in range(3)])},
    "evaluate.compare": {
        "methods": lambda w: {"gradient": GRADIENT},
        "metrics": lambda w: {"deletion": jaxplain.evaluate.deletion},
        "data": lambda w: (w.rows, LABELS),
    },
    "evaluate.compare_models": {
        "method": lambda w: GRADIENT,
        "models": lambda w: [(w.apply, w.params), (w.apply, jax.tree.map(lambda v: 2 * v, w.params))],
        "data": lambda w: (w.rows, LABELS),
        "top": lambda w: 2,
        "key": lambda w: None,
        "score": lambda w: jaxplain.logit,
    },
    "evaluate.consistency": {"features": lambda w: 2},
    **{
        f"evaluate.{name}": {"steps": lambda w: None}
        for name in ("deletion", "deletion_curve", "insertion", "insertion_curve", "monotonicity", "pixel_flipping")
    },
    "evaluate.evaluate_batch": {
        "m": lambda w: jaxplain.evaluate.deletion(w.f),
        "attribution": lambda w: w.rows,
    },
    "evaluate.frechet_bootstrap": {"one": lambda w: np.eye(5, 2), "other": lambda w: np.ones((4, 2)) + np.eye(4, 2)},
    "evaluate.frechet_distance": {"one": lambda w: np.eye(5, 2), "other": lambda w: np.ones((4, 2)) + np.eye(4, 2)},
    "evaluate.input_invariance": {"shift": lambda w: 0.1},
    "evaluate.f_fidelity": {"fraction": lambda w: 0.5},
    "evaluate.mechanism_table": {"methods": lambda w: {"gradient": GRADIENT}, "samples": lambda w: 2},
    "evaluate.mechanisms": {"samples": lambda w: 2},
    "evaluate.remove_and_retrain": {
        "train_and_test": lambda w: lambda key, data, test: data[0].mean() - test[0].mean(),
        "data": lambda w: (w.rows, LABELS),
        "test": lambda w: (w.rows, LABELS),
        "attributions": lambda w: {"a": (w.rows, w.rows)},
        "fractions": lambda w: (0.5,),
        "baseline": lambda w: None,
    },
    **{  # a score that is higher at x than at any constant, without which they are undefined
        f"evaluate.soft_{name}": {"fractions": lambda w: (0.3,), "f": lambda w: lambda x, target: x @ VECTOR}
        for name in ("sufficiency", "comprehensiveness")
    },
    "evaluate.symmetric_relevance_gain": {"steps": lambda w: None},
    "evaluate.mosaic": {"images": lambda w: np.ones((4, 2, 2, 1)), "target": lambda w: np.array([1, 0, 0, 1], bool)},
    "evaluate.paired_difference": {"scores": lambda w: OUTPUTS, "control": lambda w: OUTPUTS + 0.5},
    "evaluate.pearson": {"a": lambda w: OUTPUTS, "b": lambda w: OUTPUTS**2},
    "evaluate.spearman": {"a": lambda w: OUTPUTS, "b": lambda w: OUTPUTS**2},
    "evaluate.structural_similarity": {
        "a": lambda w: IMAGE[..., 0],
        "b": lambda w: IMAGE[..., 0] ** 2,
        "window": lambda w: 3,
        "data_range": lambda w: 1.0,
    },
    "evaluate.relative_representation_stability": {"outputs": lambda w: None},
    "evaluate.relative_input_stability": {"outputs": lambda w: None},
    "evaluate.road": {"fractions": lambda w: (0.3, 0.6)},
    "evaluate.road_curve": {"fractions": lambda w: (0.3, 0.6)},
    "evaluate.score_table": {
        "attributions": lambda w: {"a": w.rows},
        "metrics": lambda w: {"d": jaxplain.evaluate.sparseness()},
    },
    "evaluate.sufficiency": {"threshold": lambda w: 9.0},
    "evaluate.top_k_intersection": {"k": lambda w: 3},
    "evaluate.effective_complexity": {"f": lambda w: w.f},
    "evaluate.mu_fidelity": {"fraction": lambda w: 0.5},
    "evaluate.sensitivity_n": {"sizes": lambda w: (1, 2)},
    "evaluate.sensitivity_n_curve": {"sizes": lambda w: (1, 2)},
    "baseline.as_baseline": {"baseline": lambda w: 0.5},
    "baseline.as_groups": {"name": lambda w: "name"},
    "baseline.attribution_leaves": {"attribution": lambda w: w.x, "x": lambda w: w.x, "name": lambda w: "name"},
    "baseline.blur": {"sigma": lambda w: 1.0},
    "baseline.imputed": {"x": lambda w: IMAGE, "missing": lambda w: IMAGE > 0.5},
    "baseline.linear_imputation": {"x": lambda w: IMAGE, "missing": lambda w: IMAGE > 0.5},
    "baseline.noisy_linear_imputation": {"missing": lambda w: IMAGE > 0.5},
    "baseline.nearest_counter_class": {"labels": lambda w: LABELS, "label": lambda w: 1},
    "baseline.superpixels": {"image": lambda w: IMAGE, "segments": lambda w: 3},
    "baseline.is_background": {"value": lambda w: w.rows, "x": lambda w: w.x},
    "baseline.resolve": {
        "baseline": lambda w: 0.0,
        "x": lambda w: w.x,
        "name": lambda w: "name",
        "key": lambda w: None,
    },
    "baseline.uniform_noise": {"low": lambda w: -1.0, "high": lambda w: 1.0},
    "baseline.warn_where_equal": {"baseline": lambda w: [1.0], "x": lambda w: w.x, "name": lambda w: "name"},
    "aggregate.": {"feature": lambda w: 1},
    "aggregate.aggregate_batches": {
        "aggregator": lambda w: jaxplain.aggregate.moments(),
        "batches": lambda w: [{"attribution": ROWS}],
    },
    "aggregate.combine": {},
    "aggregate.activation_atlas": {
        "grid": lambda w: 2,
        "least": lambda w: 1,
        "inputs": lambda w: np.repeat(w.rows, 4, 0),
    },
    "aggregate.top_activations": {"k": lambda w: 2},
    "aggregate.top_k": {"k": lambda w: 2},
    "data.": {"examples": lambda w: 8},
    "data.by_variable": {"attributions": lambda w: w.rows, "groups": lambda w: ["a", "a", "b", "b"]},
    "data.table": {"df": lambda w: _frame()},
    "data.batch_indices": {"count": lambda w: 5, "batch_size": lambda w: 2},
    "data.batches": {"data": lambda w: (w.rows, LABELS), "batch_size": lambda w: 2},
    "data.common_length": {"parts": lambda w: {"a": w.rows}, "name": lambda w: "name"},
    "data.load_cifar10": {"path": lambda w: files("cifar")},
    "data.load_idx_folder": {"path": lambda w: files("idx"), "test": lambda w: 1},
    "data.load_image_folder": {"path": lambda w: files("images")},
    "data.load_npz": {"path": lambda w: files("set.npz")},
    "data.tetrominoes": {
        "scenario": lambda w: "xor",
        "background": lambda w: "white",
        "size": lambda w: 8,
        "signal": lambda w: 0.5,
        "examples": lambda w: 4,
    },
    "pattern.": {"f": lambda w: rectified, "patterns": lambda w: jaxplain.pattern.estimate_patterns(rectified, ROWS)},
    "data.planted_patches": {"size": lambda w: (16, 16)},
    "data.read_cifar10": {"path": lambda w: files("cifar") / "test_batch.bin"},
    "data.read_idx": {"path": lambda w: files("labels")},
    "data.standardize": {"splits": lambda w: jaxplain.data.Splits(*[jaxplain.data.Dataset(ROWS, LABELS)] * 2)},
    "models.": {"outputs": lambda w: 3},
    "models.from_nnx": {"model": lambda w: _nnx()},
    "models.load_torch": {"path": lambda w: files("weights.pth")},
    "models.load_safetensors": {
        "path": lambda w: files("weights.safetensors"),
        "params": lambda w: {"a": jnp.ones(2)},
        "names": lambda w: {"a": "a"},
    },
    "models.transformer": {"patch": lambda w: 2, "width": lambda w: 8, "heads": lambda w: 2, "depth": lambda w: 1},
    "models.resnet": {"widths": lambda w: (4,), "depth": lambda w: 1},
    "models.cnn": {"widths": lambda w: (4,), "dense": lambda w: 4},
    "train.": {"data": lambda w: (w.rows, LABELS), "batch_size": lambda w: 3, "epochs": lambda w: 2},
    "train.predict": {"inputs": lambda w: w.rows},
    "train.binary_cross_entropy": {"outputs": lambda w: OUTPUTS, "target": lambda w: np.array([0, 1, 1])},
    "train.cross_entropy": {"outputs": lambda w: OUTPUTS, "target": lambda w: 1},
    "train.squared_error": {"outputs": lambda w: OUTPUTS, "target": lambda w: OUTPUTS + 1},
    "train.diagnose": {"history": lambda w: HISTORY},
    "train.eval_step": {"batch": lambda w: (w.rows, LABELS)},
    "train.train_step": {
        "batch": lambda w: (w.rows, LABELS),
        "state": lambda w: jaxplain.train.init(w.apply, w.params, key=KEY),
    },
    "train.fit": {"progress": lambda w: False},
    "train.hyperparameter_sweep": {"settings": lambda w: {"learning_rate": [0.1, 0.2]}},
    **{
        f"train.{name}": {
            "method": lambda w: lambda params: GRADIENT(jaxplain.logit(w.apply, params)),
            "mask": lambda w: np.ones(4),
            "region": lambda w: np.ones(4),
            "transform": lambda w: lambda key, x: x[::-1],
            "teacher": lambda w: GRADIENT(w.f),
            "attack": lambda w: lambda params: jaxplain.fgsm(jaxplain.loss(w.apply, params), epsilon=0.1),
            "score": lambda w: lambda params: jaxplain.loss(w.apply, params),
        }
        for name in PENALTIES
    },
    **{
        f"train.{name}": {
            "objective": lambda w: _mean_loss(w),
            "path": lambda w: jax.tree.map(lambda leaf: jnp.stack([leaf, leaf**2, 0 * leaf, leaf]), w.params),
            "plane": lambda w: jaxplain.train.random_plane(_mean_loss(w), w.params, key=KEY),
            "first": lambda w: w.params,
            "second": lambda w: jax.tree.map(lambda leaf: 2 * leaf, w.params),
            "third": lambda w: jax.tree.map(jnp.square, w.params),
            "x": lambda w: np.array([-1.0, 1.0]),
            "y": lambda w: np.array([-1.0, 1.0]),
            "points": lambda w: 3,
        }
        for name in LANDSCAPES
    },
    "train.explain_over": {
        "method": lambda w: lambda params: GRADIENT(jaxplain.logit(w.apply, params)),
        "snapshots": lambda w: SNAPSHOTS,
        "batch_size": lambda w: 1,
    },
    "train.explanation_drift": {"attributions": lambda w: ROWS},
    "train.forgetting_events": {"right": lambda w: ROWS > 0},
    "train.learning_dynamics": {"snapshots": lambda w: SNAPSHOTS},
    "train.prediction_depth": {"paths": lambda w: w.layer, "neighbours": lambda w: 1},
    "plot.attribution_animation": OVER_TRAINING,
    "plot.attribution_strip": OVER_TRAINING,
    "plot.drift_curves": {"drift": lambda w: [[0.1, 0.5, 1.0]], "steps": lambda w: [0, 5, 9]},
    "plot.example_dynamics": {"dynamics": lambda w: DYNAMICS},
    "plot.lens_over_training": {
        "outputs": lambda w: {"block_0": np.ones((3, 4)), "block_1": np.eye(3, 4)},
        "steps": lambda w: [0, 5, 9],
    },
    "plot.prediction_depths": {"found": lambda w: DEPTHS},
    "report.learning_dynamics_section": {
        "dynamics": lambda w: DYNAMICS,
        "inputs": lambda w: None,
        "attributions": lambda w: None,
        "labels": lambda w: None,
    },
    "train.load": {"path": lambda w: files("checkpoint"), "like": lambda w: {"a": jnp.ones(2)}},
    "train.save": {"path": lambda w: fresh("saved"), "tree": lambda w: {"a": jnp.ones(2)}},
    "plot.": {"inputs": lambda w: IMAGES, "attributions": lambda w: IMAGES - 0.5, "labels": lambda w: LABELS},
    "plot.activation_atlas": {"atlas": lambda w: _atlas()},
    "plot.activations": {"values": lambda w: {"conv": np.ones((4, 4, 8)), "dense": np.ones(10)}},
    "plot.activation_gallery": {"values": lambda w: OUTPUTS},
    "plot.attention_heads": {"weights": lambda w: {"block_0": np.full((2, 3, 3), 1 / 3)}},
    "plot.lens_table": {"outputs": lambda w: {"block_0": np.ones((3, 4)), "block_1": np.ones((3, 4))}},
    "plot.patching_map": {"effects": lambda w: np.ones((2, 3)) - 2.0},
    "plot.attribution_bar": {"attributions": lambda w: OUTPUTS},
    "plot.cohorts": {"attributions": lambda w: ROWS, "groups": lambda w: ["a", "b", "b"]},
    "plot.comparison": {"result": lambda w: _comparison()},
    "plot.confusion_matrix": {"predicted": lambda w: np.array([0, 0, 1])},
    "plot.curves": {"values": lambda w: ATOM},
    "plot.decision": {
        "attributions": lambda w: ROWS,
        "baseline_score": lambda w: 1.0,
        "values": lambda w: None,
        "labels": lambda w: None,
    },
    "plot.dependence": {"values": lambda w: ROWS, "attributions": lambda w: 2 * ROWS, "feature": lambda w: 1},
    "plot.effects": {
        "values": lambda w: {"age": SimpleNamespace(grid=np.array([1.0, 2.0]), score=np.array([0.0, 1.0]))}
    },
    "plot.attribution_clusters": CLUSTERS,
    "report.clusters_section": CLUSTERS,
    "plot.concept_scores": {"result": lambda w: _concepts()},
    "report.concept_section": {"result": lambda w: _concepts()},
    "plot.feature_dashboard": DASHBOARD,
    "plot.filters": {"kernel": lambda w: np.ones((3, 3, 1, 4))},
    "plot.force": {"attributions": lambda w: OUTPUTS, "baseline_score": lambda w: 1.0, "score": lambda w: 2.5},
    "plot.gradient_flow": {"history": lambda w: LAYERS},
    "plot.importance": {"values": lambda w: OUTPUTS, "error": lambda w: np.abs(OUTPUTS)},
    "plot.influential_examples": {
        "influence": lambda w: jaxplain.influence.Influence(np.eye(3)[:2], None, "score", True, "by hand", {}),
        "queries": lambda w: IMAGES[:2],
        "k": lambda w: 1,
    },
    "plot.layer_table": {"layers": lambda w: jaxplain.layers(VECTORS.f)(VECTOR, 1)},
    "plot.logo": {"attributions": lambda w: np.ones((2, 4)), "inputs": lambda w: None},
    "plot.loss_interpolation": {
        "values": lambda w: {"a": jaxplain.train.Interpolation(np.array([0.0, 1.0]), np.array([0.5, 0.2]), 0.0)}
    },
    "plot.loss_surface": SURFACE,
    "report.landscape_section": SURFACE,
    "plot.learning_curves": {"history": lambda w: HISTORY},
    "plot.parameter_histograms": {"params": lambda w: VECTOR_PARAMS},
    "plot.reading": {"figure": lambda w: jaxplain.plot.samples(IMAGES)},
    "plot.predictions": {"probabilities": lambda w: np.array([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]])},
    "plot.scores_table": {"scores": lambda w: SCORES},
    "plot.series": {"inputs": lambda w: VECTOR, "attributions": lambda w: 2 * VECTOR},
    "plot.sound": {
        "waveform": lambda w: np.resize(VECTOR, 90),
        "attributions": lambda w: np.ones((3, 4)),
        "rate": lambda w: 1000,
    },
    "plot.singular_values": {"spectra": lambda w: jaxplain.train.weight_spectra(VECTOR_PARAMS)},
    "plot.summary": {"values": lambda w: ROWS, "attributions": lambda w: 2 * ROWS},
    "plot.timings": {"times": lambda w: {"gradient": {"ours": (0.1, 0.09, 0.12), "peer": (0.2, 0.2, 0.3)}}},
    "plot.tokens": {
        "sequences": lambda w: ["a", "fine", "film"],
        "attributions": lambda w: OUTPUTS,
        "labels": lambda w: None,
    },
    "plot.tokens_html": {
        "sequences": lambda w: ["a", "fine", "film"],
        "attributions": lambda w: OUTPUTS,
        "labels": lambda w: None,
    },
    "plot.top_examples": {"values": lambda w: OUTPUTS, "labels": lambda w: None},
    "plot.traces": {
        "attributions": lambda w: {"value": [[0.5, -0.5], [1.0, 0.0]]},
        "scores": lambda w: {"value": [0.0, 1.0]},
        "inputs": lambda w: None,
    },
    "plot.unit_gallery": {"values": lambda w: OUTPUTS},
    "plot.validation_curve": {"sweep": lambda w: SWEEP},
    "plot.weight_matrices": {"params": lambda w: VECTOR_PARAMS},
    "plot.waterfall": {"attributions": lambda w: OUTPUTS, "baseline_score": lambda w: 1.0, "score": lambda w: 2.5},
    "report.dictionary_section": DASHBOARD,
    "report.influence_section": {
        "influence": lambda w: jaxplain.influence.Influence(np.eye(3)[:2], None, "score", True, "by hand", {}),
        "queries": lambda w: IMAGES[:2],
        "k": lambda w: 1,
        "inputs": lambda w: IMAGES,
    },
    "report.examples_section": {
        "inputs": lambda w: IMAGES,
        "attributions": lambda w: IMAGES - 0.5,
        "labels": lambda w: LABELS,
    },
    "report.training_section": {"history": lambda w: HISTORY},
    "report.report": {"path": lambda w: fresh("page.html"), "sections": lambda w: [("A", "text")]},
    "report.explanations_page": {
        "path": lambda w: fresh("page.html"),
        "explanations": lambda w: jaxplain.open_explanations(files("run")),
        "data": lambda w: None,
    },
    "image.": {"data": lambda w: np.asarray(jax.random.uniform(KEY, (4, 6, 6, 3)))},
    "image.colour_matrix": {"data": lambda w: np.asarray(jax.random.uniform(KEY, (20, 3)))},
    "image.alpha": {"image": lambda w: jaxplain.image.pixels((6, 6, 3))},
    "image.ball": {"center": lambda w: IMAGE, "radius": lambda w: 1.0, "low": lambda w: None, "high": lambda w: None},
    "image.batch": {"size": lambda w: 2},
    "image.start": {"x": lambda w: IMAGE},
    "image.shape_of": {"name": lambda w: "name"},
    "image.cppn": {"shape": lambda w: (6, 6, 3)},
    "image.vector": {"shape": lambda w: (4,)},
    "vision.": {"apply": lambda w: detecting, "cells": lambda w: 2},
    "vision.region_score": {
        "apply": lambda w: lambda params, x: (x @ params["first"])[:, :3].reshape(-1, 1, 1, 3) * jnp.ones((1, 2, 3, 1))
    },
    "genomics.": {"f": lambda w: _motif, "baseline": lambda w: 0.25},
    "objective.": {"x": lambda w: w.x, "vector": lambda w: np.ones(2, np.float32), "index": lambda w: 0},
    "objective.position": {"place": lambda w: (1, 2), "vector": lambda w: None},
    "objective.neuron": {"index": lambda w: (1, 2, 0)},
    "objective.style": {"paths": lambda w: w.layer},
    "objective.interpolation": {
        "one": lambda w: jaxplain.objective.channel(w.f, w.layer, 0),
        "other": lambda w: jaxplain.objective.channel(w.f, w.layer, 1),
        "alpha": lambda w: 0.5,
    },
    "transform.blur": {"high": lambda w: 1.0, "low": lambda w: 0.05},
    "transform.jitter": {"offset": lambda w: 1},
    "transform.pad": {"width": lambda w: 1},
    "transform.rotate": {"degrees": lambda w: 10.0},
    "transform.random_crop": {"low": lambda w: 0.25},
    "transform.scale": {"low": lambda w: 0.9, "high": lambda w: 1.1},
    "transform.noise": {"sigma": lambda w: 0.1},
}
"""Good values of one function's arguments, or of one space's (its name and a dot)."""

INTERNAL = {
    *("baseline.attribution_leaves", "baseline.is_background", "baseline.warn_where_equal", "baseline.resolve"),
    *("baseline.at_lookups", "baseline.rows_of", "baseline.tokens_alone"),
    *("baseline.feature_sums", "baseline.features", "baseline.merged", "baseline.replaced"),
    *("baseline.held", "baseline.like_rows", "baseline.refuse_where_moved", "baseline.replacement"),
    *("baseline.representable", "objective.picked", "objective.reading", "data.common_length"),
}
"""Listed for other folders of the package; their arguments are made by it."""


def _atlas() -> Any:
    return SimpleNamespace(images=np.zeros((1, 4, 4)), cells=np.array([[0, 1]]), counts=np.array([5]), grid=2)


def _comparison() -> Any:
    x = jnp.array([[1.0, 3.0, 2.0], [5.0, 2.0, 4.0]])
    metrics = {"deletion": jaxplain.evaluate.deletion}
    return jaxplain.evaluate.compare(lambda x: (x**2).sum(), {"gradient": GRADIENT}, metrics, (x,), KEY, samples=9)


@functools.cache
def _clusters() -> Any:
    maps = np.arange(12)[:, None, None] % 2 * np.eye(6) + 0.1 * np.random.default_rng(0).random((12, 6, 6))
    return jaxplain.concept.spray(maps, k=2, neighbours=3, key=KEY)


@functools.cache
def _concepts() -> Any:
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    found = jaxplain.concept.concept_vectors(rows, np.where(np.arange(20) < 4, 1, np.where(np.arange(20) < 8, -1, 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few random concepts
        return jaxplain.concept.tcav(lambda h: h[0] ** 2, found, rows, key=KEY, samples=19)


def _mean_loss(world: World) -> Any:
    return jaxplain.train.mean_loss(world.apply, world.params, (world.rows, LABELS))


def _frame() -> Any:
    return importlib.import_module("pandas").DataFrame({"area": [1.0, 2.0], "city": ["Ulm", "Bonn"]})


def _nnx() -> Any:
    from flax import nnx

    return nnx.Linear(4, 3, rngs=nnx.Rngs(0))


# How what comes out is used; without a word here it is looked at as it is.


def _explained(made: Any, world: World) -> Any:
    if inspect.isfunction(made) or isinstance(made, jaxplain.Function):
        return world.call(made)
    return made


def _measured(made: Any, world: World) -> Any:
    if not isinstance(made, jaxplain.Function):
        return made
    if getattr(made, "over_dataset", False):
        return made(world.rows, world.rows, LABELS)
    given = [KEY] if needs_key(made) else []
    given += [world.x] if getattr(made, "needs_input", True) else []
    given += [world.x] if getattr(made, "needs_attribution", True) else []
    if getattr(made, "needs_mask", False):
        return made(*given, MASK)
    return made(*given, *([world.target] if getattr(made, "needs_input", True) else []))


def _said(made: Any, world: World) -> Any:
    """A score of text, or what it rests on."""
    if not isinstance(made, jaxplain.Function):
        return made
    if made.name == "context_cite":
        return made(KEY, WORDS).weights
    if made.name == "sequence_log_probability":
        return made(WORDS, None, WORDS)
    token = {"contrastive": (1, 2), "kl_to": ROWS_OF_WORDS[0]}.get(made.name, 1)
    return made(WORDS, 1, token)


DNA = np.eye(4, dtype=np.float32)[[2, 0, 3, 3, 0, 1]]


def _motif(x: Any) -> Any:
    """A score of a sequence of letters."""
    return jnp.tanh((jnp.asarray(x) * ROWS_OF_WORDS[0]).sum())


def detecting(params: Any, x: Any) -> Any:
    """Two detections in each vector of a batch, and what classes they are."""
    at = 0.1 * x[:, :2, None]
    return jnp.concatenate([at, at - 1, at + 1, at + 2], -1), (x @ params["first"])[:, :4].reshape(-1, 2, 2)


USE: dict[str, Callable[[Any, World], Any]] = {
    "vision": lambda made, w: made(*([KEY] if needs_key(made) else []), VECTOR, ((-0.5, -1.0, 1.5, 1.0), 1)),
    "vision.region_score": lambda made, w: made(VECTOR, (np.ones((2, 3)), 1)),
    "genomics": lambda made, w: made(*([KEY] if needs_key(made) else []), DNA),
    "language": _said,
    **{
        f"language.{name}": lambda made, w: made(SEQUENCE)
        for name in (
            "attention_flow",
            "attention_rollout",
            "attention_weights",
            "detached",
            "edges",
            "gradient_rollout",
            "lens",
            "value_weighted_norms",
        )
    },
    **{
        f"language.{name}": lambda made, w: made(SEQUENCE, 0.5 * SEQUENCE)
        for name in (
            *("edge_attribution", "edge_patching", "node_attribution", "node_patching", "path_patching"),
            *("site_attribution", "sweep"),
        )
    },
    "language.ablation": lambda made, w: made(SEQUENCE, np.stack([0.5 * SEQUENCE, 2 * SEQUENCE])),
    "language.circuit_checks": lambda made, w: made(KEY, SEQUENCE, 0.5 * SEQUENCE, np.ones(13)),
    "language.circuit_curve": lambda made, w: made(SEQUENCE, 0.5 * SEQUENCE, np.ones(13)),
    "language.circuit_score": lambda made, w: made(SEQUENCE, 0.5 * SEQUENCE, np.ones(13)),
    **{
        f"language.{name}": lambda made, w: made
        for name in ("circuit_areas", "circuit_graph", "greedy_circuit", "threshold_circuit")
    },
    "": _explained,
    **{f"train.{name}": lambda made, w: made(w.params, w.x, w.target, KEY) for name in PENALTIES},
    "explain_batch": lambda made, w: made,
    "explain_dataset": lambda made, w: {name: made.explanations[name][:] for name in made.explanations},
    "open_explanations": lambda made, w: made,
    "from_nnx": lambda made, w: made[0](made[1], w.rows),
    "models.from_nnx": lambda made, w: made[0](made[1], w.rows),
    "activation_maximization": lambda made, w: made(KEY).image,
    "deep_dream": lambda made, w: made(KEY, w.x),
    "feature_inversion": lambda made, w: made(KEY, w.x).image,
    "accentuate": lambda made, w: made(KEY, w.x, 1).image,
    "activation_grid": lambda made, w: made(KEY, w.x).image,
    "activation_patching": lambda made, w: made(w.x, 0 * w.x, 1),
    "attribution_patching": lambda made, w: made(w.x, 0 * w.x, 1),
    "deconv_view": lambda made, w: made(w.x, 0),
    "fast_layout": lambda made, w: made(w.x),
    "split": lambda made, w: made[1](made[0](w.x, 1), w.x, 1),
    "evaluate": _measured,
    "evaluate.imputed_baseline": lambda made, w: made(KEY, IMAGE, IMAGE > 0.5),
    "evaluate.mechanisms": lambda made, w: [one.truth for one in made],
    "evaluate.mechanism_table": lambda made, w: made.passes,
    "evaluate.random_attribution": lambda made, w: made(KEY, w.x),
    "evaluate.random_removal": lambda made, w: made(KEY, w.x),
    "evaluate.remove_and_retrain": lambda made, w: made.values,
    "baseline.blur": lambda made, w: made(IMAGE),
    "baseline.gaussian_noise": lambda made, w: made(KEY, w.x),
    "baseline.uniform_noise": lambda made, w: made(KEY, w.x),
    "baseline.mean": lambda made, w: made(w.x),
    "baseline.sample": lambda made, w: made(KEY, w.x),
    "baseline.nearest_counter_class": lambda made, w: made(w.x),
    "baseline.noisy_linear_imputation": lambda made, w: made(KEY, w.x),
    "baseline.zeros": lambda made, w: made(w.x),
    "baseline.as_baseline": lambda made, w: jaxplain.baseline.resolve(made, w.x, name="name"),
    "aggregate.accumulated_local_effects": lambda made, w: made(w.rows, LABELS).score,
    "aggregate.individual_conditional_expectation": lambda made, w: made(w.rows, LABELS).score,
    "aggregate.partial_dependence": lambda made, w: made(w.rows, LABELS).score,
    "aggregate.permutation_importance": lambda made, w: made(KEY, w.rows, LABELS).mean,
    "aggregate.moments": lambda made, w: jaxplain.aggregate.aggregate_batches(
        made, [{"attribution": ROWS, **({} if made.classes is None else {"label": LABELS})}]
    ),
    "aggregate.top_k": lambda made, w: made.compute(made.update(made.init(), score=OUTPUTS, index=np.arange(3))),
    "models": lambda made, w: made.init(KEY, IMAGES) if hasattr(made, "init") else made,
    "models.mlp": lambda made, w: made.init(KEY, ROWS),
    "relevance": lambda made, w: jaxplain.lrp(lambda x: jnp.tanh(x).sum(), made)(np.linspace(0.1, 0.9, 4)),
    "image": lambda made, w: made.render(made.init(KEY)) if hasattr(made, "render") else made,
    "objective": lambda made, w: made(w.x) if isinstance(made, jaxplain.Function) else made,
    "objective.diversity": lambda made, w: made(w.rows),
    "objective.each": lambda made, w: made(w.rows),
    "objective.score": lambda made, w: made(w.x, 1),
    "transform": lambda made, w: made(KEY, IMAGE),
    "transform.composite": lambda made, w: made(KEY, np.concatenate([IMAGE, IMAGE], -1)),
    "regulariser": lambda made, w: made(IMAGE) if callable(made) else made.update(IMAGE, made.init(None)),
    "regulariser.opacity": lambda made, w: made(np.concatenate([IMAGE, IMAGE], -1)),
    "data.batches": lambda made, w: list(made),
}


@dataclass(frozen=True)
class Public:
    """One public function and the call of it that works."""

    space: str
    name: str
    function: Any
    parameters: tuple[str, ...] = field(default=())

    @property
    def full(self) -> str:
        """Its name with its space."""
        return f"{self.space}.{self.name}" if self.space else self.name

    @property
    def world(self) -> World:
        """What it is called with."""
        pictures = self.full in ON_PICTURES or self.space in ("image", "transform", "regulariser", "objective")
        return PICTURES if pictures else VECTORS

    def call(self, parameter: str | None = None, bad: Any = None) -> Any:
        """The result of the call, with one wrong value where a parameter is named."""
        world, given, rest = self.world, [], {}
        for p in inspect.signature(self.function).parameters.values():
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                if p.name == "aggregators":
                    rest["all"] = jaxplain.aggregate.moments()
                continue
            value = bad if p.name == parameter else good(self.space, self.name, p, world)
            if p.kind == p.KEYWORD_ONLY:
                rest[p.name] = value
            else:
                given.append(value)
        extra = (
            [LABELS]
            if self.full in ("explain_batch", "evaluate.evaluate_batch")
            else [1]
            if self.full in ("objective.style",)
            else []
        )
        use = USE.get(self.full, USE.get(self.space, lambda made, _: made))
        return use(self.function(*given, *extra, **rest), world)


def publics() -> list[Public]:
    """Every public function, once."""
    found = []
    for space in SPACES:
        module = importlib.import_module(f"jaxplain.{space}") if space else jaxplain
        for name in module.__all__:
            function = getattr(module, name)
            public = Public(space, name, function)
            if not inspect.isfunction(function) or public.full in INTERNAL:
                continue
            names = [
                p.name
                for p in inspect.signature(function).parameters.values()
                if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]
            found.append(Public(space, name, function, tuple(names)))
    return found


def holds_nan(result: Any) -> bool:
    """Whether a result has NaN in any of its arrays."""
    leaves = [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, np.ndarray | jax.Array | float)]
    numbers = [leaf for leaf in leaves if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return any(bool(np.isnan(np.asarray(leaf, np.complex128)).any()) for leaf in numbers)


def _in_model(error: BaseException) -> bool:
    """Whether an error was raised by a function of this file that the package called, such as the model."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside = next((i for i, file in enumerate(files) if file.startswith(PACKAGE)), len(files))
    return __file__ in files[inside:]


def fault(public: Public, parameter: str, kind: str) -> str | None:
    """What is wrong about how a wrong value is met, or None."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            result = jax.block_until_ready(public.call(parameter, BAD[kind]()))
        except (ValueError, TypeError, OSError, ImportError) as error:
            if isinstance(error, ImportError) and "pip install" in str(error):
                return None
            if isinstance(error, OSError | ImportError) and parameter not in ("path", "out"):
                return f"{type(error).__name__}: {error}"
            # by its name or that of the argument that it contradicts, by the value itself, by what was called where a
            # function returned nothing, or in the words of the caller's own model
            words = "|".join(re.escape(name) for name in public.parameters)
            said_so = (
                re.search(rf"\b{re.escape(parameter.rstrip('s'))}s?\b|`({words})\W", str(error)),
                str(BAD[kind]()) in str(error) or (kind == "dictionary" and "'a'" in str(error)),
                kind == "function" and re.match(r"[a-z_]+: ", str(error)),
                _in_model(error),
            )
            if any(said_so):
                return None
            return f"unnamed {type(error).__name__}: {str(error)[:300]}"
        except Exception as error:
            if _in_model(error):
                return None
            return f"{type(error).__name__}: {str(error)[:300]}"
    return "a silent NaN" if holds_nan(result) and not said else None


def cases() -> Iterator[tuple[Public, str, str]]:
    """Every public function with each of its arguments and each wrong value."""
    for public in publics():
        for parameter in public.parameters:
            for kind in BAD:
                yield public, parameter, kind
