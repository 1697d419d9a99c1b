"""A dictionary of a layer's activations: codes, atoms, what each concept does to a score, where it is strongest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.concept.dictionary.site import Site, require_site
from jaxplain.program import Function, shown
from jaxplain.types import Array, ArrayLike


@shown
class Importance(NamedTuple):
    """What each concept does to a score, to first order.

    features: As the codes, `[..., M]`: code times derivative of the score by it. error: `[...]`, the same of what the
        dictionary does not reconstruct.
    """

    features: Array
    error: Array


@shown
class TopCodes(NamedTuple):
    """The strongest codes of each concept over a set of activations, strongest first; ties by the first.

    values: `[M, k]`. examples: `[M, k]`, indices. places: `[M, k, A]`, where in the example (its A axes before the
        features; A is 0 where an example is one vector).
    """

    values: Array
    examples: Array
    places: Array


def require_reconstruction(dictionary: Any, name: str) -> None:
    """Require a dictionary that writes what it reads: of another there is no error and no variance explained."""
    if not getattr(dictionary, "reconstructs", True):
        raise ValueError(
            f"{name}: a transcoder reads one layer and writes another, so that what it leaves over is not known here. "
            "Pass an autoencoder of either layer."
        )


class Dictionary(Function):
    """Base of every dictionary: an immutable pytree with `encode`, and atoms of which activations are sums.

    `h` are activations `[..., D]` with any leading axes, codes are `[..., M]`. Subclasses have `encode` and `atoms`,
    `[M, D]` (a field or a property; an `offset` `[D]` where the decoder adds one), and `decode` where it is no such
    sum. `site` says which layer of which model is described (`layer_site`); None is any.
    """

    site: Site | None = dataclasses.field(default=None, kw_only=True, metadata={"static": True})

    @property
    def size(self) -> int:
        """The number of concepts, M."""
        return int(jnp.shape(self.atoms)[0])  # type: ignore[attr-defined]

    @property
    def reconstructs(self) -> bool:
        """Whether it writes the activations that it reads."""
        return True

    @property
    def width(self) -> int:
        """The number of features of an activation, D."""
        return int(jnp.shape(self.atoms)[1])  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        where = "" if self.site is None else f", site={self.site!r}"
        return f"{type(self).__name__}(M={self.size}, D={self.width}{where})"

    def __call__(self, h: Array) -> Array:
        """The reconstruction of activations, `[..., D]`."""
        return self.decode(self.encode(h))

    def encode(self, h: Array) -> Array:
        """Codes `[..., M]` of activations `[..., D]`. Cost: depends on the dictionary."""
        raise NotImplementedError(f"{type(self).__name__} defines no encode.")

    def decode(self, codes: Array) -> Array:
        """Activations `[..., D]` of codes `[..., M]`: codes times atoms, and the offset. Cost: one product."""
        total = jnp.asarray(codes) @ jnp.asarray(self.atoms)  # type: ignore[attr-defined]
        return total + jnp.broadcast_to(jnp.asarray(getattr(self, "offset", 0.0), total.dtype), total.shape)

    def reconstruct(self, h: Array) -> Array:
        """What the dictionary makes of activations, `decode(encode(h))`."""
        return self.decode(self.encode(self.checked(h, "reconstruct")))

    def checked(self, h: ArrayLike, name: str, argument: str = "h") -> Array:
        """Require finite activations `[..., D]` of this dictionary's width, and return them as an array."""
        check.arrays(h, name, argument)
        shape = jnp.shape(h)
        if not shape or shape[-1] != self.width:
            raise ValueError(
                f"{name}: `{argument}` has shape {shape}, but the dictionary describes activations [..., {self.width}]."
            )
        if not check.is_floating(h):
            raise TypeError(f"{name}: `{argument}` has dtype {jnp.result_type(h)}; pass floating-point activations.")
        check.finite(h, name, argument)
        return jnp.asarray(h)

    def importance(self, head: Callable[..., Any], h: Array, *args: Any) -> Importance:
        """Attribute a score to the concepts of one example's activations: code times derivative by it, and the error.

        The score is taken at `decode(codes) + error`, which is `h` itself, with the error h - reconstruct(h) held
        fixed; where the head is linear, features and error sum to its value less that at the decoder's offset.

        Args:
            head: A score of activations, `head(h, *args) -> scalar`, such as that of `split`, with `x` in `args`.
            h: Activations of one example, `[..., D]`.
            *args: The head's other arguments.

        Returns:
            `Importance(features [..., M], error [...])`, in units of the score. Cost: a forward and a backward pass of
            the head.

        Raises:
            ValueError: A dictionary of another layer or model (where the head is of `split`), another width, NaN.

        Source: Marks et al. 2024, "Sparse feature circuits", equations 1 and 3 (attribution at the activation itself).
        """
        name = "importance"
        require_site(self.site, head, args, name)
        h = self.checked(h, name)
        codes = self.encode(h)
        error = h - self.decode(codes)

        def score(codes: Array, error: Array) -> Array:
            return check.scalar(head((self.decode(codes) + error).astype(h.dtype), *args), name)

        by_code, by_error = jax.grad(score, argnums=(0, 1))(codes, error)
        return Importance(codes * by_code, jnp.sum(error * by_error, axis=-1))

    def top_examples(self, activations: ArrayLike, k: int = 9, *, batch_size: int = 256) -> TopCodes:
        """Find the examples (and places in them) where each concept's code is largest.

        Args:
            activations: `[N, ..., D]`.
            k: How many for each concept; places that one example has several of count apart.
            batch_size: Examples that are encoded at once.

        Returns:
            `TopCodes(values [M, k], examples [M, k], places [M, k, A])`. Cost: one encoding of all; memory for the
            codes of `batch_size` examples.

        Raises:
            ValueError: More than there are places, another width, NaN.
        """
        name = "top_examples"
        h, k = self.checked(activations, name, "activations"), check.count(k, name, "k")
        check.count(batch_size, name, "batch_size")
        if h.ndim < 2:
            raise ValueError(f"{name}: `activations` has shape {h.shape}; pass one row for each example, [N, ..., D].")
        places = h.size // h.shape[-1]
        if k > places:
            raise ValueError(f"{name}: `k` is {k}, but there are {places} activations.")
        values, flat = _top(self, h.reshape(places, -1), k, min(places, batch_size * max(1, places // h.shape[0])))
        parts = jnp.unravel_index(flat, h.shape[:-1])
        place = jnp.stack(parts[1:], axis=-1) if parts[1:] else jnp.zeros((*flat.shape, 0), flat.dtype)
        return TopCodes(values, parts[0], place)


def _top(dictionary: Dictionary, rows: Array, k: int, block: int) -> tuple[Array, Array]:
    """The k largest codes of each concept and their rows, block by block."""
    blocks = -(-rows.shape[0] // block)
    padded = jnp.pad(rows, ((0, blocks * block - rows.shape[0]), (0, 0))).reshape(blocks, block, -1)

    def merge(best: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        part, number = step
        index = number * block + jnp.arange(block, dtype=jnp.int32)
        codes = jnp.where((index < rows.shape[0])[:, None], dictionary.encode(part), -jnp.inf).T
        values = jnp.concatenate([best[0], codes.astype(best[0].dtype)], axis=1)
        found, where = jax.lax.top_k(values, k)  # the first of equal ones, and those of earlier blocks stand first
        places = jnp.concatenate([best[1], jnp.broadcast_to(index[None], codes.shape)], axis=1)
        return (found, jnp.take_along_axis(places, where, axis=1)), None

    dtype = jax.eval_shape(dictionary.encode, padded[0]).dtype
    start = (jnp.full((dictionary.size, k), -jnp.inf, dtype), jnp.zeros((dictionary.size, k), jnp.int32))
    (values, flat), _ = jax.lax.scan(merge, start, (padded, jnp.arange(blocks, dtype=jnp.int32)))
    return values, flat
