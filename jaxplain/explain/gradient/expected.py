"""Expected gradients: integrated gradients averaged over baselines and points of the path, drawn together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

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
from jaxplain.explain.gradient.path import interpolate, times
from jaxplain.program import Function, as_function, chunked_sum, like, public, setting, value_and_gradient
from jaxplain.types import Array, Pytree


class ExpectedGradients(Function):
    """Expected gradients of a score. Made by `expected_gradients`."""

    score: Any
    baseline: Any
    samples: int = setting(default=64)
    batch_size: int | None = setting(default=None, points=True)
    counted: ClassVar[str] = "samples"

    @property
    def needs_key(self) -> bool:
        """Always: baselines and points of the path are drawn from the key."""
        return True

    @at_lookups
    def __call__(self, key: Array, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        name = "expected_gradients"
        check.differentiable(x, name)
        check.finite(x, name)
        if is_background(self.baseline, x):
            held(self.baseline, x, name, "baseline")
            rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
            check.unequal(rows, self.baseline, name, "baseline", derivative=True)
        else:
            resolve(self.baseline, x, key, name=name)  # draws are traced: what cannot move is refused here

        def term(index: Array) -> Pytree:
            draw = jax.random.fold_in(key, index)
            start = self._draw(jax.random.fold_in(draw, 0), x)
            alpha = (index + jax.random.uniform(jax.random.fold_in(draw, 1))) / self.samples
            _, gradients = value_and_gradient(self.score, interpolate(start, x, alpha), *args, name=name)
            return jax.tree.map(lambda g, a, b: times(g, a, b) if check.is_floating(a) else g, gradients, x, start)

        sums = chunked_sum(term, jnp.arange(self.samples), self.batch_size)
        return like(jax.tree.map(lambda s: s / self.samples, sums), x)

    def check_baseline(self, x: Pytree) -> None:
        """Look at a concrete batch once: refuse what has no derivative, warn of examples that equal every baseline."""
        refuse_where_moved((self.baseline,), x, "expected_gradients", "baseline")
        warn_where_equal((self.baseline,), x, "expected_gradients", "baseline", derivative=True)

    def _draw(self, key: Array, x: Pytree) -> Pytree:
        """One baseline: a row of the background set, or whatever the baseline is."""
        value = self.baseline
        if is_background(value, x):
            rows = check.batch_length(value, "expected_gradients", "baseline")
            row = jax.random.randint(key, (), 0, rows)
            value = jax.tree.map(lambda leaf: jnp.asarray(leaf)[row], value)
        return resolve(value, x, key, name="expected_gradients")


@public
def expected_gradients(
    f: Callable[..., Any], baseline: Any = 0.0, *, samples: int = 64, batch_size: int | None = None
) -> ExpectedGradients:
    """Integrated gradients averaged over a background set, by sampling baselines and points of the path together.

    a_i = E[(x_i - b_i) df/dx_i (b + alpha (x - b))], b drawn from the background and alpha from U(0, 1). The draws of
    alpha are stratified (sample s of n falls into [s/n, (s+1)/n)), which keeps the estimate unbiased and lowers its
    variance below the source's independent draws. Completeness holds in expectation: sum_i a_i tends to
    f(x) - E[f(b)].

    Args:
        f: A score, `f(x, *args) -> scalar`.
        baseline: A background set, an array or pytree of x's structure with one more leading axis `[N, ...]`, of
            which a row is drawn for every sample; or one baseline as in `integrated_gradients` (a function of
            `(key, x)` draws for every sample).
        samples: How many pairs (b, alpha) are drawn.
        batch_size: How many of them are evaluated at once, as in `integrated_gradients`.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure, in units of the score, summed in float32 or wider.
        Cost: `samples` forward and backward passes.

    Raises:
        ValueError: `samples` or `batch_size` below 1, baselines that do not fit `x`, NaN in a concrete `x`.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> e = expected_gradients(lambda x: 2 * x.sum(), jnp.zeros((5, 3)), samples=8)
        >>> e(jax.random.key(0), jnp.ones(3)).tolist()
        [2.0, 2.0, 2.0]

    Source: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and
    expected gradients", equation 3.
    """
    samples = check.count(samples, "expected_gradients", "samples")
    batch_size = check.at_once(batch_size, "expected_gradients")
    score = as_function(check.callable_score(f, "expected_gradients"))
    return ExpectedGradients(score, as_baseline(baseline), samples, batch_size)
