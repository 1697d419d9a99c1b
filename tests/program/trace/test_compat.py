"""Facts about JAX's internals that the engine rests on: a new JAX that changes one fails here first, by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxplain.program.trace import compat
from jaxplain.program.trace.marks import owner, owner_path, scopes, tag
from jaxplain.program.trace.sites import tagged_sites
from jaxplain.program.trace.tags import tagging

X = jnp.array([0.5, -1.0, 2.0])


def equations(f, *args):
    return {e.primitive.name: e for e in compat.trace(f, *args)[0].equations}


def custom_jvp(x):
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda p, t: (jnp.sin(*p), jnp.cos(*p) * t[0]))
    return f(x)


def custom_vjp(x):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,))
    return f(x)


def test_a_program_evaluates_to_what_was_traced():
    program, structure = compat.trace(lambda x: {"a": jnp.sin(x) * 2, "b": (x + jnp.arange(3.0),)}, X)
    values = dict(zip(program.inputs, [*program.constants, X], strict=True))
    part = compat.segment(program, program.equations, program.inputs, program.outputs)
    result = jax.tree.unflatten(structure, compat.evaluate(part, [], list(values.values())))
    np.testing.assert_array_equal(result["a"], jnp.sin(X) * 2)
    np.testing.assert_array_equal(result["b"][0], X + jnp.arange(3.0))


def test_one_equation_evaluates_by_itself_and_keeps_its_scope():
    def f(x):
        with jax.named_scope("outer"), jax.named_scope("inner"):
            return x * 2.0

    program, _ = compat.trace(f, X)
    (equation,) = program.equations
    assert compat.scope(equation) == "outer/inner"
    values = [compat.literal_value(a) if compat.is_literal(a) else X for a in equation.invars]
    np.testing.assert_array_equal(compat.evaluate_equation(program, equation, values)[0], 2 * X)
    again, _ = compat.trace(lambda x: compat.evaluate_equation(program, equation, [x, 2.0]), X)
    assert [compat.scope(e) for e in again.equations] == ["outer/inner"]


@pytest.mark.parametrize(
    ("name", "f", "inner"),
    [
        ("jit", jax.jit(jnp.sin), 1),
        ("custom_jvp_call", custom_jvp, 1),
        ("custom_vjp_call", custom_vjp, 1),
        ("scan", lambda x: lax.scan(lambda c, v: (c + v, c), 0.0, x), 1),
        ("while", lambda x: lax.while_loop(lambda s: s.sum() < 9, lambda s: s * 2, x), 2),
        ("cond", lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), 2),
        ("remat2", jax.checkpoint(jnp.sin), 1),
    ],
)
def test_calls_are_named_and_hold_programs_as_known(name, f, inner):
    equation = equations(f, X)[name]
    programs = compat.subprograms(equation)
    assert len(programs) == inner
    for position, program in enumerate(programs):
        assert len(program.jaxpr.invars) == len(compat.inner_operands(equation, position))
    known = (*compat.INLINED_CALLS, *compat.CUSTOM_DERIVATIVES, *compat.REMATERIALIZED, "scan", "while", "cond")
    assert name in known


def test_operands_of_a_scan_divide_into_constants_carry_and_items():
    scale = jnp.array(3.0)
    equation = equations(lambda x: lax.scan(lambda c, v: (c + v * scale, c), 0.0, x, reverse=True), X)["scan"]
    loop = compat.loop_parts(equation, list(equation.invars))
    assert [len(part) for part in (loop.constants, loop.carry, loop.items)] == [1, 1, 1]
    assert (loop.settings["length"], loop.settings["reverse"]) == (3, True)
    values = compat.loop_parts(equation, ["constant", "carry", "items"])
    assert (values.constants, values.carry, values.items) == (["constant"], ["carry"], ["items"])


def test_operands_of_a_while_divide():
    limit, step = jnp.array(9.0), jnp.array(2.0)
    equation = equations(lambda x: lax.while_loop(lambda s: s.sum() < limit, lambda s: s * step, x), X)["while"]
    condition, first, body, second, carry = compat.while_parts(equation, ["limit", "step", "state"])
    assert (first, second, carry) == (["limit"], ["step"], ["state"])
    assert condition.equations[-1].primitive.name == "lt"
    assert body.equations[-1].primitive.name == "mul"
    assert compat.subprograms(equation)[0].equations[-1].primitive.name == "mul"  # the body, by order of names


def test_names_are_equations_that_compile_to_nothing():
    f = lambda x: jnp.sin(tag(jnp.cos(x), "layer", "Layer"))  # noqa: E731
    program, _ = compat.trace(f, X)
    assert [e.primitive.name for e in program.equations] == ["cos", "name", "sin"]
    (site,) = tagged_sites(program)
    assert (site.path, site.operation, site.route) == ("layer", "Layer", (1,))
    assert "layer" not in jax.jit(f).lower(X).compile().as_text().replace("layers", "")


def test_name_stacks_survive_transformations():
    def f(x):
        with owner("Net/block"), jax.named_scope("block"):
            return (x * jnp.sin(x)).sum()

    program, _ = compat.trace(jax.vmap(jax.grad(f)), X[None])
    assert {owner_path(compat.scope(e)) for e in program.equations} == {"Net/block"}
    assert {scopes(compat.scope(e)) for e in program.equations} == {("block",)}
    assert scopes("vmap(transpose(jvp(a/b)))/c") == ("a", "b", "c")


def test_the_context_of_tracing_separates_cached_traces():
    @jax.jit
    def f(x):
        return tag(x * 2, "double", "Double") if seen else x * 2

    seen = False
    assert tagged_sites(compat.trace(f, X)[0]) == []
    seen = True
    assert tagged_sites(compat.trace(f, X)[0]) == []  # the cached trace
    with tagging():
        assert [site.path for site in tagged_sites(compat.trace(f, X)[0])] == ["double"]


def test_effects_are_seen():
    program, _ = compat.trace(lambda x: (jax.debug.print("{}", x), jnp.sin(x))[1], X)
    assert [compat.has_effects(e) for e in program.equations] == [True, False]


def test_shapes_and_dtypes():
    program, _ = compat.trace(jnp.sin, X.astype(jnp.bfloat16))
    (variable,) = program.equations[0].outvars
    assert (compat.shape_of(variable), compat.dtype_of(variable)) == ((3,), jnp.bfloat16)


def test_calls_are_built_anew_as_they_were():
    jitted = equations(jax.jit(lambda x: jnp.sin(x), keep_unused=True), X)["jit"]
    assert "lambda" in compat.jitted_like(jitted, jnp.sin).__name__
    policy = jax.checkpoint_policies.everything_saveable
    saved = equations(jax.checkpoint(jnp.sin, policy=policy, prevent_cse=False), X)["remat2"]
    again = equations(compat.rematerialized_like(saved, jnp.sin), X)["remat2"]
    assert (again.params["policy"], again.params["prevent_cse"]) == (policy, False)


def calls(f, *args):
    lines = jax.jit(f).lower(*args).compile().as_text().splitlines()
    return sum(" call(" in line and 'inlineable="false"' in line for line in lines)


@pytest.mark.parametrize("around", [lambda f: f, jax.vmap, lambda f: lambda x: lax.map(f, x)])
def test_a_call_apart_is_one_in_the_compiled_program(around):
    def twice(x):
        return jnp.sin(x) + jax.jit(jnp.cos)(x)

    x = jnp.ones((3, 2))
    assert calls(around(twice), x) == 0
    apart = around(compat.apart(lambda x: jnp.sin(x) + jnp.cos(x)))
    assert calls(apart, x) == 1
    np.testing.assert_allclose(apart(x), twice(x), rtol=1e-6)


def test_a_call_apart_has_the_derivative_of_what_it_calls():
    f = compat.apart(lambda x: jnp.sin(x) ** 2)
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(X), jnp.sin(2 * X), rtol=1e-5)


def test_a_primitive_keeps_its_derivative_through_rematerialised_loops():
    """It computes another number than its derivative is of, so that each is seen to be taken from where it should."""
    operation = compat.primitive(
        "three_sines",
        lambda x, *, factor: (factor * jnp.sin(x),),
        lambda x, *, factor: (jnp.sin(x),),
        lambda size, batched, x, *, factor: operation(x + 0.0, factor=factor),
    )

    def f(x):
        turn = jax.checkpoint(lambda h, _: (operation(h, factor=3.0)[0], None))
        return jnp.sum(lax.scan(turn, x, length=2)[0])

    h = 3 * np.sin(X)
    np.testing.assert_allclose(f(X), np.sum(3 * np.sin(h)), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(f)(jnp.stack([X, X])), np.full(2, np.sum(3 * np.sin(h))), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(f)(X), np.cos(h) * np.cos(X), rtol=1e-5)
    second = jax.grad(lambda x: jnp.sum(jax.grad(f)(x)))(X)
    np.testing.assert_allclose(second, -np.sin(h) * np.cos(X) ** 2 - np.cos(h) * np.sin(X), rtol=1e-4, atol=1e-6)
    assert [e.primitive.name for e in compat.trace(lambda x: operation(x, factor=2.0), X)[0].equations] == [
        "three_sines"
    ]
