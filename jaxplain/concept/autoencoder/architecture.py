"""How sparse autoencoders differ: which codes stay, what is paid for them, and what is reconstructed."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.concept.autoencoder.selection import jump, largest_of_all, largest_of_rows, step
from jaxplain.program import Function, public, setting
from jaxplain.types import Array

Params = dict[str, Array]


class Architecture(Function):
    """Base of the architectures: settings alone; numbers are in `params`, with M atoms.

    `pre` are the encoder's values before any function, `[..., M]`.
    """

    def start(self, atoms: int) -> tuple[Params, Params]:
        """What is trained, and what is carried, beside the two matrices and their biases."""
        return {}, {}

    def codes(self, params: Params, pre: Array) -> Array:
        """Codes of activations, each by itself."""
        raise NotImplementedError(f"{type(self).__name__} defines no codes.")

    def batch_codes(self, params: Params, pre: Array) -> Array:
        """Codes of a batch `[B, M]` while it is trained on."""
        return self.codes(params, pre)

    def carried(self, params: Params, codes: Array) -> Params:
        """What is carried, after a batch."""
        return {}

    def cost(self, params: Params, pre: Array, codes: Array, decode: Any, target: Array) -> Array:
        """What each activation of a batch is trained to make small, `[B]`: here its squared error and a penalty."""
        return squared(target - decode(codes)) + self.price(params, pre, codes)

    def price(self, params: Params, pre: Array, codes: Array) -> Array:
        """What is paid for the codes of each activation, `[B]`."""
        return jnp.zeros(pre.shape[:-1], pre.dtype)

    def in_units(self, params: Params, scale: Array) -> Params:
        """What is beside the matrices, of activations that were not multiplied by `scale`."""
        return {}


def squared(error: Array) -> Array:
    """The sum of squares of each row."""
    return jnp.sum(error**2, axis=-1)


class Aimed(Architecture):
    """Base of those with a penalty, which is moved while training until k codes are active where k is given."""

    penalty: float = setting()
    k: int | None = setting()

    def start(self, atoms: int) -> tuple[Params, Params]:
        """The penalty, where it is moved."""
        return {}, ({} if self.k is None else {"weight": jnp.full((), self.penalty)})

    def weight(self, params: Params) -> Any:
        """The penalty now."""
        return self.penalty if self.k is None else jax.lax.stop_gradient(params["weight"])

    def carried(self, params: Params, codes: Array) -> Params:
        """The penalty, up to 1 % more where a batch has more than k codes on average, or less."""
        if self.k is None:
            return {}
        mean = jnp.mean(jnp.sum(codes != 0, axis=-1).astype(jnp.float32))
        step = jnp.exp(RATE * jnp.clip(mean / self.k - 1, -1, 1))
        return {"weight": jnp.clip(params["weight"] * step, LEAST * self.penalty, self.penalty / LEAST)}


RATE, LEAST = 0.01, 1e-3
"""How fast a penalty is moved, and how small a part of itself (or its inverse) it may become."""


class ReluL1(Aimed):
    """Rectified codes with a penalty on their sum. Made by `relu_l1`."""

    def codes(self, params: Params, pre: Array) -> Array:
        """The positive part."""
        return jax.nn.relu(pre)

    def price(self, params: Params, pre: Array, codes: Array) -> Array:
        """Codes times the norms of their atoms, so that larger atoms do not make them cheaper."""
        norms = jnp.linalg.norm(params["atoms"], axis=-1)
        return self.weight(params) * (codes @ norms)


@public
def relu_l1(penalty: float = 5.0, *, k: int | None = None) -> ReluL1:
    """Make sparse codes by a penalty on their sum: |h - h'|^2 + penalty * sum_i z_i |a_i| with z = relu(W h + b).

    Args:
        penalty: On the sum of codes, for activations with a variance of 1 (they are brought there while training).
        k: How many codes on average, to which the penalty is moved while training; None leaves the penalty.

    Returns:
        An architecture for `train_autoencoder`.

    Raises:
        ValueError: A penalty that is negative or not finite; k below 1.

    Example:
        >>> relu_l1(2.0)
        relu_l1(penalty=2.0)

    Source: Bricken et al. 2023, "Towards monosemanticity", appendix; Conerly et al. 2024 for the norms.
    """
    return ReluL1(*_aim(penalty, k, "relu_l1"))


def _aim(penalty: Any, k: Any, name: str) -> tuple[float, int | None]:
    """A penalty, which is above zero where it is moved."""
    check.one_number(penalty, name, "penalty", zero=k is None)
    return float(penalty), None if k is None else check.count(k, name, "k")


class TopK(Architecture):
    """The k largest codes of each activation. Made by `top_k`."""

    k: int = setting()

    def codes(self, params: Params, pre: Array) -> Array:
        """The k largest positive parts of each row."""
        positive = jax.nn.relu(pre)
        return jnp.where(largest_of_rows(jax.lax.stop_gradient(positive), self.k), positive, 0)


@public
def top_k(k: int) -> TopK:
    """Make sparse codes by keeping the k largest of each activation: no penalty, no shrinking.

    Exactly k places are kept, ties by index; places where the rectifier gives zero add nothing.

    Args:
        k: How many; at most the number of atoms.

    Returns:
        An architecture for `train_autoencoder`.

    Raises:
        ValueError: k below 1.

    Example:
        >>> top_k(4)
        top_k(4)

    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", equation 3.
    """
    return TopK(check.count(k, "top_k", "k"))


class BatchTopK(Architecture):
    """The k B largest codes of a batch of B; afterwards those above a threshold. Made by `batch_top_k`."""

    k: int = setting()
    decay: float = setting()

    def start(self, atoms: int) -> tuple[Params, Params]:
        """The threshold, which no batch has moved yet."""
        return {}, {"threshold": jnp.zeros(()), "batches": jnp.zeros((), jnp.int32)}

    def codes(self, params: Params, pre: Array) -> Array:
        """What lies above the mean of the batches' smallest codes."""
        positive = jax.nn.relu(pre)
        return jnp.where(positive > params["threshold"].astype(pre.dtype), positive, 0)

    def batch_codes(self, params: Params, pre: Array) -> Array:
        """The k B largest."""
        positive = jax.nn.relu(pre)
        return jnp.where(largest_of_all(jax.lax.stop_gradient(positive), self.k * pre.shape[0]), positive, 0)

    def carried(self, params: Params, codes: Array) -> Params:
        """The mean of each batch's smallest code above zero, later batches weighing more."""
        codes = jax.lax.stop_gradient(codes)
        least = jnp.min(jnp.where(codes > 0, codes, jnp.inf)).astype(jnp.float32)
        number = params["batches"] + jnp.isfinite(least).astype(params["batches"].dtype)
        share = jnp.maximum(
            1 - self.decay, 1 / jnp.maximum(number, 1).astype(jnp.float32)
        )  # the plain mean of the first batches
        moved = params["threshold"] + share * (least - params["threshold"])
        return {"threshold": jnp.where(jnp.isfinite(least), moved, params["threshold"]), "batches": number}

    def in_units(self, params: Params, scale: Array) -> Params:
        """The threshold."""
        return {"threshold": params["threshold"] / scale}


@public
def batch_top_k(k: int, *, decay: float = 0.99) -> BatchTopK:
    """Make sparse codes by keeping the k B largest of each batch of B activations, so that hard ones may have more.

    While training exactly k B places are kept, ties by index. Afterwards each activation is encoded by itself, with the
    codes above a threshold: the mean of the smallest kept code of the batches.

    Args:
        k: How many on average; at most the number of atoms.
        decay: Weight of the past in the mean, a share.

    Returns:
        An architecture for `train_autoencoder`.

    Raises:
        ValueError: k below 1; a decay outside of (0, 1).

    Example:
        >>> batch_top_k(4)
        batch_top_k(4)

    Source: Bussmann, Leask and Nanda 2024, "BatchTopK sparse autoencoders", equations 3 to 5.
    """
    return BatchTopK(check.count(k, "batch_top_k", "k"), _share(decay, "batch_top_k"))


def _share(decay: Any, name: str) -> float:
    check.one_number(decay, name, "decay")
    if not 0 < decay < 1:
        raise ValueError(f"{name}: `decay` has to lie between 0 and 1, not {decay}.")
    return float(decay)


class Matryoshka(BatchTopK):
    """Nested dictionaries, each of which reconstructs. Made by `matryoshka`."""

    sizes: tuple[int, ...] = setting()

    def cost(self, params: Params, pre: Array, codes: Array, decode: Any, target: Array) -> Array:
        """The sum over the sizes of the squared error that the first so many atoms leave."""
        total, start = jnp.zeros(pre.shape[:-1], pre.dtype), 0
        left = target - decode(jnp.zeros_like(codes))
        for size in (*self.sizes, codes.shape[-1]):
            left = left - decode(codes[..., start:size], params["atoms"][start:size])
            total, start = total + squared(left), size
        return total


@public
def matryoshka(k: int, sizes: tuple[int, ...], *, decay: float = 0.99) -> Matryoshka:
    """Make BatchTopK codes of nested dictionaries: the first atoms alone have to reconstruct, then more, then all.

    General features stand first and are not absorbed into their special cases.

    Args:
        k: As in `batch_top_k`.
        sizes: How many atoms the smaller dictionaries have, growing; that of all atoms is added.
        decay: As in `batch_top_k`.

    Returns:
        An architecture for `train_autoencoder`.

    Raises:
        ValueError: k below 1; sizes that do not grow.

    Example:
        >>> matryoshka(4, (16, 32))
        matryoshka(4, (16, 32))

    Source: Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse autoencoders", equation 6.
    """
    name = "matryoshka"
    numbers = tuple(check.count(size, name, "sizes") for size in sizes)
    if not numbers or any(a >= b for a, b in itertools.pairwise(numbers)):
        raise ValueError(f"{name}: `sizes` is {sizes}; pass growing numbers of atoms, such as (16, 64).")
    return Matryoshka(check.count(k, name, "k"), _share(decay, name), numbers)


class JumpRelu(Aimed):
    """Codes above a threshold that each atom learns. Made by `jump_relu`."""

    bandwidth: float = setting()
    threshold: float = setting()

    def start(self, atoms: int) -> tuple[Params, Params]:
        """The thresholds, in logarithms."""
        return {"log_threshold": jnp.full(atoms, jnp.log(self.threshold))}, super().start(atoms)[1]

    def codes(self, params: Params, pre: Array) -> Array:
        """What lies above the thresholds."""
        return jump(jax.nn.relu(pre), *self._levels(params, pre))

    def price(self, params: Params, pre: Array, codes: Array) -> Array:
        """The number of codes."""
        return self.weight(params) * jnp.sum(step(jax.nn.relu(pre), *self._levels(params, pre)), axis=-1)

    def in_units(self, params: Params, scale: Array) -> Params:
        """The thresholds."""
        return {"log_threshold": params["log_threshold"] - jnp.log(scale)}

    def _levels(self, params: Params, pre: Array) -> tuple[Array, Array]:
        return jnp.exp(params["log_threshold"]).astype(pre.dtype), jnp.asarray(self.bandwidth, pre.dtype)


@public
def jump_relu(
    k: int | None = None, *, penalty: float = 1.0, bandwidth: float = 0.05, threshold: float = 0.1
) -> JumpRelu:
    """Make sparse codes by thresholds that are trained: z = p where p = relu(W h + b) > threshold, else 0.

    The loss is |h - h'|^2 + penalty * L0. A step has no derivative: by the threshold a kernel's is taken, of codes
    within half a bandwidth of it.

    Args:
        k: How many codes on average, to which the penalty is moved while training; None leaves the penalty.
        penalty: On the number of codes, for activations with a variance of 1 (they are brought there while training).
        bandwidth: Of the kernel, in units of such activations.
        threshold: Where the thresholds start, so too.

    Returns:
        An architecture for `train_autoencoder`.

    Raises:
        ValueError: Settings out of range.

    Example:
        >>> jump_relu(4)
        jump_relu(k=4)

    Source: Rajamanoharan et al. 2024, "Jumping ahead: improving reconstruction fidelity with JumpReLU sparse
    autoencoders", equations 4, 9, 11 and 12.
    """
    name = "jump_relu"
    check.one_number(bandwidth, name, "bandwidth")
    check.one_number(threshold, name, "threshold")
    return JumpRelu(*_aim(penalty, k, name), float(bandwidth), float(threshold))


class Gated(Architecture):
    """Which codes are active and how large they are, apart. Made by `gated`."""

    penalty: float = setting()

    def start(self, atoms: int) -> tuple[Params, Params]:
        """Gain and bias of the sizes."""
        return {"log_gain": jnp.zeros(atoms), "size_bias": jnp.zeros(atoms)}, {}

    def codes(self, params: Params, pre: Array) -> Array:
        """Sizes where the gate is open."""
        bare = pre - jnp.broadcast_to(params["bias"], pre.shape).astype(pre.dtype)
        gain, bias = (jnp.broadcast_to(params[name], pre.shape) for name in ("log_gain", "size_bias"))
        return jnp.where(pre > 0, jax.nn.relu(jnp.exp(gain) * bare + bias), 0).astype(pre.dtype)

    def cost(self, params: Params, pre: Array, codes: Array, decode: Any, target: Array) -> Array:
        """Squared error, a penalty on the gate's positive part, and the error of that part by a frozen decoder."""
        gate, norms = jax.nn.relu(pre), jnp.linalg.norm(jax.lax.stop_gradient(params["atoms"]), axis=-1)
        frozen = decode(gate, jax.lax.stop_gradient(params["atoms"]))
        frozen = frozen + jnp.broadcast_to(jax.lax.stop_gradient(params["offset"]), frozen.shape)
        return squared(target - decode(codes)) + self.penalty * (gate @ norms) + squared(target - frozen)

    def in_units(self, params: Params, scale: Array) -> Params:
        """Gain and bias of the sizes."""
        return {"log_gain": params["log_gain"], "size_bias": params["size_bias"] / scale}


@public
def gated(penalty: float = 5.0) -> Gated:
    """Make sparse codes by a gate that is penalised, and sizes that are not, so that codes do not shrink.

    z = 1[p > 0] * relu(exp(r) * W h + b') with the gate p = W h + b; the loss is |h - h'|^2 + penalty * sum_i relu(p_i)
    |a_i| + |h - decode(relu(p))|^2, the last with a decoder that does not move.

    Args:
        penalty: On the gate, for activations with a variance of 1.

    Returns:
        An architecture for `train_autoencoder`.

    Raises:
        ValueError: A penalty that is negative or not finite.

    Example:
        >>> gated(2.0)
        gated(penalty=2.0)

    Source: Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders", equations 6 to 8.
    """
    check.one_number(penalty, "gated", "penalty", zero=True)
    return Gated(float(penalty))
