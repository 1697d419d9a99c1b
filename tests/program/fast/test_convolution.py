"""Convolutions and pooling in fast forms: the same numbers and derivatives for every kind of convolution there is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxplain.program.fast.convolution import FAST, FEW
from jaxplain.program.fast.layout import fast_layout
from jaxplain.program.trace import compat
from shared.tables import halves

pytestmark = pytest.mark.cpu

KEY = jax.random.key(0)
NAMES = {1: "W", 2: "HW", 3: "DHW"}


def draw(number, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.fold_in(KEY, number), shape).astype(dtype)


def convolution(kernel, *, strides=1, **settings):
    """A function of image and kernel, channels last."""
    rank = kernel.ndim - 2
    names = NAMES[rank]
    settings = {"padding": "SAME", "dimension_numbers": (f"N{names}C", f"{names}IO", f"N{names}C"), **settings}
    return lambda image, kernel: lax.conv_general_dilated(image, kernel, (strides,) * rank, **settings)


def close(a, b, tolerance=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        left, right = (np.asarray(value, np.float64) for value in (left, right))
        np.testing.assert_allclose(left, right, atol=tolerance * max(1.0, np.abs(right).max(initial=0)), rtol=0)


def primitives(f, *args):
    """The convolutions that are left, by their axes and groups."""
    found = []

    def walk(program):
        for e in program.equations:
            if e.primitive.name == "conv_general_dilated":
                groups = e.params["feature_group_count"] * e.params["batch_group_count"]
                found.append((tuple(e.params["dimension_numbers"]), groups))
            for inner in compat.subprograms(e):
                walk(inner)

    walk(compat.trace(f, *args)[0])
    return found


CASES = {
    # name: (image, kernel, settings, written out)
    "one channel": ((2, 7, 8, 1), (3, 3, 1, 6), {}, True),
    "three channels": ((2, 7, 8, 3), (3, 3, 3, 5), {}, True),
    "strides": ((2, 7, 8, 3), (3, 3, 3, 5), {"strides": 2, "padding": "VALID"}, True),
    "dilated": ((2, 9, 9, 1), (3, 2, 1, 5), {"rhs_dilation": (2, 3)}, True),
    "negative padding": ((2, 7, 8, 1), (3, 3, 1, 5), {"padding": ((-1, 2), (3, -2))}, True),
    "no place for the window": ((2, 2, 8, 1), (3, 3, 1, 5), {"padding": "VALID"}, True),
    "few outputs": ((2, 7, 8, 9), (3, 3, 9, 1), {}, True),
    "three outputs": ((2, 7, 8, 9), (3, 3, 9, 3), {"padding": ((0, 3), (1, -1))}, True),
    "few outputs, dilated": ((2, 9, 9, 9), (2, 2, 9, 2), {"rhs_dilation": (3, 2)}, True),
    "few outputs, strides": ((2, 7, 8, 9), (3, 3, 9, 1), {"strides": 2}, False),
    "spread input": ((2, 4, 4, 1), (3, 3, 1, 5), {"lhs_dilation": (2, 2), "padding": ((1, 2), (0, 1))}, False),
    "many": ((2, 7, 8, 9), (3, 3, 9, 8), {}, False),
    "a point": ((2, 7, 8, 3), (1, 1, 3, 5), {}, False),
    "each channel by itself": ((2, 7, 8, 6), (3, 3, 1, 6), {"feature_group_count": 6}, True),
    "each channel twice": ((2, 7, 8, 6), (5, 5, 1, 12), {"feature_group_count": 6, "strides": 2}, True),
    "groups": ((2, 7, 8, 12), (3, 3, 4, 24), {"feature_group_count": 3}, False),
    "groups of one output": ((2, 7, 8, 12), (3, 3, 4, 3), {"feature_group_count": 3}, True),
    "groups in the batch": ((6, 7, 8, 5), (3, 3, 5, 12), {"batch_group_count": 3}, False),
    "a line": ((2, 20, 6), (5, 6, 7), {"strides": 2, "padding": ((1, 3),)}, False),
    "a line of one channel": ((2, 20, 1), (9, 1, 4), {}, True),
    "a line in groups": ((2, 20, 12), (5, 6, 16), {"feature_group_count": 2}, False),
    "a line spread": ((2, 20, 6), (5, 6, 7), {"lhs_dilation": (3,), "padding": ((2, 2),)}, False),
    "a solid of one channel": ((2, 4, 5, 6, 1), (3, 3, 3, 1, 4), {}, True),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_convolution_has_the_same_values_and_gradients(name):
    image, kernel, settings, _ = CASES[name]
    image, kernel = draw(1, *image), draw(2, *kernel)
    f = convolution(kernel, **settings)
    weight = draw(3, *f(image, kernel).shape)
    gradient = jax.grad(lambda image, kernel: (weight * f(image, kernel)).sum(), (0, 1))
    for g in (f, gradient):
        close(jax.jit(fast_layout(g))(image, kernel), jax.jit(g)(image, kernel))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(8)
def test_what_is_left_is_in_the_fast_kernel(name):
    image, kernel, settings, written_out = CASES[name]
    image, kernel = draw(1, *image), draw(2, *kernel)
    f = convolution(kernel, **settings)
    left = primitives(fast_layout(f), image, kernel)
    assert bool(left) != written_out
    assert all(kind == (FAST, 1) for kind in left)


@pytest.mark.parametrize("name", ["one channel", "few outputs", "each channel by itself", "groups"])
@pytest.mark.sampled(2)
def test_second_derivatives_and_tangents_are_those_of_the_convolution(name):
    image, kernel, settings, _ = CASES[name]
    image, kernel = draw(1, *image), draw(2, *kernel)
    f = convolution(kernel, **settings)
    quick = fast_layout(f)

    def energy(f, image, kernel):
        return jnp.sin(f(image, kernel)).sum()

    def penalty(f, image, kernel):
        parts = jax.grad(functools.partial(energy, f), (0, 1))(image, kernel)
        return sum(jnp.square(part).sum() for part in parts)

    for scalar in (energy, penalty):
        right = jax.grad(functools.partial(scalar, f), (0, 1))(image, kernel)
        close(jax.grad(functools.partial(scalar, quick), (0, 1))(image, kernel), right, 1e-4)
    moved = (draw(4, *image.shape), draw(5, *kernel.shape))
    close(jax.jvp(quick, (image, kernel), moved), jax.jvp(f, (image, kernel), moved))
    only = functools.partial(jax.jvp, primals=(image,), tangents=(moved[0],))
    close(only(lambda i: quick(i, kernel)), only(lambda i: f(i, kernel)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one channel", "few outputs", "each channel by itself", "groups"])
def test_it_works_under_vmap_of_images_kernels_and_both(name):
    image, kernel, settings, _ = CASES[name]
    images, kernels = draw(1, 3, *image), draw(2, 3, *kernel)
    f = convolution(kernels[0], **settings)
    for axes in ((0, None), (None, 0), (0, 0)):
        args = [values if axis == 0 else values[0] for values, axis in zip((images, kernels), axes, strict=True)]
        right = jax.vmap(f, axes)(*args)
        close(jax.vmap(fast_layout(f), axes)(*args), right)
        close(fast_layout(jax.vmap(f, axes))(*args), right)


@pytest.mark.parametrize("name", ["one channel", "few outputs", "each channel by itself", "groups", "a line"])
@pytest.mark.sampled(2)
def test_half_precision_is_summed_in_single(name):
    image, kernel, settings, _ = CASES[name]
    image, kernel = draw(1, *image, dtype=jnp.bfloat16), draw(2, *kernel, dtype=jnp.bfloat16)
    f = convolution(kernel, **settings)
    exact = f(*(value.astype(jnp.float32) for value in (image, kernel)))
    result = fast_layout(f)(image, kernel)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(result.astype(jnp.float32), exact, rtol=2**-8, atol=1e-5)  # one rounding at the end
    wide = convolution(kernel, **settings, preferred_element_type=jnp.float32)
    close(fast_layout(wide)(image, kernel), exact)


def test_the_longest_sum_is_as_long_as_said():
    for inputs in (FEW // 9, FEW // 9 + 1):
        image, kernel = draw(1, 1, 5, 5, inputs), draw(2, 3, 3, inputs, 4)
        left = primitives(fast_layout(convolution(kernel)), image, kernel)
        assert bool(left) == (9 * inputs > FEW)


@pytest.mark.slow
def test_an_ensemble_of_networks_has_no_grouped_convolution_left():
    """`vmap` over parameters makes groups, and these run in a slow kernel, forward and backward."""
    images, kernels = draw(1, 3, 2, 6, 6, 4), draw(2, 3, 3, 3, 4, 5)

    def energy(kernel, image):
        return jnp.square(convolution(kernel)(image, kernel)).sum()

    ensemble = jax.vmap(jax.grad(energy), (0, 0))
    assert any(groups > 1 for _, groups in primitives(ensemble, kernels, images))
    assert all(kind == (FAST, 1) for kind in primitives(fast_layout(ensemble), kernels, images))
    close(jax.jit(fast_layout(ensemble))(kernels, images), jax.jit(ensemble)(kernels, images))


POOLS = {
    "as large as the step": ((2, 2), (2, 2), "VALID"),
    "overlapping": ((3, 3), (2, 2), "SAME"),
    "every place": ((3, 2), (1, 1), "SAME"),
    "gaps and padding alone": ((2, 3), (3, 1), ((0, 2), (4, 1))),
    "one axis": ((1, 4), (1, 3), "VALID"),
    "no place": ((8, 2), (1, 1), "VALID"),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("kind", halves(["max", "min", "sum"]))
@pytest.mark.sampled(4)
def test_pooling_by_slices_has_the_same_values_and_gradients(name, kind):
    (window, strides, padding), image = POOLS[name], draw(1, 2, 7, 8, 3)
    image = jnp.round(image)  # ties
    start, choose = {"max": (-jnp.inf, lax.max), "min": (jnp.inf, lax.min), "sum": (0.0, lax.add)}[kind]
    padding = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))

    def pool(image):
        return lax.reduce_window(image, start, choose, (1, *window, 1), (1, *strides, 1), padding)

    weight = jnp.round(9 * draw(3, *pool(image).shape))

    def pull(image):
        return jax.vjp(pool, image)[1](weight)

    assert "reduce_window" not in str(compat.trace(fast_layout(pool), image)[0].jaxpr)
    for f, x in ((pool, image), (pull, image), (jax.vmap(pool), image[None])):
        np.testing.assert_array_equal(jax.jit(fast_layout(f))(x), jax.jit(f)(x))  # whole numbers: to the bit
    quick = fast_layout(pool)
    np.testing.assert_array_equal(jax.vjp(quick, image)[1](weight), pull(image))  # the first of equal ones still wins


def test_what_is_not_a_number_stays_so_in_pooling():
    image = draw(1, 1, 4, 4, 1).at[0, 1, 2, 0].set(jnp.nan)
    pool = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")  # noqa: E731
    np.testing.assert_array_equal(fast_layout(pool)(image), pool(image))
    assert int(jnp.isnan(fast_layout(pool)(image)).sum()) == 1


def test_half_precision_pools_are_summed_in_single():
    image = jnp.full((1, 4, 4, 1), 1.0039, jnp.bfloat16)
    total = lambda x: lax.reduce_window(x, jnp.bfloat16(0), lax.add, (1, 4, 4, 1), (1, 1, 1, 1), "VALID")  # noqa: E731
    result = fast_layout(total)(image)
    assert result.dtype == jnp.bfloat16
    assert float(result[0, 0, 0, 0]) == 16.0


def test_unusual_poolings_stay_as_they_are():
    image = draw(1, 1, 12, 12, 1)
    long = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 9, 1, 1), (1, 1, 1, 1), "VALID")  # noqa: E731
    dilated = lambda x: lax.reduce_window(  # noqa: E731
        x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID", window_dilation=(1, 2, 2, 1)
    )
    for f in (long, dilated):
        assert "reduce_window" in str(compat.trace(fast_layout(f), image)[0].jaxpr)
        np.testing.assert_array_equal(fast_layout(f)(image), f(image))
