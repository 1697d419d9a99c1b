"""Which layer of which model a dictionary describes, so that it is not read at another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxplain import check
from jaxplain.program import as_function, is_array, kept, public
from jaxplain.program.trace import array_digest, digest, look
from jaxplain.types import Pytree


class Site(NamedTuple):
    """A layer of a model: the layer's full path, and a digest of the model's arrays (32 hexadecimal digits)."""

    layer: str
    model: str

    def __repr__(self) -> str:
        return f"{self.layer!r} of model {self.model[:8]}"


@public
def layer_site(f: Callable[..., Any], layer: str, x: Pytree, *args: Any) -> Site:
    """Name a layer of a model: its full path and a fingerprint of the model's parameters.

    The same for every input's shape and for every score of the same parameters (a logit, a probability), since
    activations do not depend on what is made of the outputs.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace.
        layer: The path of one layer, as in `capture`.
        x: One input; only its shape counts.
        *args: The score's other arguments.

    Returns:
        `Site(layer, model)`, compared by value. Cost: one trace and a digest of the parameters, kept for the function.

    Raises:
        ValueError: A path that names no layer or several; parameters that are traced.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> layer_site(f, "square", jnp.ones(2)).layer
        'square'
    """
    f = as_function(f)
    (selected,) = look(f, (x, *args), "layer_site").select([layer]).values()
    return Site(selected.key, kept(f, "_concept_fingerprint", lambda: _fingerprint(f, (x, *args))))


def _fingerprint(f: Any, args: Any) -> str:
    """A digest of the floating-point arrays in a function: its leaves, or what its code closes over; in no order."""
    leaves = [leaf for leaf in jax.tree.leaves(f) if is_array(leaf)]
    if not leaves:
        leaves = list(jax.make_jaxpr(lambda a: f(*a))(args).consts)
    leaves = [leaf for leaf in leaves if check.is_floating(leaf) and jax.numpy.ndim(leaf)]
    if not all(map(check.is_concrete, leaves)):
        raise ValueError(
            "layer_site: the model's parameters are traced (inside jit, vmap or grad), so that they have no "
            "fingerprint. Make the site outside, once."
        )
    return digest(*sorted({array_digest(leaf).encode() for leaf in leaves}))


def require_site(site: Site | None, head: Any, args: tuple[Any, ...], name: str) -> None:
    """Require that a head made by `split` is of the layer and the model that a dictionary was made for.

    A plain function, a dictionary without a site, and traced parameters are let pass: nothing is known of them.
    """
    f, path = getattr(head, "f", None), getattr(head, "path", None)
    if site is None or not isinstance(path, str) or f is None or not args:
        return
    if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves(f)):
        return
    found = layer_site(f, path, *args)
    if found.layer != site.layer:
        raise ValueError(
            f"{name}: the dictionary describes the layer {site.layer!r}, but it is used at {found.layer!r}. Train one "
            f"there, or split the model at {site.layer!r}."
        )
    if found.model != site.model:
        raise ValueError(
            f"{name}: the dictionary describes the layer {site.layer!r} of a model with the fingerprint "
            f"{site.model[:8]}, but this model's is {found.model[:8]}: its parameters are others."
        )
