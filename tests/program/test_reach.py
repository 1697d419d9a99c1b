"""Code whose variables, globals, attributes or arrays are others than at the last call is not answered with its old
program: in every function that compiles."""

import functools
import gc
import types
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxplain
from jaxplain import influence, language, train
from jaxplain.program import reach
from jaxplain.program.trace import hoist

X = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 3.0], [-1.0, 1.5]], np.float32)
OLD, NEW = (jnp.array(values, jnp.float32) for values in ([1.0, 2.0], [5.0, -3.0]))


def of_a_cell():
    w = OLD

    def change():
        nonlocal w
        w = NEW

    return lambda x: (w * x**2).sum(), change


def of_a_number():
    place = 0

    def change():
        nonlocal place
        place = 1

    return lambda x: (x**2)[place], change


def of_a_global():
    space = {"TARGET": 0}
    exec("def f(x): return (x**2)[TARGET]", space)
    return space["f"], lambda: space.update(TARGET=1)


def of_a_global_array():
    space = {"W": OLD}
    exec("def f(x): return (W * x**2).sum()", space)
    return space["f"], lambda: space.update(W=NEW)


def of_a_module_of_settings():
    module = types.ModuleType("somebodys_settings")
    module.scale = 1.0
    space = {"settings": module}
    exec("def f(x): return (settings.scale * x**2).sum()", space)
    return space["f"], lambda: setattr(module, "scale", -2.0)


def of_a_dict():
    params = {"block": [{"w": OLD}]}
    return lambda x: (params["block"][0]["w"] * x**2).sum(), lambda: params["block"][0].update(w=NEW)


def of_a_list():
    layers = [OLD]

    def f(x):
        for w in layers:
            x = w * x**2
        return x.sum()

    return f, lambda: layers.append(NEW)


def of_an_attribute():
    holder = types.SimpleNamespace(w=OLD)
    return lambda x: (holder.w * x**2).sum(), lambda: setattr(holder, "w", NEW)


def of_slots():
    class Holder:
        __slots__ = ("w",)

    holder = Holder()
    holder.w = OLD
    return lambda x: (holder.w * x**2).sum(), lambda: setattr(holder, "w", NEW)


class Slotted:
    """What no weak reference to is possible."""

    __slots__ = ("w",)

    def __init__(self):
        self.w = OLD

    def __call__(self, x):
        return (self.w * x**2).sum()

    def score(self, x):
        return self(x)


def of_a_slotted_object_to_call():
    model = Slotted()
    return model, lambda: setattr(model, "w", NEW)


def of_a_method_of_a_slotted_object():
    model = Slotted()
    return model.score, lambda: setattr(model, "w", NEW)


def of_bytes():
    w = np.array(OLD)

    def change():
        w[:] = NEW

    return lambda x: (w * x**2).sum(), change


def of_an_inner_function():
    w = OLD

    def squares(x):
        return w * x**2

    def change():
        nonlocal w
        w = NEW

    return lambda x: squares(x).sum(), change


def of_another_inner_function():
    def power(x):
        return x**2

    def change():
        nonlocal power

        def power(x):
            return x**3

    return lambda x: power(x).sum(), change


def of_a_default():
    def f(x, w=OLD):
        return (w * x**2).sum()

    return f, lambda: setattr(f, "__defaults__", (NEW,))


def of_a_method():
    class Model:
        w = None

        def score(self, x):
            return (self.w * x**2).sum()

    model = Model()
    model.w = OLD
    return model.score, lambda: setattr(model, "w", NEW)


def of_an_object_to_call():
    class Model:
        def __init__(self):
            self.w = OLD

        def __call__(self, x):
            return (self.w * x**2).sum()

    model = Model()
    return model, lambda: setattr(model, "w", NEW)


def of_a_module_trained_in_place():
    layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    layer.kernel.set_value(OLD[:, None])
    return lambda x: layer(x**2).sum(), lambda: setattr(layer, "kernel", nnx.Param(NEW[:, None]))


def of_a_variable_trained_in_place():
    layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    layer.kernel.set_value(OLD[:, None])
    return lambda x: layer(x**2).sum(), lambda: layer.kernel.set_value(NEW[:, None])


def of_variables_beside_a_linen_module():
    module, variables = nn.Dense(1, use_bias=False), {"params": {"kernel": OLD[:, None]}}
    change = lambda: variables["params"].update(kernel=NEW[:, None])  # noqa: E731
    return lambda x: module.apply(variables, x**2).sum(), change


def of_a_global_of_a_method():
    space = {"SCALE": 1.0, "__name__": "__main__"}
    lines = (
        "class Model:",
        "  def __call__(self, x): return self.scaled(x**2).sum()",
        "  def scaled(self, x): return SCALE * x",
    )
    exec("\n".join(lines), space)
    return space["Model"](), lambda: space.update(SCALE=-3.0)


def of_a_class():
    class Base:
        scale = 1.0

    class Model(Base):
        def score(self, x):
            return (self.scale * x**2).sum()

    return Model().score, lambda: setattr(Base, "scale", 2.0)


def of_a_global_of_a_linen_module():
    space = {"SCALE": 1.0, "__name__": "__main__", "nn": nn}
    lines = "class Model(nn.Module):", "  def __call__(self, x): return SCALE * (x**2).sum()"
    exec("\n".join(lines), space)
    module = space["Model"]()
    return lambda x: module.apply({}, x), lambda: space.update(SCALE=-3.0)


def of_a_global_of_an_inner_linen_module():
    space = {"SCALE": 1.0, "__name__": "__main__", "nn": nn}
    lines = (
        *("class Inner(nn.Module):", "  def __call__(self, x): return SCALE * (x**2).sum()"),
        *("class Model(nn.Module):", "  @nn.compact", "  def __call__(self, x): return Inner()(x)"),
    )
    exec("\n".join(lines), space)
    module = space["Model"]()
    return lambda x: module.apply({}, x), lambda: space.update(SCALE=-3.0)


def of_a_cell_of_a_decorated_function():
    w = OLD

    def doubled(function):
        @functools.wraps(function)
        def wrapper(x):
            return 2 * function(x)

        return wrapper

    @doubled
    def f(x):
        return (w * x**2).sum()

    def change():
        nonlocal w
        w = NEW

    return f, change


KINDS = {name.removeprefix("of_"): make for name, make in sorted(globals().items()) if name.startswith("of_")}


def model_of(f):
    """A model whose params are one scale."""
    return lambda scale, x: scale * jax.vmap(f)(x)


def explained(f):
    e = jaxplain.gradient(f)
    return lambda: jaxplain.explain_batch(e, X)


def explained_anew(f):
    return lambda: jaxplain.explain_batch(jaxplain.gradient(f), X)


def explained_with_a_gap(f):
    e = jaxplain.integrated_gradients_with_gap(f, baseline=0.0, steps=4, tolerance=1e-3)
    return lambda: jaxplain.explain_batch(e, X).attribution


def of_a_dataset(f):
    e = jaxplain.gradient(f)
    run = functools.partial(jaxplain.explain_dataset, e, X, batch_size=2, out="memory")
    return lambda: np.stack(list(run().explanations["attribution"]))


def evaluated(f):
    metric = jaxplain.evaluate.deletion(f, baseline=0.0, steps=2)
    return lambda: jaxplain.evaluate.evaluate_batch(metric, X, X)


def of_a_fast_layout(f):
    e = jaxplain.fast_layout(jax.grad(f))
    return lambda: e(X[0])


def of_gradients(f):
    model, data = model_of(f), (X, X[:, 0])
    queries = influence.query_scores(model, data, train.squared_error)
    run = functools.partial(influence.gradient_similarity, model, jnp.float32(0.5), data, queries)
    return lambda: run(loss=train.squared_error).values


def fitted(f):
    model = model_of(f)
    run = functools.partial(train.fit, model, jnp.float32(0.5), (X, X[:, 0]), epochs=2, batch_size=2)
    return lambda: run(loss=train.squared_error, optimizer=optax.sgd(1e-3), key=jax.random.key(0)).params


def trained(f):
    run = train.training_run(
        model_of(f), jnp.float32(0.5), (X, X[:, 0]), loss=train.squared_error, optimizer=optax.sgd(1e-3), epochs=2,
        batch_size=2, key=jax.random.key(0),
    )  # fmt: skip
    return lambda: run()


def predicted(f):
    model = model_of(f)
    return lambda: train.predict(model, jnp.float32(0.5), X)


def maximized(f):
    e = jaxplain.activation_maximization(f, image=jaxplain.image.pixels((2,)), steps=3)
    return lambda: e(jax.random.key(0)).image


def generated(f):
    def apply(table, ids):
        return table[ids].cumsum(axis=1) * f(jnp.array([1.0, 2.0]))

    score = language.token_logit(apply, jnp.eye(4))
    run = functools.partial(language.explain_generation, jaxplain.input_x_gradient, score)
    return lambda: run([1, 2, 1], [1, 2])


DRIVERS = {
    "explain_batch": explained,
    "explain_batch of a new explanation": explained_anew,
    "explain_batch of an adaptive path": explained_with_a_gap,
    "explain_dataset": of_a_dataset,
    "evaluate_batch": evaluated,
    "fast_layout": of_a_fast_layout,
    "gradient_similarity": of_gradients,
    "fit": fitted,
    "training_run": trained,
    "predict": predicted,
    "activation_maximization": maximized,
    "explain_generation": generated,
}


SOME = "a_number", "a_method", "bytes", "a_variable_trained_in_place"


def told_apart(kind, driver):
    """The result before a change, the one after it, and that of code that was never anything else."""
    (f, change), (other, change_other) = KINDS[kind](), KINDS[kind]()
    run = DRIVERS[driver](f)
    before = np.asarray(run())
    change()
    after = np.asarray(run())
    change_other()
    return before, after, np.asarray(DRIVERS[driver](other)())


@pytest.mark.parametrize("kind", KINDS)
def test_what_code_reaches_is_read_anew(kind):
    before, after, expected = told_apart(kind, "explain_batch")
    assert not np.allclose(before, expected)
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("kind", ["a_cell", *(pytest.param(k, marks=pytest.mark.slow) for k in SOME)])
@pytest.mark.parametrize("driver", list(DRIVERS)[1:])
def test_every_function_that_compiles_reads_it_anew(driver, kind):
    before, after, expected = told_apart(kind, driver)
    assert not np.allclose(before, expected)
    np.testing.assert_array_equal(after, expected)


@pytest.fixture
def traces():
    """Counts what is traced, and what is compiled."""
    counts = {"compiled": 0}

    def listen(event, *_, **__):
        counts["compiled"] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield counts
    jax.monitoring.unregister_event_duration_listener(listen)


def test_code_that_counts_its_calls_is_traced_once():
    seen, count = [], 0

    def f(x):
        nonlocal count
        count += 1
        seen.append(x)
        return (OLD * x**2).sum()

    e = jaxplain.gradient(f)
    jaxplain.explain_batch(e, X)
    first = count
    for _ in range(3):
        jaxplain.explain_batch(e, X)
    assert count == first == len(seen)


def test_a_method_that_counts_its_calls_is_traced_once():
    class Model:
        calls = 0

        def score(self, x):
            self.calls += 1
            return (OLD * x**2).sum()

    model = Model()
    e = jaxplain.gradient(model.score)
    jaxplain.explain_batch(e, X)
    first = model.calls
    jaxplain.explain_batch(e, X)
    assert model.calls == first


def test_other_arrays_in_the_places_of_the_old_are_no_other_program(traces):
    params = {"w": jnp.ones((2, 100))}
    e = jaxplain.gradient(lambda x: jax.nn.relu(x @ params["w"]).sum())
    jaxplain.explain_batch(e, X)
    first = traces["compiled"]
    for scale in (2.0, 3.0):
        params["w"] = scale * jnp.ones((2, 100))
        jax.block_until_ready(params["w"])
        traces["compiled"] = first
        found = jaxplain.explain_batch(e, X)
        assert traces["compiled"] == first
        np.testing.assert_allclose(found, 100 * scale * (X.sum(1, keepdims=True) > 0) * np.ones((1, 2)))


@pytest.mark.parametrize("change", ["small", "shared", "shape", "host"])
def test_a_program_that_differs_otherwise_is_compiled_anew(change):
    """In a small constant, in which arrays are one, in a shape, in a function of the host."""
    big = jnp.ones((2, 100))
    params = {"first": big, "second": big + 1 if change == "shared" else big, "small": np.array([2.0, 1.0], np.float32)}
    params["host"] = lambda v: np.asarray(v)

    def f(x):
        y = (x @ params["first"] + x @ params["second"]).sum() + (x * params["small"]).sum()
        return y + jax.pure_callback(params["host"], jax.ShapeDtypeStruct((), x.dtype), x[0], vmap_method="sequential")

    def g(x):
        return (
            f(x)
            if change == "host"
            else (x @ params["first"] + 2 * (x @ params["second"])).sum() + (x * params["small"]).sum()
        )

    e = jaxplain.output(lambda params, x: jax.vmap(g)(x), ())
    run = lambda: jaxplain.explain_batch(jaxplain.occlusion(e, window=1, baseline=0.0), X)  # noqa: E731
    before = np.asarray(run())
    params.update({
        "small": {"small": np.array([3.0, 5.0], np.float32)},
        "shared": {"second": 2 * big, "first": 2 * big},
        "shape": {"first": jnp.ones((2, 50)), "second": jnp.ones((2, 50))},
        "host": {"host": lambda v: np.asarray(v) * 5},
    }[change])  # fmt: skip
    after = np.asarray(run())
    assert not np.allclose(before, after)
    for row, x in zip(after, X, strict=True):
        for place in range(2):
            np.testing.assert_allclose(row[place], g(x) - g(np.where(np.arange(2) == place, 0, x)), rtol=1e-5)


def test_one_call_looks_once(monkeypatch):
    looked = []
    monkeypatch.setattr(reach, "_reached", lambda code, inner=reach._reached: (looked.append(code), inner(code))[1])
    f = lambda x: (OLD * x**2).sum()  # noqa: E731
    e = jaxplain.gradient(f)
    jaxplain.explain_batch(e, X)
    looked.clear()
    jaxplain.explain_batch(e, X)
    assert len(looked) == 1


def followed():
    """Weak references to code in a cycle with what it reaches, and to the arrays that it reached in turn."""
    params = {"w": jnp.ones((64, 64))}

    def f(x):
        return (x @ params["w"][:2]).sum() + len(params["own"].__name__)

    params["own"] = f
    refs = [weakref.ref(f)]
    jaxplain.explain_batch(jaxplain.gradient(f), X)
    for _ in range(3):
        params["w"] = params["w"] + 1
        refs.append(weakref.ref(params["w"]))
        jaxplain.explain_batch(jaxplain.gradient(f), X)
    gc.collect()
    assert [ref() is None for ref in refs] == [False, True, True, False]
    return refs


def test_nothing_is_kept_alive():
    refs = followed()
    gc.collect()
    gc.collect()  # what is forgotten with the code is garbage after it
    assert [ref() is None for ref in refs] == [True] * 4


@pytest.mark.slow
def test_a_place_in_memory_that_is_used_again_is_other_code():
    """What was known of collected code is not known of what lies there now."""
    found = []
    for scale in range(20):

        def f(x, scale=float(scale)):
            return (scale * x**2).sum()

        found.append((id(f), float(jaxplain.explain_batch(jaxplain.gradient(f), X[:1])[0, 0])))
        del f
        gc.collect()
    assert len({place for place, _ in found}) < 20  # some were used again
    assert [value for _, value in found] == [2.0 * scale for scale in range(20)]


@pytest.mark.slow
def test_few_programs_of_earlier_editions_are_kept():
    params = {"w": jnp.ones((2, 100))}
    f = lambda x: (x @ params["w"]).sum()  # noqa: E731
    e = jaxplain.gradient(f)
    for columns in range(100, 100 + hoist.SHAPES + 3):
        params["w"] = jnp.ones((2, columns))
        jaxplain.explain_batch(e, X)
    kept = [traced for traced in hoist._TRACED.values() if len(traced.programs) > 3]
    assert [len(traced.programs) for traced in kept] == [hoist.SHAPES]
