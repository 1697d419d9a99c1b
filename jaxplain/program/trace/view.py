"""One call of a function as the engine sees it: its program, the sites that paths name, and their batch axes.

A score adds a batch axis for the model and removes it from the output. Values inside are shown without it: the axis is
found for each site by tracing shapes at two batch sizes, and put back before a changed value goes on.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.program.function import Static, is_array
from jaxplain.program.trace.address import Selected, contents, is_pattern, keyed, missing, select
from jaxplain.program.trace.code import holds_passing_code
from jaxplain.program.trace.compat import Program, dtype_of, shape_of, trace
from jaxplain.program.trace.marks import mark_batch, state
from jaxplain.program.trace.opened import AttentionSite, attention_sites
from jaxplain.program.trace.sites import Site, has_batch_axis, in_order, scope_sites, tagged_sites
from jaxplain.program.trace.tables import lookup_sites
from jaxplain.program.trace.tags import tagging
from jaxplain.program.trace.tap import Values

AUTO: Literal["auto"] = "auto"
"""Find the batch axis of each site; the alternatives are an axis, or None for values as they are."""


@jax.tree_util.register_pytree_node_class
class _Constant(Static):
    """A leaf that is no array and stays as it is: a target that is a Python number, an activation function."""


def _is_constant(node: Any) -> bool:
    return isinstance(node, _Constant)


def _call(f: Any, args: Any) -> Any:
    f, args = jax.tree.map(lambda leaf: leaf.value if _is_constant(leaf) else leaf, (f, args), is_leaf=_is_constant)
    return f(*args)


class View(NamedTuple):
    """A traced call: the function and its arguments, the program, the structure of the output."""

    f: Any
    args: Any
    program: Program
    structure: Any
    name: str

    @property
    def leaves(self) -> list[Any]:
        """The values that the program's inputs receive."""
        return jax.tree.leaves((self.f, self.args))

    def outputs(self) -> list[tuple[tuple[int, ...], Any]]:
        """Shape and dtype of each output."""
        return [(shape_of(atom), dtype_of(atom)) for atom in self.program.outputs]

    def modules(self) -> list[Selected]:
        """The values that have names: outputs of modules and named values, or scopes where there are none."""
        return keyed(self._modules(self.program))

    def sites(self) -> list[Selected]:
        """The values that have names, and the look-ups of tables that have none, in the order of a run."""
        return keyed(in_order([*self._modules(self.program), *self._lookups(self.program)]))

    def attentions(self) -> list[tuple[AttentionSite, dict[str, Selected]]]:
        """The softmax attentions, with their parts by name, in the order of a run."""
        return _attentions(self.program)

    def calls(self, program: Program, kinds: Collection[str]) -> dict[str, Site]:
        """The sites of another trace of this call, by the name of each call; scopes and attentions where asked for."""
        found = [*(keyed(scope_sites(program)) if "named_scope" in kinds else ()), *keyed(tagged_sites(program))]
        found += _parts(program) if "attention" in kinds else []
        return {s.call: s.site for s in (*found, *keyed(self._lookups(program)))}

    def select(self, paths: Sequence[str]) -> dict[str, Selected]:
        """The sites that paths and patterns name, by the path as given, or by their own key where it is a pattern."""
        sites = self.sites()
        scoped: list[Selected] | None = None
        found: dict[str, Selected] = {}
        for path in paths:
            matches = select(path, sites, self.name)
            if not matches:
                scoped = keyed(scope_sites(self.program)) if scoped is None else scoped
                matches = select(path, scoped, self.name)
            parts = _parts(self.program) if "~" in path and not matches else []
            matches = matches or select(path, parts, self.name)
            if not matches:
                raise missing(path, [*sites, *(scoped or []), *parts], self.name)
            found.update((match.key if is_pattern(path) else path, match) for match in matches)
        return found

    @staticmethod
    def _modules(program: Program) -> list[Site]:
        return tagged_sites(program) or scope_sites(program)

    def _lookups(self, program: Program) -> list[Site]:
        own, inputs = len(jax.tree.leaves(self.f)), len(jax.tree.leaves(self.args[0]))
        kinds = [leaf.dtype for leaf in jax.tree.leaves(self.args)]
        integers = [own + position for position, kind in enumerate(kinds) if jnp.issubdtype(kind, jnp.integer)]
        return lookup_sites(program, range(own, own + inputs), integers) if integers else []


def _attentions(program: Program) -> list[tuple[AttentionSite, dict[str, Selected]]]:
    found = attention_sites(program)
    selected = iter(keyed([site for attention in found for site in attention.sites.values()]))
    return [(attention, {name: next(selected) for name in attention.sites}) for attention in found]


def _parts(program: Program) -> list[Selected]:
    """The parts of attentions, as sites."""
    return [selected for _, parts in _attentions(program) for selected in parts.values()]


def look(f: Any, args: tuple[Any, ...], name: str) -> View:
    """Trace `f(*args)` with its values named; what is no array, in the function or its arguments, stays as it is."""
    check.arrays(args[0], name)
    f, args = jax.tree.map(lambda leaf: leaf if _is_traced(leaf) else _Constant(leaf), (f, args))
    program, structure = _trace(f, args, state.batch)
    return View(f, args, program, structure, name)


def _is_traced(leaf: Any) -> bool:
    return is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _trace(f: Any, args: Any, batch: int) -> tuple[Program, Any]:
    # JAX keeps traces by the function object, and the structures of arguments for ever: one for all where equal code is
    # equal, a new one of leaves alone where a closure could hold arrays, or code is garbage one day.
    with tagging(batch):
        if not (holds_passing_code(f) or _has_closure(f)):
            return trace(_call, f, args)
        leaves, structure = jax.tree.flatten((f, args))
        return trace(lambda *leaves: _call(*jax.tree.unflatten(structure, leaves)), *leaves)


def _has_closure(f: Any) -> bool:
    nodes = jax.tree.leaves(f, is_leaf=lambda node: isinstance(node, Static))
    code = (inspect.unwrap(node.value) for node in nodes if isinstance(node, Static))
    return any(getattr(function, "__closure__", None) for function in code)


def _with_axis(value: Any, axis: int, length: int) -> Any:
    value = jnp.expand_dims(value, axis)
    return mark_batch(value if length == 1 else jnp.repeat(value, length, axis))


class Shown(NamedTuple):
    """How the arrays of a site are shown: without the batch axis that is given for each, or as they are (None)."""

    axes: tuple[int | None, ...]
    batch: int

    def show(self, values: Values, loops: int = 0) -> Values:
        """Remove the batch axes; behind `loops` stacked axes where scans enclose the site."""
        return tuple(
            value if axis is None else lax.index_in_dim(value, 0, axis + loops, keepdims=False)
            for value, axis in zip(values, self.axes, strict=True)
        )

    def restore(self, values: Values, loops: int = 0) -> Values:
        """Put the batch axes back (None stays)."""
        return tuple(
            value if axis is None or value is None else _with_axis(value, axis + loops, self.batch)
            for value, axis in zip(values, self.axes, strict=True)
        )

    def change(self, function: Callable[[Values], Values]) -> Callable[[Values], Values]:
        """Apply a function of the shown values to the values as they are."""
        if self.batch == 1:
            return lambda values: self.restore(function(self.show(values)))
        batched = jax.vmap(function, in_axes=(self.axes,), out_axes=self.axes)
        return lambda values: tuple(mark_batch(value) for value in batched(values))


def listed_shapes(view: View, selected: Sequence[Selected]) -> list[tuple[tuple[int, ...], ...]]:
    """The shapes of sites as they are shown, with the batch axis only where it cannot be told from others."""
    try:
        views = _shown_or_not(view, selected, AUTO)
    except ValueError:  # the function takes one example only
        return [s.site.shapes for s in selected]
    whole = [
        (None,) * len(s.site.variables) if isinstance(how, ValueError) else how.axes
        for s, how in zip(selected, views, strict=True)
    ]
    return [
        tuple(_without(shape, axis) for shape, axis in zip(s.site.shapes, axes, strict=True))
        for s, axes in zip(selected, whole, strict=True)
    ]


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], *shape[axis + 1 :])


def shown(view: View, selected: Sequence[Selected], batch_axis: Any) -> list[Shown]:
    """The batch axes of sites.

    Raises:
        ValueError: A site whose batch axis has merged with another.
    """
    views = _shown_or_not(view, selected, batch_axis)
    for how in views:
        if isinstance(how, ValueError):
            raise how
    return [how for how in views if isinstance(how, Shown)]


def shown_of(
    view: View, selected: Mapping[str, Selected], named: Collection[str], batch_axis: Any
) -> dict[str, tuple[Selected, Shown]]:
    """The sites that can be shown, with their batch axes; a warning says which others a pattern met.

    Args:
        view: The call.
        selected: Sites, by path.
        named: The paths that the caller named one by one: what they mean is shown, or an error.
        batch_axis: As in `capture`.

    Raises:
        ValueError: A named site whose batch axis has merged with another, or nothing but such sites.
    """
    views = dict(zip(selected, _shown_or_not(view, list(selected.values()), batch_axis), strict=True))
    found = {path: (selected[path], how) for path, how in views.items() if isinstance(how, Shown)}
    hidden = {path: how for path, how in views.items() if isinstance(how, ValueError)}
    for path, error in hidden.items():
        if path in named or not found:
            raise error
    if hidden:
        warnings.warn(_LEFT_OUT.format(view.name, ", ".join(map(repr, hidden)), *hidden), UserWarning, stacklevel=4)
    return found


def _shown_or_not(view: View, selected: Sequence[Selected], batch_axis: Any) -> list[Shown | ValueError]:
    """The batch axes of each site, or why they cannot be told."""
    if batch_axis != AUTO or not has_batch_axis(view.program):
        axis = None if batch_axis == AUTO else batch_axis
        return [Shown(_given(view, s, axis), state.batch) for s in selected]
    kinds = {s.site.operation for s in selected}
    sizes = [view.calls(_at_size(view, size), kinds) for size in (1, 2)] if selected else []
    found: list[Shown | ValueError] = []
    for s in selected:
        try:
            found.append(Shown(_axes(view, s, [sites.get(s.call) for sites in sizes]), state.batch))
        except ValueError as error:
            found.append(error)
    return found


def _at_size(view: View, size: int) -> Program:
    if size == state.batch:
        return view.program
    try:
        return _trace(view.f, view.args, size)[0]
    except Exception as error:
        raise ValueError(
            f"{view.name}: the function cannot be traced with a batch of {size}, which is how the batch axis of inner "
            f"values is found ({type(error).__name__}: {error}). {_HOW}"
        ) from error


_LEFT_OUT = (
    "{}: {} left out, for there the batch axis has merged with another (as in windows of an image). Name one by its "
    "path with `batch_axis=None`, as in ({!r}, batch_axis=None), for its values as they are."
)

_HOW = "Pass `batch_axis=`: an axis to remove, or None to take values as they are."


def batch_axes(view: View, find: Callable[[Program], Sequence[Any]]) -> list[int | None]:
    """The batch axis of each of what `find` lists of a program (anything with a `key` and a `shape`); None without one.

    Raises:
        ValueError: The batch axis has merged with another.
    """
    if not has_batch_axis(view.program):
        return [None for _ in find(view.program)]
    one, two = (find(_at_size(view, size)) for size in (1, 2))
    if len(one) != len(two):
        raise ValueError(f"{view.name}: the function does other things with a batch of two than with a batch of one.")
    return [_changed(view, a.key, a.shape, b.shape) for a, b in zip(one, two, strict=True)]


def _axes(view: View, selected: Selected, sites: list[Site | None]) -> tuple[int | None, ...]:
    one, two = sites
    if one is None or two is None or len(one.variables) != len(two.variables):
        raise ValueError(
            f"{view.name}: {selected.key!r} is not reached with every size of batch, so its batch axis "
            f"cannot be found. {_HOW}"
        )
    return tuple(_changed(view, selected.key, a, b) for a, b in zip(one.shapes, two.shapes, strict=True))


def _changed(view: View, key: str, one: tuple[int, ...], two: tuple[int, ...]) -> int | None:
    """The axis along which the shapes at a batch of one and of two differ."""
    if one == two:
        return None
    changed = [axis for axis, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
    if len(one) == len(two) and len(changed) == 1 and (one[changed[0]], two[changed[0]]) == (1, 2):
        return changed[0]
    raise ValueError(
        f"{view.name}: in {key!r} the batch axis has merged with another: the shape is {one} for one example "
        f"and {two} for two. {_HOW}"
    )


def _given(view: View, selected: Selected, axis: int | None) -> tuple[int | None, ...]:
    """The axis that the caller gave, for each array of a site."""
    if axis is None:
        return (None,) * len(selected.site.variables)
    for shape in selected.site.shapes:
        if not -len(shape) <= axis < len(shape) or shape[axis] != state.batch:
            raise ValueError(
                f"{view.name}: `batch_axis={axis}` does not fit {selected.key!r}, which holds "
                f"{contents(selected.site)}: an axis of length 1 is needed. Pass None to take the values as they are."
            )
    return tuple(axis % len(shape) for shape in selected.site.shapes)
