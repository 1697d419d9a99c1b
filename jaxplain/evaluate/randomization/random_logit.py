"""Random logit: is another class explained differently?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.metric import Metric
from jaxplain.evaluate.similarity import alike, as_similarity
from jaxplain.program import as_function, needs_key, public, setting
from jaxplain.types import Array, Pytree


class RandomLogit(Metric):
    """The explanation of a class against that of another. Made by `random_logit`."""

    takes: ClassVar[tuple[str, ...]] = ("x", "label", "*args")
    explain: Any
    similarity: Any
    classes: int = setting(default=2)
    name: str = setting(default="random_logit")

    @property
    def needs_key(self) -> bool:
        """Always: the other class is drawn."""
        return True

    def __call__(self, *inputs: Any) -> Array:
        """Judge the explanation of one example: `m(key, x, label, *args)`."""
        key = check.needed_key(inputs, "random_logit", "m(key, x, label, *args)")
        if len(inputs) < 3:
            raise TypeError("random_logit: it compares classes: m(key, x, label, *args).")
        x, label, *args = inputs[1:]
        if jnp.shape(label) != () or not jnp.issubdtype(jnp.result_type(label), jnp.integer):
            raise TypeError(f"random_logit: the label has to be one integer, not {label!r}.")
        check.differentiable(x, "random_logit")
        check.finite(x, "random_logit")
        own, draw = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        other = (label + jax.random.randint(draw, (), 1, self.classes)) % self.classes

        def explain(label: Any) -> Pytree:
            return self.explain(own, x, label, *args) if needs_key(self.explain) else self.explain(x, label, *args)

        return alike(self.similarity, explain(label), explain(other))


@public
def random_logit(e: Callable[..., Any], *, classes: int, similarity: Any = "spearman") -> RandomLogit:
    """How alike the explanations of the class at hand and of another, drawn at random, are; lower is better.

    Args:
        e: An explanation `e(x, label, *args)` or, if random, `e(key, x, label, *args)` (one key for both).
        classes: How many classes there are.
        similarity: As in `parameter_randomization`; the source takes the structural similarity.

    Returns:
        `m(key, x, label, *args) -> similarity`; NaN where it is undefined. Cost: two explanations.

    Raises:
        ValueError: Fewer than two classes, an unknown similarity.
        TypeError: `e` is no function, a call without key or with a label that is no integer.

    Example:
        >>> m = random_logit(lambda x, k: jnp.where(k == 0, x, -x), classes=2)
        >>> float(m(jax.random.key(0), jnp.array([1.0, 2.0, 4.0]), 0))
        -1.0

    Source: Sixt, Granz and Landgraf 2020, "When explanations lie: why many modified BP attributions fail", section 3.
    """
    if not callable(e):
        raise TypeError(f"random_logit: `e` has to be an explanation e(x, label, *args), not {type(e).__name__}.")
    return RandomLogit(
        as_function(e), as_similarity(similarity, "random_logit"), check.count(classes, "random_logit", "classes", 2)
    )
