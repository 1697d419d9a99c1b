"""What each module of a traced function costs: operations, and the parameters it reads.

Every equation is counted once, for the innermost module it was traced in; so shares add up to the whole.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.internals.operations import backward_operations, forward_operations
from jaxplain.program.trace import (
    LOOKUP,
    Equation,
    Program,
    Route,
    Site,
    Variable,
    dtype_of,
    inner_operands,
    is_literal,
    live_equations,
    loop_parts,
    owner_path,
    scope,
    scopes,
    subprograms,
    variables,
)


@dataclasses.dataclass
class Share:
    """The cost of one call of a module, without that of the modules inside it."""

    forward: int = 0
    backward: int = 0
    parameters: int = 0

    def add(self, other: Share) -> None:
        """Take the cost of another on."""
        self.forward += other.forward
        self.backward += other.backward
        self.parameters += other.parameters


class Costs(NamedTuple):
    """A share for each site, and what belongs to none."""

    sites: list[Share]
    outside: Share


def parameter_sizes(f: Any) -> list[int]:
    """For each leaf of a function, how many trained parameters it holds.

    Floating-point arrays count, but for the other collections of a Linen variables tree (`batch_stats`, ...), the
    variables of an NNX state that are no `Param`, and NumPy arrays of an Equinox module.
    """
    sizes = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(f, is_leaf=_is_variable):
        counted = _is_parameter(f, path, leaf)
        for part in jax.tree.leaves(leaf):
            floating = jnp.issubdtype(jnp.result_type(part), jnp.floating)
            sizes.append(math.prod(part.shape) if counted and floating else 0)
    return sizes


def _is_variable(node: Any) -> bool:
    """Whether a node is a variable of NNX."""
    return any(cls.__name__ == "Variable" and cls.__module__.startswith("flax.nnx") for cls in type(node).__mro__)


def _is_parameter(f: Any, path: Sequence[Any], leaf: Any) -> bool:
    if _is_variable(leaf):
        return any(cls.__name__ == "Param" for cls in type(leaf).__mro__)
    for part in path:
        if isinstance(leaf, np.ndarray) and _is_equinox(f):
            return False  # as Equinox has it: what is trained is an array of JAX
        if isinstance(f, Mapping) and "params" in f:
            return getattr(part, "key", None) == "params"
        f = _child(f, part)
    return True


def _is_equinox(f: Any) -> bool:
    """Whether a function is a module of Equinox."""
    return any(cls.__name__ == "Module" and cls.__module__.startswith("equinox") for cls in type(f).__mro__)


def _child(node: Any, part: Any) -> Any:
    """What one step of a path leads to; None where the step has no name."""
    if isinstance(node, Mapping):
        return node.get(getattr(part, "key", None))
    if isinstance(node, list | tuple) and hasattr(part, "idx"):
        return node[part.idx]
    return getattr(node, getattr(part, "name", ""), None)


class _State(NamedTuple):
    """What is known of the variables of one program: which depend on floating-point inputs, which are parameters."""

    active: set[Variable]
    leaves: dict[Variable, int]


def costs(program: Program, sites: Sequence[Site], parameters: Sequence[int]) -> Costs:
    """Count a traced function's cost for each of its sites.

    Args:
        program: The traced function; its first inputs are the function's own leaves.
        sites: Calls of modules, or stretches of scopes, that equations are attributed to; and look-ups by themselves.
        parameters: For each of those leaves, how many parameters it holds.
    """
    counter = _Counter(sites, dict(enumerate(parameters)))
    inputs = program.inputs
    leaves = dict(zip(inputs[len(program.constants) :], range(len(parameters)), strict=False))
    for position, variable in enumerate(inputs[: len(program.constants)]):
        # What a closure holds counts only where the function brings no parameters of its own, and if it may be trained.
        key = -1 - position
        leaves[variable] = key
        counted = not any(parameters) and _is_floating(variable) and not _is_constant(program.constants[position])
        counter.unowned[key] = math.prod(jnp.shape(program.constants[position])) if counted else 0
    counter.walk(program, (), "", 1, _State({v for v in inputs if _is_floating(v)}, leaves))
    return counter.finish()


def _is_constant(value: Any) -> bool:
    """Whether a closure's array is no parameter: of NumPy, or a mask of two values (0 and 1, or 0 and far below)."""
    if not isinstance(value, jax.Array):
        return True
    if value.ndim < 2 or not value.is_fully_addressable or isinstance(value, jax.core.Tracer):
        return False
    different = np.unique(np.asarray(value, np.float32))
    return different.size == 2 and 0 in different and (1 in different or different[0] < -1e3)


def _is_floating(atom: Any) -> bool:
    dtype = dtype_of(atom)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


class _Counter:
    def __init__(self, sites: Sequence[Site], unowned: dict[int, int]) -> None:
        self.sites, self.unowned = sites, unowned
        self.lookups = {site.route for site in sites if site.path == LOOKUP}
        self.squeezed: set[Variable] = set()  # rows of look-ups before they lose the axes along which one was picked
        self.by_scope = not any(site.names for site in sites)
        self.paths = {site.path for site in sites}
        self.at: dict[Route, list[int]] = {}
        for index, site in enumerate(sites):
            self.at.setdefault(site.route, []).append(index)
        self.pending: dict[str, Share] = {}
        self.shares = [Share() for _ in sites]

    def walk(self, program: Program, route: Route, stack: str, turns: int, state: _State) -> None:
        live = live_equations(program)
        for index, equation in enumerate(program.equations):
            if (*route, index) in self.lookups and equation.primitive.name == "squeeze":
                self.squeezed.update(variables(equation.invars))
        for index, equation in enumerate(program.equations):
            here = f"{stack}/{scope(equation)}"
            if index in live:
                self._count(equation, (*route, index), here, turns, state)
            for site in self.at.get((*route, index), ()):
                self.shares[site].add(self.pending.pop(self.sites[site].path, Share()))

    def _count(self, equation: Equation, route: Route, stack: str, turns: int, state: _State) -> None:
        inner = subprograms(equation)
        active = [not is_literal(atom) and atom in state.active for atom in equation.invars]
        if any(active) and equation.primitive.name != "stop_gradient":
            state.active.update(v for v in equation.outvars if _is_floating(v))
        if not inner:
            owner = LOOKUP if route in self.lookups or self._is_squeezed(equation) else self._owner(stack)
            share = self.pending.setdefault(owner, Share())
            share.forward += turns * forward_operations(equation)
            share.backward += turns * backward_operations(equation, active)
            self._own(equation, owner, share, state)
        if equation.primitive.name == "scan":
            turns *= loop_parts(equation, list(equation.invars)).settings["length"]
        for position, program in enumerate(inner):
            self.walk(program, (*route, position), stack, turns, _entered(equation, position, program, state))

    def _is_squeezed(self, equation: Equation) -> bool:
        return any(variable in self.squeezed for variable in equation.outvars)

    def _owner(self, stack: str) -> str:
        if not self.by_scope:
            return owner_path(stack)
        parts = scopes(stack)
        found = ("/".join(parts[:depth]) for depth in range(len(parts), 0, -1))
        return next((path for path in found if path in self.paths), "")

    def _own(self, equation: Equation, owner: str, share: Share, state: _State) -> None:
        """Count parameters for the first module that uses them; outside of all, follow what they become."""
        used = [v for v in equation.invars if not is_literal(v) and v in state.leaves]
        for variable in used:
            if owner:
                share.parameters += self.unowned.pop(state.leaves[variable], 0)
            elif len(used) == 1 and len(equation.outvars) == 1:
                state.leaves[equation.outvars[0]] = state.leaves[variable]

    def finish(self) -> Costs:
        """Give what came after a module's output to its last call, and the rest to none."""
        last = {site.path: index for index, site in enumerate(self.sites)}
        outside = Share(parameters=sum(self.unowned.values()))
        for path, share in self.pending.items():
            (self.shares[last[path]] if path in last else outside).add(share)
        return Costs(self.shares, outside)


def _entered(equation: Equation, position: int, inner: Program, state: _State) -> _State:
    """What is known of the inputs of an equation's inner program."""
    inputs = list(inner.jaxpr.invars)
    operands = inner_operands(equation, position)
    pairs = [(v, atom) for v, atom in zip(inputs, operands, strict=False) if not is_literal(atom)]
    active = {v for v, atom in pairs if atom in state.active}
    if active and equation.primitive.name in ("scan", "while"):  # the carry of later turns depends on all
        active = {v for v in inputs if _is_floating(v)}
    return _State(active, {v: state.leaves[atom] for v, atom in pairs if atom in state.leaves})
