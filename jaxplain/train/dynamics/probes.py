"""Prediction depth: from which layer on neighbours among the training examples say what the model says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.internals import capture
from jaxplain.program import Function, as_function, public, setting, wide_dtype
from jaxplain.score import logit
from jaxplain.train.dynamics.examples import answers, class_count, classes_of
from jaxplain.train.epoch import over_batches
from jaxplain.train.feed import one_batch
from jaxplain.train.trainable import as_trainable
from jaxplain.types import Array, Arrays, Pytree


@dataclasses.dataclass(frozen=True)
class PredictionDepth:
    """Probes of Q examples at L layers. Made by `prediction_depth`.

    Attributes:
        depth: `[Q]`, the number of the layer from which on all probes say what the model says: 0 is the first of
            `layers`; L where not even the last of them does.
        predicted: `[Q]`, the model's class.
        probes: `[L, Q]`, the class that the neighbours at each layer say.
        layers: Their names, in the order of a run.
    """

    depth: Any
    predicted: Any
    probes: Any
    layers: tuple[str, ...]

    @property
    def agreement(self) -> Array:
        """`[L]`, the share of examples whose probe says at a layer what the model says."""
        return jnp.mean(jnp.asarray(self.probes) == jnp.asarray(self.predicted)[None], axis=1)

    def __str__(self) -> str:
        """How deep, in one sentence."""
        depth = np.asarray(self.depth)
        return (
            f"{depth.size} examples at {len(self.layers)} layers ({self.layers[0]} to {self.layers[-1]}): mean depth "
            f"{depth.mean():.2f}, {int((depth == 0).sum())} predicted at the first, "
            f"{int((depth == len(self.layers)).sum())} not even at the last"
        )

    def __repr__(self) -> str:
        return f"PredictionDepth({self})"


jax.tree_util.register_dataclass(PredictionDepth, ["depth", "predicted", "probes"], ["layers"])


class _Embeddings(Function):
    """Values of layers of one example, from the input to the probabilities, each as one vector."""

    f: Any
    paths: tuple[str, ...] = setting()

    def __call__(self, inputs: tuple[Any, ...]) -> tuple[Array, list[Array]]:
        """The outputs `[K]` and the vectors."""
        outputs, layers = self.layers(inputs)
        return outputs, [vector for _, vector in layers]

    def layers(self, inputs: tuple[Any, ...]) -> tuple[Array, list[tuple[str, Array]]]:
        """The outputs and the vectors with their names."""
        outputs, values = capture(self.f, *self.paths)(*inputs)
        floating = [leaf for leaf in jax.tree.leaves(inputs) if check.is_floating(leaf)]
        first = [("input", floating)] if floating else []  # numbers of tokens have no distances
        chances = jax.nn.sigmoid(outputs) if outputs.size == 1 else jax.nn.softmax(outputs)
        return outputs, [(name, _vector(parts)) for name, parts in [*first, *values.items(), ("output", chances)]]

    def names(self, inputs: tuple[Any, ...]) -> tuple[str, ...]:
        """The names of the layers, without computing any."""
        found: list[str] = []

        def look(row: tuple[Any, ...]) -> list[Array]:
            outputs, layers = self.layers(row)
            found.extend(name for name, _ in layers)
            return [outputs]

        jax.eval_shape(look, jax.tree.map(lambda leaf: leaf[0], inputs))
        return tuple(found)


def _vector(value: Any) -> Array:
    leaves = [jnp.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(value)]
    return jnp.concatenate([leaf.astype(wide_dtype(leaf.dtype)) for leaf in leaves])


@public
def prediction_depth(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    paths: str | Sequence[str],
    *,
    queries: Arrays | None = None,
    neighbours: int = 30,
    batch_size: int = 256,
) -> PredictionDepth:
    """Find for each example the layer at which its prediction is made, by nearest-neighbour probes.

    At every layer l a probe says the class of most of the nearest training examples there (Euclidean distance between
    the layer's values, laid out as vectors; ties to the nearer ones, of votes to the lower class). The depth is the l
    whose probe and all after it say what the model says, while the one before it does not; 0 where all do. Examples
    that are hard for a model are predicted deep.

    Args:
        apply: As in `fit`, with one answer an example: logits `[N, K]`, or one logit `[N, 1]`.
        params: All that `apply` needs; of a snapshot `jax.tree.map(lambda leaf: leaf[s], snapshots.params)`.
        data: `(inputs, targets)` arrays `[N, ...]`, the training examples: among them are the neighbours.
        paths: A path or pattern of the layers, as in `capture`, or several in the order of a run. The input (where it
            is of floating-point numbers) comes before them and the probabilities of the output after them.
        queries: Inputs `[Q, ...]` to probe, as those of `data`; None is the training examples themselves, none of
            which is its own neighbour (our choice: the source does not say).
        neighbours: How many of them vote.
        batch_size: Examples whose layers are computed at once.

    Returns:
        `PredictionDepth(depth, predicted, probes, layers)`. Cost: a forward pass over data and queries, and Q N
        distances at each layer. Memory for the values of all layers for all of them.

    Raises:
        ValueError: More neighbours than training examples, outputs without classes or NaN, targets that are no class of
            theirs, no paths or some that name nothing, data that are empty or not finite.
        TypeError: An `apply` or data of no known kind.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(w, x):
        ...     with jax.named_scope("hidden"):
        ...         h = jnp.abs(x)
        ...     return jnp.stack([1 - h[:, 0], h[:, 0] - 1], axis=1)
        >>> x = jnp.array([[-2.0], [-0.2], [0.2], [2.0]])
        >>> prediction_depth(apply, (), (x, jnp.array([1, 0, 0, 1])), "hidden", neighbours=1).depth.tolist()
        [1, 0, 0, 1]

    Source: Baldock, Maennel and Neyshabur 2021, "Deep learning through the lens of example difficulty", section 2 (30
    neighbours, from the input to the softmax).
    """
    name = "prediction_depth"
    check.count(neighbours, name, "neighbours")
    check.count(batch_size, name, "batch_size")
    names = (paths,) if isinstance(paths, str) else tuple(paths)
    if not names:
        raise ValueError(f"{name}: `paths` is empty; pass a path such as 'block_*', or several.")
    batch = one_batch(data, name)
    check.finite(batch.inputs, name, "inputs")
    asked = None
    if queries is not None:
        asked = one_batch((queries, None), name, "queries").inputs
        check.finite(asked, name, "queries")
    if neighbours > batch.size - (asked is None):
        others = " besides the one that is probed" if asked is None else ""
        raise ValueError(
            f"{name}: `neighbours` is {neighbours}, but there are {batch.size - (asked is None)} training examples"
            f"{others}."
        )
    inside = _Embeddings(as_function(logit(as_trainable(apply), params).outputs), names)
    data = jax.tree.map(jnp.asarray, batch._replace(weights=None))
    outputs, support = _embedded(inside, data.inputs, batch_size=batch_size)
    said, values = outputs, support
    if asked is not None:
        said, values = _embedded(inside, jax.tree.map(jnp.asarray, asked), batch_size=batch_size)
    predicted, classes = answers(said, name), class_count(outputs, name)
    labels = classes_of(data.targets, batch.size, classes, True, name)
    if check.is_concrete(predicted) and bool(jnp.any(predicted < 0)):
        lost = np.flatnonzero(np.asarray(predicted) < 0)
        raise ValueError(f"{name}: the outputs of {lost.size} examples are NaN, of {lost[0]} first; look at `params`.")
    votes = [
        _vote(near, labels, own, asked is None, classes=classes, neighbours=neighbours)
        for near, own in zip(support, values, strict=True)
    ]
    return PredictionDepth(_depth(jnp.stack(votes), predicted), predicted, jnp.stack(votes), inside.names(data.inputs))


def _embed_all(inside: Any, inputs: tuple[Any, ...], batch_size: int) -> tuple[Array, list[Array]]:
    return over_batches(jax.vmap(inside), inputs, batch_size)


_embedded = jax.jit(_embed_all, static_argnames="batch_size")


def _votes(support: Array, labels: Array, values: Array, own: Array, classes: int, neighbours: int) -> Array:
    """The class of most of the nearest rows of `support` for each row of `values`."""
    places = jnp.arange(len(support))

    def one(row: tuple[Array, Array]) -> Array:
        value, place = row
        distance = jnp.sum(jnp.square(support - value[None]), axis=1)
        distance = jnp.where(own & (places == place), jnp.inf, distance)
        nearest = jax.lax.top_k(-distance, neighbours)[1]
        votes = jnp.zeros(classes, jnp.int32).at[labels[nearest]].add(1)
        return jnp.argmax(votes).astype(jnp.int32)

    return jax.lax.map(one, (values, jnp.arange(len(values))))


_vote = jax.jit(_votes, static_argnames=("classes", "neighbours"))


def _depth(probes: Array, predicted: Array) -> Array:
    """One more than the number of the last layer whose probe says something else."""
    other = jnp.where(probes != predicted[None], jnp.arange(len(probes))[:, None], -1)
    return jnp.max(other, axis=0).astype(jnp.int32) + 1
