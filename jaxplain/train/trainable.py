"""How a model is run while it is trained: which arrays are trained, which state is carried, which flags are passed.

Decided once, from known types and signatures, never by trying: Linen's `module.apply` (or a `functools.partial` of
it), anything that brings the methods of `Trainable` itself (`from_nnx` does), or a plain function `(params, x)`.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxplain.program import Function, Static, as_function, freeze, public, setting, thaw
from jaxplain.types import Array, Pytree

_FLAGS = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}


@runtime_checkable
class Trainable(Protocol):
    """A model that can be run for evaluation and for training; `params` is everything it needs."""

    def __call__(self, params: Pytree, *inputs: Any) -> Any:
        """Run in evaluation mode; the outputs `[B, ...]`."""

    def train(self, params: Pytree, inputs: tuple[Any, ...], key: Array) -> tuple[Any, Pytree]:
        """Run in training mode; the outputs and the params with the state (batch statistics) that changed."""

    def partition(self, params: Pytree) -> tuple[Pytree, Pytree]:
        """Divide params into what an optimizer trains and the rest."""

    def combine(self, trained: Pytree, rest: Pytree) -> Pytree:
        """Undo `partition`."""

    def reseed(self, params: Pytree, key: Array) -> Pytree:
        """Start random streams held in params from `key`."""


class LinenModel(Function):
    """A Linen module: "params" is trained, other collections are carried, dropout gets a key for every step."""

    kwargs: Any
    module: Static = setting()
    method: Static = setting()
    flag: str | None = setting(default=None)

    def __call__(self, params: Pytree, *inputs: Any) -> Any:
        """Run with the training flag off and nothing mutable."""
        return self.module.value.apply(params, *inputs, **self._settings(train=False))

    def train(self, params: Pytree, inputs: tuple[Any, ...], key: Array) -> tuple[Any, Pytree]:
        """Run with the training flag on and every collection but "params" mutable."""
        mutable = [name for name in params if name != "params"]
        settings = {**self._settings(train=True), "rngs": {"dropout": key}, "mutable": mutable or False}
        result = self.module.value.apply(params, *inputs, **settings)
        if not mutable:
            return result, params
        outputs, changed = result
        return outputs, {**params, **changed}

    def partition(self, params: Pytree) -> tuple[Pytree, Pytree]:
        """The collection "params", and the others."""
        if not isinstance(params, Mapping) or "params" not in params:
            raise ValueError(
                "the params of a Linen module are the whole variables that `module.init` returns, with the collection "
                f"'params'; got {sorted(params) if isinstance(params, Mapping) else type(params).__name__}."
            )
        return params["params"], {name: value for name, value in params.items() if name != "params"}

    def combine(self, trained: Pytree, rest: Pytree) -> Pytree:
        """The variables again."""
        return {"params": trained, **rest}

    def reseed(self, params: Pytree, key: Array) -> Pytree:
        """Linen holds no random state: the variables as they are."""
        return params

    def _settings(self, *, train: bool) -> dict[str, Any]:
        settings = {**thaw(self.kwargs), "method": self.method.value}
        if self.flag is not None:
            settings[self.flag] = _FLAGS[self.flag] == train
        return settings


class PartialModel(Function):
    """A model that brings the methods of `Trainable`, with keyword arguments of its call fixed."""

    model: Any
    kwargs: Any

    def __call__(self, params: Pytree, *inputs: Any) -> Any:
        """Run the model in evaluation mode."""
        return self.model(params, *inputs, **thaw(self.kwargs))

    def train(self, params: Pytree, inputs: tuple[Any, ...], key: Array) -> tuple[Any, Pytree]:
        """Run the model in training mode."""
        return self.model.train(params, inputs, key, **thaw(self.kwargs))

    def partition(self, params: Pytree) -> tuple[Pytree, Pytree]:
        """As the model divides them."""
        return self.model.partition(params)

    def combine(self, trained: Pytree, rest: Pytree) -> Pytree:
        """As the model combines them."""
        return self.model.combine(trained, rest)

    def reseed(self, params: Pytree, key: Array) -> Pytree:
        """As the model does it."""
        return self.model.reseed(params, key)


class PlainModel(Function):
    """A function `(params, x, *inputs)` without state: every leaf of params is trained."""

    function: Any
    takes: tuple[str, ...] = setting(default=())

    def __call__(self, params: Pytree, *inputs: Any) -> Any:
        """Run, with `train=False` where the function has that argument."""
        return self.function(params, *inputs, **({"train": False} if "train" in self.takes else {}))

    def train(self, params: Pytree, inputs: tuple[Any, ...], key: Array) -> tuple[Any, Pytree]:
        """Run, with `train=True` and `key=` where the function has those arguments."""
        settings = {name: value for name, value in (("train", True), ("key", key)) if name in self.takes}
        return self.function(params, *inputs, **settings), params

    def partition(self, params: Pytree) -> tuple[Pytree, Pytree]:
        """All of it, and nothing; the variables of a Flax model with state are refused."""
        if isinstance(params, Mapping) and "params" in params and len(params) > 1:
            raise ValueError(
                f"params hold the collections {sorted(params)}, but `apply` is a plain function, of which every leaf "
                "would be trained. Pass `module.apply` itself, so that only 'params' is."
            )
        return params, ()

    def combine(self, trained: Pytree, rest: Pytree) -> Pytree:
        """The params again."""
        return trained

    def reseed(self, params: Pytree, key: Array) -> Pytree:
        """No random state: the params as they are."""
        return params


@public
def as_trainable(apply: Callable[..., Any]) -> Any:
    """Make a `Trainable` of `module.apply`, an apply of `from_nnx`, a partial of either, or a plain function.

    Args:
        apply: `apply(params, batch, *inputs) -> outputs`. A Linen module's call takes its mode from an argument named
            `train`, `training`, `is_training`, `deterministic` or `use_running_average`, whose value in a partial is
            overruled, jitted or not. A plain function is run as it is; it may take `train` and `key` by name.

    Returns:
        A pytree, equal for equal models, so that programs are compiled once.

    Raises:
        TypeError: Something that cannot be called, or a Linen module instead of its `apply`.
        ValueError: A partial that fixes what training has to set (`mutable`, `rngs`, positional arguments).

    Example:
        >>> model = as_trainable(lambda params, x: x @ params["w"])
        >>> model.partition({"w": 1.0})
        ({'w': 1.0}, ())
    """
    function, kwargs = _taken_apart(apply)
    if _is_linen(function):
        return _linen(function, kwargs)
    if isinstance(function, Trainable):
        kwargs.pop("train", None)  # the mode is what training sets
        return PartialModel(as_function(function), freeze(kwargs)) if kwargs else function
    if not callable(apply) or (hasattr(apply, "init") and hasattr(apply, "apply")):
        raise TypeError(f"`apply` is {type(apply).__name__}; pass a function (params, x), such as `module.apply`.")
    names = inspect.signature(apply).parameters
    return PlainModel(as_function(apply), takes=tuple(name for name in ("train", "key") if name in names))


def _taken_apart(apply: Any) -> tuple[Any, dict[str, Any]]:
    """The function under partials and `jax.jit`, and the keyword arguments that were fixed on the way."""
    function: Any = apply
    kwargs: dict[str, Any] = {}
    while True:
        if hasattr(function, "lower") and hasattr(function, "__wrapped__"):  # jitted
            function = function.__wrapped__
        elif isinstance(function, functools.partial) and not isinstance(function, jax.tree_util.Partial):
            if function.args:
                raise ValueError("`apply` is a partial with positional arguments; params and inputs come there.")
            function, kwargs = function.func, {**function.keywords, **kwargs}
        else:
            return function, kwargs


def _is_linen(function: Any) -> bool:
    if not isinstance(function, types.MethodType) or function.__name__ != "apply":
        return False
    from flax import linen

    return isinstance(function.__self__, linen.Module)


def _linen(function: Any, kwargs: dict[str, Any]) -> LinenModel:
    module, method = function.__self__, kwargs.pop("method", None)
    fixed = sorted({"mutable", "rngs"} & set(kwargs))
    if fixed:
        raise ValueError(f"`apply` is a partial that fixes {' and '.join(fixed)}, which training sets itself.")
    target = getattr(type(module), method) if isinstance(method, str) else (method or type(module).__call__)
    names = inspect.signature(target).parameters
    flag = next((name for name in _FLAGS if name in names), None)
    kwargs.pop(flag, None)  # type: ignore[arg-type]
    return LinenModel(freeze(kwargs), module=Static(module), method=Static(method), flag=flag)


def trained_leaves(model: Trainable, params: Pytree, argument: str = "params") -> None:
    """Require that everything which is trained is a floating-point array."""
    trained, _ = model.partition(params)
    leaves = jax.tree_util.tree_leaves_with_path(trained)
    if not leaves:
        raise ValueError(f"{argument} hold nothing to train.")
    for path, leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"{argument}{jax.tree_util.keystr(path)} has dtype {jnp.result_type(leaf)}; only floating-point arrays "
                "can be trained. Keep constants in the function, or in another collection than 'params'."
            )
