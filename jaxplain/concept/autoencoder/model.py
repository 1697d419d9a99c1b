"""A sparse autoencoder as a dictionary, and as a model that `train.fit` trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain.concept.autoencoder.architecture import Architecture, Params, squared
from jaxplain.concept.autoencoder.selection import largest_of_rows
from jaxplain.concept.dictionary import Dictionary, Importance
from jaxplain.program import Function, setting
from jaxplain.types import Array, Pytree


class Autoencoder(Dictionary):
    """A sparse autoencoder: codes = activation((h - centre) @ encoder + bias), activations codes @ atoms + offset.

    encoder: `[D, M]`. bias: `[M]`. centre: `[D]`. atoms: `[M, D]`, of norm 1 where it was trained here. offset: `[D]`,
    the centre. extra: what the architecture has beside these (thresholds). Weights from elsewhere are taken as they
    are.
    """

    encoder: Array
    bias: Array
    centre: Array
    atoms: Array
    offset: Array
    extra: Params
    architecture: Architecture

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, architecture={self.architecture!r})"

    def encode(self, h: Array) -> Array:
        """Codes `[..., M]`, of each activation by itself. Cost: one product."""
        return self.architecture.codes({**self.extra, "bias": self.bias}, self.before(h))

    def before(self, h: Array) -> Array:
        """The encoder's values before any function, `[..., M]`."""
        h = jnp.asarray(h)
        moved = (h - jnp.broadcast_to(self.centre, h.shape)) @ self.encoder
        return moved + jnp.broadcast_to(self.bias, moved.shape)


class Transcoder(Autoencoder):
    """A sparse autoencoder that writes another layer's activations: atoms are `[M, E]`, its centre is not trained."""

    @property
    def width(self) -> int:
        """The number of features that it reads, D."""
        return int(jnp.shape(self.encoder)[0])

    @property
    def reconstructs(self) -> bool:
        """It does not: what it writes is another layer's."""
        return False

    def importance(self, head: Callable[..., Any], h: Array, *args: Any) -> Importance:
        """Refused: the error is that of another layer's activations, which are not known here."""
        raise ValueError(
            "importance: a transcoder reads one layer and writes another, so that `h` does not say its error. Take "
            "`jax.grad` of the score at `decode(encode(h))`, or an autoencoder of either layer."
        )


class SparseModel(Function):
    """What `train.fit` trains: the loss of each activation of a batch, as a model of the dictionary's numbers.

    Params are `{"trained": {encoder, bias, atoms, offset, ...}, "carried": {silent, scale, centre, ...}}`; `silent`
    counts the activations since each atom was last used, `[M]`. Inputs are activations `[B, D]`, and for a transcoder
    targets `[B, E]`.
    """

    architecture: Any
    auxiliary: float = setting(default=1 / 32)
    dead_after: int = setting(default=10_000)
    tied: bool = setting(default=True)

    def __call__(self, params: Pytree, *inputs: Array) -> Array:
        """The squared error of each activation, encoded by itself, `[B]`: what validation measures."""
        flat, h, target = self._opened(params, inputs)
        codes = self.architecture.codes(flat, self._before(flat, h))
        return squared(target - _decode(flat, codes))

    def train(self, params: Pytree, inputs: tuple[Any, ...], key: Array) -> tuple[Array, Pytree]:
        """The loss of each activation of a batch, `[B]`, and the params with what is carried."""
        flat, h, target = self._opened(params, inputs)
        pre = self._before(flat, h)
        codes = self.architecture.batch_codes(flat, pre)

        def decode(codes: Array, atoms: Array | None = None) -> Array:
            return _decode(flat, codes) if atoms is None else codes @ atoms

        losses = self.architecture.cost(flat, pre, codes, decode, target)
        used = jnp.any(codes != 0, axis=0)
        silent = jnp.where(used, 0, params["carried"]["silent"] + jnp.int32(h.shape[0]))
        if self.auxiliary:
            error = lax.stop_gradient(target - decode(codes))
            losses = losses + self.auxiliary * self._revived(flat, pre, error, silent >= self.dead_after)
        carried = {**params["carried"], **self.architecture.carried(flat, codes), "silent": silent}
        return losses, {"trained": params["trained"], "carried": carried}

    def partition(self, params: Pytree) -> tuple[Pytree, Pytree]:
        """What an optimizer trains, and what is carried."""
        return params["trained"], params["carried"]

    def combine(self, trained: Pytree, rest: Pytree) -> Pytree:
        """The params again."""
        return {"trained": trained, "carried": rest}

    def reseed(self, params: Pytree, key: Array) -> Pytree:
        """Nothing random is held."""
        return params

    def dictionary(self, params: Pytree, site: Any) -> Autoencoder:
        """What was trained, in units of the activations that came in."""
        trained, carried = params["trained"], params["carried"]
        scale, wide = carried["scale"], carried["target_scale"]
        offset = trained["offset"] / wide
        centre = offset if self.tied else carried["centre"] / scale
        extra = self.architecture.in_units({**trained, **carried}, wide)  # codes are in units of what is written
        encoder = trained["encoder"] * (scale / wide)
        kind = Autoencoder if self.tied else Transcoder
        parts = (encoder, trained["bias"] / wide, centre, trained["atoms"], offset, extra, self.architecture)
        return kind(*parts, site=site)

    def _opened(self, params: Pytree, inputs: tuple[Any, ...]) -> tuple[Params, Array, Array]:
        """All numbers in one place, and activations in units in which their variance is 1."""
        flat = {**params["carried"], **params["trained"]}
        h, target = inputs[0] * flat["scale"].astype(inputs[0].dtype), inputs[-1]
        return flat, h, target * flat["target_scale"].astype(target.dtype)

    def _before(self, flat: Params, h: Array) -> Array:
        centre = flat["offset"] if self.tied else flat["centre"]
        return (h - centre[None]) @ flat["encoder"] + flat["bias"][None]

    def _revived(self, flat: Params, pre: Array, error: Array, dead: Array) -> Array:
        """How badly the dead atoms alone explain what is left, `[B]`; 0 where none is dead. It trains the centre, too.

        Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section A.2.
        """
        most = max(1, min(pre.shape[-1], error.shape[-1] // 2))

        def explain() -> Array:
            value = jnp.where(dead[None], jax.nn.relu(pre), 0)
            chosen = largest_of_rows(lax.stop_gradient(value), most)
            share = jnp.minimum(jnp.sum(dead) / most, 1.0).astype(pre.dtype)  # few dead atoms can explain little
            return share * squared(error - jnp.where(chosen, value, 0) @ flat["atoms"])

        return lax.cond(jnp.any(dead), explain, lambda: jnp.zeros(pre.shape[:1], pre.dtype))


def _decode(flat: Params, codes: Array) -> Array:
    return codes @ flat["atoms"] + flat["offset"][None]
