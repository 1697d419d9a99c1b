"""Convolutions that the backend computes on one core take its other kernel, and are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxplain.program.fast import cores
from jaxplain.program.fast.layout import fast_layout
from jaxplain.program.trace import compat

pytestmark = pytest.mark.cpu

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def several_cores(monkeypatch):
    """As on a machine of several cores with a jaxlib before 0.12, whatever this one is."""
    monkeypatch.setattr(cores, "CONVOLVES_ON_ONE_CORE", True)
    monkeypatch.setattr(cores, "cores", lambda: 2)


def draw(number, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.fold_in(KEY, number), shape).astype(dtype)


def convolution(axes=("NHWC", "HWIO", "NHWC"), strides=1, **settings):
    settings = {"padding": "SAME", "dimension_numbers": axes, **settings}
    return lambda image, kernel: lax.conv_general_dilated(image, kernel, (strides, strides), **settings)


def lengths(f, *args):
    """The spatial lengths of every convolution's result that is not differentiated, channels last."""
    found = []

    def walk(program):
        for e in program.equations:
            if e.primitive.name == "conv_general_dilated":
                found.append(compat.shape_of(e.outvars[0])[1:3])
            for inner in compat.subprograms(e):
                walk(inner)

    walk(compat.trace(f, *args)[0])
    return found


TAKEN = {
    # name: (image, kernel, settings, spatial lengths of what is computed)
    "as long as before": ((2, 9, 8, 12), (3, 3, 12, 17), {}, (10, 8)),
    "along the longer axis": ((2, 8, 20, 12), (3, 3, 12, 20), {}, (8, 21)),
    "a point": ((2, 16, 8, 100), (1, 1, 100, 64), {}, (17, 8)),
    "shorter by one": ((2, 20, 8, 30), (2, 2, 30, 20), {"padding": "VALID"}, (21, 7)),
    "dilated": ((2, 16, 8, 12), (3, 3, 12, 20), {"rhs_dilation": (2, 1), "padding": ((2, 2), (1, 1))}, (17, 8)),
    "channels first": ((2, 12, 9, 8), (20, 12, 3, 3), {"axes": ("NCHW", "OIHW", "NCHW")}, (10, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.sampled(3)
def test_one_row_more_is_computed_and_cut_off(name):
    image, kernel, settings, computed = TAKEN[name]
    f, image, kernel = convolution(**settings), draw(1, *image), draw(2, *kernel)
    quick = fast_layout(f)
    assert lengths(quick, image, kernel) == [computed]
    plain = f(image, kernel)
    np.testing.assert_allclose(quick(image, kernel), plain, atol=1e-5 * float(jnp.abs(plain).max()))
    weights = draw(3, *plain.shape)
    slopes = [jax.grad(lambda *args, g=g: (g(*args) * weights).sum(), (0, 1))(image, kernel) for g in (f, quick)]
    for one, other in zip(*slopes, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5 * float(jnp.abs(one).max()))


def test_twice_is_once():
    image, kernel = draw(1, 2, 9, 8, 12), draw(2, 3, 3, 12, 20)
    assert lengths(fast_layout(fast_layout(convolution())), image, kernel) == [(10, 8)]


LEFT = {
    "shared by the library": ((2, 9, 8, 12), (3, 3, 12, 65), {}),
    "few outputs": ((2, 9, 8, 30), (3, 3, 30, 16), {}),
    "few products": ((2, 9, 8, 9), (3, 3, 9, 20), {}),
    "few rows": ((2, 7, 7, 12), (3, 3, 12, 20), {}),
    "much shorter": ((2, 12, 12, 12), (3, 3, 12, 20), {"padding": "VALID"}),
    "longer already": ((2, 9, 8, 12), (3, 3, 12, 20), {"padding": ((2, 2), (1, 1))}),
    "steps": ((2, 9, 8, 12), (3, 3, 12, 20), {"strides": 2}),
    "spread": ((2, 9, 8, 12), (3, 3, 12, 20), {"lhs_dilation": (2, 2), "padding": ((0, 0), (0, 0))}),
}


@pytest.mark.parametrize("name", LEFT)
def test_others_are_computed_as_they_are(name):
    image, kernel, settings = LEFT[name]
    f, image, kernel = convolution(**settings), draw(1, *image), draw(2, *kernel)
    assert lengths(fast_layout(f), image, kernel) == lengths(f, image, kernel)


@pytest.mark.parametrize("where", ["one core", "a newer backend", "half precision", "another platform"])
def test_it_is_done_where_it_helps(monkeypatch, where):
    dtype, platform = jnp.float32, "cpu"
    if where == "one core":
        monkeypatch.setattr(cores, "cores", lambda: 1)
    elif where == "a newer backend":
        monkeypatch.setattr(cores, "CONVOLVES_ON_ONE_CORE", False)
    elif where == "half precision":
        dtype = jnp.bfloat16
    else:
        platform = "gpu"
    f, image, kernel = convolution(), draw(1, 2, 9, 8, 12, dtype=dtype), draw(2, 3, 3, 12, 20, dtype=dtype)
    assert lengths(fast_layout(f, platform=platform), image, kernel) == [(9, 8)]
