"""DeepLIFT and DeepSHAP: differences of a score from that of a reference, carried back by multipliers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import (
    as_baseline,
    at_lookups,
    held,
    is_background,
    refuse_where_moved,
    resolve,
    warn_where_equal,
)
from jaxplain.explain.backward.backward import Backward
from jaxplain.explain.backward.logarithmic import LogSumExp
from jaxplain.explain.backward.multipliers import Midpoint, Normalization, Quotient, Rescale, Secant, Softmax, Winner
from jaxplain.explain.backward.products import PRODUCTS, MeanDerivative
from jaxplain.explain.backward.reveal_cancel import Netted, beside, revealed
from jaxplain.explain.backward.sorting import Ranks
from jaxplain.program import as_function, chunked_sum, needs_key, public, setting
from jaxplain.program.node import Graph, Node, Opened, OwnDerivative, Rule, decisions, pull, widened, without_rule
from jaxplain.types import Array, Arrays, Pytree

RULES = ("rescale", "reveal_cancel")
_WINNERS = (
    "max_pooling", "min_pooling", "reduce_max", "reduce_min", "max", "min", "cummax", "cummin", "scatter_max",
    "scatter_min",
)  # fmt: skip


class DeepLift(Backward):
    """DeepLIFT of a score. Made by `deep_lift`."""

    baseline: Any = 0.0
    given: tuple[Rule, ...] = ()
    operations: tuple[str, ...] = setting(default=())
    rule: str = setting(default="rescale")

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    def rules(self, opened: Opened) -> dict[Node, Rule]:
        """The rule of every node that does not keep its own derivative."""
        present = dict.fromkeys(word for node in opened.graph.walk() for word in (node.name, node.kind))
        for operation in self.operations:
            if operation not in present:
                raise ValueError(
                    f"{self.name}: `rules` names {operation!r}, but the difference of `x` flows through no such "
                    f"operation here. There are {', '.join(map(repr, present))}."
                )
        missing: list[Node] = []
        chosen: dict[Node, Rule] = {}
        self._choose(opened.graph, chosen, missing)
        if missing:
            example = (
                f"Give one by the operation's name, as in {self.name}(f, ..., rules={{{missing[0].name!r}: rule}}): a "
                "jaxplain.program.node.rewrite.Rule, or 'linear' for an operation that is linear in what is explained."
            )
            raise without_rule(self.name, missing, example)
        self._follow_decisions(opened.graph, chosen)
        if self.rule == "reveal_cancel":
            return revealed(opened.graph, chosen, self.operations)
        return chosen

    def _follow_decisions(self, graph: Graph, chosen: dict[Node, Rule]) -> None:
        """Rules that take in what the model decides by `x`; refuse decisions whose effect no multiplier carries."""
        for decides, node, unbounded in decisions(graph):
            if node is not None and (node.name in self.operations or node.kind in self.operations):
                continue
            if node is not None and isinstance(chosen.get(node), Secant | Rescale) and not unbounded:
                chosen[node] = Secant(decided=True)
                continue
            where = f"goes into {node.describe()}" if node is not None else "is part of the score itself"
            way = f", or rules={{{node.name!r}: 'linear'}} to leave its effect out" if node is not None else ""
            raise ValueError(
                f"{self.name}: what {decides} decides depends on `x` and {where}. `x` and its reference may decide "
                "differently, and no multiplier carries that, so the contributions would not add up. Use "
                f"integrated_gradients or a Shapley estimate, jax.lax.stop_gradient in the model{way}."
            )

    def _choose(self, graph: Graph, chosen: dict[Node, Rule], missing: list[Node]) -> None:
        given = dict(zip(self.operations, self.given, strict=True))
        for node in graph.nodes:
            if node.kind == "plain":
                continue
            for inner in node.inner:
                self._choose(inner, chosen, missing)
            rule = given.get(node.name, given.get(node.kind))
            if rule is None:
                rule = _rule(node, any(value in graph.depends for value in node.fixed))
            if rule is not None:
                chosen[node] = rule
            elif node.kind in ("while", "other") or _sorts_several(node):
                missing.append(node)

    @at_lookups
    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = (inputs[0], inputs[1], inputs[2:]) if self.needs_key else (None, inputs[0], inputs[1:])
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        opened = self.open(x, args)
        start = resolve(self.baseline, x, key, name=self.name)
        check.unequal(x, start, self.name, derivative=True)
        rules = self.rules(opened)
        attribution = self.carried(rules, opened.restored(self.contributions(opened, rules, x, start), x))
        self.defined(attribution, (x, start), args)
        return attribution

    def defined(self, attribution: Pytree, ends: Iterable[Pytree], args: tuple[Any, ...]) -> None:
        """Refuse a concrete attribution that is NaN since the score is, of x or of a reference."""
        leaves = jax.tree.leaves(attribution)
        if all(map(check.is_concrete, leaves)) and any(not jnp.isfinite(leaf).all() for leaf in leaves):
            for end in ends:
                check.finite_score(self.score, end, args, self.name)

    def carried(self, rules: dict[Node, Rule], attribution: Pytree) -> Pytree:
        """The attribution; refused where it is concrete and a decision had an effect that nothing carries."""
        leaves = jax.tree.leaves(attribution)
        decided = [node.describe() for node, rule in rules.items() if _takes_decisions(rule)]
        if decided and all(map(check.is_concrete, leaves)) and any(jnp.isnan(leaf).any() for leaf in leaves):
            raise ValueError(
                f"{self.name}: the contributions are not numbers. Where `x` and its reference decide differently at "
                f"{' or '.join(dict.fromkeys(decided))} and nothing else differs there, no multiplier carries the "
                "change. Use integrated_gradients, another baseline, or jax.lax.stop_gradient in the model."
            )
        return attribution

    def check_baseline(self, x: Pytree) -> None:
        """Look at a concrete batch once: refuse what has no derivative, warn of examples that equal their baseline."""
        refuse_where_moved((self.baseline,), x, self.name)
        warn_where_equal((self.baseline,), x, self.name, derivative=True)

    def multipliers(self, opened: Opened, rules: dict[Node, Rule], start: Pytree) -> list[Array]:
        """The score's change by each unit between one baseline and x, for each floating-point leaf."""
        further = beside if self.rule == "reveal_cancel" else None
        return pull(opened, rules, self.seed(opened), [start], further)

    def contributions(self, opened: Opened, rules: dict[Node, Rule], x: Pytree, start: Pytree) -> list[Array]:
        """Multipliers times differences from one baseline, for each floating-point leaf, in float32 or wider."""
        multipliers = self.multipliers(opened, rules, start)
        pairs = [
            (widened(a), widened(b))
            for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(start), strict=True)
            if check.is_floating(a)
        ]
        return [m * (a - b) for m, (a, b) in zip(multipliers, pairs, strict=True)]


def _rule(node: Node, varies: bool) -> Rule | None:
    """The rule for a node; None for one that is linear, which keeps its own derivative."""
    if node.kind == "activation":
        return Rescale()
    if node.kind in ("softmax", "log_softmax"):
        return Softmax()
    if node.kind == "logsumexp":
        return LogSumExp()
    if node.kind == "hypot":
        return Secant()
    if node.kind == "normalization":
        return Normalization()
    if node.kind == "product":
        return MeanDerivative() if node.name in PRODUCTS else Midpoint()
    if node.kind == "quotient":
        return Quotient() if node.name == "div" and len(node.active) == 2 else Secant()
    if node.kind == "selection":
        return _selection(node)
    if varies and (node.kind == "scale" or node.name in ("add", "sub")):
        return Secant()
    if node.kind == "structure" and varies and node.name == "select_n":
        return Secant()
    return None


def _selection(node: Node) -> Rule | None:
    if node.name in ("sort", "top_k") and not _sorts_several(node):
        return Ranks()
    return Winner() if node.name in _WINNERS else Secant() if node.name == "clamp" else None


def _takes_decisions(rule: Rule) -> bool:
    rule = rule.rule if isinstance(rule, Netted) else rule
    return isinstance(rule, Secant) and rule.decided


def _sorts_several(node: Node) -> bool:
    """Whether a sort carries values along in the order of others."""
    return node.name == "sort" and sum(value.is_floating for value in node.steps[0].operands) > 1


class DeepShap(DeepLift):
    """DeepLIFT averaged over a background set. Made by `deep_shap`."""

    batch_size: int | None = setting(default=None, points=True)

    @property
    def needs_key(self) -> bool:
        """Never: all baselines are used."""
        return False

    @at_lookups
    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        self._check_background(x)
        held(self.baseline, x, self.name, "baseline")
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
        check.unequal(rows, self.baseline, self.name, "baseline", derivative=True)
        opened = self.open(x, args)
        rules = self.rules(opened)

        def term(baseline: Pytree) -> list[Array]:
            return self.contributions(opened, rules, x, resolve(baseline, x, name=self.name))

        sums = chunked_sum(term, self.baseline, self.batch_size)
        count = check.batch_length(self.baseline, self.name)
        attribution = self.carried(rules, opened.restored([part / count for part in sums], x))
        rows = (jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf)[i], self.baseline) for i in range(count))
        self.defined(attribution, itertools.chain([x], rows), args)
        return attribution

    def check_baseline(self, x: Pytree) -> None:
        """Look at a concrete batch once: refuse what has no derivative, warn of examples that equal every baseline."""
        refuse_where_moved((self.baseline,), x, self.name, "baseline")
        warn_where_equal((self.baseline,), x, self.name, "baseline", derivative=True)

    def _check_background(self, x: Pytree) -> None:
        if not is_background(self.baseline, x):
            given, wanted = (
                f"{jax.tree.structure(tree)} with shapes {[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]}"
                for tree in (self.baseline, x)
            )
            raise ValueError(
                f"{self.name}: `baseline` has the structure {given}, but `x` has {wanted}. Pass x's structure with "
                "one more leading axis, a row for each baseline (for a single one use `deep_lift`)."
            )


@public
def deep_lift(
    f: Callable[..., Any], *, baseline: Any = 0.0, rule: str = "rescale", rules: Mapping[str, Any] | None = None
) -> DeepLift:
    """Divide the score's difference from that of a baseline b: a_i = m_i (x_i - b_i), sum_i a_i = f(x) - f(b).

    Multipliers m go back through the traced model with both runs side by side. An elementwise nonlinearity has the
    slope of its difference quotient (the rescale rule); products, quotients, softmax, maxima (overlapping windows too)
    and normalisations have rules that are complete as well, linear operations their transpose. Inside `lax.scan` both
    runs go through the loop together, so a recurrent network gives what its unrolled form does. No step counts: unlike
    integrated gradients, two passes do.

    Completeness holds up to rounding, except for what a model computes behind `stop_gradient`. A baseline that equals
    `x` in every value is a `UserWarning` (of a concrete `x`). The scale of a normalisation is held where it can be:
    with a constant baseline (before a LayerNorm) it is that of `x`.

    Sorting, top-k and medians have a complete rule: a value's multiplier is the mean of those of the places that it
    passed between the runs, and that of its own place where the order is the same. What a model decides by x
    (comparisons, `argmax`, indices of a sort or top-k, casts to integers) carries no difference. Where it chooses
    between values or scales them place by place (`where`, a mask, a gate), those values take its effect: complete,
    and NaN, or an error where x is concrete, if they do not differ. Anywhere else it is refused by name: indices of
    look-ups and slices, one-hot products, masks of -inf before a softmax (a finite -1e9 is complete), branches.

    Args:
        f: A score, `f(x, *args) -> scalar`; a logit, since a probability's differences shrink as it saturates.
        baseline: As in `integrated_gradients`.
        rule: "rescale", or "reveal_cancel", which gives the positive and negative parts of what a nonlinearity's input
            sums multipliers of their own, so that what cancels is seen. The parts are the terms w_i (x_i - b_i) of the
            layers with weights, and what sums add to them; shifts, scales (BatchNorm), changes of sign and moves of
            data carry them on, so x W + h U divides as [x, h] [W; U] does. Where nothing is summed before a
            nonlinearity it is the rescale rule.
        rules: For operations that have none, by name: a `Rule`, or "linear". An error names such operations.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score; `e(key, x, *args)` where the
        baseline is drawn. Integer and boolean leaves are held fixed and get zeros. Cost: two forward passes and one
        backward pass; with "reveal_cancel", where what rises and what falls goes through the layers by itself, four
        and two.

    Raises:
        ValueError: An operation without a rule, a decision by `x` whose effect no multiplier carries, a branch of
            `lax.cond` that depends on `x`, a baseline that does not fit `x`, an unknown `rule`, `rules` for operations
            that there are not, NaN in a concrete `x`.
        TypeError: `x` has no floating-point leaf; a rule of another kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def smaller(x):
        ...     return x[0] - jax.nn.relu(x[0] - x[1])
        >>> x = jnp.array([3.0, 1.0])
        >>> [[round(float(a), 4) for a in deep_lift(smaller, rule=rule)(x)] for rule in ("rescale", "reveal_cancel")]
        [[0.0, 1.0], [0.5, 0.5]]

    Source: Shrikumar, Greenside and Kundaje 2017, "Learning important features through propagating activation
    differences", sections 3.2 (multipliers), 3.5.2 (rescale) and 3.5.3 (RevealCancel).
    """
    check.choice(rule, RULES, "deep_lift", "rule")
    operations, given = _given(rules, "deep_lift")
    score = as_function(check.callable_score(f, "deep_lift"))
    return DeepLift(score, "deep_lift", as_baseline(baseline), given, operations, rule)


@public
def deep_shap(
    f: Callable[..., Any],
    baseline: Arrays,
    *,
    rule: str = "rescale",
    rules: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
) -> DeepShap:
    """DeepLIFT averaged over a background set: a_i = 1/N sum_n m_i(b_n) (x_i - b_n,i).

    sum_i a_i = f(x) - 1/N sum_n f(b_n), over the whole set, in one compiled call. It approximates Shapley values under
    independent features.

    Args:
        f: As in `deep_lift`.
        baseline: The background set, an array or pytree of x's structure with one more leading axis `[N, ...]`.
        rule: As in `deep_lift`.
        rules: As in `deep_lift`.
        batch_size: How many baselines are run at once; memory grows with it and not with N. None takes what fills the
            device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution` as of `deep_lift`, summed in float32 or wider. Cost: N forward and backward passes,
        and one forward pass for every `batch_size` baselines.

    Raises:
        ValueError: As in `deep_lift`; a background set of another structure or without rows, NaN in it.
        TypeError: As in `deep_lift`.

    Example:
        >>> import jax.numpy as jnp
        >>> deep_shap(lambda x: (x**2).sum(), jnp.array([[0.0], [1.0]]))(jnp.array([3.0])).tolist()
        [8.5]

    Source: Lundberg and Lee 2017, "A unified approach to interpreting model predictions", section 4.2 (Deep SHAP).
    """
    check.choice(rule, RULES, "deep_shap", "rule")
    check.batch_length(baseline, "deep_shap", "baseline")
    check.finite(baseline, "deep_shap", "baseline")
    operations, given = _given(rules, "deep_shap")
    size = check.at_once(batch_size, "deep_shap")
    score = as_function(check.callable_score(f, "deep_shap"))
    return DeepShap(score, "deep_shap", baseline, given, operations, rule, size)


def _given(rules: Mapping[str, Any] | None, name: str) -> tuple[tuple[str, ...], tuple[Rule, ...]]:
    if rules is not None and not isinstance(rules, Mapping):
        raise TypeError(f"{name}: `rules` has to be a mapping from names of operations to rules, not {rules!r}.")
    found = {operation: OwnDerivative() if rule == "linear" else rule for operation, rule in (rules or {}).items()}
    for operation, rule in found.items():
        if not isinstance(rule, Rule):
            raise TypeError(f"{name}: `rules[{operation!r}]` has to be a Rule or 'linear', not {rule!r}.")
    return tuple(found), tuple(found.values())
