"""XAI-TRIS at 64x64: precision of methods, and patterns estimated for the source's convolutional network.

The first case explains images and judges the maps by precision (the share of the largest absolute values that lie on
the tetrominoes), by the library and written out by hand; its proof trains the network and prints what each method and
each control (Sobel, Laplace, random) reaches. The second estimates patterns, beside the passes that this takes: two
forward passes and a derivative with respect to the weights.

    python -m bench --only tetrominoes [--quick]
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from bench.harness import BOUND, OURS, PLAIN, Case, Program
from jaxplain import data, evaluate, pattern, relevance, train

KEY, STEPS = jax.random.key(0), 16


class Convolutions(nn.Module):
    """The source's network for 64x64: four convolutions of 4x4, each pooled by its maximum."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        for width in (4, 8, 16, 32):
            x = nn.max_pool(nn.relu(nn.Conv(width, (4, 4), padding=1)(x)), (2, 2), strides=(2, 2))
        return nn.Dense(2, use_bias=False)(x.reshape(x.shape[0], -1))


NET = Convolutions()


def methods(f: Any, patterns: Any) -> dict[str, Any]:
    return {
        "gradient": jaxplain.gradient(f),
        "integrated gradients": jaxplain.integrated_gradients(f, steps=STEPS, rule="midpoint"),
        "LRP epsilon": jaxplain.lrp(f, relevance.epsilon()),
        "DeepLIFT": jaxplain.deep_lift(f),
        "guided": jaxplain.guided_backprop(f),
        "PatternNet": pattern.pattern_net(f, patterns),
        "PatternAttribution": pattern.pattern_attribution(f, patterns),
        "sobel": evaluate.edge_attribution("sobel"),
        "laplace": evaluate.edge_attribution("laplace"),
        "random": evaluate.random_attribution(),
    }


def precision(e: Any, images: Any, labels: Any, truth: Any) -> Any:
    maps = jnp.abs(jaxplain.explain_batch(e, images, labels, key=KEY))
    return evaluate.evaluate_batch(evaluate.relevance_rank_accuracy(), images, maps, mask=truth)


@jax.jit
def by_hand(params: Any, images: Any, labels: Any, truth: Any) -> Any:
    """Precision of integrated gradients, written out."""
    gradient = jax.grad(lambda x, label: NET.apply(params, x[None])[0, label])

    def one(x: Any, label: Any, inside: Any) -> Any:
        points = (jnp.arange(STEPS) + 0.5) / STEPS
        total = jax.lax.fori_loop(0, STEPS, lambda i, t: t + gradient(points[i] * x, label), jnp.zeros_like(x))
        sizes = jnp.abs(x * total / STEPS).ravel()
        ranks = jnp.argsort(jnp.argsort(-sizes))
        return jnp.sum((ranks < inside.sum()) & inside.ravel()) / inside.sum()

    return jax.vmap(one)(images, labels, truth)


def cases(quick: bool) -> list[Case]:
    count, epochs = (64, 1) if quick else (256, 40)
    size = 256 if quick else 4096
    splits = data.tetrominoes(KEY, size, background="correlated", size=64).split(KEY, test=count)
    seen, test = splits.train, splits.test
    params = NET.init(KEY, seen.inputs[:1])
    score = functools.partial(jaxplain.logit, NET.apply)
    images, labels, truth = map(jnp.asarray, (test.inputs, test.targets, test.truth))

    def reached() -> str:
        settings = {"key": KEY, "optimizer": optax.adam(2e-3), "epochs": epochs, "batch_size": 128, "progress": False}
        found = train.fit(NET.apply, params, (seen.inputs, seen.targets), **settings).params
        right = np.asarray(NET.apply(found, images).argmax(-1) == labels)
        f = score(found)
        patterns = pattern.estimate_patterns(f, seen.inputs[:1024], seen.targets[:1024])
        parts = [f"{100 * right.mean():.0f} % right; precision on those"]
        for name, e in methods(f, patterns).items():
            parts.append(f"{name} {float(precision(e, images[right], labels[right], truth[right]).mean()):.2f}")
        return ", ".join(parts)

    return [_precision(params, images, labels, truth, reached), _patterns(params, seen, count)]


def _precision(params: Any, images: Any, labels: Any, truth: Any, prove: Any) -> Case:
    e = jaxplain.integrated_gradients(jaxplain.logit(NET.apply, params), steps=STEPS, rule="midpoint")
    programs = [
        Program("explain_batch, relevance_rank_accuracy", lambda: precision(e, images, labels, truth), OURS),
        Program("vmap of a loop and two sorts", lambda: by_hand(params, images, labels, truth), PLAIN),
    ]
    # A value at the border that two programs round apart changes a rank.
    return Case("precision of integrated gradients at 64x64", programs, 0.02, len(images), prove, {PLAIN: 1.0})


def _patterns(params: Any, seen: Any, count: int) -> Case:
    inputs, labels = jnp.asarray(seen.inputs[:count]), jnp.asarray(seen.targets[:count])
    f = jaxplain.logit(NET.apply, params)
    forward = jax.jit(NET.apply)
    weights = jax.jit(jax.grad(lambda p, x: NET.apply(p, x).sum()))

    def passes() -> Any:
        found = []
        for first in range(0, count, 64):
            batch = inputs[first : first + 64]
            found.append((forward(params, batch), forward(params, batch), weights(params, batch)))
        return found

    programs = [
        Program("estimate_patterns", lambda: pattern.estimate_patterns(f, inputs, labels).values, OURS),
        Program("two forward passes, one of weights", passes, BOUND, None),
    ]
    return Case("patterns of a convolutional network at 64x64", programs, 1e-4, count, None, {BOUND: 4.0})
