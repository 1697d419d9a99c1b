"""The fast layout computes the same numbers, leaves nothing eligible in the slow layout, and skips what it must not."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import jaxplain
from jaxplain.program.fast.convolution import FAST
from jaxplain.program.fast.layout import fast_layout
from jaxplain.program.fast.pool import scatter_to_winners
from jaxplain.program.trace import compat

pytestmark = pytest.mark.cpu

KEY = jax.random.key(0)
IMAGE = jax.random.normal(KEY, (2, 8, 9, 4))
KERNEL = jax.random.normal(jax.random.key(1), (3, 3, 4, 5))  # too many channels to be written out


def convolve(image, kernel, **settings):
    settings = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC"), **settings}
    return lax.conv_general_dilated(image, kernel, **settings)


def max_pool(image, window=(3, 3), stride=(2, 2), padding="SAME", start=-jnp.inf, choose=lax.max):
    padding = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    return lax.reduce_window(image, start, choose, (1, *window, 1), (1, *stride, 1), padding)


def energy(kernel, image):
    return jnp.square(max_pool(jax.nn.relu(convolve(image, kernel)))).sum()


gradient = jax.grad(energy, (0, 1))


def slow(f, *args):
    """The equations of a traced function that a fast layout exists for and that are not in it."""
    found = []

    def walk(program):
        for e in program.equations:
            p = e.params
            if e.primitive.name == "select_and_scatter_add":
                found.append(e)
            plain = (
                e.primitive.name == "conv_general_dilated" and p["feature_group_count"] * p["batch_group_count"] == 1
            )
            if plain and tuple(p["dimension_numbers"]) != FAST:
                found.append(e)
            if e.primitive.name not in compat.CUSTOM_DERIVATIVES:
                for inner in compat.subprograms(e):
                    walk(inner)

    walk(compat.trace(f, *args)[0])
    return found


def close(a, b, tolerance=2e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        scale = max(1.0, float(jnp.abs(right.astype(jnp.float32)).max()))
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left.astype(jnp.float32), right.astype(jnp.float32), atol=tolerance * scale, rtol=0)


LAYOUTS = (("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("CNWH", "IWOH", "HCNW"), ("NWHC", "WHIO", "NWHC"))


def arranged(value, names, wanted):
    return jnp.transpose(value, [names.index(letter) for letter in wanted])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window_strides": (2, 1), "padding": "VALID"},
        {"padding": ((-1, 2), (0, 3)), "rhs_dilation": (2, 1)},
        {"lhs_dilation": (2, 3), "padding": ((1, 0), (-2, 1)), "window_strides": (1, 2)},
    ],
)
@pytest.mark.sampled(4)
def test_convolutions_and_both_gradients_are_exact_in_every_layout(layout, settings):
    image, kernel = arranged(IMAGE, "NHWC", layout[0]), arranged(KERNEL, "HWIO", layout[1])

    def f(image, kernel):
        return jnp.sin(convolve(image, kernel, dimension_numbers=layout, **settings)).sum()

    for g in (f, jax.grad(f, (0, 1))):
        assert not slow(fast_layout(g), image, kernel)
        close(jax.jit(fast_layout(g))(image, kernel), jax.jit(g)(image, kernel))
    assert slow(jax.grad(f, (0, 1)), image, kernel)


def test_settings_of_a_convolution_are_kept():
    half = functools.partial(convolve, precision="highest", preferred_element_type=jnp.float32)
    arguments = (IMAGE.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16))
    f = jax.grad(lambda image, kernel: jnp.sin(half(image, kernel)).sum(), (0, 1))
    program, _ = compat.trace(fast_layout(f), *arguments)
    params = [e.params for e in program.equations if e.primitive.name == "conv_general_dilated"]
    assert len(params) == 3
    assert all(p["precision"] == (lax.Precision.HIGHEST,) * 2 for p in params)
    close(jax.jit(fast_layout(f))(*arguments), jax.jit(f)(*arguments), 1e-2)


WINDOWS = [
    ((2, 2), (2, 2), "VALID"),  # as large as the step
    ((2, 2), (2, 2), "SAME"),
    ((3, 3), (2, 2), "SAME"),  # overlapping
    ((3, 3), (2, 2), ((1, 1), (1, 1))),
    ((3, 2), (1, 1), "VALID"),
    ((2, 3), (3, 1), ((0, 2), (4, 1))),  # gaps, and windows of padding alone
    ((8, 7), (3, 5), "VALID"),
    ((1, 1), (1, 1), "VALID"),
    ((1, 2), (3, 4), "SAME"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("window", "stride", "padding"), WINDOWS)
@pytest.mark.parametrize("kind", ["ties", "normal", "infinite"])
def test_pooling_has_the_winners_of_select_and_scatter(window, stride, padding, kind):
    image = jax.random.randint(KEY, (2, 8, 9, 3), 0, 3).astype(jnp.float32) if kind == "ties" else IMAGE
    image = jnp.where(image > 0.3, -jnp.inf, image) if kind == "infinite" else image

    weight = jax.random.randint(jax.random.key(3), max_pool(image, window, stride, padding).shape, 1, 99) * 1.0
    g = jax.vjp(lambda image: max_pool(image, window, stride, padding), image)[1]
    low = jax.vjp(lambda image: max_pool(image, window, stride, padding, jnp.inf, lax.min), image)[1]
    for pull in (g, low):
        assert not slow(fast_layout(pull), weight)
        np.testing.assert_array_equal(jax.jit(fast_layout(pull))(weight)[0], jax.jit(pull)(weight)[0])  # whole numbers


def test_the_first_of_equal_elements_wins():
    image, source = jnp.zeros((4, 4)), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    result = scatter_to_winners(
        source, image, keeps=lax.ge, window_dimensions=(2, 2), window_strides=(2, 2), padding=((0, 0), (0, 0))
    )
    np.testing.assert_array_equal(result, [[1, 0, 2, 0], [0] * 4, [3, 0, 4, 0], [0] * 4])


@pytest.mark.parametrize(("window", "stride", "padding"), WINDOWS)
def test_pooling_equals_a_walk_over_the_windows(window, stride, padding):
    """The definition, element by element: the first largest element of each window receives the window's source."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 3, (7, 9)).astype(np.float32)
    pads = lax.padtype_to_pads(image.shape, window, stride, padding) if isinstance(padding, str) else padding
    padded = np.pad(image, pads, constant_values=-np.inf)
    windows = [(n - k) // s + 1 for n, k, s in zip(padded.shape, window, stride, strict=True)]
    source = rng.integers(1, 9, windows).astype(np.float32)
    expected = np.zeros_like(padded)
    for i, j in itertools.product(*map(range, windows)):
        best = None
        for a, b in itertools.product(*map(range, window)):
            here = (i * stride[0] + a, j * stride[1] + b)
            if best is None or padded[here] > padded[best]:
                best = here
        expected[best] += source[i, j]
    inside = tuple(slice(low, low + n) for (low, _), n in zip(pads, image.shape, strict=True))
    result = scatter_to_winners(
        jnp.asarray(source),
        jnp.asarray(image),
        keeps=lax.ge,
        window_dimensions=window,
        window_strides=stride,
        padding=pads,
    )
    np.testing.assert_array_equal(result, expected[inside])


def test_what_is_not_a_number_wins_as_in_xla():
    image = IMAGE.at[0, 2, 3].set(jnp.nan).at[1, 0, 0, 1].set(jnp.nan)
    pull = jax.vjp(max_pool, image)[1]
    ones = jnp.ones(max_pool(image).shape)
    np.testing.assert_array_equal(jax.jit(fast_layout(pull))(ones)[0], jax.jit(pull)(ones)[0])


def test_overlapping_windows_in_half_precision_are_summed_wide():
    image = jnp.zeros((1, 9, 9, 1), jnp.bfloat16).at[0, 4, 4, 0].set(1)
    pull = jax.vjp(lambda image: max_pool(image, (5, 5), (1, 1)), image)[1]
    (result,) = jax.jit(fast_layout(pull))(jnp.full((1, 9, 9, 1), 1.0039, jnp.bfloat16))
    assert result.dtype == jnp.bfloat16
    assert float(result[0, 4, 4, 0]) == 25.0  # 25 windows hold it; each adds 1.0 in bfloat16


def loops(image, kernel):
    """A convolution's gradient inside everything that holds programs."""

    def body(carry, scale):
        value, count = carry
        step = jax.checkpoint(jax.jit(lambda v: gradient(kernel * scale, v)[1]))
        value = lax.cond(scale > 1.5, lambda v: v - 0.01 * step(v), lambda v: v + 0.01 * step(v), value)
        return (value, count + 1), energy(kernel, value)

    (value, count), scores = lax.scan(body, (image, 0), jnp.arange(3.0), reverse=True)
    turned = lax.while_loop(
        lambda s: s[1] < 2, lambda s: (s[0] - 0.01 * gradient(kernel, s[0])[1], s[1] + 1), (value, 0)
    )
    return {"value": turned[0], "rest": (count, scores)}


@pytest.mark.slow
@pytest.mark.parametrize("image", [IMAGE, IMAGE.astype(jnp.bfloat16)], ids=["float32", "bfloat16"])
def test_programs_inside_are_rewritten(image):
    kernel = KERNEL.astype(image.dtype)
    f = (
        loops
        if image.dtype == jnp.float32
        else lambda image, kernel: lax.map(lambda s: gradient(kernel * s, image), kernel[0, 0, 0])
    )
    assert not slow(fast_layout(f), image, kernel)
    assert slow(f, image, kernel)
    close(
        jax.jit(fast_layout(f))(image, kernel), jax.jit(f)(image, kernel), 2e-5 if image.dtype == jnp.float32 else 0.1
    )


@pytest.mark.slow
def test_it_works_under_and_around_every_transformation():
    kernels = jnp.stack([KERNEL, 2 * KERNEL])
    images = jnp.stack([IMAGE, IMAGE[::-1]])
    quick = fast_layout(gradient)
    expected = [gradient(k, i) for k, i in zip(kernels, images, strict=True)]
    expected = jax.tree.map(lambda *rows: jnp.stack(rows), *expected)
    close(quick(kernels[0], images[0]), jax.tree.map(lambda leaf: leaf[0], expected))
    close(jax.jit(jax.vmap(quick))(kernels, images), expected)
    close(fast_layout(jax.vmap(gradient))(kernels, images), expected)
    close(jax.vmap(quick, (0, None))(kernels, IMAGE), jax.vmap(gradient, (0, None))(kernels, IMAGE))
    close(lax.map(lambda row: quick(*row), (kernels, images)), expected)
    close(jax.jvp(quick, (KERNEL, IMAGE), (KERNEL, IMAGE)), jax.jvp(gradient, (KERNEL, IMAGE), (KERNEL, IMAGE)))
    close(fast_layout(jax.grad(fast_layout(energy)))(KERNEL, IMAGE), gradient(KERNEL, IMAGE)[0])


@pytest.mark.slow
def test_its_result_is_differentiable_again_and_that_needs_it_again():
    def penalty(g, kernel):
        return sum(jnp.square(part).sum() for part in g(kernel, IMAGE))

    once = jax.grad(functools.partial(penalty, fast_layout(gradient)))
    twice = fast_layout(once)
    close(jax.jit(twice)(KERNEL), jax.jit(jax.grad(functools.partial(penalty, gradient)))(KERNEL))
    assert slow(once, KERNEL)
    assert not [e for e in slow(twice, KERNEL) if e.primitive.name == "conv_general_dilated"]


@pytest.mark.slow
def test_a_custom_derivative_that_is_not_taken_stays():
    @jax.custom_vjp
    def twice(kernel, image):
        return convolve(image, kernel, dimension_numbers=("NHWC", "HWIO", "NCHW")).sum() * 2

    twice.defvjp(lambda k, i: (twice(k, i), k), lambda k, g: (7 * g * k, None))
    quick = fast_layout(lambda k, i: jax.nn.relu(twice(k, i)) + jax.nn.relu(k * 0).sum())
    program, _ = compat.trace(quick, KERNEL, IMAGE)
    names = [e.primitive.name for e in program.equations]
    assert [name for name in names if name.startswith("custom")] == [
        "custom_vjp_call",
        "custom_jvp_call",
        "custom_jvp_call",
    ]
    sign = float(twice(KERNEL, IMAGE) > 0)
    np.testing.assert_allclose(jax.grad(quick)(KERNEL, IMAGE), 7 * sign * KERNEL, rtol=1e-6)  # relu'(0) is 0


@pytest.mark.slow
def test_unknown_convolutions_and_pools_stay_as_they_are():
    wide = jax.random.normal(KEY, (1, 100, 1))
    solid = jax.random.normal(KEY, (1, 4, 4, 4, 4))

    def three(x):
        return lax.conv_general_dilated(
            x, jnp.ones((2, 2, 2, 4, 5)), (1,) * 3, "SAME", dimension_numbers=("NHWDC", "HWDIO", "NCHWD")
        )

    def whole(x):
        return convolve(x.astype(int), KERNEL.astype(int), dimension_numbers=("NHWC", "HWIO", "NCHW"))

    def huge(x):
        return jax.grad(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 99, 1), (1, 1, 1), "VALID").sum())(x)

    for f, x in ((three, solid), (whole, IMAGE), (huge, wide)):
        assert compat.trace(fast_layout(f), x)[0].jaxpr.pretty_print() == compat.trace(f, x)[0].jaxpr.pretty_print()
        np.testing.assert_array_equal(fast_layout(f)(x), f(x))


def test_effects_happen_once_and_in_order(capfd):
    def f(image):
        def body(value, number):
            jax.debug.print("turn {}", number, ordered=True)
            return value - gradient(KERNEL, value)[1], None

        jax.debug.print("start", ordered=True)
        return lax.scan(body, image, jnp.arange(2))[0]

    jax.block_until_ready(jax.jit(fast_layout(f))(IMAGE))
    jax.effects_barrier()
    assert capfd.readouterr().out.split("\n") == ["start", "turn 0", "turn 1", ""]


def test_scopes_are_kept():
    def f(kernel, image):
        with jax.named_scope("stem"):
            kernel = kernel * 2
            return energy(kernel, image)

    for g in (f, jax.grad(f)):
        before, after = (
            {compat.scope(e) for e in compat.trace(h, KERNEL, IMAGE)[0].equations} for h in (g, fast_layout(g))
        )
        assert before == after
    (conv,) = [e for e in compat.trace(fast_layout(f), KERNEL, IMAGE)[0].equations if "conv" in e.primitive.name]
    assert compat.scope(conv) == "stem"


def test_settings_of_calls_are_kept():
    def f(image):
        inner = jax.jit(lambda v: gradient(KERNEL, v)[1])
        body = jax.checkpoint(lambda v, _: (inner(v), None), policy=jax.checkpoint_policies.everything_saveable)
        return lax.scan(body, image, length=4, unroll=2)[0]

    before, after = (compat.trace(g, IMAGE)[0].equations[-1] for g in (f, fast_layout(f)))
    inner = [compat.subprograms(e)[0].equations[0] for e in (before, after)]
    for one, two in ((before, after), inner):
        assert one.primitive is two.primitive
        assert [k for k in one.params if k != "jaxpr" and one.params[k] != two.params[k]] == []


@pytest.mark.optimized
def test_leaves_that_are_no_arrays_pass_through():
    def f(tree, name, factor, training, *, activation):
        assert isinstance(training, bool)
        return {"name": name, "none": None, "count": 3, "value": activation(tree["image"]) * factor, "f": activation}

    quick = fast_layout(f)
    result = quick({"image": IMAGE, "label": "cat"}, "net", 2.0, True, activation=jnp.tanh)
    assert (result["name"], result["none"], result["count"], result["f"]) == ("net", None, 3, jnp.tanh)
    np.testing.assert_array_equal(result["value"], jnp.tanh(IMAGE) * 2)


def test_it_traces_once():
    traces = []

    def f(kernel, image):
        traces.append(None)
        return gradient(kernel, image)

    quick = fast_layout(f)
    for scale in (1.0, 2.0, 3.0):
        quick(KERNEL * scale, IMAGE)
    assert len(traces) == 1
    compiled = jax.jit(lambda k, i: quick(k, i))
    for scale in (1.0, 2.0):
        compiled(KERNEL * scale, IMAGE)
    assert len(traces) == 2


@pytest.mark.slow
def test_an_explanation_stays_an_explanation():
    traces = []

    def apply(params, batch):
        traces.append(None)
        return convolve(batch, params).mean((1, 2))

    for scale in (1.0, 2.0):
        e = fast_layout(jaxplain.gradient(jaxplain.logit(apply, KERNEL * scale)))
        assert not e.needs_key
        result = jaxplain.explain_batch(e, IMAGE, jnp.array([0, 1]))
        close(result, jax.vmap(jaxplain.gradient(jaxplain.logit(apply, KERNEL * scale)))(IMAGE, jnp.array([0, 1])))
        if scale == 1.0:
            seen = len(traces)
    assert len(traces) == seen + 1  # only the plain vmap traces again
    assert fast_layout(jaxplain.smoothgrad(jaxplain.gradient(jnp.sum), sigma=1.0)).needs_key


def test_other_platforms_compute_the_function_as_it_is(monkeypatch):
    plain = compat.trace(gradient, KERNEL, IMAGE)[0].jaxpr.pretty_print()
    assert compat.trace(fast_layout(gradient, platform="cuda"), KERNEL, IMAGE)[0].jaxpr.pretty_print() == plain
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compat.trace(fast_layout(gradient), KERNEL, IMAGE)[0].jaxpr.pretty_print() == plain
    assert not slow(fast_layout(gradient, platform="cpu"), KERNEL, IMAGE)
    with jax.default_device(jax.devices("cpu")[0]):
        assert not slow(fast_layout(gradient), KERNEL, IMAGE)
    traced = jax.jit(fast_layout(gradient)).trace(KERNEL, IMAGE)
    assert "select_and_scatter" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.slow
def test_arrays_of_a_closure_are_not_kept_alive():
    import gc
    import weakref

    def make():
        kernel = KERNEL + 1
        return fast_layout(lambda image: gradient(kernel, image)[1]), weakref.ref(kernel)

    quick, kernel = make()
    quick(IMAGE)
    assert kernel() is not None
    del quick
    gc.collect()
    assert kernel() is None


def test_sharded_arrays_stay_sharded():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    image = jax.device_put(IMAGE, NamedSharding(mesh, PartitionSpec("data")))
    close(jax.jit(fast_layout(gradient))(KERNEL, image), jax.jit(gradient)(KERNEL, IMAGE))


def network(params, images):
    maps = max_pool(jax.nn.relu(convolve(images, params["kernel"])))
    return maps.mean((1, 2)) + params["bias"][None]


PARAMS = {"kernel": KERNEL, "bias": jnp.zeros(5)}


@pytest.mark.parametrize("size", [1, 2])
def test_gradient_methods_are_fast_under_a_plain_vmap(size):
    f = jaxplain.logit(network, PARAMS)
    e = jaxplain.integrated_gradients(f, steps=3, batch_size=size)
    assert not slow(jax.vmap(e), IMAGE, jnp.array([0, 1]))
    assert not slow(
        jax.vmap(jaxplain.smoothgrad(e, sigma=0.1, samples=2)), jax.random.split(KEY, 2), IMAGE, jnp.array([0, 1])
    )


def test_a_compiled_explanation_is_fast_whoever_traced_it_first():
    """JAX keeps the program of an inner `jit`: what explain_batch leaves there is what a later call runs."""
    f = jaxplain.logit(network, {"kernel": KERNEL, "bias": jnp.ones(5)})
    e = jax.jit(jaxplain.integrated_gradients(f, steps=3))
    jaxplain.explain_batch(e, IMAGE, jnp.array([0, 1]))
    assert not slow(e, IMAGE[0], jnp.int32(0))


@pytest.mark.slow
def test_training_is_in_the_fast_layout():
    step = functools.partial(jaxplain.train.train_step, network)
    state = jaxplain.train.init(network, PARAMS, key=KEY)
    data = (IMAGE, jnp.array([0, 1]))
    assert not slow(lambda state: step(state, data)[0].params, state)

    def run(params):
        return jaxplain.train.fit(network, params, data, key=KEY, epochs=2, batch_size=1, validation=data).params

    assert not slow(run, PARAMS)
    quick, plain = jax.jit(step)(state, data)[0].params, step(state, data)[0].params
    close(quick, plain)


@pytest.mark.parametrize("around", ["batch", "vmap", "loop"])
def test_what_a_pooling_reads_is_computed_once(around):
    """A stencil, its pooling, the windows' winners and where they scatter to are calls that nothing is merged into."""
    kernel = jnp.ones((3, 3, 1, 4))

    def gradient(image):
        def score(image):
            found = jax.nn.relu(convolve(image, kernel))
            return jnp.square(max_pool(found, (2, 2))).sum()

        return jax.grad(score)(image)

    f = {"batch": gradient, "vmap": jax.vmap(gradient), "loop": lambda x: lax.map(gradient, x)}[around]
    image = jax.random.normal(jax.random.key(0), (2, 8, 8, 1) if around == "batch" else (3, 2, 8, 8, 1))
    compiled = jax.jit(fast_layout(f)).lower(image).compile().as_text()
    called = [line for line in compiled.splitlines() if " call(" in line and 'inlineable="false"' in line]
    assert sorted({name for line in called for name in CALLED if name in line}) == sorted(CALLED)
    assert len(called) == len(CALLED)


CALLED = ("_products", "pooled_by_slices", "_winners", "_scattered", "_shifts")
