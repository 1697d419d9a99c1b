"""Patching at many places at once: every layer, position, head or component, one by one, as one program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.edges import same_shapes
from jaxplain.internals import changed
from jaxplain.program import Function, as_function, public, setting, widen
from jaxplain.program.trace import AUTO, Selected, Shown, Tap, View, look, refuse_hidden, run, shown_of
from jaxplain.types import Array, Pytree

Axes = int | str | tuple[int | str, ...] | None
HEAD, POSITION = "head", "position"


class _Place(NamedTuple):
    """A site with the axes whose places are patched one by one."""

    path: str
    selected: Selected
    how: Shown
    axes: tuple[int, ...]


class _Sweeping(Function):
    """What sweeps share: the sites, and the score with one place of one of them replaced."""

    f: Any
    sites: tuple[tuple[str, Any], ...] = setting()
    batch_size: int | None = setting(default=None)
    name: ClassVar[str]

    def check_call(self, x: Pytree, other: Pytree, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        check_call = getattr(self.f, "check_call", None)
        if check_call is not None:
            check_call(x, *args)

    def places(self, view: View) -> list[_Place]:
        """The sites that the paths and patterns mean."""
        found: dict[str, _Place] = {}
        for path, axes in self.sites:
            for key, (selected, how) in shown_of(view, view.select([path]), [path], AUTO).items():
                refuse_hidden(Tap(selected.site, selected.key, keep=True), self.name)
                if selected.site.loops or (len(selected.site.variables) > 1 and selected.leaf is None):
                    raise ValueError(
                        f"{self.name}: {selected.key!r} is inside a `lax.scan` or holds several arrays. Patch it by "
                        "`activation_patching`, or pick one array, as in 'path[0]'."
                    )
                found.setdefault(key, _Place(key, selected, how, self._axes(view, selected, how, axes)))
        return list(found.values())

    def _axes(self, view: View, selected: Selected, how: Shown, axes: Axes) -> tuple[int, ...]:
        """The axes as the site is shown, counted from the front."""
        leaf = selected.leaf or 0
        shape, batch = selected.site.shapes[leaf], how.axes[leaf]
        kept = [axis for axis in range(len(shape)) if axis != batch]
        found: list[int] = []
        for axis in () if axes is None else (axes,) if isinstance(axes, int | str) else tuple(axes):
            if isinstance(axis, str):
                found += [kept.index(own) for own in _named_axes(view, selected, axis, self.name) if own != batch]
            elif -len(kept) <= axis < len(kept):
                found.append(axis % len(kept))
            else:
                raise ValueError(
                    f"{self.name}: there is no axis {axis} of {selected.key!r}, whose shape for one example is "
                    f"{tuple(shape[a] for a in kept)}."
                )
        if len(set(found)) != len(found):
            raise ValueError(f"{self.name}: `axes={axes}` names an axis of {selected.key!r} twice.")
        return tuple(found)

    def values(self, x: Pytree, args: tuple[Any, ...]) -> dict[str, Array]:
        """What the sites hold for an input."""
        view = look(self.f, (x, *args), self.name)
        places = self.places(view)
        taps = {p.path: Tap(p.selected.site, p.selected.call, keep=True) for p in places}
        _, found = run(view.program, view.leaves, [(t.site.route, t) for t in taps.values()], {}, outputs=False)
        return {p.path: p.how.show(found[p.selected.call])[p.selected.leaf or 0] for p in places}

    def effects(self, x: Pytree, values: Mapping[str, Array], args: tuple[Any, ...]) -> dict[str, Array]:
        """For each place the change of the score when it is replaced by the one of `values`."""
        view = look(self.f, (x, *args), self.name)
        places = self.places(view)
        before = widen(check.scalar(changed(view, []), self.name))
        shapes = [tuple(values[p.path].shape[axis] for axis in p.axes) for p in places]
        counts = [math.prod(shape) for shape in shapes]
        firsts = [sum(counts[:number]) for number in range(len(places))]

        def effect(index: Array) -> Array:
            changes = [
                (p.selected, p.how, _Put(values[p.path], place_numbers(values[p.path], p.axes), index - first))
                for p, first in zip(places, firsts, strict=True)
            ]
            return widen(check.scalar(changed(view, changes), self.name)) - before

        total = sum(counts)
        found = lax.map(effect, jnp.arange(total), batch_size=self.batch_size or total)
        parts = [found[first : first + count] for first, count in zip(firsts, counts, strict=True)]
        return {p.path: part.reshape(shape) for p, part, shape in zip(places, parts, shapes, strict=True)}


def _named_axes(view: View, selected: Selected, axis: str, name: str) -> list[int]:
    """The axes of a part of an attention that are its heads or positions."""
    check.choice(axis, (HEAD, POSITION), name, "axes")
    for found, parts in view.attentions():
        for part, site in parts.items():
            if site.site.route == selected.site.route and site.site.variables == selected.site.variables:
                positions = (found.key,) if part in ("keys", "values") else (found.query,)
                wanted = found.head if axis == HEAD else positions
                axes = found.axes[part]
                every = sorted((a for a, own in enumerate(axes) if own in wanted), key=lambda a: wanted.index(axes[a]))
                # a batch of one that is no score's own is no axis of heads
                return [a for a in every if site.site.shapes[0][a] > 1] or every[-1:]
    raise ValueError(
        f"{name}: {axis!r} names an axis of the parts of attentions ('~heads', '~queries', ...), and {selected.key!r} "
        "is none. Name its axes by numbers, such as 0 for the positions of [T, D]."
    )


def place_numbers(value: Array, axes: Sequence[int]) -> Array:
    """The number of the place that each element belongs to, broadcastable to the value."""
    numbers = jnp.zeros((1,) * value.ndim, jnp.int32)
    for axis in axes:
        length = value.shape[axis]
        own = jnp.arange(length).reshape([length if a == axis else 1 for a in range(value.ndim)])
        numbers = numbers * length + own
    return numbers


class _Put:
    """Puts one place of a value into another value."""

    def __init__(self, value: Array, numbers: Array, place: Array) -> None:
        self.value, self.numbers, self.place = value, numbers, place

    def __call__(self, current: Array) -> Array:
        return jnp.where(self.numbers == self.place, self.value, current)


class Sweep(_Sweeping):
    """The effects of patching many places: `(clean, corrupt, *args) -> {path: effects}`. Made by `sweep`."""

    name: ClassVar[str] = "sweep"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> dict[str, Array]:
        """The change of the score for every place of every site."""
        same_shapes(clean, corrupt, self.name)
        return self.effects(corrupt, self.values(clean, args), args)


@public
def sweep(f: Callable[..., Any], sites: Any, *, axes: Axes = None, batch_size: int | None = None) -> Sweep:
    """Patch every place of many layers one by one, as one compiled program.

    effect_i = f(corrupt; h_i := h_i(clean)) - f(corrupt), for each place i of each site: what `activation_patching`
    does at one layer, for all of them at once. Nothing is normalised.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        sites: A path or pattern as in `capture`, several, or a mapping from them to axes: `"block_*"`,
            `{"*~heads": "head", "block_*": 0}`. The parts of attentions have names of their own, as
            `attention_weights` says.
        axes: The axes (for one example) whose places are patched one by one, as in `activation_patching`; for parts of
            attentions also `"head"` and `"position"`, such as `("head", "position")`. None patches whole values.
        batch_size: How many places are evaluated at once; None evaluates all, by one `jax.vmap`.

    Returns:
        `(clean, corrupt, *args) -> {path: effects}`, effects of the lengths along the axes, in units of the score.
        Cost: three forward passes, and one for each place.

    Raises:
        ValueError: As in `capture`; two inputs of different shapes; an axis that a site does not have.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("first"):
        ...         h = 2 * x
        ...     with jax.named_scope("second"):
        ...         h = h + 1
        ...     return (h * jnp.array([1.0, 3.0])).sum()
        >>> found = sweep(f, ["first", "second"], axes=0)(jnp.array([2.0, 1.0]), jnp.zeros(2))
        >>> found["first"].tolist(), found["second"].tolist()
        ([4.0, 6.0], [4.0, 6.0])

    Source: Meng et al. 2022, "Locating and editing factual associations in GPT", section 2.
    """
    return Sweep(
        as_function(check.callable_score(f, "sweep")), checked_sites(sites, axes, "sweep"), _size(batch_size, "sweep")
    )


class Ablation(_Sweeping):
    """The effects of ablating many places: `(x, rows, *args) -> {path: effects}`. Made by `ablation`."""

    how: str = setting(default="mean")
    name: ClassVar[str] = "ablation"

    def __call__(self, x: Pytree, rows: Pytree, *args: Any) -> dict[str, Array]:
        """The change of the score for every place of every site."""
        check.arrays(x, self.name)
        if self.how == "zero":
            return self.effects(x, jax.tree.map(jnp.zeros_like, self.values(x, args)), args)
        check.batch_length(rows, self.name, "rows")
        same_shapes(x, jax.tree.map(lambda leaf: leaf[0], rows), self.name)
        every = lax.map(lambda row: self.values(row, args), rows)
        if self.how == "mean":
            means = jax.tree.map(lambda value: value.mean(axis=0).astype(value.dtype), every)
            return self.effects(x, means, args)
        found = lax.map(lambda values: self.effects(x, values, args), every)
        return jax.tree.map(lambda effects: effects.mean(axis=0), found)


@public
def ablation(
    f: Callable[..., Any], sites: Any, how: str = "mean", *, axes: Axes = None, batch_size: int | None = None
) -> Ablation:
    """Ablate every place of many layers one by one, by what it holds over a dataset.

    effect_i = f(x; h_i := a_i) - f(x), where a_i is, by `how`, the mean of h_i over the rows (`"mean"`), h_i of each
    row in turn, the effects averaged (`"resample"`), or zero (`"zero"`).

    Args:
        f: As in `sweep`.
        sites: As in `sweep`.
        how: What stands in the place.
        axes: As in `sweep`.
        batch_size: As in `sweep`.

    Returns:
        `(x, rows, *args) -> {path: effects}`; rows are examples of x's shape, stacked, and are called with the same
        `args`. Cost: a forward pass for each row and for each place; with `"resample"` one for each row and place.

    Raises:
        ValueError: As in `sweep`; rows of another shape than x, an unknown `how`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         h = 2 * x
        ...     return h.sum()
        >>> float(ablation(f, "double")(jnp.ones(2), jnp.array([[0.0, 2.0], [2.0, 4.0]]))["double"])
        4.0

    Source: Wang et al. 2023, "Interpretability in the wild", section 2.1; Chan et al. 2022, "Causal scrubbing".
    """
    check.choice(how, ("mean", "resample", "zero"), "ablation", "how")
    score = as_function(check.callable_score(f, "ablation"))
    return Ablation(score, checked_sites(sites, axes, "ablation"), _size(batch_size, "ablation"), how)


def _size(batch_size: Any, name: str) -> Any:
    return None if batch_size is None else check.count(batch_size, name, "batch_size")


def checked_sites(sites: Any, axes: Any, name: str) -> tuple[tuple[str, Any], ...]:
    """Require paths of sites with axes."""
    if isinstance(sites, str):
        sites = (sites,)
    if not isinstance(sites, Mapping) and not isinstance(sites, Sequence):
        raise TypeError(f"{name}: `sites` has to be a path, several, or a mapping from paths to axes, not {sites!r}.")
    pairs = tuple(sites.items()) if isinstance(sites, Mapping) else tuple((path, axes) for path in sites)
    if not pairs:
        raise ValueError(f"{name}: `sites` is empty. Pass paths such as 'block_*'.")
    found = []
    for path, own in pairs:
        if not isinstance(path, str):
            raise TypeError(f"{name}: `sites` holds {path!r}, and a path is a string such as 'block_0/attention'.")
        each = () if own is None else (own,) if isinstance(own, int | str) else own
        if not isinstance(each, Sequence) or not all(isinstance(axis, int | str) for axis in each):
            raise TypeError(
                f"{name}: `axes` has to be an integer, 'head', 'position' or a tuple of these, not {own!r}."
            )
        for axis in each:
            if isinstance(axis, str):
                check.choice(axis, (HEAD, POSITION), name, "axes")
        found.append((path, None if own is None else tuple(each)))
    return tuple(found)
