"""A dictionary beside the one that made the activations, and beside the network without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.dictionary import (
    Dictionary,
    cosine_matrix,
    match_atoms,
    over_blocks,
    require_reconstruction,
    require_site,
)
from jaxplain.internals import intervene, split
from jaxplain.program import Function, as_function, public, shown
from jaxplain.types import Array, ArrayLike, Pytree


class Recovery(NamedTuple):
    """How well a dictionary recovers a known one. All are numbers from 0 to 1; the last is for each atom, `[M]`.

    mcc: Mean cosine of atoms and true ones in the best pairs, one to one. uniqueness: How many different true atoms are
    somebody's nearest, over M. precision, recall, f1: Of each code as a detector of its atom's nearest true one, the
    means over atoms; 0 for atoms that are never active. nearest: `[M]`, the index of that one.
    """

    mcc: float
    uniqueness: float
    precision: float
    recall: float
    f1: float
    nearest: np.ndarray

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={getattr(self, name):.3f}" for name in self._fields[:-1])
        return f"Recovery({numbers})"


@shown
class LossRecovered(NamedTuple):
    """Mean losses of a network: as it is, with a layer's reconstruction in its place, and with zeros there.

    recovered: (ablated - spliced) / (ablated - clean): 1 where the reconstruction does no harm, 0 where it is as bad as
    nothing.
    """

    clean: float
    spliced: float
    ablated: float
    recovered: float


@public
def recovery(
    dictionary: Dictionary, atoms: ArrayLike, activations: ArrayLike, codes: ArrayLike, *, batch_size: int = 4096
) -> Recovery:
    """Compare a dictionary with a known one that made the activations.

    Args:
        dictionary: What was found.
        atoms: The true ones, `[K, D]`.
        activations: `[N, D]`.
        codes: The true codes of these, `[N, K]`; active where above 0.
        batch_size: Activations that are encoded at once.

    Returns:
        `Recovery(mcc, uniqueness, precision, recall, f1, nearest)`. Cost: one encoding of all, and a matching.

    Raises:
        ValueError: Shapes that do not fit, NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> class Axes(Dictionary):
        ...     atoms: Array
        ...     def encode(self, h):
        ...         return jnp.maximum(h @ self.atoms.T, 0)
        >>> recovery(Axes(jnp.eye(2)), jnp.eye(2), jnp.eye(2), jnp.eye(2))
        Recovery(mcc=1.000, uniqueness=1.000, precision=1.000, recall=1.000, f1=1.000)

    Source: Chanin and Garriga-Alonso 2026, "SynthSAEBench: evaluating sparse autoencoders on scalable realistic
    synthetic data", section 5.
    """
    name = "recovery"
    h, atoms, codes = dictionary.checked(activations, name, "activations"), jnp.asarray(atoms), jnp.asarray(codes)
    check.count(batch_size, name, "batch_size")
    if h.ndim != 2 or codes.shape != (h.shape[0], atoms.shape[0]):
        raise ValueError(
            f"{name}: `codes` has shape {codes.shape}, but {h.shape[0] if h.ndim == 2 else h.shape} activations of "
            f"{atoms.shape[0]} true atoms have codes of shape ({h.shape[0]}, {atoms.shape[0]})."
        )
    check.finite(codes, name, "codes")
    found = np.asarray(dictionary.atoms)  # type: ignore[attr-defined]
    nearest = cosine_matrix(found, atoms, name).argmax(axis=1)
    hits, active, true = _detections(dictionary, h, codes, jnp.asarray(nearest), batch_size)
    precision, recall = _share(hits, active), _share(hits, true)
    f1 = _share(2 * hits, active + true)
    mcc = match_atoms(found, atoms).cosine.mean()
    unique = len(set(nearest.tolist())) / len(nearest)
    means = [float(part.mean()) for part in (precision, recall, f1)]
    return Recovery(float(mcc), unique, means[0], means[1], means[2], nearest)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _detections(d: Dictionary, h: Array, codes: Array, nearest: Array, batch_size: int) -> tuple[np.ndarray, ...]:
    """For each atom: how often it and its nearest true one are active, how often it is, how often that one is."""

    def count(rows: Array, real: Array) -> tuple[Array, Array, Array]:
        own = (d.encode(rows[:, : h.shape[1]]) != 0) & real[:, None]
        true = (rows[:, h.shape[1] :] > 0)[:, nearest] & real[:, None]
        return tuple(jnp.sum(part, axis=0) for part in (own & true, own, true))  # type: ignore[return-value]

    found = over_blocks(count, jnp.concatenate([h, codes.astype(h.dtype)], axis=1), batch_size)
    return tuple(np.asarray(part, np.float64) for part in found)


class _Spliced(Function):
    """What puts a reconstruction in a layer's place, in the layer's dtype."""

    dictionary: Any

    def __call__(self, h: Array) -> Array:
        """The reconstruction."""
        return self.dictionary(h).astype(h.dtype)


@public
def loss_recovered(
    f: Callable[..., Any], layer: str, dictionary: Dictionary, x: Pytree, *args: Any, batch_size: int = 64
) -> LossRecovered:
    """Measure what a network loses when a layer's activations are replaced by their reconstruction.

    Args:
        f: The loss of one example, `f(x, *args) -> scalar`, such as `jaxplain.loss(apply, params)`.
        layer: The path of the layer that the dictionary describes.
        dictionary: Any of this namespace.
        x: Examples `[N, ...]`.
        *args: The loss's other arguments, `[N, ...]` each.
        batch_size: Examples at once.

    Returns:
        `LossRecovered(clean, spliced, ablated, recovered)`. Cost: three forward passes over the examples.

    Raises:
        ValueError: A dictionary of another layer or model, as in `capture`; a network to whose loss the layer adds
            nothing, so that there is nothing to recover.

    Source: Bricken et al. 2023, "Towards monosemanticity"; zero ablation.
    """
    name = "loss_recovered"
    require_reconstruction(dictionary, name)
    check.finite(x, name)
    count = check.batch_length((x, args), name)
    check.count(batch_size, name, "batch_size")
    f = as_function(check.callable_score(f, name))
    one = jax.tree.map(lambda a: a[0], (x, args))
    require_site(dictionary.site, split(f, layer)[1], (one[0], *one[1]), name)
    changed = (f, intervene(f, {layer: _Spliced(dictionary)}), intervene(f, {layer: 0.0}))

    def losses(row: Any) -> Array:
        return jnp.stack([check.scalar(g(row[0], *row[1]), name) for g in changed])

    rows = jax.lax.map(losses, (x, args), batch_size=min(batch_size, count))
    clean, spliced, ablated = (float(value) for value in rows.mean(axis=0))
    if ablated == clean:
        raise ValueError(
            f"{name}: the mean loss is {clean} with and without the layer {layer!r}: there is nothing to recover."
        )
    return LossRecovered(clean, spliced, ablated, (ablated - spliced) / (ablated - clean))
