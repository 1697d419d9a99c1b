"""Gradients with another backward pass through ReLUs: guided backpropagation and deconvolution."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.backward.backward import Backward
from jaxplain.program import as_function, public
from jaxplain.program.node import RECTIFIERS, Call, Node, Opened, Rule, Value, build, decisions, flatten, open_score
from jaxplain.program.trace import Equation, subprograms
from jaxplain.types import Array, Pytree


class Guided(Rule):
    """The derivative of a ReLU, of what is positive of the gradient that arrives."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """Positive gradients, where the ReLU is open."""
        x = calls[0].inputs[0]
        # By the formula and not by JAX's derivative, which is 1/2 of max(x, 0) and 1 of where(x >= 0, x, 0) at 0.
        opened = (x > 0) & (x < 6) if node.name == "relu6" else x > 0
        return [jnp.where(opened, jnp.maximum(relevance[0], 0), 0)]

    def __str__(self) -> str:
        return "guided"


class Deconvolution(Rule):
    """What is positive of the gradient that arrives, whether the ReLU is open or not."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """Positive gradients."""
        return [jnp.maximum(relevance[0], 0)]

    def __str__(self) -> str:
        return "deconvolution"


class RectifiedBackward(Backward):
    """A gradient with a rule of its own at ReLUs. Made by `guided_backprop` and `deconvnet`."""

    rule: Rule

    def open(self, x: Pytree, args: tuple[Any, ...]) -> Opened:
        """The traced score; a custom derivative stays as it is where no ReLU is inside."""
        return open_score(self.score, x, args, self.name, opaque=_without_rectifier)

    def check_input(self, x: Pytree) -> None:
        """Refuse what is not finite; token ids are explained by what they look up."""
        check.arrays(x, self.name)
        check.finite(x, self.name)

    def rules(self, opened: Opened) -> dict[Node, Rule]:
        """The rule, for each ReLU."""
        nodes = opened.graph.walk()
        chosen = {node: self.rule for node in nodes if _is_rectifier(node)}
        if not chosen:
            others = sorted({node.name for node in nodes if node.kind == "activation"})
            has = f"its activations are {', '.join(others)}" if others else "it has no activation function"
            raise ValueError(
                f"{self.name}: the function has no ReLU that depends on `x` ({has}), so the result would be the plain "
                "gradient. Use jaxplain.gradient, or lrp, which has rules for other activations."
            )
        doubtful = [node for node in nodes if _is_maximum_with_array(node)]
        zeros = {value for node in nodes for value in _times_zero(node)}
        decided = [node for _, node, *_ in decisions(opened.graph) if node is not None]
        doubtful += [node for node in decided if _is_choice_of_zero(node, zeros)]
        if doubtful:
            named = " and ".join(dict.fromkeys(node.describe() for node in doubtful))
            raise ValueError(
                f"{self.name}: {named} may be a ReLU or not: what is compared is an "
                "array, or the condition depends on `x`. Write ReLUs as jax.nn.relu(x) or jnp.maximum(x, 0.0), and a "
                "choice that is none with jax.lax.stop_gradient around its condition."
            )
        return chosen


def _is_rectifier(node: Node) -> bool:
    return node.kind == "activation" and node.name in RECTIFIERS


def _is_maximum_with_array(node: Node) -> bool:
    """Whether something is compared with values that are no number, and may be zeros."""
    return node.name in ("max", "min") and node.kind == "selection" and len(node.active) == 1


def _times_zero(node: Node) -> list[Value]:
    """What a node multiplies by the number 0."""
    numbers = [value.number for step in node.steps if step.name == "mul" for value in step.operands]
    return list(node.outputs) if any(number is not None and not np.any(number) for number in numbers) else []


def _is_choice_of_zero(node: Node, zeros: Collection[Value]) -> bool:
    """Whether one branch follows x and another may be zero; where both follow, as in a PReLU, it is no ReLU."""
    if node.name != "select_n" or node.kind != "structure":
        return False
    branches = [value for step in node.steps if step.name == "select_n" for value in step.operands[1:]]
    still = [value for value in branches if value not in node.active or value in zeros]
    return 0 < len(still) < len(branches) and any(value.number is None or not np.any(value.number) for value in still)


def _without_rectifier(equation: Equation) -> bool:
    flat = flatten(subprograms(equation)[0])
    return not any(_is_rectifier(node) for node in build(flat, [value.is_floating for value in flat.inputs]).walk())


@public
def guided_backprop(f: Callable[..., Any]) -> RectifiedBackward:
    """The gradient, with negative gradients set to zero at every ReLU on the way back.

    At y = max(x, 0) with the arriving gradient g: R_x = g [g > 0] [x > 0], and [x < 6] for relu6. ReLUs are found by
    what they compute, so functional ones (`jax.nn.relu`, `jnp.maximum(x, 0)`, `jnp.where(x > 0, x, 0)`, relu6) count
    like modules; everything else, other activations among them, keeps its own derivative. `jaxplain.audit` lists what
    was changed.

    The result depends little on the last layers, and much on edges in the input (Adebayo et al. 2018): it is a picture
    of what the early layers respond to and says little about the class.

    Args:
        f: A score, `f(x, *args) -> scalar`.

    Returns:
        `e(x, *args) -> attribution` of x's structure, signed, in units of the score per unit of the input; integer
        and boolean leaves are held fixed and get zeros. Cost: one forward and one backward pass.

    Raises:
        ValueError: The function has no ReLU; `x` is concrete and holds NaN or infinities.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.relu(x[0] - x[1]) - jax.nn.relu(x[0])
        >>> guided_backprop(f)(jnp.array([2.0, 1.0])).tolist()
        [1.0, -1.0]

    Source: Springenberg et al. 2015, "Striving for simplicity: the all convolutional net", section 3.4.
    """
    return RectifiedBackward(as_function(check.callable_score(f, "guided_backprop")), "guided_backprop", Guided())


@public
def deconvnet(f: Callable[..., Any]) -> RectifiedBackward:
    """The gradient, with every ReLU on the way back replaced by a ReLU of the gradient itself.

    At y = max(x, 0) with the arriving gradient g: R_x = g [g > 0], whether x is positive or not. Everything else keeps
    its own derivative; max pooling sends the gradient to the largest value, the "switch" of the source. ReLUs are found
    as in `guided_backprop`.

    Args:
        f: A score, `f(x, *args) -> scalar`.

    Returns:
        `e(x, *args) -> attribution` of x's structure, signed, in units of the score per unit of the input. Cost: one
        forward and one backward pass.

    Raises:
        ValueError, TypeError: As in `guided_backprop`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.relu(x[0] - x[1]) - jax.nn.relu(x[0])
        >>> deconvnet(f)(jnp.array([1.0, 2.0])).tolist()
        [1.0, -1.0]

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 2.1.
    """
    return RectifiedBackward(as_function(check.callable_score(f, "deconvnet")), "deconvnet", Deconvolution())
