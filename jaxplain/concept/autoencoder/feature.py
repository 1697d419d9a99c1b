"""A single feature: as a score of the input, and by what it adds to the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.concept.dictionary import Dictionary, require_site
from jaxplain.internals import split
from jaxplain.program import Function, as_function, public, setting
from jaxplain.types import Array, Pytree


class FeatureScore(Function):
    """The mean code of a feature over an input's places: `(x, *args) -> scalar`. Made by `feature_score`."""

    body: Any
    dictionary: Any
    index: Any
    before: bool = setting(default=False)
    name: str = setting(default="feature_score")

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The code of one input."""
        require_site(self.dictionary.site, self.body, (x, *args), self.name)
        h = self.body(x, *args)
        if jnp.ndim(h) < 1 or jnp.shape(h)[-1] != self.dictionary.width:
            raise ValueError(
                f"{self.name}: the layer has shape {jnp.shape(h)}, but the dictionary describes [..., "
                f"{self.dictionary.width}]."
            )
        codes = self.dictionary.before(h) if self.before else self.dictionary.encode(h)
        return jnp.mean(jnp.take(codes, self.index, axis=-1))


@public
def feature_score(
    f: Callable[..., Any], layer: str, dictionary: Dictionary, index: int, *, before: bool = False
) -> FeatureScore:
    """Make a score of one feature: its code, the mean over an input's places.

    Every method works on it: `gradient` says where in an input the feature was found, and
    `activation_maximization(feature_score(..., before=True), image=...)` draws what it looks for.

    Args:
        f: A score or any function `f(x, *args)`, with the layer in it.
        layer: The path of the layer that the dictionary describes.
        dictionary: Any of this namespace.
        index: The feature's number, from 0 to M - 1.
        before: Take the encoder's value before its activation, which has a gradient where the feature is silent; of
            autoencoders alone.

    Returns:
        `(x, *args) -> scalar`. Cost: the part of a forward pass before the layer.

    Raises:
        ValueError: A feature that is not there; `before` of a dictionary without such a value.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> class Axes(Dictionary):
        ...     atoms: Array
        ...     def encode(self, h):
        ...         return h @ self.atoms.T
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> float(feature_score(f, "square", Axes(jnp.eye(2)), 1)(jnp.array([1.0, 3.0])))
        9.0
    """
    name = "feature_score"
    if check.count(index, name, "index", least=0) >= dictionary.size:
        raise ValueError(f"{name}: `index` is {index}, but the dictionary has {dictionary.size} features.")
    if before and not hasattr(dictionary, "before"):
        raise ValueError(f"{name}: `before` is of autoencoders; {dictionary!r} has codes alone.")
    return FeatureScore(split(as_function(f), layer)[0], dictionary, jnp.asarray(index), before)


@public
def logit_weights(
    dictionary: Dictionary, head: Callable[..., Any], h: Array, *args: Any, batch_size: int | None = None
) -> Array:
    """Measure what each feature adds to every output, for a code of 1: the derivative of the outputs along its atom.

    Args:
        dictionary: Any of this namespace.
        head: From activations to outputs, `head(h, *args) -> [K]` (or `[..., K]`), such as that of `split`; of a linear
            head the result is atoms @ weights, whatever h is.
        h: Activations at which it is taken, `[..., D]`, such as the mean of a layer's.
        *args: The head's other arguments.
        batch_size: Features at once; None is all.

    Returns:
        `[M, K]`, the code being moved at all places at once, outputs summed over their places. Cost: a forward
        derivative for each feature.

    Raises:
        ValueError: Another layer, model or width, NaN.

    Source: Elhage et al. 2021, "A mathematical framework for transformer circuits"; nostalgebraist 2020, "Interpreting
    GPT: the logit lens".
    """
    name = "logit_weights"
    if batch_size is not None:
        check.count(batch_size, name, "batch_size")
    require_site(dictionary.site, head, args, name)
    h = dictionary.checked(h, name)
    check.function(head, name, "head", "(h, *args) -> outputs")

    def along(atom: Array) -> Array:
        direction = jnp.broadcast_to(atom, h.shape).astype(h.dtype)
        moved = jax.jvp(lambda value: jnp.asarray(head(value, *args)), (h,), (direction,))[1]
        return moved.reshape(-1, moved.shape[-1] if moved.ndim else 1).sum(axis=0)

    atoms = jnp.asarray(dictionary.atoms)  # type: ignore[attr-defined]
    return jax.lax.map(along, atoms, batch_size=batch_size or atoms.shape[0])
