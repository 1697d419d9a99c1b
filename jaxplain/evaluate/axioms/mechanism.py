"""Models whose mechanism is known: small ReLU networks with set weights, and what an attribution of them has to say."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, public, setting, shown
from jaxplain.types import Array, ArrayLike

NAME = "mechanisms"
GATE = 100.0
"""What closes a gate: more than any input times its weight."""
UNITS = 6
"""As many hidden units of each pair of features as the largest mechanism has."""
ROUNDING = 1e-5
"""Below this share of the largest one a sum of attributions is nothing."""
FLOOR = 0.01
"""Below this share of the truth an attribution counts as nothing where its sign is judged."""


class Network(Function):
    """A score with set weights: last . relu(first x + bias), or the probability of class 0 of a softmax over it."""

    first: Any
    bias: Any
    last: Any
    softmax: bool = setting(default=False)

    def __call__(self, x: Array) -> Array:
        """Score one example `[D]`."""
        outputs = jax.nn.relu(x @ self.first + self.bias) @ self.last
        return jax.nn.softmax(outputs)[0] if self.softmax else outputs[0]


@shown
@dataclasses.dataclass(frozen=True)
class Mechanism:
    """One model with a known mechanism, inputs to it and the truth about them. Made by `mechanisms`.

    Attributes:
        name: What it is called.
        question: What an attribution has to get right.
        score: `f(x) -> scalar`, a pytree.
        inputs: `[B, D]`.
        truth: `[B, D]`, in units of the score.
        judged: `[B, D]`, which entries are judged.
        kind: How: 'value' (equal to the truth), 'sign' (not nothing, and of the truth's sign) or 'nothing'.
    """

    name: str
    question: str
    score: Network
    inputs: np.ndarray
    truth: np.ndarray
    judged: np.ndarray
    kind: str

    def error(self, attribution: ArrayLike) -> np.ndarray:
        """How wrong attributions `[B, D]` are, `[B]`; NaN where nothing is judged or the attribution is not finite.

        'value': |a - t| / |t| (Euclidean, over what is judged); 'sign': the share of what is judged that is less than a
        hundredth of the truth, or of the other sign; 'nothing': the judged share of sum |a|, undefined where that sum
        is 0 beside the largest.
        """
        a = np.asarray(attribution, np.float64)
        if a.shape != self.inputs.shape:
            raise ValueError(
                f"{NAME}: the attribution of {self.name!r} has shape {a.shape}, but its inputs {self.inputs.shape}."
            )
        undefined = ~np.isfinite(a).all(1)
        a = np.where(np.expand_dims(undefined, 1), 0.0, a)
        judged, truth = self.judged, self.truth
        if self.kind == "value":
            over, under = (np.sqrt(np.where(judged, part, 0.0).sum(1)) for part in ((a - truth) ** 2, truth**2))
        elif self.kind == "sign":
            over = (judged & (a * np.sign(truth) < FLOOR * np.abs(truth))).sum(1)
            under = judged.sum(1)
        else:
            over, under = np.where(judged, np.abs(a), 0.0).sum(1), np.abs(a).sum(1)
            # Where a method finds nothing anywhere, shares would be those of rounding errors.
            under = np.where(under > ROUNDING * np.max(under, initial=0.0), under, 0.0)
        return np.where(undefined | (under == 0), np.nan, over / np.where(under == 0, 1, under))


@public
def mechanisms(key: Array, *, samples: int = 64, pairs: int = 3) -> tuple[Mechanism, ...]:
    """Make models whose mechanism is known, with inputs and the truth about them: unit tests of an attribution method.

    Each is a ReLU network with set weights (so that rules of the backward pass apply), of weights w with
    1/2 <= |w| <= 3/2 and random signs, x ~ N(0, 1), and switches c of 0 or 1:

    * interaction: f = sum_i x_i (u_i if c_i else w_i) + v_i c_i. The weight of x_i is the one that holds: its
      attribution is x_i u_i or x_i w_i, and v_i c_i the switch's.
    * conflicting features: f = sum_i (1 - c_i) w_i x_i. Where c_i = 1 both x_i and c_i matter, and against each other,
      though the score does not show either: the sign of x_i's attribution is that of w_i x_i, of c_i's the opposite.
    * cancellation: f = sum_i w_i x_i + v_i (relu(u_i) - relu(-u_i) - relu(u_i + 9) + 9), where the last terms are 0 for
      |u_i| < 9: u_i reaches the score on paths that cancel, and its attribution is 0.
    * uncertainty: the probability of class 0 of a softmax over logits w_k x_k + sum_i u_i: u_i raises all classes
      alike and changes no probability, and its attribution is 0.
    * pertinent negatives: f = sum_i w_i x_i + v_i (n_i + 10 (1 - n_i)). The absence n_i = 0 matters: its attribution
      has the sign of 9 v_i, what the score gains over n_i = 1.

    What is true of the first two is a convention (Shapley values share an interaction between its features), the
    source's; the last three follow from the function.

    Args:
        key: PRNG key.
        samples: B, inputs of each model.
        pairs: How many features of each kind.

    Returns:
        Five `Mechanism`s, in this order: each with its `score`, `inputs` `[B, 2 pairs]`, and `error(attribution)`.
        The first `pairs` features are x, the others c, u or n. Cost: draws.

    Raises:
        ValueError, TypeError: Counts below 1 (`pairs` below 2), a key that is no threefry key.

    Example:
        >>> found = mechanisms(jax.random.key(0), samples=4)
        >>> [one.name for one in found][:2], found[0].inputs.shape
        (['interaction', 'conflicting features'], (4, 6))
        >>> float(found[0].error(jax.vmap(lambda x: x * jax.grad(found[0].score)(x))(found[0].inputs)).max()) < 1e-5
        True

    Source: Lee et al. 2025, "XAI-Units: benchmarking explainability methods with unit tests", whose truths these are
    for interaction, conflicting features, uncertainty and pertinent negatives; networks, judgement and cancellation
    (the dummy axiom, Sundararajan et al. 2017, by paths that cancel) are ours.
    """
    check.threefry(key, NAME)
    samples, pairs = check.count(samples, NAME, "samples"), check.count(pairs, NAME, "pairs", 2)
    makers = (_interaction, _conflict, _cancellation, _uncertainty, _pertinent_negatives)
    return tuple(make(_Draws(jax.random.fold_in(key, place), samples, pairs)) for place, make in enumerate(makers))


class _Draws:
    """Weights, inputs and switches of one mechanism."""

    def __init__(self, key: Array, samples: int, pairs: int) -> None:
        parts = jax.random.split(key, 5)

        def weights(key: Array) -> np.ndarray:
            size, sign = jax.random.split(key)
            drawn = jax.random.uniform(size, (pairs,), minval=0.5, maxval=1.5)
            return np.asarray(drawn * jax.random.rademacher(sign, (pairs,)), np.float32)

        self.pairs = pairs
        self.w, self.u, self.v = (weights(part) for part in parts[:3])
        self.x = np.asarray(jax.random.normal(parts[3], (samples, pairs)), np.float32)
        self.switch = np.asarray(jax.random.bernoulli(parts[4], 0.5, (samples, pairs)), np.float32)

    def made(
        self,
        name: str,
        question: str,
        units: list[_Unit],
        second: np.ndarray,
        truth: Any,
        judged: Any,
        kind: str,
        constant: Any = 0.0,
    ) -> Mechanism:
        """A mechanism of hidden units, each of one pair."""
        inputs = np.concatenate([self.x, second], axis=1)
        truth = np.concatenate([np.broadcast_to(part, self.x.shape) for part in truth], axis=1)
        judged = np.concatenate([np.broadcast_to(part, self.x.shape) for part in judged], axis=1)
        score = _network(units, self.pairs, constant)
        return Mechanism(name, question, score, inputs, truth.astype(np.float64), judged.astype(bool), kind)


@dataclasses.dataclass(frozen=True)
class _Unit:
    """A hidden unit of every pair: out relu(on_x x + on_second c + bias), each number `[pairs]` or one."""

    on_x: Any
    on_second: Any
    out: Any
    bias: Any = 0.0


def _network(units: list[_Unit], pairs: int, constant: Any) -> Network:
    """The score of these units and a constant, of one width whatever they are: a method compiles once for all."""

    def diagonal(value: Any) -> np.ndarray:
        return np.diag(np.broadcast_to(np.asarray(value, np.float32), (pairs,)))

    def row(value: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, np.float32), (pairs,))

    units = [*units, *[_Unit(0.0, 0.0, 0.0)] * (UNITS - len(units))]
    first = np.concatenate([np.concatenate([diagonal(u.on_x), diagonal(u.on_second)], 0) for u in units], axis=1)
    first = np.concatenate([first, np.zeros((2 * pairs, 1), np.float32)], axis=1)  # a unit that is always on
    bias = np.concatenate([*(row(u.bias) for u in units), np.ones(1, np.float32)])
    last = np.concatenate([*(row(u.out) for u in units), np.full(1, constant, np.float32)])
    return Network(jnp.asarray(first), jnp.asarray(bias), jnp.asarray(last)[:, None])


def _both(on_x: Any, on_second: Any, out: Any, gate: float = 0.0) -> list[_Unit]:
    """Two units that are linear together, closed by the second feature where a gate is given."""
    return [_Unit(on_x, on_second - gate, out), _Unit(-on_x, -on_second - gate, -out)]


def _interaction(d: _Draws) -> Mechanism:
    # u x always; (w - u) x while the switch is 0.
    units = [*_both(d.u, 0.0, 1.0), *_both(d.w - d.u, 0.0, 1.0, GATE), *_both(0.0, d.v, 1.0)]
    holds = np.where(d.switch > 0, d.u, d.w)
    return d.made(
        "interaction",
        "the weight that holds where a switch chooses it",
        units,
        d.switch,
        (holds * d.x, d.v * d.switch),
        (True, True),
        "value",
    )


def _conflict(d: _Draws) -> Mechanism:
    worth = d.w * d.x
    on = d.switch > 0
    return d.made(
        "conflicting features",
        "two features that cancel each other",
        _both(d.w, 0.0, 1.0, GATE),
        d.switch,
        (worth, -worth * d.switch),
        (on, on),
        "sign",
    )


def _cancellation(d: _Draws) -> Mechanism:
    second = np.clip(d.x[:, ::-1] + d.switch, -8.0, 8.0)
    units = [*_both(d.w, 0.0, 1.0), *_both(0.0, 1.0, d.v), _Unit(0.0, 1.0, -d.v, 9.0)]
    return d.made(
        "cancellation",
        "a feature whose paths to the score cancel",
        units,
        second,
        (d.w * d.x, 0.0),
        (False, True),
        "nothing",
        constant=9.0 * d.v.sum(),
    )


def _uncertainty(d: _Draws) -> Mechanism:
    pairs = d.pairs
    weights = np.concatenate([np.diag(d.w), np.ones((pairs, pairs), np.float32)])  # [2 pairs, classes]
    first = np.concatenate([np.eye(2 * pairs), -np.eye(2 * pairs)], axis=1).astype(np.float32)
    score = Network(
        jnp.asarray(first), jnp.zeros(4 * pairs), jnp.asarray(np.concatenate([weights, -weights])), softmax=True
    )
    second = d.x[:, ::-1] + d.switch
    inputs = np.concatenate([d.x, second], axis=1)
    judged = np.concatenate([np.zeros_like(d.x), np.ones_like(d.x)], axis=1) > 0
    question = "features that raise all classes alike"
    return Mechanism("uncertainty", question, score, inputs, np.zeros(inputs.shape), judged, "nothing")


def _pertinent_negatives(d: _Draws) -> Mechanism:
    # n = 1 gives relu(2 n - 1) = 1, n = 0 gives relu(1 - 2 n) = 1.
    units = [*_both(d.w, 0.0, 1.0), _Unit(0.0, 2.0, d.v, -1.0), _Unit(0.0, -2.0, 10 * d.v, 1.0)]
    absent = d.switch == 0
    return d.made(
        "pertinent negatives",
        "a feature whose absence matters",
        units,
        d.switch,
        (d.w * d.x, 9 * d.v * absent),
        (False, absent),
        "sign",
    )
