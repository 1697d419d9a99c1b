"""Immutable callable pytrees: what scores, explanations, wrappers and metrics are made of.

Arrays are leaves, code and Python settings are static and compared by value, so that one module-level `jax.jit`
that takes such an object as an argument compiles once, whatever the parameters.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, dataclass_transform

import jax

from jaxplain.program.reach import calling, edition, is_array
from jaxplain.program.text import call_name, call_text, short
from jaxplain.types import is_key
from jaxplain.types import short as said


def setting(*, default: Any = dataclasses.MISSING, points: bool = False) -> Any:
    """A field of a `Function` that is static: hashable, compared by value, part of what is compiled.

    `points` marks the number of points that are evaluated at once, where None is what fills the device (`filled`).
    """
    return dataclasses.field(default=default, metadata={"static": True, "points": points})


AROUND_CALL: list[Callable[..., Any]] = []
"""How a `Function` is called that holds others: `(call, function, inputs) -> result`, put here by `chunk`."""


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(setting, dataclasses.field))
class Function:
    """Base of every score, explanation, wrapper and metric: a frozen dataclass that is a pytree.

    Fields are pytrees of arrays (and other functions, wrapped by `as_function`); fields made by `setting()` are
    static. Subclasses define `__call__`, and `needs_key = True` (or a property) where a PRNG key is the first
    argument of the call.
    """

    @property
    def needs_key(self) -> bool:
        """Whether a call takes a PRNG key as its first argument."""
        return False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # JAX takes the structures of two dataclasses for equal if their fields are, so that one class's program could
        # run for another's: the class itself is a static field.
        annotations = {**inspect.get_annotations(cls), "kind_of": "type"}
        type.__setattr__(cls, "__annotations__", annotations)  # written so for checkers, which read it as a field else
        cls.kind_of = dataclasses.field(  # type: ignore[attr-defined]
            default=cls, kw_only=True, repr=False, metadata={"static": True}
        )
        call = cls.__dict__.get("__call__")
        if call is not None and [*inspect.signature(call).parameters][1:2] == ["key"]:
            type.__setattr__(cls, "__call__", _with_key(call))
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        static = [f.name for f in fields if f.metadata.get("static", False)]
        jax.tree_util.register_dataclass(cls, [f.name for f in fields if f.name not in static], static)
        if call is not None and any(f.name == "score" or f.metadata.get("points", False) for f in fields):
            cls.__call__ = _around(cls.__dict__["__call__"])  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was looked up for this object (`kept`) is not true of a copy or in another process."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def __repr__(self) -> str:
        """One line that reads like the call that made it."""
        return call_text(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate for one example; subclasses say what the arguments are."""
        raise NotImplementedError(f"{type(self).__name__} defines no __call__.")


def _with_key(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that looks for its key before anything else does, since an example in its place would be blamed for it."""

    @functools.wraps(call)
    def with_key(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.needs_key and "key" not in kwargs and not (args and is_key(args[0])):
            raise TypeError(
                f"{call_name(self)}: it is random and needs a key first, before x: (key, x, ...), with "
                f"key = jax.random.key(0){f', not {said(args[0])}' if args else ''}."
            )
        return call(self, *args, **kwargs)

    return with_key


def _around(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that fits what the function holds: a score on the host is asked for many points at once."""

    @functools.wraps(call)
    def around(self: Any, *args: Any, **kwargs: Any) -> Any:
        return AROUND_CALL[0](functools.partial(call, **kwargs), self, args)

    return around


def kept(owner: Any, name: str, make: Callable[[], Any]) -> Any:
    """What `make` returns, made once for each `Function` and edition of its code: else it is immutable."""
    if not isinstance(owner, Function):
        return make()
    now = editions(owner)
    if name not in owner.__dict__ or owner.__dict__[name][0] != now:
        object.__setattr__(owner, name, (now, make()))
    return owner.__dict__[name][1]


def codes(f: Any) -> list[Any]:
    """What is `Static` in a callable pytree, found once for each `Function`."""
    if isinstance(f, Function) and "_codes" in f.__dict__:
        return f.__dict__["_codes"]
    found = [node.value for node in jax.tree.leaves(f, is_leaf=is_static) if is_static(node)]
    if isinstance(f, Function):
        object.__setattr__(f, "_codes", found)
    return found


def editions(f: Any) -> tuple[int, ...]:
    """The editions of the code in a callable pytree."""
    return tuple(map(edition, codes(f)))


def is_static(node: Any) -> bool:
    """Whether a node of a callable pytree is code or a setting."""
    return isinstance(node, Static)


@jax.tree_util.register_pytree_node_class
class Static:
    """A pytree without leaves around one Python value, compared by value where the value can be, else by identity.

    Of code the structure says the edition (`reach`) too, so that a program of an earlier one is not run for it.
    """

    __slots__ = ("edition", "value")

    def __init__(self, value: Any, edition: int = 0) -> None:
        self.value, self.edition = value, edition

    def tree_flatten(self) -> tuple[tuple[()], Static]:
        """No leaves; the value rides in the structure."""
        now = edition(self.value)
        return (), self if now == self.edition else Static(self.value, now)

    @classmethod
    def tree_unflatten(cls, aux: Static, _: Any) -> Static:
        """Return the very object that was flattened."""
        return aux

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static) or type(self.value) is not type(other.value):
            return False
        if self.edition != other.edition:
            return False
        return self.value is other.value or (_hashable(self.value) and bool(self.value == other.value))

    def __hash__(self) -> int:
        return hash(self.value) if _hashable(self.value) else id(self.value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the value, which is a function here."""
        return calling(self.value, lambda: self.value(*args, **kwargs))

    def __repr__(self) -> str:
        return short(self.value)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


class _Method(Function):
    """A bound method taken apart, so that the same method of two equal objects compares equal."""

    function: Static
    owner: Any  # Static, or the object itself where it is a pytree

    def __repr__(self) -> str:
        owner = self.owner.value if isinstance(self.owner, Static) else self.owner
        return f"{owner.__name__ if inspect.isclass(owner) else type(owner).__name__}.{self.function!r}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self.owner, Static):
            return self.function(self.owner, *args, **kwargs)
        return calling(self.owner.value, lambda: self.function(self.owner.value, *args, **kwargs))


class _Named:
    """Something to call that has only a name, for texts."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Nothing."""


class _Partial(Function):
    """A `functools.partial` taken apart: its function, its array arguments as leaves, the rest static."""

    function: Any
    args: Any
    kwargs: Any

    def __repr__(self) -> str:
        return short(functools.partial(_Named(repr(self.function)), *thaw(self.args), **thaw(self.kwargs)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*thaw(self.args), *args, **{**thaw(self.kwargs), **kwargs})


class _Opened(Function):
    """A pytree to call of which some leaves are neither arrays nor numbers, such as an Equinox module's activations."""

    tree: Any

    @property
    def needs_key(self) -> bool:
        """As the pytree says."""
        return needs_key(thaw(self.tree))

    def __repr__(self) -> str:
        return short(thaw(self.tree))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return thaw(self.tree)(*args, **kwargs)


class _OfOpened(Function):
    """A model's function whose params hold code among their leaves."""

    function: Any

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        return self.function(thaw(params), *args, **kwargs)


def _all_numbers(tree: Any) -> bool:
    """Whether all leaves are arrays or numbers; a truth of Python's decides what is run, and is code."""
    return all(_is_array(leaf) or type(leaf) in (int, float, complex) for leaf in jax.tree.leaves(tree))


def _with_code(tree: Any) -> Any:
    """A pytree of which what is no array is `Static`, Python's numbers too: the code beside them may ask for them."""
    return jax.tree.map(lambda leaf: leaf if _is_array(leaf) else Static(leaf), tree)


def _is_array(leaf: Any) -> bool:
    return is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def freeze(value: Any) -> Any:
    """Make a pytree of which arrays are the leaves and everything else is `Static`."""
    return jax.tree.map(lambda leaf: leaf if is_array(leaf) else Static(leaf), value)


def thaw(value: Any) -> Any:
    """Undo `freeze`."""
    return jax.tree.map(
        lambda leaf: leaf.value if isinstance(leaf, Static) else leaf, value, is_leaf=lambda v: isinstance(v, Static)
    )


def is_node(value: Any) -> bool:
    """Whether `value` is a pytree node (its arrays are leaves already) and no leaf."""
    return not jax.tree_util.all_leaves([value])


def as_function(f: Callable[..., Any]) -> Any:
    """Make a callable pytree of `f`, equal for equal code.

    Pytrees (another `Function`, an Equinox module, `jax.tree_util.Partial`) are kept, with functions among their leaves
    as code; `functools.partial` and bound
    methods such as a Linen module's `apply` are taken apart; other callables are compared as Python compares them.
    """
    if isinstance(f, Function):  # what it holds has been through here
        return f
    if is_node(f):
        return f if _all_numbers(f) else _Opened(_with_code(f))
    if isinstance(f, functools.partial):
        return _Partial(as_function(f.func), freeze(f.args), freeze(f.keywords))
    if isinstance(f, types.MethodType):
        owner = f.__self__
        return _Method(Static(f.__func__), owner if is_node(owner) else Static(owner))
    return Static(f)


def as_model(apply: Callable[..., Any], params: Any) -> tuple[Any, Any]:
    """A model's function and its params as fields of a `Function`.

    Functions and truths among the leaves of params, such as the activations and the dropout of an Equinox module, are
    code, as in `as_function`, and so are Python's numbers beside them.
    """
    function = as_function(apply)
    return (function, params) if _all_numbers(params) else (_OfOpened(function), _with_code(params))


def needs_key(e: Any) -> bool:
    """Whether a call of an explanation or metric takes a key first; plain functions do not say so and take none."""
    return bool(getattr(e, "needs_key", False))
