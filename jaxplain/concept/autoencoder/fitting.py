"""Training sparse autoencoders and transcoders with `train.fit`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain import check
from jaxplain.concept.autoencoder.architecture import Architecture, Matryoshka
from jaxplain.concept.autoencoder.model import Autoencoder, SparseModel
from jaxplain.concept.autoencoder.norm import of_unit_norm, random_atoms
from jaxplain.concept.dictionary import Site, centred_square
from jaxplain.program import is_array, public
from jaxplain.train import History, fit
from jaxplain.types import Array, Pytree

NAME = "train_autoencoder"
ADAM = optax.adam(1e-3)


class Trained(NamedTuple):
    """What `train_autoencoder` returns: the dictionary, the losses while training, and the params of its last step."""

    dictionary: Autoencoder
    history: History
    params: Pytree

    def __repr__(self) -> str:
        return f"Trained({self.dictionary!r}, loss={float(self.history.loss[-1]):.4g})"


@public
def train_autoencoder(
    activations: Any,
    atoms: int,
    architecture: Architecture,
    *,
    key: Array,
    targets: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 10,
    batch_size: int = 256,
    auxiliary: float = 1 / 32,
    dead_after: int | None = None,
    site: Site | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = False,
) -> Trained:
    """Train a sparse autoencoder on activations, or a transcoder from one layer's to another's.

    Each step minimises the architecture's loss over its batch, with activations brought to a variance of 1; what comes
    back is in their own units. Atoms are kept at norm 1. Atoms that have not been used for `dead_after` activations are
    trained, by the auxiliary loss alone, to explain what is left.

    Args:
        activations: Arrays `[N, ..., D]`, each place a row of its own; or a function of a key (or an iterable) that
            gives batches `[B, D]`, such as `activation_stream`; of pairs `([B, D], [B, E])` for a transcoder.
        atoms: How many, M.
        architecture: What `relu_l1`, `top_k`, `batch_top_k`, `jump_relu`, `matryoshka` or `gated` made.
        key: Of the first atoms and the order of activations.
        targets: Arrays `[N, ..., E]` that a transcoder writes; None trains an autoencoder.
        optimizer: An optax transformation; None is `optax.adam(1e-3)`.
        epochs: Passes over the activations.
        batch_size: Activations in a step; batches of an iterable are taken as they come.
        auxiliary: Weight of the auxiliary loss, a share; 0 leaves it out.
        dead_after: In activations; None is 100 batches.
        site: Where the activations are from (`layer_site`), so that the dictionary is not used elsewhere.
        checkpoint: As in `train.fit`.
        resume: As in `train.fit`: to the bit.
        progress: As in `train.fit`.

    Returns:
        `Trained(dictionary, history, params)`. Cost: `epochs` times a forward and a backward pass of two products
        `[N, D] x [D, M]`.

    Raises:
        ValueError: More codes than atoms, activations that are NaN, constant or empty, settings as in `fit`.
        TypeError: Activations or an architecture of no known kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.concept import top_k
        >>> h = jnp.abs(jax.random.normal(jax.random.key(0), (256, 1))) * jnp.eye(4)[jnp.arange(256) % 4]
        >>> found = train_autoencoder(h, 4, top_k(1), key=jax.random.key(1), epochs=1)
        >>> found.dictionary.encode(h).shape
        (256, 4)

    Source: Bricken et al. 2023, "Towards monosemanticity"; Gao et al. 2024, "Scaling and evaluating sparse
    autoencoders"; Dunefsky, Chlenski and Nanda 2024, "Transcoders find interpretable LLM feature circuits".
    """
    count = check.count(atoms, NAME, "atoms")
    fitting_size(architecture, count)
    check.count(batch_size, NAME, "batch_size")
    check.one_number(auxiliary, NAME, "auxiliary", zero=True)
    data, first = _data(activations, targets, key)
    in_a_batch = batch_size if is_array(activations) else first[0].shape[0]
    dead_after = 100 * in_a_batch if dead_after is None else check.count(dead_after, NAME, "dead_after")
    model = SparseModel(architecture, float(auxiliary), dead_after, len(first) == 1)
    params = start_params(model, count, first, jax.random.fold_in(key, 2**31))
    done = fit(
        model,
        params,
        data,
        key=key,
        loss=_itself,
        optimizer=of_unit_norm(ADAM if optimizer is None else optimizer),
        epochs=epochs,
        batch_size=batch_size,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    return Trained(model.dictionary(done.params, site), done.history, done.params)


def _itself(outputs: Array, target: Array) -> Array:
    """The loss of one activation, which the model returns."""
    return outputs + 0 * target.sum()


def fitting_size(architecture: Architecture, atoms: int) -> None:
    """Require an architecture that keeps at most as many codes as there are atoms."""
    if not isinstance(architecture, Architecture):
        raise TypeError(
            f"{NAME}: `architecture` is {check.short(architecture)}; pass what `top_k(k)`, `batch_top_k(k)` or another "
            "of their kind made."
        )
    k = getattr(architecture, "k", None)
    if k is not None and k > atoms:
        raise ValueError(f"{NAME}: `architecture` keeps k = {k} codes, but the dictionary has {atoms} atoms.")
    if isinstance(architecture, Matryoshka) and architecture.sizes[-1] >= atoms:
        raise ValueError(
            f"{NAME}: `architecture` has nested dictionaries of {architecture.sizes} atoms, but all have {atoms}; the "
            "smaller ones have to be smaller."
        )


def start_params(model: SparseModel, atoms: int, first: tuple[Array, ...], key: Array) -> Pytree:
    """Params before the first step: random atoms of norm 1, the encoder their transpose, centres at the mean."""
    rows, targets = (part.astype(jnp.promote_types(part.dtype, jnp.float32)) for part in (first[0], first[-1]))
    scale, wide = (_scale(part) for part in (rows, targets))
    own = random_atoms(key, atoms, targets.shape[-1])
    reads = own if model.tied else random_atoms(jax.random.fold_in(key, 1), atoms, rows.shape[-1])
    trained, carried = model.architecture.start(atoms)
    trained |= {"encoder": reads.T, "bias": jnp.zeros(atoms), "atoms": own, "offset": targets.mean(axis=0) * wide}
    carried |= {"silent": jnp.zeros(atoms, jnp.int32), "scale": scale, "target_scale": wide}
    carried |= {} if model.tied else {"centre": rows.mean(axis=0) * scale}
    return {"trained": trained, "carried": carried}


def _scale(rows: Array) -> Array:
    """What brings activations to a variance of 1 in each number, on average."""
    return jnp.sqrt(rows.shape[0] * rows.shape[1] / centred_square(rows, NAME)).astype(rows.dtype)


def _data(activations: Any, targets: Any, key: Array) -> tuple[Any, tuple[Array, ...]]:
    """What `fit` takes, and the activations (and targets) that the first params are made from."""
    if is_array(activations):
        parts: tuple[Array, ...] = (_rows(activations, "activations"),)
        if targets is not None:
            parts += (_rows(targets, "targets"),)
            if parts[0].shape[0] != parts[1].shape[0]:
                raise ValueError(
                    f"{NAME}: `activations` has {parts[0].shape[0]} places, but `targets` has {parts[1].shape[0]}."
                )
        return (parts, jnp.zeros((parts[0].shape[0], 1))), parts
    if targets is not None:
        raise ValueError(f"{NAME}: `targets` go with arrays; a stream gives pairs (activations, targets) itself.")
    if not (callable(activations) or isinstance(activations, Iterable)) or isinstance(activations, dict | str):
        raise TypeError(
            f"{NAME}: `activations` is {check.short(activations)}; pass arrays [N, ..., D], or a function of a key (or "
            "an iterable) that gives batches of them."
        )
    batches = _Batches(activations)
    first = next(iter(batches(jax.random.fold_in(key, 0))), None)
    if first is None:
        raise ValueError(f"{NAME}: `activations` gave no batch.")
    return batches, tuple(map(jnp.asarray, first[0]))


def _rows(value: Any, argument: str) -> Array:
    """Activations as rows `[N, D]`."""
    check.arrays(value, NAME, argument)
    value = jnp.asarray(value)
    if value.ndim < 2 or not check.is_floating(value):
        raise ValueError(
            f"{NAME}: `{argument}` has {check.describe(value)}; pass floating-point activations [N, ..., D]."
        )
    check.finite(value, NAME, argument)
    return value.reshape(-1, value.shape[-1])


class _Batches:
    """Batches of activations as `fit` takes them, anew for each epoch's key."""

    def __init__(self, activations: Callable[[Array], Iterable[Any]] | Iterable[Any]) -> None:
        if not callable(activations) and iter(activations) is activations:
            raise TypeError(
                f"{NAME}: `activations` is an iterator, which is spent after one epoch. Pass a list of batches, or a "
                "function of a key that makes a new iterator."
            )
        self.activations = activations

    def __call__(self, key: Array) -> Iterator[tuple[tuple[Array, ...], np.ndarray]]:
        """Batches `(inputs, targets)`; the targets of `fit` are not used."""
        items = self.activations(key) if callable(self.activations) else self.activations
        for item in items:
            parts = tuple(item) if isinstance(item, tuple | list) else (item,)
            if len(parts) > 2:
                raise ValueError(f"{NAME}: a batch of `activations` has {len(parts)} parts; pass one, or a pair.")
            rows = tuple(_rows(part, "activations") for part in parts)
            yield rows, np.zeros((rows[0].shape[0], 1), np.float32)
