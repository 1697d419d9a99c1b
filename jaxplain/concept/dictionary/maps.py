"""Where a concept is: the codes of every concept laid over the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary
from jaxplain.concept.dictionary.site import require_site
from jaxplain.internals import places, resized, split
from jaxplain.program import Function, as_function, is_array, public, setting
from jaxplain.types import Array, Pytree


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

    With one, `jaxplain.gradient(feature_score(f, layer, dictionary, 2))(x)` maps one concept: the codes of
    a non-negative dictionary are a solution of an optimisation, whose derivative is the implicit one.

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


def _codes(body: Any, dictionary: Dictionary, x: Pytree, args: tuple[Any, ...], name: str) -> Array:
    require_site(dictionary.site, body, (x, *args), name)
    h = body(x, *args)
    if not is_array(h):
        raise ValueError(f"{name}: {body.path!r} holds {len(jax.tree.leaves(h))} arrays; pick one by '{body.path}[0]'.")
    return dictionary.encode(dictionary.checked(h, name, body.path))
