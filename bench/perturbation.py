"""Methods that need forward passes alone, against straightforward JAX, captum, and the cost of the passes themselves.

Expected: within 1.15 of the plain forward passes that a method needs, and at least 1.3 times faster than captum. The
straightforward JAX is a Python loop over features or windows around a jitted forward pass.

    python bench/perturbation.py [--quick]
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from bench.harness import BOUND, PEER, PLAIN, Case, Program, installed, script
from bench.network import (
    GROUPS,
    Work,
    channels_last,
    explained,
    passes,
    torch_batch,
    torch_network,
    without_gradients,
    work,
)

SAMPLES = 64


def looped(w: Work, masks: np.ndarray) -> Callable[[], Any]:
    """Ablation of boolean masks `[N, 28, 28]` as most would write it: a Python loop, averaged over covering masks."""
    score = jax.jit(lambda f, x, labels: jax.vmap(f)(x, labels))

    def run() -> Any:
        whole, total = score(w.f, w.x, w.labels), jnp.zeros_like(w.x)
        for mask in masks:
            cover = mask[None, :, :, None].astype(np.float32)
            changed = whole - score(w.f, w.x * (1 - cover), w.labels)
            total = total + changed[:, None, None, None] * cover
        return total / masks.sum(axis=0)[None, :, :, None]

    return run


def captum_programs(w: Work) -> dict[str, list[Program]]:
    """captum with one and with four perturbations in an evaluation."""
    if not installed("captum"):
        return {}
    import torch
    from captum.attr import FeatureAblation, Occlusion

    model, (images, targets) = torch_network(w.variables), torch_batch(w)
    ablation = functools.partial(
        FeatureAblation(model).attribute, images, target=targets, feature_mask=torch.tensor(GROUPS)[None, None]
    )
    occlusion = functools.partial(Occlusion(model).attribute, images, (1, 4, 4), strides=(1, 2, 2), target=targets)
    return {
        name: [
            Program(
                f"captum, {count} at once",
                without_gradients(functools.partial(run, perturbations_per_eval=count)),
                PEER,
                channels_last,
            )
            for count in (1, 4)
        ]
        for name, run in (("ablation", ablation), ("occlusion", occlusion))
    }


def cases(quick: bool) -> list[Case]:
    del quick
    w, key, index = work(), jax.random.key(2), np.arange(28)
    starts = [(i, j) for i in range(0, 25, 2) for j in range(0, 25, 2)]
    windows = np.stack(
        [((index >= i) & (index < i + 4))[:, None] & ((index >= j) & (index < j + 4))[None, :] for i, j in starts]
    )
    squares = GROUPS[None] == np.arange(49)[:, None, None]
    peers = captum_programs(w)

    def case(name: str, e: Any, count: int, masks: Any = None, short: str = "") -> Case:
        plain = [] if masks is None else [Program("Python loop of compiled passes", looped(w, masks), PLAIN)]
        programs = [explained(e, w, key), *plain, *peers.get(short, []), passes(w, forward=count)]
        return Case(name, programs, 1e-3, len(w.x), targets={BOUND: 1.15, PEER: 1 / 1.3, PLAIN: 1.0})

    groups = jnp.asarray(GROUPS)
    return [
        case("ablation, 49 groups", jaxplain.feature_ablation(w.f, groups=groups), 50, squares, "ablation"),
        case("occlusion 4x4, stride 2", jaxplain.occlusion(w.f, window=(4, 4), stride=2), 170, windows, "occlusion"),
        case(f"RISE, {SAMPLES} masks", jaxplain.rise(w.f, samples=SAMPLES), SAMPLES),
        case("permutation, 49 groups, 2 rows", jaxplain.feature_permutation(w.f, w.x[:2], groups=groups), 99),
    ]


if __name__ == "__main__":
    script("perturbation", cases, __doc__ or "")
