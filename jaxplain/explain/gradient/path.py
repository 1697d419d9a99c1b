"""Integrated gradients: the gradient along the straight path from a baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.baseline import (
    as_baseline,
    at_lookups,
    refuse_where_moved,
    resolve,
    warn_where_equal,
)
from jaxplain.program import (
    RULES,
    Function,
    as_function,
    chunked_sum,
    common_dtype,
    html_table,
    like,
    map_floating,
    needs_key,
    public,
    quadrature,
    setting,
    total,
    value_and_gradient,
)
from jaxplain.types import Array, Pytree


class Convergence(NamedTuple):
    """An integrated-gradients attribution and what is known of its error.

    attribution: of x's structure; steps: gradients used; gap: sum(attribution) - (f(x) - f(baseline)), in units of the
    score; reached: whether |gap| <= tolerance * (|f(x) - f(baseline)| + floor) (for a fixed number of steps: at the
    default tolerance of 1e-3).
    """

    attribution: Pytree
    steps: Array
    gap: Array
    reached: Array

    def _repr_html_(self) -> str:
        names = ("steps", "gap", "reached")
        shapes = jax.tree.map(
            lambda leaf: f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else str(leaf), self.attribution
        )
        rows = [("attribution", shapes), *((name, getattr(self, name)) for name in names)]
        return html_table(("integrated gradients", ""), rows)


FIXED, FEWEST = 32, 4
"""How many gradients are taken where nobody says, and how many at least where a tolerance decides."""


class IntegratedGradients(Function):
    """Integrated gradients of a score. Made by `integrated_gradients` and `integrated_gradients_with_gap`."""

    score: Any
    baseline: Any
    tolerance: Any
    floor: Any
    steps: int = setting(default=FIXED)
    rule: str = setting(default="gauss_legendre")
    max_steps: int = setting(default=1024)
    batch_size: int | None = setting(default=None, points=True)
    with_gap: bool = setting(default=False)
    name: str = setting(default="integrated_gradients")
    counted: ClassVar[str] = "steps"

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    @property
    def adaptive(self) -> bool:
        """Whether the number of steps is chosen for each example."""
        return self.tolerance is not None

    @at_lookups
    def __call__(self, *inputs: Any) -> Any:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = self.take(*inputs)
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        start = self.start(key, x)
        check.unequal(x, start, self.name, derivative=True)
        return self.between(start, x, args)

    def check_baseline(self, x: Pytree) -> None:
        """Look at a concrete batch once: refuse what has no derivative, warn of examples that equal their baseline."""
        refuse_where_moved((self.baseline,), x, self.name)
        warn_where_equal((self.baseline,), x, self.name, derivative=True)

    def between(self, start: Pytree, x: Pytree, args: tuple[Any, ...]) -> Any:
        """Explain one example from a baseline of its structure."""
        if not (self.adaptive or self.with_gap):
            return like(self.integral(x, start, *args, steps=self.steps), x)
        change = check.scalar(self.score(x, *args), self.name) - check.scalar(self.score(start, *args), self.name)
        result = self._measured(x, start, args, change, self.steps)
        for steps in self._ladder():
            result = self._climb(result, x, start, args, change, steps)
        return result if self.with_gap else result.attribution

    def take(self, *inputs: Any) -> tuple[Any, Pytree, tuple[Any, ...]]:
        """Split a call's arguments into (key or None, x, args)."""
        return (inputs[0], inputs[1], inputs[2:]) if self.needs_key else (None, inputs[0], inputs[1:])

    def start(self, key: Any, x: Pytree) -> Pytree:
        """The baseline, of x's structure, shapes and dtypes."""
        return resolve(self.baseline, x, key, name=self.name)

    def integral(self, x: Pytree, start: Pytree, *args: Any, steps: int) -> Pytree:
        """(x - b) times the mean gradient along the path, in float32 or wider."""
        nodes, weights = quadrature(self.rule, steps)
        dtype = common_dtype(x)
        return self.part(x, start, jnp.asarray(nodes, dtype), jnp.asarray(weights, dtype), *args)

    def part(self, x: Pytree, start: Pytree, nodes: Array, weights: Array, *args: Any) -> Pytree:
        """(x - b) times sum_k weights[k] df/dx(b + nodes[k] (x - b)): one program for all nodes of a number."""

        def term(item: tuple[Array, Array]) -> Pytree:
            point = interpolate(start, x, item[0])
            _, gradients = value_and_gradient(self.score, point, *args, name=self.name)
            return jax.tree.map(lambda g: g.astype(jnp.promote_types(g.dtype, jnp.float32)) * item[1], gradients)

        mean = chunked_sum(term, (nodes, weights), self.batch_size)
        return jax.tree.map(lambda g, a, b: times(g, a, b) if check.is_floating(a) else g, mean, x, start)

    def _ladder(self) -> list[int]:
        """The numbers of steps tried after the first, each four times the one before, up to `max_steps`."""
        steps, rungs = self.steps, []
        while self.adaptive and steps < self.max_steps:
            steps = min(4 * steps, self.max_steps)
            rungs.append(steps)
        return rungs

    def _measured(self, x: Pytree, start: Pytree, args: tuple[Any, ...], change: Array, steps: int) -> Convergence:
        attribution = self.integral(x, start, *args, steps=steps)
        gap = total(attribution) - change
        bound = (1e-3 if self.tolerance is None else self.tolerance) * (jnp.abs(change) + self.floor)
        reached = jnp.isfinite(gap) & (jnp.abs(gap) <= bound)  # where a score is infinite, so is the bound
        return Convergence(like(attribution, x), jnp.asarray(steps, jnp.int32), gap, reached)

    def _climb(
        self, result: Convergence, x: Pytree, start: Pytree, args: Any, change: Array, steps: int
    ) -> Convergence:
        def again(x: Pytree, start: Pytree, args: Any) -> Convergence:
            finer = self._measured(x, start, args, change, steps)
            return finer._replace(steps=finer.steps + result.steps)

        return lax.cond(result.reached, lambda *_: result, again, x, start, args)


def interpolate(start: Pytree, x: Pytree, alpha: Array) -> Pytree:
    """b + alpha (x - b) at the floating-point leaves, computed in float32 or wider, in x's dtypes."""

    def between(a: Any, b: Any) -> Array:
        a, b = jnp.asarray(a), jnp.asarray(b)
        wide = jnp.promote_types(a.dtype, jnp.float32)
        return (b.astype(wide) + alpha * (a.astype(wide) - b.astype(wide))).astype(a.dtype)

    return map_floating(between, x, start)


@public
def integrated_gradients(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    rule: str = "gauss_legendre",
    tolerance: float | None = None,
    floor: float = 1e-3,
    max_steps: int = 1024,
    batch_size: int | None = None,
) -> IntegratedGradients:
    """Integrate the gradient on the straight line from a baseline b to x.

    a_i = (x_i - b_i) * integral over alpha in [0, 1] of df/dx_i (b + alpha (x - b)), so that sum_i a_i = f(x) - f(b)
    (completeness). The integral is a quadrature with weights that sum to one; what it misses of completeness is never
    redistributed. On smooth networks Gauss-Legendre converges geometrically; on piecewise linear ones (ReLU, max
    pooling) the gradient jumps and every rule's error falls as 1/steps.

    With `tolerance` each example is refined until |sum(a) - (f(x) - f(b))| <= tolerance * (|f(x) - f(b)| + floor), or
    until `max_steps` gradients are used. In `explain_batch` the scores at 33 points of the path (forward passes) tell
    how many gradients each example needs, and where: on a smooth path `rule` with the fewest steps from where on its
    gap will stay small (at most 32; twice as many while it misses), otherwise points that lie closest where the path
    bends most, or `rule` with `steps` where that is enough. A plain call climbs a ladder of rules with steps, 4 steps,
    16 steps, ... up to `max_steps`, one after the other; under `vmap` all rungs are computed. A small gap does not
    bound the error of single attributions.

    A baseline that equals `x` in every value is a `UserWarning` (of a concrete `x`): the attribution is zero.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        baseline: What "absent" means: a scalar, an array or pytree of x's shape, or a function of `x` or of `(key, x)`
            (then calls take a key first). Where `x` is token ids alone, ids mean the rows that they look up, and 0.0
            rows of zeros.
        steps: Number of gradients, 32 if None; with `tolerance` the least of each example, 4 if None. A deep network of
            ReLUs bends often on the way from the baseline: fifty layers on a photograph missed 10 % of the score with
            64 steps and 3 % with 256. Look at `integrated_gradients_with_gap`, or pass `tolerance=0.01`.
        rule: 'gauss_legendre', 'midpoint', 'trapezoid', 'left' or 'right'.
        tolerance: None for a fixed number of steps, or the relative completeness gap to reach, e.g. 1e-3.
        floor: Absolute part of the tolerance's scale, in units of the score: it matters where f(x) is close to f(b).
        max_steps: The most gradients spent on one example with `tolerance` (the ladder counts its last rung only).
        batch_size: How many points are evaluated at once; None fills the device in `explain_batch`, and is 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score; integer and boolean leaves are
        held fixed and get zeros. Sums are accumulated in float32 or wider. Cost: `steps` forward and backward passes.

    Raises:
        ValueError: `steps` below 1 (2 for 'trapezoid'), an unknown rule, a tolerance that is not positive, `max_steps`
            below `steps`, a baseline that does not fit `x` or differs from it at an integer or boolean leaf (NaN where
            that is traced), NaN in a concrete `x`.
        TypeError: As in `gradient`.

    Example:
        >>> import jax.numpy as jnp
        >>> e = integrated_gradients(lambda x: (x**2).sum(), steps=4)
        >>> [round(float(a), 5) for a in e(jnp.array([1.0, -2.0]))]
        [1.0, 4.0]

    Source: Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks", equation 1; completeness is
    their Proposition 1.
    """
    return _integrated(
        "integrated_gradients", f, baseline, steps, rule, tolerance, floor, max_steps, batch_size, with_gap=False
    )


@public
def integrated_gradients_with_gap(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    rule: str = "gauss_legendre",
    tolerance: float | None = None,
    floor: float = 1e-3,
    max_steps: int = 1024,
    batch_size: int | None = None,
) -> IntegratedGradients:
    """Integrated gradients together with the gradients used, the completeness gap, and whether it is small enough.

    Args:
        f: As in `integrated_gradients`.
        baseline: As in `integrated_gradients`.
        steps: As in `integrated_gradients`.
        rule: As in `integrated_gradients`.
        tolerance: As in `integrated_gradients`.
        floor: As in `integrated_gradients`.
        max_steps: As in `integrated_gradients`.
        batch_size: As in `integrated_gradients`.

    Returns:
        `e(x, *args) -> Convergence(attribution, steps, gap, reached)`; the gap is signed and in units of the score.
        Cost: as `integrated_gradients`, and two forward passes.

    Raises:
        ValueError, TypeError: As in `integrated_gradients`.

    Example:
        >>> import jax.numpy as jnp
        >>> e = integrated_gradients_with_gap(lambda x: (x**2).sum(), steps=4)
        >>> result = e(jnp.array([1.0, -2.0]))
        >>> int(result.steps), bool(result.reached)
        (4, True)

    Source: Sundararajan, Taly and Yan 2017, section 5, "Computing integrated gradients".
    """
    name = "integrated_gradients_with_gap"
    return _integrated(name, f, baseline, steps, rule, tolerance, floor, max_steps, batch_size, with_gap=True)


def _integrated(
    name: str,
    f: Callable[..., Any],
    baseline: Any,
    steps: int | None,
    rule: str,
    tolerance: Any,
    floor: Any,
    max_steps: int,
    batch_size: int | None,
    *,
    with_gap: bool,
) -> IntegratedGradients:
    check.choice(rule, RULES, name, "rule")
    if steps is None:
        steps = FIXED if tolerance is None else FEWEST
    steps = check.count(steps, name, "steps", least=2 if rule == "trapezoid" else 1)
    if tolerance is not None:
        check.positive(tolerance, name, "tolerance")
        check.count(max_steps, name, "max_steps", least=steps)
    check.positive(floor, name, "floor", zero=True)
    return IntegratedGradients(
        as_function(check.callable_score(f, name)),
        as_baseline(baseline),
        tolerance,
        floor,
        steps,
        rule,
        max_steps,
        check.at_once(batch_size, name),
        with_gap,
        name,
    )


def times(gradient: Array, x: Any, start: Any) -> Array:
    """The gradient times the difference; what does not move has no share, whatever its slope (a root's at zero)."""
    wide = jnp.promote_types(gradient.dtype, jnp.float32)
    difference = jnp.asarray(x, wide) - jnp.asarray(start, wide)
    return jnp.where((difference == 0) & ~jnp.isfinite(gradient), 0, gradient.astype(wide)) * difference
