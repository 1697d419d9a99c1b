"""Concept vectors: directions in a layer's activations from examples with and without each concept."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.distance import safe_shift
from jaxplain.concept.vector.fit import Recipe, fit_all
from jaxplain.concept.vector.labels import activations_of, chosen, labels_of, listed, share
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike, Number

WAYS = ("ridge", "lda", "mean", "logistic")
DEFAULT = Recipe("ridge", 0.01, 20)


@dataclasses.dataclass(frozen=True, repr=False)
class ConceptVectors:
    """Directions of C concepts in one layer. Made by `concept_vectors`.

    vectors: `[C, ...]`, of the layer's shape, of length 1, pointing to the concept's examples.
    biases: `[C]`: v . h + bias is positive on the concept's side.
    accuracy: `[C]`, mean of the shares of held-out examples with and without the concept that a vector fitted on the
        others tells; 0.5 is chance, NaN where too few examples are left to fit on.
    activations: `[N, ...]`, what they were fitted on; concepts: `[C, N]`, 1, -1 or 0.
    names: The concepts' names. recipe: How they were fitted.
    """

    vectors: Array
    biases: Array
    accuracy: Array
    activations: Array
    concepts: np.ndarray
    names: tuple[str, ...] = ()
    recipe: Recipe = DEFAULT

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        shape = tuple(self.vectors.shape[1:])
        return (
            f"ConceptVectors: {len(self)} of a layer {shape} by {self.recipe.how!r}, accuracy on held-out examples "
            f"{_range(self.accuracy)}"
        )


jax.tree_util.register_dataclass(
    ConceptVectors, ["vectors", "biases", "accuracy", "activations", "concepts"], ["names", "recipe"]
)


def _range(values: Any) -> str:
    values = np.asarray(values)
    if np.isnan(values).all():
        return "not measured"
    return f"{np.nanmin(values):.2f} to {np.nanmax(values):.2f}"


@public
def concept_vectors(
    activations: ArrayLike,
    concepts: Any,
    *,
    how: str = "ridge",
    penalty: Number | None = None,
    fraction: float = 0.25,
    steps: int = 20,
    batch_size: int = 64,
) -> ConceptVectors:
    """Fit a direction for each concept that tells examples with it from examples without, all in one program.

    With labels y of 1 / -1, and D the number of values of the layer:

    * 'ridge': argmin over v, b of sum_i (y_i - v . h_i - b)^2 + penalty tr(X) / D |v|^2, X the scatter matrix of the
      centred examples; without a penalty the solution of least norm.
    * 'lda': (S + penalty tr(S) / D)^-1 (mu1 - mu0), S the pooled sample covariance within the two classes. Ridge
      without a penalty is parallel to it where S is regular.
    * 'mean': mu1 - mu0. The most robust with few examples.
    * 'logistic': argmin of sum_i log(1 + exp(-y_i (v . h_i + b))) + penalty tr(X) / D |v|^2 / 2, by Newton's method.

    All vectors are then of length 1, so that a sensitivity is the change of the score for one unit of activation.

    Args:
        activations: `[N, ...]`, the values of one layer for N examples: those of the concepts and random ones
            (`jax.lax.map(body, inputs)` with `body, head = jaxplain.split(f, path)`).
        concepts: `[C, N]`, a row for each concept: 1 where an example shows it, -1 where it does not, 0 where it is
            left out; or booleans, of which False is -1; or a mapping of names to rows.
        how: One of the above.
        penalty: In units of the mean eigenvalue. None: 0.01 for 'ridge' and 'logistic', 0 for 'lda', whose S has to be
            regular then.
        fraction: Share of the examples (evenly spread over either kind, at least one of each) held out to measure the
            accuracy, of a second fit on the others; the vector is fitted on all. 0 measures nothing.
        steps: Newton steps of 'logistic'.
        batch_size: Concepts at once.

    Returns:
        `ConceptVectors`. Cost: C (twice, with an accuracy) products m D min(m, D) and solutions of systems of size
        min(m, D) for m examples of a concept; 'logistic' `steps` times that.

    Raises:
        ValueError: NaN (with their number and place), constant activations, concepts with fewer than two examples of
            either kind, as many values as examples for 'lda' without a penalty.
        TypeError: Traced concepts, several arrays.

    Example:
        >>> import numpy as np
        >>> activations = np.array([[1.0, 0.0], [3.0, 1.0], [1.0, 4.0], [3.0, 5.0]])
        >>> found = concept_vectors(activations, {"high": [False, False, True, True]}, how="mean")
        >>> found.vectors.tolist(), found.biases.tolist()
        ([[0.0, 1.0]], [-2.5])

    Source: Kim et al. 2018, "Interpretability beyond feature attribution: quantitative testing with concept activation
    vectors (TCAV)", section 3.2 (a logistic classifier); Haufe et al. 2014 compare weights and patterns.
    """
    check.choice(how, WAYS, "concept_vectors", "how")
    share(fraction, "concept_vectors")
    check.count(steps, "concept_vectors", "steps")
    check.count(batch_size, "concept_vectors", "batch_size")
    values = activations_of(activations, "concept_vectors")
    labels, names = labels_of(concepts, len(values), "concept_vectors")
    flat = values.reshape(len(values), -1)
    recipe = recipe_of(how, penalty, steps, flat.shape[1], labels, names)
    picked = chosen(labels, fraction)
    shift = safe_shift(flat)
    fitted = fit_all(jnp.ldexp(flat, shift), *picked, recipe, min(batch_size, len(labels)), fraction > 0)
    vectors, biases, accuracy = fitted[0], jnp.ldexp(fitted[1], -shift), fitted[2]
    require_vectors(vectors, names, "concept_vectors")
    return ConceptVectors(vectors.reshape(-1, *values.shape[1:]), biases, accuracy, values, labels, names, recipe)


def recipe_of(how: str, penalty: Any, steps: int, size: int, labels: np.ndarray, names: tuple[str, ...]) -> Recipe:
    """The recipe, with its penalty; 'lda' without one needs more examples than values."""
    if penalty is None:
        penalty = 0.0 if how in ("lda", "mean") else 0.01
    check.one_number(penalty, "concept_vectors", "penalty", zero=True)
    counts = np.count_nonzero(labels, axis=1)
    if how == "lda" and penalty == 0 and counts.min() - 2 < size:
        raise ValueError(
            f"concept_vectors: concept {names[counts.argmin()]!r} has {counts.min()} examples for {size} values, so "
            f"that the covariance of 'lda' is singular; it takes at least {size + 2}, or `penalty=0.01`, or "
            "`how='ridge'`."
        )
    return Recipe(how, float(penalty), steps)


def require_vectors(vectors: Array, names: tuple[str, ...], name: str) -> None:
    """Require that each concept has a direction."""
    bad = np.flatnonzero(~np.isfinite(np.asarray(vectors)).all(axis=tuple(range(1, vectors.ndim))))
    if bad.size:
        raise ValueError(
            f"{name}: {bad.size} of {len(vectors)} concepts have no direction (the first is {names[bad[0]]!r}): its "
            "examples with and without the concept have equal means, or a unit is constant or a copy of others where "
            "no `penalty` makes the matrix regular."
        )


@public
def concept_similarity(vectors: Any, *, threshold: Number = 0.9) -> Array:
    """Compare the directions of concepts by their cosines, and warn where two are entangled.

    What is said of a concept is said of all that point its way too: sensitivities to two vectors at a cosine of c agree
    in a share c of their length.

    Args:
        vectors: `ConceptVectors`, or an array `[C, ...]`.
        threshold: Absolute cosine from which on a pair is warned of; 1 warns of none.

    Returns:
        `[C, C]`, cosines. Cost: C^2 D operations.

    Raises:
        ValueError, TypeError: No vectors, NaN.

    Example:
        >>> import numpy as np
        >>> concept_similarity(np.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    names = vectors.names if isinstance(vectors, ConceptVectors) else ()
    values = activations_like(vectors, "concept_similarity")
    flat = values.reshape(len(values), -1)
    sizes = jnp.linalg.norm(flat, axis=1)
    if bool((sizes == 0).any()):
        raise ValueError("concept_similarity: `vectors` holds a vector of length 0, which has no direction.")
    cosines = jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST) / (sizes[:, None] * sizes[None])
    warn_entangled(cosines, names or tuple(map(str, range(len(flat)))), threshold, "concept_similarity")
    return cosines


def activations_like(vectors: Any, name: str) -> Array:
    """The vectors `[C, ...]` of `ConceptVectors` or of an array."""
    values = vectors.vectors if isinstance(vectors, ConceptVectors) else vectors
    values = listed(values, name, "vectors")
    check.arrays(values, name, "vectors")
    if not hasattr(values, "shape") or np.ndim(values) < 2:
        raise ValueError(f"{name}: `vectors` is {check.short(values)}; pass ConceptVectors or an array [C, ...].")
    check.real(values, name, "vectors")
    check.finite(values, name, "vectors")
    values = jnp.asarray(values)
    return values if check.is_floating(values) else values.astype(jnp.float32)


def warn_entangled(cosines: Array, names: tuple[str, ...], threshold: Any, name: str) -> None:
    """Warn of pairs of concepts whose vectors nearly agree."""
    check.one_number(threshold, name, "threshold", zero=True)
    above = np.triu(np.abs(np.asarray(cosines)), 1)
    pairs = np.argwhere((above >= threshold) & (above > 0)) if threshold < 1 else np.zeros((0, 2), int)
    if len(pairs):
        first, second = max(map(tuple, pairs), key=lambda pair: above[pair])
        cosine = float(cosines[first, second])
        warnings.warn(
            f"{name}: {len(pairs)} pairs of concepts are entangled, most of all {names[first]!r} and "
            f"{names[second]!r} (cosine {math.copysign(min(abs(cosine), 1), cosine):.2f}): what is found for one holds "
            "for the other too. Choose examples that differ in one of them only.",
            UserWarning,
            stacklevel=4,
        )
