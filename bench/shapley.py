"""What Shapley values cost: 64 images of 28x28 in 49 groups, against captum and against plain forward passes.

Exact Shapley values of 6 groups are proved equal to captum's first. Where both sides draw, they draw different orders:
those rows compare no values, and the last one says how far each side is from one long run, with the same and with half
the number of forward passes. Expected: at least 1.3 times faster than captum's sampling and 10 times than its
KernelSHAP, within 1.15 of the forward passes, and captum's error with half its passes or fewer.

    python bench/shapley.py [--quick]
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import numpy as np

import jaxplain
from bench.harness import BOUND, PEER, Case, Program, installed, script
from bench.network import GROUPS, Work, explained, passes, torch_batch, torch_network, without_gradients, work

KEY = jax.random.key(0)
TARGETS = {BOUND: 1.15, PEER: 1 / 1.3}


def captum_program(w: Work, kind: str, groups: np.ndarray = GROUPS, one_by_one: bool = False, **settings: Any) -> Any:
    """captum's method of that name; its KernelShap explains one image at a time."""
    import captum.attr
    import torch

    method, mask = getattr(captum.attr, kind)(torch_network(w.variables)), torch.tensor(groups)[None, None]
    images, targets = torch_batch(w)

    def run() -> Any:
        if not one_by_one:
            return method.attribute(images, target=targets, feature_mask=mask, **settings)
        pairs = zip(images, targets, strict=True)
        parts = [method.attribute(i[None], target=int(t), feature_mask=mask, **settings) for i, t in pairs]
        return torch.cat(parts)

    return without_gradients(run)


def unequal(e: Any, w: Work) -> Program:
    """Ours where the peer draws others: nothing to compare."""
    return dataclasses.replace(explained(e, w, KEY), result=None)


def exact_case(w: Work) -> Case:
    few = w._replace(x=w.x[:4], labels=w.labels[:4])
    groups = GROUPS // 7 // 2 % 3 * 2 + GROUPS % 7 // 4
    sizes = np.bincount(groups.ravel())[groups][None]  # captum gives every pixel the value of its group
    ours = explained(jaxplain.shapley_values(w.f, groups=groups, batch_size=8), few)
    programs = [dataclasses.replace(ours, result=lambda a: np.asarray(a)[..., 0] * sizes)]
    if installed("captum"):
        run = captum_program(few, "ShapleyValues", groups)
        programs.append(Program("captum", run, PEER, lambda a: a.numpy()[:, 0]))
    bound = passes(few, forward=2**6)
    return Case("exact Shapley values, 4 images, 6 groups", [*programs, bound], 1e-4, 4, targets={PEER: 1.0})


def sampled_cases(w: Work) -> list[Case]:
    few = w._replace(x=w.x[:8], labels=w.labels[:8])
    sampling = jaxplain.shapley_sampling(w.f, groups=GROUPS, samples=26)
    kernel = jaxplain.kernel_shap(w.f, groups=GROUPS, samples=200)
    orders = [unequal(sampling, w)]
    fits = [unequal(kernel, few)]
    if installed("captum"):
        orders.append(Program("captum, 25 orders", captum_program(w, "ShapleyValueSampling", n_samples=25), PEER, None))
        run = captum_program(few, "KernelShap", one_by_one=True, n_samples=200)
        fits.append(Program("captum", run, PEER, None))
    count = 26 * 48 + 2
    return [
        Case("Shapley sampling, 26 orders", [*orders, passes(w, count)], examples=len(w.x), targets=TARGETS),
        Case(
            "KernelSHAP, 8 images, 200 samples",
            [*fits, passes(few, 202)],
            examples=8,
            targets={BOUND: 1.15, PEER: 0.1},
        ),
        Case(
            "LIME, 200 samples",
            [unequal(jaxplain.lime(w.f, groups=GROUPS, samples=200), w), passes(w, 201)],
            examples=len(w.x),
            targets={BOUND: 1.15},
        ),
    ]


def errors(w: Work) -> str:
    """Root mean square errors over 8 images, as means over repeated draws."""
    few = w._replace(x=w.x[:8], labels=w.labels[:8])
    make = functools.partial(jaxplain.shapley_sampling, w.f, groups=GROUPS, batch_size=8)

    def draws(samples: int, seed: int) -> np.ndarray:
        found = jaxplain.explain_batch(make(samples=samples), few.x, few.labels, key=jax.random.key(seed))
        return np.asarray(found)[..., 0] * 16  # a group's value, as captum gives it

    truth = draws(1000, 99)
    parts = []
    for samples in (26, 12):
        error = np.sqrt(np.mean([np.square(draws(samples, seed) - truth).mean() for seed in range(4)]))
        parts.append(f"jaxplain {error:.2e} with {samples * 48 + 2} passes")
    if installed("captum"):
        run = captum_program(few, "ShapleyValueSampling", n_samples=25)
        error = np.sqrt(np.mean([np.square(run().numpy()[:, 0] - truth).mean() for _ in range(4)]))
        parts.append(f"captum {error:.2e} with {25 * 49 + 1} passes")
    return "error of a group's value: " + ", ".join(parts)


def cases(quick: bool) -> list[Case]:
    w = work()
    found = [exact_case(w), *sampled_cases(w)]
    if not quick:
        found[1] = dataclasses.replace(found[1], prove=functools.partial(errors, w))
    return found


if __name__ == "__main__":
    script("shapley", cases, __doc__ or "")
