"""Influence functions: the change of a trained model's scores with an example's weight, at the end of training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.curvature.kronecker import ekfac
from jaxplain.influence.curvature.matrix import KINDS
from jaxplain.influence.curvature.series import REPEATS, lissa, stochastic_lissa
from jaxplain.influence.curvature.solve import (
    Solve,
    conjugate_gradients,
    explicit,
    krylov,
    mean_eigenvalue,
)
from jaxplain.influence.gradients import Examples, examples_of, require_finite
from jaxplain.influence.rank import rank_correlation
from jaxplain.influence.result import Influence, better_when_higher, checked_queries, masks_of
from jaxplain.program import as_function, public
from jaxplain.readout import cross_entropy
from jaxplain.types import Array, Number, Pytree

UNSOLVED = 0.01
"""The residual of a solver, as a share of the query's gradient, from which on there is a warning."""
SOLVERS = ("explicit", "cg", "arnoldi", "ekfac", "lissa")
GRID = tuple(10.0**power for power in range(-4, 3))
"""Dampings that are tried, in units of the curvature's mean eigenvalue."""


@public
def influence_function(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    queries: Any,
    *,
    loss: Callable[[Array, Any], Array] = cross_entropy,
    solver: str = "explicit",
    curvature: str = "gauss_newton",
    damping: Number | str = "fit",
    weights: Any = None,
    held_out: Any = None,
    steps: int | None = None,
    samples: int | None = None,
    batch_size: int = 64,
    key: Array | None = None,
) -> Influence:
    """Compute influence functions: d score_q / d w_i = -grad q' (H + damping I)^-1 grad loss_i at the params.

    H is the curvature of the summed loss sum_i w_i loss_i, and `damping` an L2 penalty damping |theta|^2 / 2 beside it
    (beside the mean loss it would be damping / N). It is the derivative of a retraining to convergence where the params
    are a minimum of the summed loss with that penalty and H is its Hessian; elsewhere it is an approximation whose
    worth depends on the damping.

    Args:
        apply: `apply(params, batch, *inputs) -> outputs`, as in `train.fit`; it runs in evaluation mode.
        params: The trained params, in float32 or wider.
        data: `(inputs, targets)`, the training examples, arrays `[N, ...]`.
        queries: `queries(params) -> scores [Q]`, such as `query_scores(apply, data)`.
        loss: `loss(outputs, target) -> scalar` of one example, as it was trained with.
        solver: 'explicit' (the whole matrix, `[P, P]`), 'cg' (conjugate gradients: products only), 'arnoldi' (a Krylov
            space), 'ekfac' (a Kronecker product with corrected eigenvalues for each dense or convolution layer, found
            in the unmodified model; of other trained arrays the diagonal, listed in `checks["diagonal"]`), 'lissa' (the
            Neumann series; with `samples` its stochastic form).
        curvature: 'gauss_newton', 'hessian', or 'fisher' (the empirical one, sum of w_i g_i g_i').
        damping: A number, zero or more, in units of the summed loss; "fit" takes, among powers of ten of the mean
            eigenvalue, the one whose predictions rank the held-out retrainings best.
        weights: `[N]`, the weights that the params were trained with; None is 1 for each.
        held_out: `(weights [M, N], scores [M, Q])`: retrainings (`retrain`) for damping="fit". Judge with others.
        steps: Of 'cg' (None: ten for each query's params), 'arnoldi' (None: 200) and 'lissa' (None: 1000).
        samples: Examples drawn for every product of 'lissa', with replacement; None takes all. Eight independent runs
            are averaged and `checks["standard_error"]` `[Q, N]` is what their spread leaves. What `steps` are too few
            for (they have to be several times scale / damping) is a bias beside it.
        batch_size: Examples at once.
        key: PRNG key of 'arnoldi', of `samples` and of the mean eigenvalue; None is jax.random.key(0).

    Returns:
        `Influence` with values `[Q, N]` in units of the score, and checks: the damping, and the solver's residual or
        what it covers. Cost: Q backward and Q forward derivatives over all examples, and 'explicit': K backward passes
        over them and P^3 / 3 operations; 'cg', 'lissa', 'arnoldi': two passes over all examples a step (and query);
        'ekfac': 2 K backward passes over them; 'lissa' with `samples`: 16 passes over so many a step and query.

    Raises:
        ValueError: Damping 0 with a singular curvature, labels outside the classes, half precision, weights of another
            length, queries that do not depend on the params, a gradient that is not finite (its example is named).
        TypeError: A model or data of no known kind.

    Example:
        >>> import jax.numpy as jnp
        >>> x, y = jnp.array([[1.0], [2.0]]), jnp.array([1.0, 1.0])
        >>> half = lambda output, target: (output - target) ** 2 / 2
        >>> w, apply = jnp.array([0.6]), lambda w, x: x @ w
        >>> found = influence_function(apply, w, (x, y), lambda w: w, loss=half, damping=0.0)
        >>> [round(value, 4) for value in found.values[0].tolist()]  # x_i r_i / sum x^2
        [0.08, -0.08]

    Source: Koh and Liang 2017, "Understanding black-box predictions via influence functions", equation 2; EK-FAC:
    George et al. 2018, equation 9, and Grosse et al. 2023, section 3; Arnoldi: Schioppa et al. 2022, algorithm 1;
    LiSSA: Agarwal et al. 2017, section 3.1.
    """
    check.choice(solver, SOLVERS, "influence_function", "solver")
    check.choice(curvature, KINDS, "influence_function", "curvature")
    if steps is not None:
        check.count(steps, "influence_function", "steps")
    if samples is not None:
        check.count(samples, "influence_function", "samples")
        if solver != "lissa":
            raise ValueError(f"influence_function: `samples` are those of the solver 'lissa', not of {solver!r}.")
    if solver == "ekfac" and curvature == "hessian":
        raise ValueError("influence_function: `solver` 'ekfac' is of the curvatures 'gauss_newton' and 'fisher'.")
    examples = examples_of(apply, params, data, loss, weights, batch_size, "influence_function")
    count = checked_queries(queries, params, "influence_function")
    held_out = _dampings(damping, held_out, examples.count, count)
    _refuse_singular(examples, curvature, solver, damping)
    queries = as_function(queries)
    scores, rows = jax.jit(Examples.query_gradients)(examples, queries)
    require_finite(examples, (scores, rows), "influence_function")
    key = jax.random.key(0) if key is None else key
    solve = _solver(examples, solver, curvature, steps, samples, key)

    def at(value: Any) -> tuple[Array, dict[str, Any]]:
        solved, said = solve(rows, value)
        said = {**said, "damping": float(value)}
        draws = said.pop("draws", None)
        if draws is None:
            return -_along(examples, solved), said
        each = _along(examples, draws.reshape(-1, draws.shape[-1])).reshape(*draws.shape[:2], -1)
        return -jnp.mean(each, axis=0), {**said, "standard_error": jnp.std(each, axis=0, ddof=1) / REPEATS**0.5}

    if damping == "fit" if isinstance(damping, str) else False:
        values, said = _fitted(at, mean_eigenvalue(examples, curvature, key), held_out, examples.data.weights)
    else:
        values, said = at(damping)
    require_finite(examples, values, "influence_function")
    if said.get("residual", 0.0) > UNSOLVED:
        warnings.warn(
            f"influence_function: {solver!r} stopped with a residual of {said['residual']:.2g} of the gradient. Pass "
            "more `steps` or a larger `damping`; of a 'hessian' with negative eigenvalues take 'gauss_newton'.",
            UserWarning,
            stacklevel=3,
        )
    method = f"influence_function ({solver}, {curvature})"
    return Influence(values, scores, "score", better_when_higher(queries), method, said)


_along = jax.jit(Examples.along)


def _solver(
    examples: Examples, solver: str, curvature: str, steps: int | None, samples: int | None, key: Array
) -> Solve:
    if solver == "explicit":
        return explicit(examples, curvature)
    if solver == "cg":
        return conjugate_gradients(examples, curvature, steps)
    if solver == "arnoldi":
        return krylov(examples, curvature, steps, key)
    if solver == "ekfac":
        return ekfac(examples, curvature)[0]
    if samples is not None:
        return stochastic_lissa(examples, curvature, steps, samples, key)
    return lissa(examples, curvature, steps)


def _dampings(damping: Any, held_out: Any, count: int, queries: int) -> Any:
    """Require a damping that can be; the held-out weights and scores as arrays where it is to be fitted."""
    if not isinstance(damping, str):
        check.one_number(damping, "influence_function", "damping", zero=True)
        return None
    check.choice(damping, ("fit",), "influence_function", "damping")
    if held_out is None:
        raise ValueError(
            "influence_function: damping='fit' needs `held_out=(weights [M, N], scores [M, Q])`, retrainings that are "
            "not those it is judged by (see `retrain`). Or pass a number as `damping`."
        )
    if not isinstance(held_out, tuple) or len(held_out) != 2:
        raise TypeError(f"influence_function: `held_out` is {check.short(held_out)}; pass (weights, scores).")
    weights, scores = map(np.asarray, held_out)
    if weights.ndim != 2 or weights.shape[1] != count or scores.shape != (len(weights), queries) or len(weights) < 2:
        raise ValueError(
            f"influence_function: `held_out` has shapes {weights.shape} and {scores.shape}; it has to be weights "
            f"[M, {count}] and scores [M, {queries}] of two or more retrainings."
        )
    check.finite(scores, "influence_function", "held_out[1]")
    return np.asarray(masks_of(weights, count, "influence_function", "held_out[0]")), scores


def _refuse_singular(examples: Examples, curvature: str, solver: str, damping: Any) -> None:
    """Before any compute: without damping, a curvature of fewer terms than params is singular."""
    if isinstance(damping, str) or float(damping) > 0 or curvature == "hessian":
        return
    size = jax.eval_shape(lambda e: e.vector, examples).size
    row = jax.tree.map(lambda a: a[0], examples.data.inputs)
    outputs = jax.eval_shape(lambda e: e.output(e.vector, row), examples).size if curvature == "gauss_newton" else 1
    if examples.count * outputs < size:
        raise ValueError(
            f"influence_function: with `damping` 0 the curvature {curvature!r} of {examples.count} examples with "
            f"{outputs} outputs is singular: it has {size} params. Pass a positive `damping`."
        )


def _fitted(at: Callable[[Any], Any], unit: float, held_out: Any, weights: Any) -> tuple[Array, dict[str, Any]]:
    """The values at the damping of the grid that ranks the held-out retrainings best."""
    masks, scores = held_out
    moves = masks - np.asarray(weights)[None]
    best: Any = None
    tried = {}
    for factor in GRID:
        try:
            values, said = at(factor * unit)
        except ValueError:  # singular to this precision: a larger one is tried
            continue
        worth = float(np.mean(rank_correlation(moves @ np.asarray(values).T, scores)))
        tried[factor * unit] = worth
        if np.isfinite(worth) and (best is None or worth > best[0]):
            best = worth, values, said
    if best is None:
        raise ValueError("influence_function: no `damping` ranks the held-out retrainings; look at their scores.")
    return best[1], {**best[2], "held_out": best[0], "tried": tried}
