"""Which layer of which model a dictionary describes, so that it is not read at another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxplain import check
from jaxplain.program import as_function, is_array, kept, public
from jaxplain.program.trace import Program, array_digest, digest, look, subprograms, trace
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

    Of a score that holds its parameters (a logit, a probability, any `Function`) they alone count: it is the same for
    every input's shape, and for every score of the same parameters, since activations do not depend on what is made of
    the outputs. Of a plain function all arrays of floating-point numbers count that its code closes over for this
    input: write its other constants as numbers. What is computed from equal arrays in another way is not told apart.

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
    leaves = _numbers(f, args)
    if not all(map(check.is_concrete, leaves)):
        raise ValueError(
            "layer_site: the model's parameters are traced (inside jit, vmap or grad), so that they have no "
            "fingerprint. Make the site outside, once."
        )
    return digest(*sorted({array_digest(leaf).encode() for leaf in leaves}))


def _numbers(f: Any, args: Any) -> list[Any]:
    """The arrays of floating-point numbers that a function holds, or that its code closes over at any depth."""
    held = [leaf for leaf in jax.tree.leaves(f) if is_array(leaf)] or _constants(trace(lambda a: f(*a), args)[0])
    kept = [leaf for leaf in held if check.is_floating(leaf) and jax.numpy.ndim(leaf)]
    return kept or [leaf for leaf in _constants(trace(lambda a: f(*a), args)[0]) if check.is_floating(leaf)]


def _constants(program: Program) -> list[Any]:
    inner = [part for equation in program.equations for part in subprograms(equation)]
    return [*program.constants, *(value for part in inner for value in _constants(part))]


def require_site(site: Site | None, head: Any, args: tuple[Any, ...], name: str) -> None:
    """Require that a head made by `split` is of the layer and the model that a dictionary was made for.

    A plain function, a dictionary without a site, and traced parameters are let pass: nothing is known of them.
    """
    f, path = getattr(head, "f", None), getattr(head, "path", None)
    if site is None or not isinstance(path, str) or f is None or not args:
        return
    if not all(map(check.is_concrete, [*jax.tree.leaves(f), *_numbers(f, args)])):
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
