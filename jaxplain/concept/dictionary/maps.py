"""Where a concept is: its codes laid over the input, and a concept as a score that any method explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary
from jaxplain.concept.dictionary.site import require_site
from jaxplain.internals import places, resized, split
from jaxplain.program import Function, as_function, is_array, public, setting, wide_dtype
from jaxplain.types import Array, Number, Pytree


class CodeScore(Function):
    """How much of a concept an example has, `(x, *args) -> scalar`. Made by `code_score`."""

    body: Any
    dictionary: Any
    concept: Any
    reduce: str = setting(default="sum")

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The concept's codes of one example, over the layer's places."""
        codes = _codes(self.body, self.dictionary, x, args, "code_score")
        chosen = jnp.take(codes, self.concept, axis=-1)
        chosen = chosen.astype(wide_dtype(chosen.dtype))
        how: dict[str, Any] = {"sum": jnp.sum, "mean": jnp.mean, "max": jnp.max}
        return how[self.reduce](chosen).astype(codes.dtype)


@public
def code_score(
    f: Callable[..., Any],
    dictionary: Dictionary,
    concept: Number,
    *,
    layer: str | None = None,
    reduce: Literal["sum", "mean", "max"] = "sum",
) -> CodeScore:
    """Make a score of a concept, so that every method explains it: which part of the input is the concept?

    `jaxplain.gradient(code_score(f, dictionary, 2))(x)` is the concept's attribution map. Codes of a non-negative
    dictionary are a solution of an optimisation, whose derivative is the implicit one (`non_negative_coefficients`).

    Args:
        f: A score or any function `f(x, *args)`, of which the part before the layer is used.
        dictionary: Of the layer's activations.
        concept: Which concept, from 0; it may be traced, so that `vmap` makes the maps of all.
        layer: The path of the layer; None is where the dictionary was made (its `site`).
        reduce: How the codes of the layer's places become one number.

    Returns:
        A score `(x, *args) -> scalar`, in units of the codes. Cost: the part of a forward pass before the layer, and
        one encoding.

    Raises:
        ValueError: A dictionary of another layer or model, a concept that is not there.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain import gradient
        >>> from jaxplain.concept.dictionary.nonnegative import NonNegativeDictionary
        >>> def f(x):
        ...     with jax.named_scope("parts"):
        ...         h = 2 * x
        ...     return h.sum()
        >>> dictionary = NonNegativeDictionary(jnp.array([[1.0, 0.0], [0.6, 0.8]]))
        >>> gradient(code_score(f, dictionary, 1, layer="parts"))(jnp.array([1.0, 1.0])).round(3).tolist()
        [0.0, 2.5]

    Source: Fel et al. 2023, "CRAFT", section 3.4.
    """
    name = "code_score"
    path = _layer(dictionary, layer, name)
    check.function(f, name, "f", "f(x, *args)")
    _inside(concept, dictionary, name)
    check.choice(reduce, ("sum", "mean", "max"), name, "reduce")
    return CodeScore(split(as_function(f), path)[0], dictionary, concept, reduce)


class ConceptMaps(Function):
    """The codes of every concept laid over the input. Made by `concept_maps`."""

    body: Any
    dictionary: Any
    grid: Any = setting(default=None)
    resize: bool = setting(default=True)

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Codes `[H, W, M]` of one example."""
        name = "concept_maps"
        h = self.body(x, *args)
        found = places(h, x, path=self.body.path, name=name, grid=self.grid, resize=self.resize)
        values = found.arrange(_codes(self.body, self.dictionary, x, args, name))
        if not self.resize:
            return values
        if found.size is None:
            raise ValueError(
                f"{name}: the input's size along the axes of {self.body.path!r} cannot be told. Pass `resize=False` "
                "for the layer's own size."
            )
        size = found.size
        return jax.vmap(lambda one: resized(one, size), in_axes=-1, out_axes=-1)(values)


@public
def concept_maps(
    f: Callable[..., Any],
    dictionary: Dictionary,
    *,
    layer: str | None = None,
    grid: tuple[int, ...] | None = None,
    resize: bool = True,
) -> ConceptMaps:
    """Lay the codes of every concept over the input: where each is, without a derivative.

    Args:
        f: A score or any function `f(x, *args)`, of which the part before the layer is used.
        dictionary: Of the activations of a layer `[h, w, D]`, or of tokens `[T, D]` on a grid.
        layer: The path of the layer; None is where the dictionary was made (its `site`).
        grid: How tokens lie in the image, (rows, columns); None takes the input's proportions.
        resize: Lay the maps over the input's size, bilinearly; False keeps the layer's.

    Returns:
        `e(x, *args) -> [H, W, M]`, codes. Cost: the part of a forward pass before the layer, and one encoding.

    Raises:
        ValueError: A layer without spatial axes, a dictionary of another layer or model.

    Source: Fel et al. 2023, "CRAFT", section 3.4 and figure 2.
    """
    name = "concept_maps"
    path = _layer(dictionary, layer, name)
    check.function(f, name, "f", "f(x, *args)")
    return ConceptMaps(split(as_function(f), path)[0], dictionary, None if grid is None else tuple(grid), resize)


def _layer(dictionary: Any, layer: str | None, name: str) -> str:
    if layer is not None:
        return layer
    if dictionary.site is None:
        raise ValueError(f"{name}: the dictionary has no site that says its layer. Pass `layer=`, a path.")
    return dictionary.site.layer


def _inside(concept: Any, dictionary: Dictionary, name: str) -> None:
    if not check.is_concrete(concept):
        return
    number = concept.item() if is_array(concept) and jnp.ndim(concept) == 0 else concept
    if check.count(number, name, "concept", 0) >= dictionary.size:
        raise ValueError(f"{name}: `concept` is {concept}, but the dictionary has {dictionary.size}, from 0.")


def _codes(body: Any, dictionary: Dictionary, x: Pytree, args: tuple[Any, ...], name: str) -> Array:
    require_site(dictionary.site, body, (x, *args), name)
    h = body(x, *args)
    if not is_array(h):
        raise ValueError(f"{name}: {body.path!r} holds {len(jax.tree.leaves(h))} arrays; pick one by '{body.path}[0]'.")
    return dictionary.encode(dictionary.checked(h, name, body.path))
