"""Read, replace and split at any layer of any function that JAX can trace: `capture`, `intervene`, `split`.

A layer is named by the path of its module, such as `"ResNet/block_3"`; `print(jaxplain.layers(f)(x))` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxplain.program import Function, as_function, is_array, public, setting
from jaxplain.program.trace import (
    AUTO,
    Found,
    Selected,
    Shown,
    Tap,
    Values,
    View,
    contents,
    is_pattern,
    look,
    reachable,
    refuse_hidden,
    run,
    shown,
    shown_of,
    taken_key,
)
from jaxplain.types import Array, Pytree, short


class _Inside(Function):
    """A function of the layers of another."""

    f: Any

    def check_call(self, x: Pytree, *args: Any) -> None:
        """Let the function look at its concrete arguments, as drivers do."""
        check = getattr(self.f, "check_call", None)
        if check is not None:
            check(x, *args)


class Capture(_Inside):
    """A function together with values inside it: `(x, *args) -> (output, {path: value})`. Made by `capture`."""

    paths: tuple[str, ...] = setting()
    batch_axis: int | Literal["auto"] | None = setting(default=AUTO)

    def __call__(self, x: Pytree, *args: Any) -> tuple[Any, dict[str, Any]]:
        """The output and the values, by path."""
        view = look(self.f, (x, *args), "capture")
        views = shown_of(view, self._selected(view), self.paths, self.batch_axis)
        taps = {s.call: Tap(s.site, s.call, keep=True) for s, _ in views.values()}
        for tap in taps.values():
            refuse_hidden(tap, "capture")
        outputs, found = run(view.program, view.leaves, [(tap.site.route, tap) for tap in taps.values()], {})
        values: dict[str, Any] = {}
        for path, (s, how) in views.items():
            values[path] = _picked(how.show(found[s.call], len(s.site.loops)), s)
            if taken_key(s.call) in found:
                values[taken_key(path)] = found[taken_key(s.call)][0]
        return jax.tree.unflatten(view.structure, outputs), values

    def _selected(self, view: View) -> dict[str, Selected]:
        if not self.paths:
            return {s.key: s for s in view.sites() if reachable(s.site)}
        found = view.select(self.paths)
        # A pattern means what can be read; a path that cannot be is an error.
        kept = {path: s for path, s in found.items() if reachable(s.site) or path in self.paths}
        return kept or found


@public
def capture(f: Callable[..., Any], *paths: str, batch_axis: int | Literal["auto"] | None = AUTO) -> Capture:
    """Return values inside a function along with its output.

    Only what is named is computed and kept beside the output. Values are shown for one example, without the batch axis
    that a score adds. A value inside a `lax.scan` comes with a leading axis of turns; one inside a branch of `lax.cond`
    comes with a flag under `path + ":taken"` and is zero where the branch is not taken; a module that returns several
    arrays gives a tuple (`"path[1]"` picks one).

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace.
        *paths: Paths of modules, named scopes or `checkpoint_name`s. The model's own name may be left out; `*` and `?`
            are wildcards, which match `/` too (`"block_*"` is also what is inside the blocks); `"path:1"` is the second
            call of a module that is called several times; `"~lookup:0"` is the first look-up of a table by integer ids
            that no module has named. None takes all.
        batch_axis: `"auto"` finds the batch axis of each value; an integer removes that axis; None shows values as they
            are. Where the axis has merged with another (windows of an image), `"auto"` leaves a value out that a
            pattern means, with a warning that names it.

    Returns:
        `(x, *args) -> (output, {path: value})`, under the paths as given, or full ones where a pattern was. Gradients
        pass through the values. Cost: one forward pass.

    Raises:
        ValueError: A path that names nothing (the nearest are listed) or several calls; a value inside a `while` loop
            or a foreign call; a named value whose batch axis has merged with another.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> output, values = capture(f, "square")(jnp.array([1.0, 2.0]))
        >>> values["square"].tolist()
        [1.0, 4.0]
    """
    return Capture(as_function(f), _paths(paths, "capture"), batch_axis)


class Intervention(_Inside):
    """A function with values inside it changed. Made by `intervene`."""

    made_by: ClassVar[str] = "intervene"
    changes: dict[str, Any]
    batch_axis: int | Literal["auto"] | None = setting(default=AUTO)

    def __call__(self, x: Pytree, *args: Any) -> Any:
        """The output with the changes made."""
        view = look(self.f, (x, *args), "intervene")
        changes = []
        for path, change in self.changes.items():
            found = shown_of(view, view.select([path]), [path], self.batch_axis)
            changes += [(s, how, change) for s, how in found.values()]
        _refuse_repeated([s for s, _, _ in changes])
        return changed(view, changes)


def changed(view: View, changes: Sequence[tuple[Selected, Shown, Any]]) -> Any:
    """The output of a call that was looked at, with values changed (each a function, or an array in its place)."""
    taps: list[Tap] = []
    feeds: Found = {}
    for selected, how, change in changes:
        taps.append(_changing(f"{len(taps)} {selected.call}", selected, how, change, feeds, view.name))
        refuse_hidden(taps[-1]._replace(key=selected.key), view.name)
    outputs, _ = run(view.program, view.leaves, [(tap.site.route, tap) for tap in taps], feeds)
    return jax.tree.unflatten(view.structure, outputs)


class _Fill(Function):
    """Every element replaced by one number."""

    number: float = setting()

    def __call__(self, value: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, self.number), value)


@public
def intervene(
    f: Callable[..., Any], changes: Mapping[str, Any], *, batch_axis: int | Literal["auto"] | None = AUTO
) -> Intervention:
    """Change values inside a function: replace, ablate, add to or freeze them.

    With a value's own replacement the result is the same to the bit. Where a change lies inside a function with a
    custom derivative, the derivative is that of the changed operations, since the custom one belongs to the unchanged
    function.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace.
        changes: By path (as in `capture`; a pattern changes every match): a function `change(value) -> value` of any
            JAX operations, an array of the value's shape, or a number that fills the value. Inside a `lax.scan` the
            function is called for each turn, and the array has a leading axis of turns.
        batch_axis: As in `capture`.

    Returns:
        A function like `f`, with the changes made. Cost: as `f`, and the changes.

    Raises:
        ValueError: As in `capture`; a replacement of another shape; two changes of one value.
        TypeError: A replacement of another dtype, a change that is no function, array or number.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> float(intervene(f, {"square": lambda y: y.at[0].set(10.0)})(jnp.array([1.0, 2.0])))
        14.0
    """
    if not changes:
        raise ValueError("intervene: `changes` is empty. Pass {path: change}.")
    made = {}
    for path, change in changes.items():
        _paths((path,), "intervene")
        if isinstance(change, bool | int | float):
            made[path] = _Fill(change)
        elif callable(change):
            made[path] = as_function(change)
        elif all(is_array(leaf) for leaf in jax.tree.leaves(change)):
            made[path] = change
        else:
            raise TypeError(
                f"intervene: the change of {path!r} has to be a function, an array or a number, not {change!r}."
            )
    return Intervention(as_function(f), made, batch_axis)


class Body(_Inside):
    """The part of a function before a cut: `(x, *args) -> h`. Made by `split`."""

    path: str = setting()
    batch_axis: int | Literal["auto"] | None = setting(default=AUTO)
    name: str = setting(default="split")

    def __call__(self, x: Pytree, *args: Any) -> Any:
        """The value at the cut."""
        view, selected, how = _cut(self, (x, *args))
        tap = Tap(selected.site, selected.call, keep=True)
        refuse_hidden(tap, self.name)
        _, found = run(view.program, view.leaves, [(tap.site.route, tap)], {}, outputs=False)
        return _picked(how.show(found[tap.key], len(selected.site.loops)), selected)

    def unit(self, index: Any) -> Unit:
        """The score that reads one unit: `h[index]` (an integer, or a tuple with one for each axis)."""
        return Unit(self, tuple(index) if isinstance(index, tuple | list) else (index,))


class Unit(_Inside):
    """One unit of a layer as a score: `(x, *args) -> scalar`, for neuron attribution. Made by `Body.unit`."""

    index: tuple[Any, ...]

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The unit's value."""
        h = self.f(x, *args)
        if not is_array(h) or h.ndim != len(self.index):
            what = f"shape {h.shape}" if is_array(h) else f"{len(h)} arrays"
            raise ValueError(f"unit: the index {self.index} does not name one number of a layer with {what}.")
        return h[self.index]


class Head(_Inside):
    """The part of a function after a cut: `(h, x, *args) -> output`. Made by `split`."""

    path: str = setting()
    batch_axis: int | Literal["auto"] | None = setting(default=AUTO)
    name: str = setting(default="split")

    def __call__(self, h: Any, x: Pytree, *args: Any) -> Any:
        """The output, with `h` as the value at the cut and `x` as what other values before it come from."""
        view, selected, how = self._cut_at(x, args)
        feeds: Found = {}
        tap = _changing(selected.call, selected, how, h, feeds, self.name)
        refuse_hidden(tap, self.name)
        outputs, _ = run(view.program, view.leaves, [(tap.site.route, tap)], feeds)
        return jax.tree.unflatten(view.structure, outputs)

    def _cut_at(self, x: Pytree, args: tuple[Any, ...]) -> tuple[View, Selected, Shown]:
        try:
            return _cut(self, (x, *args))
        except Exception as error:
            if _is_label(x):  # in the input's place
                raise TypeError(
                    f"{self.name}: the head is called head(h, x, *args), with the input after the activation, since "
                    f"values may go around the cut; here `x` is {short(x)}, which the function does not take."
                ) from error
            raise

    def check_call(self, h: Any, x: Pytree, *args: Any) -> None:  # type: ignore[override]
        """Let the function look at its own concrete arguments."""
        super().check_call(x, *args)


def _is_label(x: Any) -> bool:
    """Whether an input is one whole number."""
    if isinstance(x, int):
        return True
    return is_array(x) and x.shape == () and jnp.issubdtype(x.dtype, jnp.integer)


@public
def split(f: Callable[..., Any], path: str, *, batch_axis: int | Literal["auto"] | None = AUTO) -> tuple[Body, Head]:
    """Cut a function at a layer: `head(body(x), x) == f(x)`.

    Values that go around the cut (skip connections) are computed from `x`, so the head is right for any `h`. Every
    method works on `head` (layer attribution: `h` is what is explained) and on a unit of the body (neuron attribution:
    `body.unit(index)` is a score).

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace.
        path: The path of one layer with floating-point values, as in `capture`.
        batch_axis: As in `capture`.

    Returns:
        `(body, head)`: `body(x, *args) -> h`, of the layer's shape for one example, and `head(h, x, *args) -> output`.
        Cost: the part of one forward pass that each needs.

    Raises:
        ValueError: As in `capture`; a pattern; an `h` of another shape.
        TypeError: A layer of integers; an `h` of another dtype.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum() + x[0]
        >>> body, head = split(f, "square")
        >>> x = jnp.array([1.0, 2.0])
        >>> float(head(body(x), x)), float(head(jnp.zeros(2), x))
        (6.0, 1.0)
    """
    return cut(f, path, batch_axis, "split")


def cut(f: Callable[..., Any], path: str, batch_axis: int | Literal["auto"] | None, name: str) -> tuple[Body, Head]:
    """`split`, whose errors speak in the name of the method that cuts."""
    if is_pattern(*_paths((path,), name)):
        raise ValueError(f"{name}: {path!r} is a pattern; a function is cut at one layer, so pass one path.")
    function = as_function(f)
    return Body(function, path, batch_axis, name), Head(function, path, batch_axis, name)


def _cut(part: Body | Head, args: tuple[Any, ...]) -> tuple[View, Selected, Shown]:
    view = look(part.f, args, part.name)
    (selected,) = view.select([part.path]).values()
    dtypes = _only(selected.site.dtypes, selected)
    if not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        raise TypeError(
            f"{part.name}: {selected.key!r} holds {contents(selected.site)}, which has no gradient: a function is cut "
            "where its values are floating-point. Cut after it (at the embedding, for token ids), or use `capture` or "
            "`intervene`, which take integers."
        )
    (how,) = shown(view, [selected], part.batch_axis)
    return view, selected, how


def _paths(paths: tuple[Any, ...], name: str) -> tuple[str, ...]:
    for path in paths:
        if not isinstance(path, str):
            raise TypeError(f"{name}: a path is a string such as 'ResNet/block_3', not {path!r}.")
    return paths


def _only(values: tuple[Any, ...], selected: Selected) -> tuple[Any, ...]:
    return values if selected.leaf is None else (values[selected.leaf],)


def _picked(values: Values, selected: Selected) -> Any:
    """One array by itself, several as a tuple."""
    values = _only(values, selected)
    return values[0] if len(values) == 1 else values


def _changing(key: str, selected: Selected, how: Shown, change: Any, feeds: Found, name: str = "intervene") -> Tap:
    """The tap that makes a change; an array goes into `feeds`, for the scans around it to take rows of."""
    site, count = selected.site, len(selected.site.variables)
    if callable(change):
        return Tap(site, key, change=how.change(lambda values: _applied(change, values, selected, name)))
    turns = [jax.ShapeDtypeStruct((*site.loops, *s), d) for s, d in zip(site.shapes, site.dtypes, strict=True)]
    whole = jax.eval_shape(lambda values: how.show(values, len(site.loops)), tuple(turns))
    fed = _checked(change, _only(whole, selected), selected, name)
    if selected.leaf is not None:
        fed = tuple(fed[0] if leaf == selected.leaf else None for leaf in range(count))
    feeds[key] = how.restore(fed, len(site.loops))
    return Tap(site, key, fed=tuple(value is not None for value in fed))


def _applied(change: Callable[[Any], Any], values: Values, selected: Selected, name: str) -> Values:
    """The changed values, of the same shapes and dtypes."""
    new = _checked(change(_picked(values, selected)), _only(values, selected), selected, name)
    if selected.leaf is None:
        return new
    return (*values[: selected.leaf], new[0], *values[selected.leaf + 1 :])


def _checked(new: Any, old: tuple[Any, ...], selected: Selected, name: str) -> Values:
    leaves = jax.tree.leaves(new)
    if len(leaves) != len(old):
        raise ValueError(f"{name}: {selected.key!r} holds {len(old)} arrays, but the replacement has {len(leaves)}.")
    for value, like in zip(leaves, old, strict=True):
        shape, dtype = jnp.shape(value), jnp.result_type(value)
        if shape != like.shape:
            raise ValueError(
                f"{name}: the replacement of {selected.key!r} has shape {shape}, but the value has shape {like.shape}."
            )
        if dtype != like.dtype:
            raise TypeError(
                f"{name}: the replacement of {selected.key!r} has dtype {dtype}, but the value has dtype {like.dtype}. "
                f"Convert it with `.astype({like.dtype})`."
            )
    return tuple(jnp.asarray(value) for value in leaves)


def _refuse_repeated(selected: list[Selected]) -> None:
    routes = [s.site.route for s in selected]
    for s in selected:
        if routes.count(s.site.route) > 1:
            raise ValueError(f"intervene: {s.site.path!r} is changed by several entries of `changes`; combine them.")
