"""Arrays that foreign code holds are arguments of what is compiled, are found, and are forgotten with the code."""

import functools
import gc
import types
import weakref

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import lax

import jaxplain
from jaxplain.program.function import Static, as_function
from jaxplain.program.trace import code, hoist
from jaxplain.program.trace.code import holds_foreign_code
from jaxplain.program.trace.hoist import hoisted
from jaxplain.score import logit

SIZE = 64
WEIGHT = jax.random.normal(jax.random.key(0), (SIZE, SIZE)) / 8
X = jax.random.normal(jax.random.key(1), (4, SIZE))


@pytest.fixture(params=[False, True], ids=["constants", "literals"])
def constants(request):
    """Both of JAX's ways to hold the constants of a traced program."""
    before = jax.config.jax_use_simplified_jaxpr_constants
    jax.config.update("jax_use_simplified_jaxpr_constants", request.param)
    jax.clear_caches()
    yield request.param
    jax.config.update("jax_use_simplified_jaxpr_constants", before)
    jax.clear_caches()


def value(e, x):
    return e(x)


def gradient(e, x):
    return jax.grad(lambda x: jnp.square(e(x)).sum())(x)


def score(f, x, k):
    return f(x, k)


def compiled_text(monkeypatch, f, e, x):
    """The text of the program that `hoisted` compiles."""
    texts = []
    run = hoist._run

    def spy(program, constants, arguments):
        if not texts:
            texts.append(None)  # the run inside is that of the lowering below
            texts[0] = (
                jax.jit(lambda c, a: run(program, dict(zip(constants, c, strict=True)), a))
                .lower(list(constants.values()), list(arguments))
                .as_text()
            )
        return run(program, constants, arguments)

    monkeypatch.setattr(hoist, "_run", spy)
    result = hoisted(f, e, x)
    return result, texts[0]


def closures(weight):
    """Functions that hold an array, inside everything that holds programs."""
    plain = np.asarray(weight)

    @jax.custom_vjp
    def special(x):
        return x @ weight

    special.defvjp(lambda x: (special(x), None), lambda _, g: (g @ weight.T,))

    def chosen(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ weight, lambda x: jnp.sin(x @ plain), x)

    def turned(x):
        inner = jax.jit(lambda x: jnp.tanh(x @ weight))
        return lax.scan(lambda c, s: (inner(c) * s, c[0]), x, jnp.arange(3.0))[0]

    return {
        "plain": lambda x: x @ weight,
        "numpy": lambda x: x @ plain,
        "jit": jax.jit(lambda x: x @ weight),
        "scan": lambda x: lax.scan(lambda c, _: (c @ weight, c), x, None, length=3)[0],
        "jit in scan": turned,
        "cond": chosen,
        "remat": jax.checkpoint(lambda x: jnp.tanh(x @ weight) @ weight),
        "custom derivative": special,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", list(closures(WEIGHT)))
@pytest.mark.parametrize("f", [value, gradient])
def test_constants_become_arguments(monkeypatch, constants, name, f):
    e = as_function(closures(WEIGHT)[name])
    assert holds_foreign_code(e)
    result, text = compiled_text(monkeypatch, f, e, X)
    np.testing.assert_allclose(result, f(e.value, X), rtol=1e-5, atol=1e-6)
    if not (constants and name == "custom derivative"):  # there it is written into a program that must stay whole
        assert 'dense<"0x' not in text
        assert f"@main(%arg0: tensor<{SIZE}x{SIZE}xf32>" in text


def test_a_while_loop_holds_none_either(monkeypatch, constants):
    e = as_function(lambda x: lax.while_loop(lambda x: x.sum() < 50, lambda x: x @ (WEIGHT + 0) + 1, x))
    result, text = compiled_text(monkeypatch, value, e, X)
    np.testing.assert_allclose(result, e(X), rtol=1e-5)
    assert 'dense<"0x' not in text


def test_a_second_call_neither_traces_nor_compiles():
    traces = []

    def f(x):
        traces.append(None)
        return x @ WEIGHT

    e = as_function(f)
    hoisted(value, e, X)
    hoisted(value, e, 2 * X)
    assert len(traces) == 1
    (traced,) = [t for key, t in hoist._TRACED.items() if key[1] == jax.tree.structure(hoist._named(e))]
    assert len(traced.compiled) == 1
    np.testing.assert_allclose(hoisted(value, e, X[:2]), X[:2] @ WEIGHT, rtol=1e-6)
    assert (len(traces), len(traced.compiled)) == (2, 2)


def test_two_closures_of_one_code_are_not_mixed_up():
    def make(scale):
        return as_function(lambda x: x * (scale * jnp.ones((1, SIZE))))

    first, second = make(1.0), make(2.0)
    for scale, e in ((1, first), (2, second), (1, first)):
        np.testing.assert_array_equal(hoisted(value, e, X), scale * X)


def test_leaves_beside_the_code_may_change_without_a_trace():
    traces = []

    def apply(params, batch):
        traces.append(None)
        return batch @ (WEIGHT + params)

    for shift in (0.0, 1.0):
        f = logit(apply, jnp.full((SIZE, SIZE), shift))
        result = hoisted(score, f, X[0], jnp.array(3))
        np.testing.assert_allclose(result, (X[0] @ (WEIGHT + shift))[3], rtol=1e-4)
    assert len(traces) == 1


def test_nothing_is_kept_alive_by_it(constants):
    def make():
        weight = WEIGHT + 1
        return as_function(lambda x: jax.jit(lambda x: x @ weight)(x)), weakref.ref(weight)

    e, alive = make()
    hoisted(gradient, e, X)
    count = len(hoist._TRACED)
    del e
    gc.collect()
    assert alive() is None
    assert len(hoist._TRACED) < count


@pytest.mark.slow
def test_the_number_of_traced_functions_is_bounded(monkeypatch):
    monkeypatch.setattr(hoist, "KEPT", 32)
    kept = [as_function(lambda x, i=i: x + i * jnp.ones((1, SIZE))) for i in range(hoist.KEPT + 3)]
    for e in kept:
        hoisted(value, e, X)
    assert len(hoist._TRACED) <= hoist.KEPT


def test_a_large_constant_that_remains_is_a_warning():
    large = jnp.ones((600, 600))

    @jax.custom_jvp
    def special(x):
        return jax.jit(lambda x: x @ large)(x)

    special.defjvp(lambda p, t: (special(*p), t[0] @ large))
    with pytest.warns(UserWarning, match=r"shape \(600, 600\) \(1\.4 MB\).*custom_jvp_call.*logit\(apply, params\)"):
        hoisted(value, as_function(lambda x: special(x)), jnp.ones((2, 600)))


def test_under_transformations_it_calls_the_function():
    e = as_function(lambda x: jnp.square(x @ WEIGHT).sum())
    plain = jax.grad(lambda x: jnp.square(x @ WEIGHT).sum())
    np.testing.assert_allclose(jax.grad(lambda x: hoisted(value, e, x))(X), plain(X), rtol=1e-5)
    inside = jax.jit(lambda w: hoisted(value, as_function(lambda x: jnp.square(x @ w).sum()), X))
    np.testing.assert_allclose(inside(WEIGHT), e(X), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(inside)(WEIGHT), 2 * X.T @ (X @ WEIGHT), rtol=1e-3, atol=1e-3)


PARAMS = {"kernel": WEIGHT}


def reads_a_global(x):
    return x @ PARAMS["kernel"]


def reads_it_in_a_helper(x):
    return reads_a_global(x) + 1


def reads_it_inside(x):
    return jax.vmap(lambda row: row @ PARAMS["kernel"])(x)


class Holder:
    __slots__ = ("weight",)

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, x):
        return x @ self.weight


class Opaque:
    __slots__ = ()

    def __call__(self, x):
        return x


def looks_up_later():
    def f(x):
        return x @ later

    assert holds_foreign_code(as_function(f)) is False  # nothing is assigned yet
    later = WEIGHT
    return f


FOREIGN = {
    "closure": lambda: (lambda w: lambda x: x @ w)(WEIGHT),
    "closure over a closure": lambda: (lambda f: lambda x: f(x))((lambda w: lambda x: x @ w)(WEIGHT)),
    "closure over a dictionary": lambda: (lambda p: lambda x: x @ p["a"][0])({"a": [WEIGHT]}),
    "jit": lambda: jax.jit((lambda w: lambda x: x @ w)(WEIGHT)),
    "gradient": lambda: jax.grad((lambda w: lambda x: (x @ w).sum())(WEIGHT)),
    "default": lambda: lambda x, w=WEIGHT: x @ w,
    "keyword": lambda: lambda x, *, w=WEIGHT: x @ w,
    "global": lambda: reads_a_global,
    "global of a helper": lambda: reads_it_in_a_helper,
    "global in a lambda": lambda: reads_it_inside,
    "attribute": lambda: Holder(WEIGHT),
    "bound": lambda: types.MethodType(lambda self, x: x @ self[0], (WEIGHT,)),
    "nothing known": Opaque,
}


@pytest.mark.parametrize("name", list(FOREIGN))
def test_code_that_holds_arrays_is_found(name):
    assert holds_foreign_code(Static(FOREIGN[name]()))


def test_code_that_holds_none_is_known():
    looks_up_later()
    module = linen.Dense(3)
    params = module.init(jax.random.key(0), X)
    for f in (
        logit(module.apply, params),
        logit(functools.partial(module.apply, mutable=False), params),
        logit(lambda p, x: module.apply(p, x), params),
        logit(lambda p, x: jnp.tanh(x @ p), WEIGHT),
        as_function(jax.nn.relu),
        as_function(functools.partial(jnp.matmul, b=WEIGHT)),  # a leaf
        as_function(jax.tree_util.Partial(jnp.matmul, WEIGHT)),
        as_function(jnp.sin),
        as_function(sum),
    ):
        assert not holds_foreign_code(f)


FORGOTTEN = {
    "explain_batch": lambda f: jaxplain.explain_batch(jaxplain.gradient(f), X),
    "a backward rule": lambda f: jaxplain.lrp(f, jaxplain.relevance.epsilon())(X[0]),
    "layers": lambda f: jaxplain.layers(f)(X[0]),
    "evaluate_batch": lambda f: jaxplain.evaluate.evaluate_batch(jaxplain.evaluate.deletion(f), X, X),
}


@pytest.mark.parametrize("name", FORGOTTEN)
@pytest.mark.sampled(2)
def test_a_function_of_each_call_is_forgotten_with_its_programs(name):
    alive = []
    for _ in range(4):
        f = lambda x: jnp.tanh(2 * x).sum()  # noqa: E731
        alive.append(weakref.ref(f))
        FORGOTTEN[name](f)
        del f
    gc.collect()
    assert not [function for function in alive if function() is not None]
    assert all("test_hoist" not in str(key) for key in hoist._TRACED)


def test_few_functions_of_a_run_each_are_kept():
    alive = []
    for _ in range(6):
        f = lambda x: jnp.tanh(2 * x).sum()  # noqa: E731
        alive.append(weakref.ref(f))
        jaxplain.explain_dataset(jaxplain.gradient(f), np.asarray(X), out="memory", progress=False)
        del f
    gc.collect()
    assert sum(function() is not None for function in alive) <= 4


def test_lasting_code_is_compiled_by_jit_alone():
    assert not code.holds_passing_code(jaxplain.logit(jnp.dot, jnp.ones(3)))
    assert code.holds_passing_code(Static(lambda x: x))
    assert not code.holds_passing_code(Static(jax.nn.relu))
    assert not code.holds_passing_code(Static("a setting"))
    assert code.holds_passing_code(Static(object()))


def test_a_flag_of_jax_traces_anew():
    traced = []
    f = Static(lambda x: (traced.append(1), x.sum())[1])
    hoisted(value, f, X[0])
    hoisted(value, f, X[1])
    assert len(traced) == 1
    with jax.default_matmul_precision("highest"):
        hoisted(value, f, X[0])
    assert len(traced) == 2


def test_what_is_lowered_is_what_runs_later():
    f, compiled = Static(lambda x: (x @ WEIGHT).sum()), []

    def note(name, _, **__):
        compiled.extend([name] if name.endswith("backend_compile_duration") else [])

    jax.monitoring.register_event_duration_secs_listener(note)
    call = hoist.Compiled(value)
    call.lower(f, X[0]).compile()
    count = len(compiled)
    found = call(f, X[0])
    assert len(compiled) == count > 0
    np.testing.assert_allclose(found, (X[0] @ WEIGHT).sum(), rtol=1e-4)
