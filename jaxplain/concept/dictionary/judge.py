"""What a dictionary is worth: what it explains, how sparse and how stable it is, and whether its concepts matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary, require_reconstruction
from jaxplain.program import public, shown
from jaxplain.types import Array, ArrayLike


class Judged(NamedTuple):
    """What a dictionary does over a set of activations.

    variance_explained: 1 - sum |h - reconstruction|^2 / sum |h - mean h|^2, at most 1. l0: the mean number of non-zero
    codes of an activation. density: `[M]`, the share of activations in which each concept is active. dead: `[M]`,
    whether it never is.
    """

    variance_explained: Array
    l0: Array
    density: Array
    dead: Array

    def __repr__(self) -> str:
        return (
            f"Judged(variance_explained={float(self.variance_explained):.4g}, l0={float(self.l0):.4g}, "
            f"dead={int(self.dead.sum())} of {self.dead.size})"
        )


@shown
class Matched(NamedTuple):
    """Atoms of two dictionaries in pairs. order: `[m]` pairs of indices, `[m, 2]`; cosine: `[m]`, absolute."""

    order: np.ndarray
    cosine: np.ndarray


@shown
class ConceptCurves(NamedTuple):
    """Scores while concepts are deleted (or inserted), most important first: means over the examples.

    steps: `[S + 1]`, how many concepts have been. scores: by dictionary, `[S + 1]` each; "random" is the first
    dictionary in random orders.
    """

    steps: np.ndarray
    scores: dict[str, np.ndarray]


@public
def judge_dictionary(dictionary: Dictionary, activations: ArrayLike, *, batch_size: int = 256) -> Judged:
    """Measure how much of the activations' variance a dictionary explains, and with how many concepts.

    Args:
        dictionary: Any of this namespace.
        activations: `[N, ..., D]`, best held out.
        batch_size: Activations that are encoded at once; the result does not depend on it but by rounding.

    Returns:
        `Judged(variance_explained, l0, density [M], dead [M])`. Cost: one encoding and decoding of all.

    Raises:
        ValueError: Activations that are constant (there is no variance to explain), of another width, or NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> class Axes(Dictionary):
        ...     atoms: Array
        ...     def encode(self, h):
        ...         return h @ self.atoms.T
        >>> judge_dictionary(Axes(jnp.eye(2)[:1]), jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        Judged(variance_explained=0.5, l0=0.5, dead=0 of 1)
    """
    name = "judge_dictionary"
    require_reconstruction(dictionary, name)
    h = dictionary.checked(activations, name, "activations")
    rows = h.reshape(-1, h.shape[-1])
    check.count(batch_size, name, "batch_size")
    total = centred_square(rows, name)
    squares, active = _sums(dictionary, rows, batch_size)
    density = active / rows.shape[0]
    return Judged(1 - squares / total, jnp.sum(density), density, active == 0)


def centred_square(rows: Array, name: str, argument: str = "activations") -> Array:
    """The sum of squares of `[N, D]` about their mean, which has to be above zero."""
    wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    total = jnp.sum((wide - jnp.mean(wide, axis=0, keepdims=True)) ** 2)
    if not check.is_concrete(total):
        return total
    if bool(jnp.all(rows == rows[:1])):
        raise ValueError(
            f"{name}: `{argument}` are constant: all {rows.shape[0]} of them are the same vector, so that there is no "
            "variance to explain. Pass activations of different inputs."
        )
    if not 0 < float(total) < float("inf"):
        largest = float(jnp.max(jnp.abs(wide)))
        raise ValueError(
            f"{name}: the sum of squares of `{argument}` is {float(total)}, since {wide.dtype} holds no squares of "
            f"numbers as {'large' if largest > 1 else 'small'} as {largest:.3g}. Divide them by {largest:.1g} first."
        )
    return total


def over_blocks(function: Callable[[Array, Array], Any], rows: Array, block: int) -> Any:
    """The sum of `function(block [B, D], real [B])` over blocks of rows, the last one filled up with zeros."""
    block = min(block, rows.shape[0])
    blocks = -(-rows.shape[0] // block)
    padded = jnp.pad(rows, ((0, blocks * block - rows.shape[0]), (0, 0))).reshape(blocks, block, -1)
    real = (jnp.arange(blocks * block) < rows.shape[0]).reshape(blocks, block)
    shapes = jax.eval_shape(function, padded[0], real[0])
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    return jax.lax.scan(add, zero, (padded, real))[0]


def _sums(dictionary: Dictionary, rows: Array, block: int) -> tuple[Array, Array]:
    """The squared error, and how often each concept is active."""

    def one(part: Array, real: Array) -> tuple[Array, Array]:
        codes = dictionary.encode(part)
        error = (part - dictionary.decode(codes)).astype(jnp.promote_types(part.dtype, jnp.float32))
        return jnp.sum(error**2 * real[:, None]), jnp.sum((codes != 0) & real[:, None], axis=0)

    return over_blocks(one, rows, block)


@public
def match_atoms(first: ArrayLike, second: ArrayLike) -> Matched:
    """Pair the atoms of two dictionaries, one to one, so that the sum of absolute cosines is largest (Hungarian).

    Args:
        first: Atoms `[M, D]`.
        second: Atoms `[K, D]`.

    Returns:
        `Matched(order [m, 2], cosine [m])` with m = min(M, K), in the order of the first. Cost: m^3 operations on the
        host.

    Raises:
        ValueError: Atoms of different widths, or that are not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> match_atoms(jnp.eye(2), jnp.eye(2)[::-1]).order.tolist()
        [[0, 1], [1, 0]]

    Source: Kuhn 1955, "The Hungarian method for the assignment problem".
    """
    from scipy.optimize import linear_sum_assignment

    cosines = cosine_matrix(first, second, "match_atoms")
    rows, columns = linear_sum_assignment(-cosines)
    return Matched(np.stack([rows, columns], axis=1), cosines[rows, columns])


def cosine_matrix(first: ArrayLike, second: ArrayLike, name: str) -> np.ndarray:
    """Absolute cosines between the rows of two matrices, `[M, K]`; 0 where one is zero."""
    matrices = []
    for argument, value in (("first", first), ("second", second)):
        check.finite(value, name, argument)
        if jnp.ndim(value) != 2 or 0 in jnp.shape(value):
            raise ValueError(f"{name}: `{argument}` has shape {jnp.shape(value)}; pass atoms [M, D].")
        rows = np.asarray(value, np.float64)
        size = np.linalg.norm(rows, axis=1, keepdims=True)
        matrices.append(np.divide(rows, size, out=np.zeros_like(rows), where=size > 0))
    if matrices[0].shape[1] != matrices[1].shape[1]:
        raise ValueError(
            f"{name}: `first` has atoms of {matrices[0].shape[1]} numbers, but `second` of {matrices[1].shape[1]}."
        )
    return np.minimum(np.abs(matrices[0] @ matrices[1].T), 1.0)


@public
def stability(dictionaries: Sequence[Dictionary]) -> float:
    """Measure how alike dictionaries are that were found with different keys: the mean matched cosine over all pairs.

    Args:
        dictionaries: At least two, of one layer.

    Returns:
        A number from 0 to 1; 1 where they are the same up to order and sign. Cost: a matching for each pair.

    Raises:
        ValueError: Fewer than two, or atoms of different widths.
        TypeError: Something that is no dictionary.

    Example:
        >>> import jax.numpy as jnp
        >>> class Axes(Dictionary):
        ...     atoms: Array
        >>> stability([Axes(jnp.eye(3)), Axes(-jnp.eye(3)[::-1])])
        1.0
    """
    if len(dictionaries) < 2:
        raise ValueError(f"stability: `dictionaries` has {len(dictionaries)}; pass at least two, of different keys.")
    for one in dictionaries:
        if not isinstance(one, Dictionary):
            raise TypeError(f"stability: `dictionaries` holds {check.short(one)}; pass dictionaries.")
    atoms = [one.atoms for one in dictionaries]  # type: ignore[attr-defined]
    pairs = [(a, b) for i, a in enumerate(atoms) for b in atoms[i + 1 :]]
    return float(np.mean([match_atoms(a, b).cosine.mean() for a, b in pairs]))


@public
def concept_curves(
    dictionaries: Mapping[str, Dictionary],
    head: Callable[..., Any],
    activations: ArrayLike,
    *args: Any,
    key: Array,
    steps: int = 10,
    insertion: bool = False,
    batch_size: int = 32,
) -> ConceptCurves:
    """Delete (or insert) each example's concepts, most important first, and follow its score; beside a random order.

    Deletion sets codes to zero and keeps what the dictionary leaves out: it starts at the score itself, and a good
    dictionary falls at once. Insertion starts at the decoder's offset and adds concepts alone, without the error: a
    good one is at the score after a few. Concepts are ordered by `importance`, summed over an example's places.

    Args:
        dictionaries: By name, such as `{"autoencoder": one, "PCA": other}`; the first one is deleted at random, too.
        head: A score of activations, `head(h, *args) -> scalar` of one example.
        activations: `[N, ..., D]`.
        *args: The head's other arguments, `[N, ...]` each.
        key: Of the random orders.
        steps: How many concepts, one a step; at most as many as the smallest dictionary has.
        insertion: Insert them in place of deleting them.
        batch_size: Examples at once.

    Returns:
        `ConceptCurves(steps [S + 1], scores)`. Cost: `steps` + 2 forward passes and one backward pass of the head for
        each example and dictionary.

    Raises:
        ValueError: No dictionary, more steps than concepts, activations of another width, layer or model, or NaN.
    """
    name = "concept_curves"
    if not dictionaries:
        raise ValueError(f"{name}: `dictionaries` is empty; pass {{name: dictionary}}.")
    if "random" in dictionaries:
        raise ValueError(
            f"{name}: `dictionaries` holds the name 'random', which is that of concepts in random order here; give the "
            "dictionary another, such as 'random directions'."
        )
    steps, least = check.count(steps, name, "steps"), min(one.size for one in dictionaries.values())
    check.count(batch_size, name, "batch_size")
    if steps > least:
        raise ValueError(f"{name}: `steps` is {steps}, but the smallest dictionary has {least} concepts.")
    first = next(iter(dictionaries))
    h = dictionaries[first].checked(activations, name, "activations")
    count = check.batch_length((h, args), name, "activations")
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    scores = {}
    for label, one, random in [
        *((n, d, False) for n, d in dictionaries.items()),
        ("random", dictionaries[first], True),
    ]:
        one.checked(activations, name, "activations")
        curve = _curve(one, head, steps, insertion, random)
        rows = jax.lax.map(lambda row, curve=curve: curve(*row), (h, args, keys), batch_size=min(batch_size, count))
        scores[label] = np.asarray(rows.mean(axis=0))
    return ConceptCurves(np.arange(steps + 1), scores)


def _curve(one: Dictionary, head: Callable[..., Any], steps: int, insertion: bool, random: bool) -> Callable[..., Any]:
    """The scores of one example, `[steps + 1]`."""

    def curve(h: Array, args: tuple[Any, ...], key: Array) -> Array:
        codes = one.encode(h)
        error = jnp.zeros_like(h) if insertion else h - one.decode(codes)
        places = tuple(range(codes.ndim - 1))
        matters = one.importance(head, h, *args).features.sum(axis=places)
        matters = jax.random.uniform(key, matters.shape) if random else matters
        rank = jnp.argsort(jnp.argsort(-matters))  # 0 is the most important

        def score(count: Array) -> Array:
            chosen = (rank < count) if insertion else (rank >= count)
            kept = codes * jnp.broadcast_to(chosen, codes.shape)
            return head((one.decode(kept) + error).astype(h.dtype), *args)

        return jax.lax.map(score, jnp.arange(steps + 1))

    return curve
