"""Max pooling before biases and ReLUs: the same numbers and derivatives, and only where nothing else reads them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.explain.backward import relevance
from jaxplain.program.fast.layout import fast_layout
from jaxplain.program.trace import compat

pytestmark = pytest.mark.cpu

KEY = jax.random.key(0)
FEW, MANY = (3, 3, 1, 6), (3, 3, 5, 6)
SLOPE = jnp.arange(8.0).reshape(1, 8, 1, 1)


def draw(number, *shape):
    return jax.random.normal(jax.random.fold_in(KEY, number), shape)


BIAS = draw(1, 1, 1, 1, 6)


def convolved(image, kernel):
    return lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(value, window=(2, 2), strides=(2, 2), padding="VALID"):
    return nn.max_pool(value, window, strides, padding)


STEPS = {
    # name: (what stands between convolution and pooling, which sums of it come after the pooling)
    "relu of a sum": (lambda v: jax.nn.relu(v + BIAS), {"add"}),
    "maximum with zero": (lambda v: jnp.maximum(0.0, BIAS + v), {"add"}),
    "relu": (jax.nn.relu, set()),
    "difference": (lambda v: jax.nn.relu(v - BIAS), {"sub"}),
    "a number": (lambda v: jax.nn.relu(v + 0.25) + 2.0, {"add"}),
    "a full bias": (lambda v: v + jnp.broadcast_to(BIAS, v.shape), {"add"}),
    "nothing": (lambda v: v, set()),
    "difference from it": (lambda v: BIAS - v, set()),
    "a product": (lambda v: jax.nn.relu(v * BIAS), set()),
    "what is laid out by place": (lambda v: jax.nn.relu(v + jnp.broadcast_to(SLOPE, v.shape)), set()),
    "what differs by place": (lambda v: jax.nn.relu(v + SLOPE), set()),
}

POOLS = {
    "halved": {},
    "overlapping": {"window": (3, 3), "strides": (2, 2), "padding": "SAME"},
    "one axis": {"window": (1, 2), "strides": (1, 2)},
}


def sizes(f, *args):
    """Per primitive, the elements of its largest result, in all programs but those of what is differentiated."""
    found = {}

    def walk(program):
        for e in program.equations:
            count = max((int(np.prod(compat.shape_of(v))) for v in e.outvars), default=0)
            found[e.primitive.name] = max(found.get(e.primitive.name, 0), count)
            for inner in compat.subprograms(e):
                walk(inner)

    walk(compat.trace(f, *args)[0])
    return found


def same(f, *args):
    """Values and gradients are those of the function as it is."""
    quick, plain = jax.jit(fast_layout(f))(*args), f(*args)
    np.testing.assert_allclose(quick, plain, atol=2e-6)
    weights = draw(9, *plain.shape)
    slopes = [jax.grad(lambda *args, g=g: (g(*args) * weights).sum(), (0, 1))(*args) for g in (f, fast_layout(f))]
    for one, other in zip(*slopes, strict=True):
        np.testing.assert_allclose(other, one, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("windows", POOLS)
@pytest.mark.parametrize("kernel", [FEW, MANY], ids=["few channels", "many channels"])
@pytest.mark.parametrize("name", STEPS)
def test_the_pooling_comes_first_and_nothing_changes(name, kernel, windows):
    between, after = STEPS[name]

    def f(image, kernel):
        return pool(between(convolved(image, kernel)), **POOLS[windows])

    image, kernel = draw(2, 2, 8, 8, kernel[2]), draw(3, *kernel)
    same(f, image, kernel)
    found = sizes(fast_layout(f), image, kernel)
    assert found["max"] < 2 * 8 * 8 * 6  # no ReLU before the pooling, which itself begins with one axis
    if kernel.shape == MANY and windows == "halved":  # a sum of products is made of sums of that size
        for operation in ("add", "sub"):
            assert (found.get(operation, 0) == 2 * 4 * 4 * 6) == (operation in after)


def test_values_are_the_same_to_the_bit_where_the_convolution_is():
    image, kernel = draw(2, 2, 8, 8, 5), draw(3, *MANY)

    def f(image):
        return pool(jax.nn.relu(convolved(image, kernel) + BIAS))

    assert (jax.jit(fast_layout(f))(image) == jax.jit(f)(image)).all()


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_is_not_finite_stays_so(value):
    image, kernel = draw(2, 1, 8, 8, 1).at[0, 3, 3, 0].set(value), jnp.abs(draw(3, *FEW))

    def f(image):
        return pool(jax.nn.relu(convolved(image, kernel) + BIAS))

    quick, plain = jax.jit(fast_layout(f))(image), f(image)
    assert (jnp.isnan(quick) == jnp.isnan(plain)).all()
    assert (jnp.isinf(quick) == jnp.isinf(plain)).all()


@pytest.mark.slow
def test_equal_elements_share_their_gradient_as_before():
    """At zeros of a ReLU every element of a window is the maximum, and the first takes the gradient, which is zero."""
    image, kernel = jnp.zeros((1, 8, 8, 1)).at[0, :4].set(1.0), jnp.ones(FEW)
    same(lambda image, kernel: pool(jax.nn.relu(convolved(image, kernel) - 2.0)), image, kernel)


@pytest.mark.optimized
@pytest.mark.parametrize("around", ["vmap", "two", "chunks", "loop", "kernels"])
@pytest.mark.sampled(4)
def test_it_is_found_inside_of_transformations(around):
    kernel = draw(3, *FEW)

    def one(image, kernel=kernel):
        return pool(jax.nn.relu(convolved(image[None], kernel) + BIAS))[0]

    f = {
        "vmap": jax.vmap(jax.vmap(one)),
        "two": jax.vmap(jax.vmap(one), 1, 1),
        "chunks": jax.vmap(lambda images: lax.map(one, images, batch_size=2)),
        "loop": lambda images: lax.map(jax.vmap(one), images),
        "kernels": lambda images: jax.vmap(lambda k: jax.vmap(lambda i: one(i, k))(images[0]))(
            jnp.stack([kernel, 2 * kernel])
        ),
    }[around]
    images = draw(2, 3, 4, 8, 8, 1)
    np.testing.assert_allclose(jax.jit(fast_layout(f))(images), f(images), atol=2e-6)
    text = jax.jit(fast_layout(f)).lower(images).compile().as_text()
    called = [line for line in text.splitlines() if " call(" in line and 'inlineable="false"' in line]
    # One call: the convolution, the pooling and the rest. Kernels of each example make a grouped convolution of it.
    assert (len(called) == 1 and "fast" in called[0]) or around == "kernels"


READERS = {
    "a mean of all": lambda h: pool(v := jax.nn.relu(h)) + v.mean(),
    "an output": lambda h: [v := jax.nn.relu(h), pool(v)],
    "a name": lambda h: pool(compat.checkpoint_name(jax.nn.relu(h), "features")),
    "a mean": lambda h: nn.avg_pool(jax.nn.relu(h), (2, 2), (2, 2)),
    "nothing but padding": lambda h: lax.reduce_window(
        jax.nn.relu(h), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), ((0, 0), (2, 0), (0, 0), (0, 0))
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_something_else_reads_is_left(reader):
    image, kernel = draw(2, 2, 8, 8, 1), draw(3, *FEW)

    def f(image):
        return READERS[reader](convolved(image, kernel))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), fast_layout(f)(image), f(image))
    assert sizes(fast_layout(f), image)["max"] == 2 * 8 * 8 * 6  # the ReLU, where it was


def test_a_layer_inside_is_found_and_changed():
    """Explaining a function in the fast layout: what is merged in its forward pass stays apart while one looks."""
    kernel, image = draw(3, *FEW), draw(2, 1, 8, 8, 1)

    def f(image):
        with jax.named_scope("stem"):
            h = jax.nn.relu(convolved(image, kernel) + BIAS)
        return pool(h).sum()

    quick, plain = (jaxplain.capture(g, "stem")(image) for g in (fast_layout(f), f))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), quick, plain)
    removed = jaxplain.intervene(fast_layout(f), {"stem": jnp.zeros_like})(image)
    assert removed == 0 != f(image)


def test_what_goes_backwards_runs_forwards_once():
    """Its value and what its derivative keeps are one forward pass, which merging one of them would make two."""
    kernel = draw(3, *FEW)

    def f(image):
        return pool(jax.nn.relu(convolved(image[None], kernel) + BIAS)).sum()

    e = jaxplain.lrp(f, relevance.epsilon(1e-2))
    text = jax.jit(fast_layout(jax.vmap(e))).lower(draw(2, 2, 8, 8, 1)).compile().as_text()
    calls = [line for line in text.splitlines() if " call(" in line]
    assert sum("_products" in line or "jit_fast" in line for line in calls) == 1
