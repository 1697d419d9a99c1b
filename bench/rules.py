"""LRP and guided backpropagation of 64 images of 28x28: jaxplain, straightforward JAX, captum and zennit.

jaxplain runs through `explain_batch`, one example's method under `vmap`; the straightforward program is written
batch-first for this one network. Expected: at least as fast as captum.

    python bench/rules.py [--quick]
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
from jax import lax

import jaxplain
from bench.harness import PEER, PLAIN, Case, Program, installed, script
from bench.network import CLASSES, Work, channels_last, explained, passes, torch_batch, torch_network, work
from jaxplain.explain.backward import relevance

EPSILON = 1e-2  # where a sum is near zero a smaller one magnifies the rounding of float32, and nothing can be compared
Linear = Callable[[Callable[..., Any], Any, Any, Any], Any]


def convolve(x: Any, w: Any) -> Any:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def network(variables: Any, x: Any, relu: Callable[..., Any], linear: Linear) -> Any:
    p = variables["params"]
    for name in ("conv_0", "conv_1"):
        x = pool(relu(linear(convolve, x, p[name]["kernel"], p[name]["bias"].reshape(1, 1, 1, -1))))
    x = relu(linear(jnp.matmul, x.reshape(x.shape[0], -1), p["dense"]["kernel"], p["dense"]["bias"][None]))
    return linear(jnp.matmul, x, p["head"]["kernel"], p["head"]["bias"][None])


@jax.custom_vjp
def guided_relu(x: Any) -> Any:
    return jax.nn.relu(x)


guided_relu.defvjp(lambda x: (jax.nn.relu(x), x), lambda x, g: (jnp.where((x > 0) & (g > 0), g, 0),))


@jax.custom_vjp
def passing_relu(x: Any) -> Any:
    return jax.nn.relu(x)


passing_relu.defvjp(lambda x: (jax.nn.relu(x), None), lambda _, r: (r,))


def usual(f: Callable[..., Any], x: Any, w: Any, b: Any) -> Any:
    return f(x, w) + b


def proportional(f: Callable[..., Any], x: Any, w: Any, b: Any) -> Any:
    """A layer whose pullback is the epsilon rule."""

    @jax.custom_vjp
    def layer(x: Any, w: Any, b: Any) -> Any:
        return f(x, w) + b

    def backward(kept: Any, r: Any) -> Any:
        x, w, z = kept
        (share,) = jax.vjp(lambda x: f(x, w), x)[1](r / (z + jnp.where(z >= 0, EPSILON, -EPSILON)))
        return x * share, None, None

    layer.defvjp(lambda x, w, b: (layer(x, w, b), (x, w, f(x, w) + b)), backward)
    return layer(x, w, b)


@jax.jit
def plain_guided(variables: Any, x: Any, labels: Any) -> Any:
    return jax.grad(lambda x: network(variables, x, guided_relu, usual)[jnp.arange(len(x)), labels].sum())(x)


@jax.jit
def plain_lrp(variables: Any, x: Any, labels: Any) -> Any:
    output, back = jax.vjp(lambda x: network(variables, x, passing_relu, proportional), x)
    return back(output * jax.nn.one_hot(labels, CLASSES))[0]


def captum_programs(w: Work) -> dict[str, Program]:
    if not installed("captum"):
        return {}
    from captum.attr import LRP, GuidedBackprop
    from captum.attr._utils.lrp_rules import EpsilonRule

    images, targets = torch_batch(w)
    images.requires_grad_()
    guided, model = GuidedBackprop(torch_network(w.variables)), torch_network(w.variables)

    def propagate() -> Any:
        for layer in model:  # captum takes the rules off after each call
            layer.rule = EpsilonRule(epsilon=EPSILON if hasattr(layer, "weight") else 1e-9)
        return LRP(model).attribute(images, target=targets)

    return {
        "guided": Program("captum", lambda: guided.attribute(images, target=targets), PEER, channels_last),
        "epsilon": Program("captum", propagate, PEER, channels_last),
    }


def zennit_programs(w: Work) -> dict[str, Program]:
    if not installed("zennit"):
        return {}
    import torch
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus, GuidedBackprop, LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.types import Linear

    images, targets = torch_batch(w)
    images.requires_grad_()
    chosen = torch.nn.functional.one_hot(targets, CLASSES)

    def propagate(model: Any, composite: Any, seed: Any) -> Any:
        with Gradient(model, composite, attr_output=seed) as attributor:
            return attributor(images)[1]

    composites = {
        "guided": (GuidedBackprop(), lambda output: chosen.to(output)),
        "epsilon": (LayerMapComposite([*layer_map_base(), (Linear, Epsilon(epsilon=EPSILON))]), lambda o: o * chosen),
        "epsilon-plus": (EpsilonPlus(epsilon=EPSILON), lambda o: o * chosen),
    }
    return {
        name: Program("zennit", functools.partial(propagate, torch_network(w.variables), *setting), PEER, channels_last)
        for name, setting in composites.items()
    }


def cases(quick: bool) -> list[Case]:
    del quick  # milliseconds
    w = work()
    peers = [captum_programs(w), zennit_programs(w)]

    def case(name: str, short: str, e: Any, *plain: Program, forward: int = 0) -> Case:
        programs = [explained(e, w), *plain, *(found[short] for found in peers if short in found)]
        programs.append(passes(w, forward=forward, gradients=1))
        return Case(name, programs, 1e-3, len(w.x), targets={PEER: 1.0, PLAIN: 1.0})

    epsilon = jaxplain.lrp(w.f, relevance.epsilon(EPSILON))
    plus = jaxplain.lrp(w.f, relevance.epsilon_plus(stabiliser=EPSILON))
    written = {
        name: Program("straightforward JAX", functools.partial(run, w.variables, w.x, w.labels), PLAIN)
        for name, run in (("guided", plain_guided), ("epsilon", plain_lrp))
    }
    return [
        case("guided backpropagation", "guided", jaxplain.guided_backprop(w.f), written["guided"]),
        case("LRP epsilon", "epsilon", epsilon, written["epsilon"]),
        case("LRP epsilon-plus", "epsilon-plus", plus, forward=1),  # the sums of positive contributions
    ]


if __name__ == "__main__":
    script("rules", cases, __doc__ or "")
