"""Models written in NNX as pure functions: `from_nnx(model) -> (apply, params)`."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.program import Function, Static, public, setting
from jaxplain.types import Array, Pytree


class NNXApply(Function):
    """The pure function of an NNX model, `apply(params, x, *inputs, train=False, **keywords)`; made by `from_nnx`.

    Compared by value: equal for models of equal structure. The parameters are no part of it.
    """

    evaluation: Static = setting()  # the graph with dropout off and running averages on
    training: Static = setting()

    def __call__(self, params: Pytree, *inputs: Any, train: bool = False, **keywords: Any) -> Any:
        """The outputs `[B, ...]`; with `train=True` a pair `(outputs, params)` with the state that changed."""
        if train:
            return self.train(params, inputs, None, **keywords)
        model = self._merge(self.evaluation, params)
        return model(*inputs, **keywords, **_mode(model, train=False))

    def train(self, params: Pytree, inputs: tuple[Any, ...], key: Any, **keywords: Any) -> tuple[Any, Pytree]:
        """Run in training mode; batch statistics and the counts of random streams change in the returned params."""
        del key  # the model's own random streams are carried in params; `reseed` sets them
        model = self._merge(self.training, params)
        outputs = model(*inputs, **keywords, **_mode(model, train=True))
        self._nnx.pop(model, self._nnx.Intermediate)
        return outputs, self._nnx.split(model)[1]

    def partition(self, params: Pytree) -> tuple[Pytree, Pytree]:
        """Divide params into what an optimizer trains (nnx.Param) and the rest."""
        return self._nnx.split_state(params, self._nnx.Param, ...)

    def combine(self, trained: Pytree, rest: Pytree) -> Pytree:
        """Undo `partition`."""
        return self._nnx.merge_state(trained, rest)

    def reseed(self, params: Pytree, key: Array) -> Pytree:
        """Start every random stream of the model from `fold_in(key, its index)`."""
        variables, treedef = jax.tree.flatten(params, is_leaf=lambda leaf: isinstance(leaf, self._nnx.Variable))
        for index, variable in enumerate(variables):
            if isinstance(variable, self._nnx.RngKey):
                stream = jax.random.fold_in(key, index)
                shape = jnp.shape(variable.get_value())
                variables[index] = variable.replace(jax.random.split(stream, shape) if shape else stream)
            elif isinstance(variable, self._nnx.RngCount):
                variables[index] = variable.replace(jnp.zeros_like(variable.get_value()))
        return jax.tree.unflatten(treedef, variables)

    def _merge(self, graph: Static, params: Pytree) -> Any:
        # Variables are mutable and belong to the trace they are made in: the model gets fresh ones, made here.
        return self._nnx.merge(graph.value, jax.tree.map(lambda leaf: leaf, params))

    @property
    def _nnx(self) -> Any:
        from flax import nnx

        return nnx

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NNXApply) and (self.evaluation, self.training) == (other.evaluation, other.training)

    def __hash__(self) -> int:
        return hash((self.evaluation, self.training))


def _mode(model: Any, *, train: bool) -> dict[str, bool]:
    """The mode for a model whose own call asks for it by the name that `apply` has for it."""
    return {"train": train} if "train" in inspect.signature(type(model).__call__).parameters else {}


@public
def from_nnx(model: Any) -> tuple[NNXApply, Pytree]:
    """Make a pure function and its parameters of an NNX model, which is left as it was.

    Evaluation mode (no dropout, running averages) is the default; `fit` trains it like any other model. Put trained
    parameters back with `flax.nnx.update(model, params)`.

    Args:
        model: An `nnx.Module` that is called as `model(x, *inputs, **keywords)`, batch first.

    Returns:
        `(apply, params)`: `apply(params, x, *inputs, train=False, **keywords)`, hashable and compared by value, and the
        state of the model (parameters, batch statistics, random streams), a pytree. `apply(params, x, train=True)`
        returns `(outputs, params)`. Keywords go to the model's call; fix them for a score or `fit` by a partial, as in
        `functools.partial(apply, rngs=None)`, whose arrays are leaves of the score.

    Raises:
        TypeError: Anything that is no `nnx.Module`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> apply, params = from_nnx(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
        >>> apply(params, jnp.ones((3, 4))).shape
        (3, 2)
    """
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"from_nnx: `model` is {type(model).__name__}, not a flax.nnx.Module (Linen: use `module.apply`)."
        )
    graph, params = nnx.split(model)
    graphs = []
    for mode in ("eval", "train"):
        copy = nnx.merge(graph, params)
        getattr(copy, mode)()
        graphs.append(Static(nnx.split(copy)[0]))
    return NNXApply(*graphs), params
