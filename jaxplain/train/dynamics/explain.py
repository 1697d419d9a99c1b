"""An explanation at every snapshot of a training run, as one explanation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxplain import check
from jaxplain.program import Function, as_function, chunked_map, needs_key, public, setting
from jaxplain.train.snapshot import stack_of
from jaxplain.types import Pytree


class ExplainOver(Function):
    """An explanation of each of some params, stacked. Made by `explain_over`."""

    method: Any
    params: Any
    batch_size: int = setting(default=1)
    random: bool = setting(default=False)
    name: str = setting(default="explain_over")

    @property
    def needs_key(self) -> bool:
        """As the explanations do."""
        return self.random

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example at every checkpoint; leaves `[S, ...]`."""
        key, x, args = check.divided(inputs, self.name, self.random)

        def at(params: Pytree) -> Pytree:
            e = check.made(self.method(params), self.name, "method")
            return check.answered(e(*((key,) if self.random else ()), x, *args), self.name, "method(params)")

        return chunked_map(at, self.params, self.batch_size)


@public
def explain_over(method: Callable[..., Any], snapshots: Any, *, batch_size: int = 1) -> ExplainOver:
    """Explain by the params of every snapshot, in one program: e(x)[s] = method(params_s)(x).

    `method` may make anything that is called with an example: a method or wrapper of this library over a score of the
    params, the score itself (a prediction over training), or `jaxplain.language.lens` (the logit lens over training).
    A random explanation draws the same at every snapshot, so that only training makes a difference. The row of the
    last step is what the same call makes of the params at the end.

    Args:
        method: `method(params) -> e`, an explanation by these params, called `e(x, *args)`, with a key first where it
            is random: `lambda p: integrated_gradients(logit(apply, p))`.
        snapshots: What `fit(snapshots=)` returned as `.snapshots`, or any params with a leading axis of checkpoints.
        batch_size: Checkpoints at once.

    Returns:
        `e(x, *args)` for one example, with a leading axis S on what `method` returns; under `explain_batch` `[B, S,
        ...]`. A random one takes a key first. Integrated gradients with a `tolerance` are those of a plain call, whose
        steps are bounded. Cost: S explanations; memory for `batch_size` of them and S results.

    Raises:
        TypeError: A method that makes nothing to call, snapshots that are none.
        ValueError: No snapshot, leaves without one leading axis.

    Example:
        >>> import jax.numpy as jnp, jaxplain
        >>> e = explain_over(lambda w: jaxplain.gradient(lambda x: x @ w), jnp.array([[0.0, 0.0], [1.0, 3.0]]))
        >>> e(jnp.ones(2)).tolist()
        [[0.0, 0.0], [1.0, 3.0]]
    """
    name = "explain_over"
    check.function(method, name, "method", "that makes an explanation, `method(params) -> e`")
    check.count(batch_size, name, "batch_size")
    _, params = stack_of(snapshots, name)
    made = as_function(method)
    first = check.made(made(jax.tree.map(lambda leaf: leaf[0], params)), name, "method")
    return ExplainOver(made, params, batch_size, needs_key(as_function(first)))
