"""What the layers do in each step, summed up in the optimizer's state, so that it goes wherever that goes.

A transformation around another one: it passes gradients and updates on as they are, and a checkpoint, a resumed run, a
traced run and an ensemble carry its sums as they carry any optimizer's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxplain.train.layer.group import Group
from jaxplain.types import Array, Pytree

QUANTITIES = ("gradient_norm", "update_norm", "weight_norm", "dead")
"""What is recorded of each layer, in the order of the columns."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """An optimizer's state with the sums of an epoch: norms of gradient, update and weights `[3, L]`, units moved."""

    inner: Any
    steps: Array
    norms: Array
    moved: tuple[Array, ...]
    groups: tuple[Group, ...]


jax.tree_util.register_dataclass(Recorded, ["inner", "steps", "norms", "moved"], ["groups"])


@dataclasses.dataclass(frozen=True)
class _Start:
    """`init` of the transformation; equal for equal optimizers and layers, so that programs are compiled once."""

    optimizer: Any
    groups: tuple[Group, ...]

    def __call__(self, params: Pytree) -> Recorded:
        return _empty(self.optimizer.init(params), self.groups)


@dataclasses.dataclass(frozen=True)
class _Update:
    """`update` of the transformation."""

    optimizer: Any
    groups: tuple[Group, ...]

    def __call__(
        self, gradient: Pytree, state: Recorded, params: Pytree = None, **extra: Any
    ) -> tuple[Pytree, Recorded]:
        whole = optax.with_extra_args_support(self.optimizer)
        updates, inner = whole.update(gradient, state.inner, params, **extra)
        # Read, not trained: nothing of it is differentiated.
        trees = [jax.lax.stop_gradient(jax.tree.leaves(tree)) for tree in (gradient, updates, params)]
        norms = jnp.stack([jnp.stack([group.norm(leaves) for group in self.groups]) for leaves in trees])
        moved = tuple(old | group.moved(trees[0]) for old, group in zip(state.moved, self.groups, strict=True))
        sums = state.norms + norms.astype(state.norms.dtype)
        return updates, Recorded(inner, state.steps + 1, sums, moved, self.groups)


def _empty(inner: Any, groups: tuple[Group, ...]) -> Recorded:
    norms = jnp.zeros((3, len(groups)), jnp.float32)
    moved = tuple(jnp.zeros(group.units, bool) for group in groups)
    return Recorded(inner, jnp.zeros((), jnp.int32), norms, moved, groups)


def recording(optimizer: Any, groups: tuple[Group, ...]) -> optax.GradientTransformationExtraArgs:
    """An optimizer that does what it did, and sums up what the layers do."""
    return optax.GradientTransformationExtraArgs(_Start(optimizer, groups), _Update(optimizer, groups))


def unrecorded(optimizer: Any) -> tuple[Any, tuple[Group, ...]]:
    """The optimizer inside a recording one and the layers; any other one as it is, and none."""
    start = getattr(optimizer, "init", None)
    return (start.optimizer, start.groups) if isinstance(start, _Start) else (optimizer, ())


def recorded_columns(opt_state: Any) -> int:
    """How many numbers `take` gives for an epoch."""
    return len(QUANTITIES) * len(opt_state.groups) if isinstance(opt_state, Recorded) else 0


def take(opt_state: Any) -> tuple[Array, Any]:
    """The numbers of an epoch `[4 L]`, means over its steps and dead units, and the state with empty sums.

    Of a state without a record no numbers, and the state as it is.
    """
    if not isinstance(opt_state, Recorded):
        return jnp.zeros(0, jnp.float32), opt_state
    means = opt_state.norms / jnp.maximum(opt_state.steps, 1)
    dead = jnp.stack([jnp.sum(~moved) for moved in opt_state.moved]).astype(means.dtype)
    return jnp.concatenate([means.reshape(-1), dead]), _empty(opt_state.inner, opt_state.groups)


def without_record(opt_state: Any) -> tuple[Any, tuple[Group, ...]]:
    """The state of the optimizer itself, and the layers that were recorded."""
    return (opt_state.inner, opt_state.groups) if isinstance(opt_state, Recorded) else (opt_state, ())
