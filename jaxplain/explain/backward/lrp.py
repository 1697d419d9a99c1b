"""Layer-wise relevance propagation and excitation backpropagation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxplain import check
from jaxplain.explain.backward.backward import Backward
from jaxplain.explain.backward.choice import WEIGHTS, as_composite, choose, stops
from jaxplain.explain.backward.rules import STABILISER, AlphaBeta, ZBox
from jaxplain.program import as_function, public, setting
from jaxplain.program.node import Node, Opened, Rule, inputs_of, open_score
from jaxplain.types import Array, Pytree


class Propagation(Backward):
    """Relevance propagated by rules. Made by `lrp` and `excitation_backprop`."""

    patterns: tuple[str, ...] = setting()
    chosen: tuple[Rule, ...]
    from_value: bool = setting(default=True)

    @property
    def composite(self) -> Mapping[str, Rule]:
        """The mapping of rules, in the order in which it was given."""
        return dict(zip(self.patterns, self.chosen, strict=True))

    @property
    def rule(self) -> Any:
        """What `lrp` was given: one rule, or the mapping."""
        same = self.patterns == WEIGHTS and len({repr(rule) for rule in self.chosen}) == 1
        return self.chosen[0] if same else self.composite

    def open(self, x: Pytree, args: tuple[Any, ...]) -> Opened:
        """The traced score as nodes, with relevance ending where the mapping says so."""
        return open_score(self.score, x, args, self.name, stops=stops(self.composite))

    def rules(self, opened: Opened) -> dict[Node, Rule]:
        """A rule for every node."""
        return choose(self.composite, opened.graph, self.name)

    def check_input(self, x: Pytree) -> None:
        """Refuse what is not finite; token ids are explained by what they look up."""
        check.arrays(x, self.name)
        check.finite(x, self.name)

    def seed(self, opened: Opened) -> Any:
        """f(x), or 1 where relevance is a probability."""
        return opened.value() if self.from_value else 1.0

    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: relevance of x's structure and dtypes."""
        if self.bounded and all(check.is_concrete(leaf) for leaf in jax.tree.leaves((self, x, args))):
            self.require_bounds(self.within_bounds(x, *args))
        return super().__call__(x, *args)

    @property
    def bounded(self) -> bool:
        """Whether a rule has bounds that the input has to keep."""
        return any(isinstance(rule, ZBox) for rule in self.chosen)

    def within_bounds(self, x: Pytree, *args: Any) -> dict[str, Array]:
        """For each layer with bounds, as errors name it, whether its input keeps them."""
        opened = self.open(x, args)
        rules = {node: rule for node, rule in self.rules(opened).items() if isinstance(rule, ZBox)}
        kept: dict[str, Array] = {}
        for node, values in inputs_of(opened, list(rules)).items():
            inside, layer = rules[node].holds(values[0]), node.describe()
            kept[layer] = kept[layer] & inside if layer in kept else inside
        return kept

    def require_bounds(self, kept: dict[str, Array]) -> None:
        """Raise where the input is outside the bounds of a rule."""
        concrete = all(check.is_concrete(inside) for inside in kept.values())
        outside = [layer for layer, inside in kept.items() if concrete and not np.all(np.asarray(inside))]
        if outside:
            raise ValueError(
                f"{self.name}: the input of {' and '.join(outside)}, whose rule is z_box, lies outside of its bounds. "
                "`low` and `high` are the smallest and the largest value that an input can have, in the units that the "
                "layer sees (after any normalisation inside the model)."
            )

    def check_call(self, x: Pytree, *args: Any) -> None:
        """Look at a whole concrete batch before it is explained (called by drivers)."""
        if self.bounded and all(check.is_concrete(leaf) for leaf in jax.tree.leaves((self, x, args))):
            self.require_bounds(jax.vmap(self.within_bounds)(x, *args))


@public
def lrp(f: Callable[..., Any], rule: Any) -> Propagation:
    """Layer-wise relevance propagation: share f(x) out, operation by operation, down to the input.

    Relevance starts as f(x) at the score. Each operation gives the relevance of its outputs to its inputs by a rule, so
    that sums are kept: sum_i R_i = f(x) but for what biases, stabilisers and constants of the model take, which
    `relevance_balance` accounts for. Rules see operations and not modules, so functional ReLUs, residual additions,
    reused layers and loops are all covered:

    * layers with weights (dense, convolution): `rule`; a BatchNorm in evaluation is part of the layer before it;
    * sums, residual additions, average pooling: in proportion; max pooling, segment maxima, sorting: to the winner;
    * activations (ReLU, GELU, SiLU, ...): passed on; reshapes, slices, look-ups: moved;
    * a logarithm of a sum of exponentials, however its largest term is taken out: to its terms, by the softmax;
      `hypot`: gradient times input; a sum that is exactly zero: to none of its terms, which cancel;
    * softmax, matrix products of two values, LayerNorm and RMSNorm: by AttnLRP (`relevance.attn_lrp`), or CP-LRP
      with `relevance.cp_lrp()`; products of n values: an n-th each; a quotient: to the numerator, as a power's to its
      base, arctan2's to its first argument and a remainder's to what is divided;
    * `lax.scan` (recurrent networks) and `lax.cond`: by what is inside.

    For models of token ids, whose input is no real number, every token gets the relevance of its embedding.

    Layer-wise relevance propagation has been patented in some countries.

    Args:
        f: A score, `f(x, *args) -> scalar`; a logit is what the rules were made for.
        rule: A rule of `jaxplain.relevance` for the layers with weights, such as `relevance.epsilon(1e-6)`; or
            a mapping from kinds or names of operations (as `jaxplain.audit` lists them), `"first"` (the layers that see
            the input first) or paths of modules (`"encoder/*"`; what is inside counts) to rules. A path goes before
            `"first"`, a name before a kind, the later key before the earlier. The field's composites are ready:
            `relevance.epsilon_plus()`, `epsilon_plus_flat`, `epsilon_gamma_box(low, high)`, `epsilon_alpha2_beta1`,
            `epsilon_alpha2_beta1_flat`, `deep_taylor(low, high)`, `attn_lrp`, `cp_lrp`.

    Returns:
        `e(x, *args) -> relevance` of x's structure, signed, in units of the score. Where x has floating-point leaves,
        the others get zeros. Cost: one forward pass, and a backward pass that takes up to four times a gradient's
        (gamma, alpha-beta) with as many passes through each layer; half of that for layers whose input cannot be
        negative, such as those behind a ReLU, which are found in the traced model.

    Raises:
        ValueError: An operation without a rule (the error lists it with its path), a pattern that matches nothing, a
            rule for weights where there are none, an input outside the bounds of `z_box`, NaN in a concrete `x`.
        TypeError: `rule` is no rule, or `x` has nothing that relevance can reach.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.explain.backward import relevance
        >>> w = jnp.array([[1.0, -1.0], [2.0, 1.0]])
        >>> f = lambda x: jax.nn.relu(x @ w).sum()
        >>> [round(float(r), 3) for r in lrp(f, relevance.epsilon(1e-6))(jnp.array([1.0, 1.0]))]
        [1.0, 2.0]

    Source: Bach et al. 2015, "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
    propagation", section "Layer-wise relevance propagation"; Montavon et al. 2019, "Layer-wise relevance propagation:
    an overview".
    """
    composite = as_composite(rule, "lrp")
    return Propagation(as_function(check.callable_score(f, "lrp")), "lrp", tuple(composite), tuple(composite.values()))


@public
def excitation_backprop(f: Callable[..., Any]) -> Propagation:
    """Excitation backpropagation: the probability that each input wins, when winners are drawn layer by layer.

    A unit hands its probability to those that excite it: P_i = sum_k (x_i w_ik)+ / sum_j (x_j w_jk)+ P_k, without the
    biases, from P = 1 at the score; sums, poolings and the rest as in `lrp`. So sum_i P_i = 1 where every unit on the
    way has an excitatory input. The source assumes that activations are not negative (ReLU networks); of a negative
    input, as of centred pixels, negative weights excite.

    Args:
        f: A score, `f(x, *args) -> scalar`.

    Returns:
        `e(x, *args) -> probability` of x's structure. Cost: one forward pass, and a backward pass of up to twice the
        cost of a gradient.

    Raises:
        ValueError, TypeError: As in `lrp`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = lambda x: x @ jnp.array([1.0, 3.0, -1.0])
        >>> [round(float(p), 3) for p in excitation_backprop(f)(jnp.ones(3))]
        [0.25, 0.75, 0.0]

    Source: Zhang et al. 2016, "Top-down neural attention by excitation backprop", equation 5.
    """
    rule = AlphaBeta(1.0, 0.0, False, STABILISER)
    patterns = (*WEIGHTS, "scale_shift")
    score = as_function(check.callable_score(f, "excitation_backprop"))
    return Propagation(score, "excitation_backprop", patterns, (rule,) * len(patterns), False)
