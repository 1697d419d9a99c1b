"""Do models explain themselves alike: agreement of predictions and attributions, against re-seeded trainings."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.evaluate.batch import evaluate_rows, example_keys
from jaxplain.evaluate.comparison.compare import unpacked
from jaxplain.evaluate.similarity import alike, as_similarity
from jaxplain.program import as_function, as_model, check_calls, needs_key, public
from jaxplain.score import logit
from jaxplain.types import Array, Pytree

NAME = "compare_models"


@dataclasses.dataclass(frozen=True)
class ModelComparison:
    """How alike models predict and explain. Made by `compare_models`; `print` shows it as text.

    Attributes:
        recipes: For each model, which training it comes from.
        predictions: `[M, B]`, predicted classes.
        agreement: `[M, M]`, the share of examples that two models predict alike.
        similarity: `[M, M, B]`, of two models' attributions of an example; NaN where undefined.
        within: `[B]`, the mean over pairs of models of one recipe: what re-seeding alone changes. NaN without pairs.
        between: `[B]`, the mean over pairs of models of different recipes. NaN without pairs.
        changed: `[top]`, the examples that changed most: those of smallest between - within (of smallest within where
            there is one recipe).
    """

    recipes: tuple[int, ...]
    predictions: np.ndarray
    agreement: np.ndarray
    similarity: np.ndarray
    within: np.ndarray
    between: np.ndarray
    changed: np.ndarray

    @property
    def undefined(self) -> int:
        """How many examples have a pair of models whose similarity is undefined."""
        return int(np.isnan(self.similarity).any(axis=(0, 1)).sum())

    def __str__(self) -> str:
        """The comparison as text."""
        pairs = ~np.eye(len(self.recipes), dtype=bool)
        same = np.equal.outer(self.recipes, self.recipes) & pairs
        lines = [f"{len(self.recipes)} models of {len(set(self.recipes))} trainings on {self.within.size} examples"]
        for title, chosen, values in (
            ("re-seeded", same, self.within),
            ("different", ~same & pairs, self.between),
        ):
            if chosen.any():
                found = values[~np.isnan(values)]
                similarity = f"{found.mean():.3f}" if found.size else "undefined"
                lines.append(
                    f"{title}: {self.agreement[chosen].mean():.1%} of predictions alike, similarity of attributions "
                    f"{similarity}"
                )
        lines.append(f"changed most: examples {', '.join(map(str, self.changed.tolist()))}")
        if self.undefined:
            lines.append(f"{self.undefined} examples have pairs whose similarity is undefined, which are left out")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in str(self).split("\n"))


@public
def compare_models(
    method: Callable[[Any], Any],
    models: Sequence[tuple[Callable[..., Any], Any]],
    data: Any,
    *,
    recipes: Sequence[int] | None = None,
    score: Callable[..., Any] = logit,
    similarity: Any = "spearman",
    top: int = 10,
    key: Array | None = None,
) -> ModelComparison:
    """Compare what models predict and why, against the noise between re-seeded trainings of one recipe.

    Two trainings that differ in nothing but their seed already explain an example differently; a difference between
    recipes (data, architecture, regularization) means something where it is larger than that.

    Args:
        method: `f -> e`, such as `jaxplain.gradient`.
        models: `(apply, params)` of each, two at least, as `score` takes them.
        data: `(x, targets)` or a data set with `inputs` and `targets`; `(x,)` explains the class
            that the first model predicts. Targets are what is explained, for all models the same.
        recipes: For each model, the number of its training recipe: models of one number are re-seeded trainings. None
            takes all models as re-seeded trainings of one recipe.
        score: `(apply, params) -> f`, such as `jaxplain.logit` or `jaxplain.probability`.
        similarity: As in `parameter_randomization`, of two models' attributions of one example.
        top: How many of the examples that changed most are listed.
        key: Needed where the method is random: all models meet the same draws.

    Returns:
        A `ModelComparison`. Cost: one forward pass and one explanation of each example by each model, and M (M - 1) / 2
        similarities.

    Raises:
        ValueError: Fewer than two models, recipes of another length, a missing key.
        TypeError: A method or score that is no function.

    Example:
        >>> apply = lambda params, x: x @ params
        >>> models = [(apply, jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, k]])) for k in (0.0, 1.0)]
        >>> result = compare_models(jax.grad, models, (jnp.ones((4, 3)), jnp.zeros(4, int)))
        >>> result.agreement.tolist(), result.within.tolist()
        ([[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0, 1.0, 1.0])
    """
    check.function(method, NAME, "method", "f -> e, such as jaxplain.gradient")
    for index, model in enumerate(models):
        if not (isinstance(model, tuple | list) and len(model) == 2 and callable(model[0])):
            raise TypeError(f"{NAME}: `models[{index}]` has to be (apply, params), not {check.short(model)}.")
    if len(models) < 2:
        raise ValueError(f"{NAME}: pass at least two models (apply, params), not {len(models)}.")
    recipes = tuple([0] * len(models) if recipes is None else [int(r) for r in recipes])
    if len(recipes) != len(models):
        raise ValueError(f"{NAME}: `recipes` has {len(recipes)} numbers, but there are {len(models)} models.")
    x, args, _ = unpacked(data, None)
    size = check.batch_length(x, NAME)
    check.finite(x, NAME)
    outputs = [np.asarray(_outputs(*as_model(apply, params), x)) for apply, params in models]
    predictions = np.stack([o.reshape(size, -1).argmax(axis=1) for o in outputs])
    args = args or (jnp.asarray(predictions[0]),)
    attributions = [_attributions(method, score, model, x, args, key, size) for model in models]
    measure = as_similarity(similarity, NAME)
    count = len(models)
    found = np.full((count, count, size), np.nan)
    for i in range(count):
        found[i, i] = 1.0
        for j in range(i + 1, count):
            found[i, j] = found[j, i] = np.asarray(_similarity(measure, attributions[i], attributions[j]))
    agreement = np.stack([(predictions == row).mean(axis=1) for row in predictions])
    same = np.equal.outer(recipes, recipes) & ~np.eye(count, dtype=bool)
    within, between = _mean(found[same]), _mean(found[~same & ~np.eye(count, dtype=bool)])
    change = within if np.isnan(between).all() else between - np.where(np.isnan(within), 0.0, within)
    changed = np.argsort(np.where(np.isnan(change), np.inf, change), kind="stable")[: check.count(top, NAME, "top")]
    return ModelComparison(recipes, predictions, agreement, found, within, between, changed)


@jax.jit
def _outputs(apply: Any, params: Pytree, x: Pytree) -> Array:
    return apply(params, x)


@jax.jit
def _similarity(measure: Any, a: Pytree, b: Pytree) -> Array:
    return jax.vmap(lambda u, v: alike(measure, u, v))(a, b)


def _attributions(
    method: Any, score: Any, model: tuple[Any, Any], x: Pytree, args: tuple[Any, ...], key: Any, size: int
) -> Pytree:
    f = check.made(score(*model), NAME, "score")
    e = as_function(check.made(method(f), NAME, "method"))
    if needs_key(e) and key is None:
        raise ValueError(f"{NAME}: the method is random and needs a key: compare_models(..., key=jax.random.key(0)).")
    keys = example_keys(key, jnp.arange(size)) if needs_key(e) else None
    check_calls(e, x, args)
    return evaluate_rows(e, keys, (x, *args))


def _mean(pairs: np.ndarray) -> np.ndarray:
    """The mean over pairs `[P, B]` that are defined; NaN where none is."""
    known = ~np.isnan(pairs)
    total = np.where(known, pairs, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
