"""Guided and blurred paths, regions, extremal masks, and the nearest example of another class."""

from __future__ import annotations

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from shared.methods import network, rectified, smooth

X = jnp.array([0.5, -1.0, 2.0, 0.25])
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 2)), jnp.float32)


def guided(gradient, x, start, steps, fraction, distance):
    """The algorithm of the paper in NumPy: move the features of the lowest gradients until the step's way is done."""
    x, point = np.asarray(x, np.float64), np.array(start, np.float64)
    start, length, total = point.copy(), np.abs(x - point).sum(), np.zeros(x.shape)
    for index in range(steps):
        g = np.asarray(gradient(jnp.asarray(point, jnp.float32)), np.float64)
        alpha, before = (index + 1) / steps, point.copy()
        low, high = (start + np.clip(a, 0, 1) * (x - start) for a in (alpha - distance, alpha + distance))
        point = np.where(np.abs(x - point) > np.abs(x - low), low, point)
        left = np.abs(x - point).sum() - length * (1 - alpha)
        size = np.where(point != high, np.abs(g), np.inf)
        while left > 1e-9 and np.isfinite(size).any():
            chosen = (size <= np.sort(size)[int(fraction * (size.size - 1))]) & np.isfinite(size)
            room = np.abs(high - point)[chosen].sum()
            share = min(1.0, left / room) if room > 0 else 1.0
            point = np.where(chosen, point + share * (high - point), point)
            left, size = left - share * room, np.where(chosen, np.inf, size)
        total += g * (point - before)
    return total


@pytest.mark.parametrize(("fraction", "distance"), [(0.25, 0.1), (0.5, 1.0), (0.1, 0.02)])
def test_guided_equals_the_paper_s_algorithm(fraction, distance):
    w = jax.random.normal(jax.random.key(1), (12, 5))
    x, b = jax.random.normal(jax.random.key(2), (12,)), 0.1 * jnp.ones(12)

    def f(x):
        return jnp.tanh(x @ w).sum()

    e = jaxplain.guided_integrated_gradients(f, baseline=b, steps=20, fraction=fraction, distance=distance)
    wanted = guided(jax.jit(jax.grad(f)), x, b, 20, fraction, distance)
    np.testing.assert_allclose(jax.jit(e)(x), wanted, atol=2e-4)


@pytest.mark.slow
def test_guided_is_complete_in_the_limit_and_straight_without_freedom():
    f = jaxplain.logit(smooth, network())
    change = f(X, 1) - f(jnp.zeros(4), 1)
    gaps = [
        abs(float(jax.jit(jaxplain.guided_integrated_gradients(f, steps=n))(X, 1).sum() - change)) for n in (50, 800)
    ]
    assert gaps[1] < gaps[0] / 8 + 1e-4
    straight = jax.jit(jaxplain.guided_integrated_gradients(f, steps=40, distance=0.0))(X, 1)
    np.testing.assert_allclose(straight, jaxplain.integrated_gradients(f, steps=40, rule="left")(X, 1), atol=1e-4)
    with pytest.raises(ValueError, match="shares"):
        jaxplain.guided_integrated_gradients(f, fraction=1.5)
    with pytest.raises(ValueError, match="distance"):
        jaxplain.guided_integrated_gradients(f, distance=-0.1)


@pytest.mark.slow
def test_blurred_paths_add_up_and_equal_fine_differences():
    w = jax.random.normal(jax.random.key(0), IMAGE.shape)

    def f(x):
        return jnp.tanh((w * x).sum()) + (x**2).mean()

    a = jax.jit(jaxplain.blur_integrated_gradients(f, sigma=4.0, steps=60, batch_size=7))(IMAGE)
    blurred = [jaxplain.baseline.blur(s)(IMAGE) for s in np.linspace(4.0, 1e-3, 400)]
    np.testing.assert_allclose(a.sum(), f(IMAGE) - f(blurred[0]), atol=1e-4)
    gradient = jax.jit(jax.grad(lambda a, b: f((a + b) / 2), argnums=0))
    steps = sum(2 * gradient(u, v) * (v - u) for u, v in itertools.pairwise(blurred))
    np.testing.assert_allclose(a, steps, atol=2e-3)
    signal = jnp.sin(jnp.arange(16.0))
    b = jax.jit(jaxplain.blur_integrated_gradients(lambda x: (x**3).sum(), sigma=3.0, axes=(0,)))(signal)
    start = jaxplain.baseline.blur(3.0, axes=(0,))(signal)
    np.testing.assert_allclose(b.sum(), (signal**3).sum() - (start**3).sum(), atol=1e-4)
    with pytest.raises(ValueError, match="sigma"):
        jaxplain.blur_integrated_gradients(f, sigma=0.0)


@pytest.mark.slow
def test_scores_without_a_value_are_refused():
    """Their gradients may well be numbers."""
    f = lambda x: jnp.log(x - 3.0).sum()  # noqa: E731
    x = jnp.arange(1.0, 7.0)
    for e in (
        jaxplain.guided_integrated_gradients(f, steps=4),
        jaxplain.blur_integrated_gradients(f, sigma=1.0, axes=(0,), steps=4),
        jaxplain.integrated_hessians(f, steps=4),
        jaxplain.guided_integrated_gradients(lambda x: jnp.log(x).sum(), steps=4),
        jaxplain.integrated_hessians(lambda x: jnp.log(x).sum(), steps=4),
    ):
        with pytest.raises(ValueError, match="score `f` is NaN or infinite"):
            e(x)
        assert jax.jit(e)(x).shape == (6,) * (2 if "hessians" in e.name else 1)


@pytest.mark.slow
def test_regions_are_taken_by_density():
    w = jnp.zeros((4, 4, 1)).at[0, 0, 0].set(4.0).at[3, 3, 0].set(-2.0).at[1, 1, 0].set(1.0)
    corner = np.zeros((4, 4), bool)
    corner[0, 0] = True
    quarter, half, empty = corner.copy(), corner.copy(), np.zeros((4, 4), bool)
    quarter[:2, :2] = half[:2] = True
    regions = jnp.asarray(np.stack([half, quarter, corner, empty]))
    e = jaxplain.xrai(lambda x: (w * x).sum(), regions=regions, baseline=(0.0, 1.0))
    a = jax.jit(e)(jnp.full((4, 4, 1), 2.0))[..., 0]  # IG: 2 w and w, 1.5 w on average
    np.testing.assert_allclose(a[0, 0], 6.0, rtol=1e-5)  # the corner by itself is the densest
    np.testing.assert_allclose(a[1, 1], 1.5 / 3, rtol=1e-5)  # then what the quarter adds, three pixels
    np.testing.assert_allclose(a[0, 3], 0.0, atol=1e-6)
    np.testing.assert_allclose(a[2:], -3.0 / 8, rtol=1e-5)  # what no region covers
    mapped = jax.vmap(lambda x, r: jaxplain.xrai(lambda x: (w * x).sum(), regions=r)(x))
    both = mapped(jnp.full((2, 4, 4, 1), 2.0), jnp.stack([regions, regions[::-1]]))
    np.testing.assert_allclose(both[0, ..., 0], a, atol=1e-5)
    with pytest.raises(ValueError, match="image_regions"):
        jax.jit(jaxplain.xrai(lambda x: x.sum()))(jnp.ones((4, 4)))
    with pytest.raises(ValueError, match=r"\(R, 4, 4\)"):
        jaxplain.xrai(lambda x: x.sum(), regions=jnp.ones((2, 3, 4), bool))(jnp.ones((4, 4)))
    with pytest.raises(ValueError, match="image"):
        jaxplain.xrai(lambda x: x.sum(), regions=regions)(jnp.ones(4))


@pytest.mark.slow
def test_an_image_that_is_every_baseline_of_xrai_is_a_warning():
    regions = jnp.ones((1, 2, 2), bool)
    black, e = jnp.zeros((2, 2)), jaxplain.xrai(jnp.sum, regions=regions, baseline=(0.0,), steps=2)
    with pytest.warns(UserWarning, match="xrai: `baseline` equals `x` in every value, so") as caught:
        assert not e(black).any()
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="for 1 of 2 examples"):
        jaxplain.explain_batch(e, jnp.stack([black, black + 1]))
    jaxplain.xrai(jnp.sum, regions=regions, steps=2)(black)  # white is another baseline


def test_regions_come_from_scikit_image():
    pytest.importorskip("skimage")
    square = np.zeros((32, 32), bool)
    square[8:24, 8:24] = True
    image = square[..., None] * np.ones(3, np.float32)
    exact = jaxplain.image_regions(image, dilation=0)
    assert exact.dtype == np.bool_
    assert exact.any(axis=0).all()  # every pixel is in a region
    assert (np.diff(exact.sum(axis=(1, 2))) <= 0).all()
    holding = [mask for mask in exact if mask[16, 16]]
    assert holding
    assert not any((mask & ~square).any() for mask in holding)  # no region of the square's middle leaves it
    wide = jaxplain.image_regions(image)
    assert any((mask & square).sum() > 0.95 * square.sum() and mask.mean() < 0.6 for mask in wide)
    assert len(jaxplain.image_regions(image, most=3)) == 3
    assert jaxplain.image_regions(image[..., 0], scales=(50,)).shape[1:] == (32, 32)
    a = jaxplain.xrai(lambda x: (x * square[..., None]).sum(), baseline=(0.0,))(jnp.asarray(image))
    assert float(a[16, 16, 0]) > float(a[0, 0, 0])
    regions = jnp.asarray(wide)
    np.testing.assert_array_equal(
        jaxplain.xrai(lambda x: (x * square[..., None]).sum(), regions=regions, baseline=(0.0,))(jnp.asarray(image)), a
    )


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    for call in (lambda: jaxplain.image_regions(np.zeros((8, 8))), lambda: jaxplain.xrai(jnp.sum)(jnp.ones((8, 8)))):
        with pytest.raises(ImportError, match=r"jaxplain\[images\]"):
            call()
    for shape in ((8,), (2, 8, 8, 3), (0, 8)):
        with pytest.raises(ValueError, match=r"\[H, W\]"):
            jaxplain.image_regions(np.zeros(shape))
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.image_regions(np.full((8, 8), np.nan))


@pytest.mark.slow
def test_an_extremal_mask_finds_what_is_enough():
    w = jnp.zeros((12, 12, 1)).at[2:6, 6:10].set(1.0)

    def f(x):
        return 10 * jnp.tanh((w * x).sum() / 8)

    x = jnp.ones((12, 12, 1))
    for preserve in (True, False):
        e = jaxplain.extremal_perturbation(f, area=16 / 144, spacing=(2, 2), preserve=preserve)
        mask = np.asarray(jax.jit(e)(x))
        assert mask.shape == x.shape
        assert mask.min() >= 0
        assert mask.max() <= 1
        inside = np.asarray(w) > 0
        # A bump is half as wide as the patch, and its soft edge counts as area.
        assert mask[inside].mean() > 6 * mask[~inside].mean()
        assert mask[~inside].mean() < 0.08
        assert abs(mask.mean() - 16 / 144) < 1e-3


@pytest.mark.slow
def test_an_extremal_mask_has_its_area_whatever_the_scale_of_the_score():
    w, v = jax.random.normal(jax.random.key(0), (100, 6)), jax.random.normal(jax.random.key(1), (6,))
    x = jax.random.normal(jax.random.key(2), (10, 10))

    def f(x, scale):
        return scale * (jnp.tanh(x.reshape(-1) @ w / 5) @ v)

    sign = jnp.sign(f(x, 1.0) - f(0 * x, 1.0))
    areas = jnp.array([0.08, 0.2, 0.5])
    for preserve in (True, False):
        masks = jax.jit(
            jax.vmap(
                jax.vmap(
                    lambda area, scale, p=preserve: jaxplain.extremal_perturbation(
                        f, area=area, spacing=(2, 2), steps=100, preserve=p
                    )(x, scale),
                    (0, None),
                ),
                (None, 0),
            )
        )(areas, sign * jnp.array([1.0, 256.0]))
        np.testing.assert_allclose(masks.mean(axis=(2, 3)), jnp.stack([areas, areas]), atol=1e-3)
        np.testing.assert_allclose(masks[0], masks[1], atol=1e-3)
        for mask, area in zip(masks[0], areas, strict=True):
            moved = [jnp.roll(mask, (i, j), (0, 1)) for i in range(0, 10, 2) for j in range(0, 10, 2)][1:]
            scores = jnp.stack([f(x * (m if preserve else 1 - m), sign) for m in (mask, *moved)])
            best = scores[0] > scores[1:] if preserve else scores[0] < scores[1:]
            assert best.mean() > 0.85, (preserve, area)


@pytest.mark.slow
def test_extremal_masks_of_signals_and_what_is_refused():
    w = jnp.zeros(24).at[10:16].set(1.0)
    x = {"wave": jnp.ones((24, 2)), "id": jnp.array(2)}
    e = jaxplain.extremal_perturbation(lambda x: 5 * (w[:, None] * x["wave"]).sum() / 6, area=0.25, spacing=(3,))
    mask = jax.jit(e)(x)
    np.testing.assert_array_equal(mask["wave"][:, 0], mask["wave"][:, 1])
    assert float(mask["wave"][10:16].mean()) > 0.7
    assert int(mask["id"]) == 0
    with pytest.raises(ValueError, match="area"):
        jaxplain.extremal_perturbation(jnp.sum, area=1.2)
    with pytest.raises(ValueError, match="leading axes"):
        jaxplain.extremal_perturbation(jnp.sum)(jnp.ones(4))
    with pytest.raises(TypeError, match="optax"):
        jaxplain.extremal_perturbation(jnp.sum, optimizer="adam")


@pytest.mark.slow
def test_the_nearest_row_of_another_class():
    data = jax.random.normal(jax.random.key(0), (200, 4))
    labels = jax.random.randint(jax.random.key(1), (200,), 0, 3)
    x = jax.random.normal(jax.random.key(2), (16, 4))
    params = network()

    def predicted(x):
        return jnp.argmax(rectified(params, x[None])[0])

    found = jax.jit(jax.vmap(jaxplain.baseline.nearest_counter_class(data, labels, predicted)))(x)
    for row, one in zip(np.asarray(found), np.asarray(x), strict=True):
        other = np.asarray(labels) != int(predicted(jnp.asarray(one)))
        distances = np.where(other, ((np.asarray(data) - one) ** 2).sum(1), np.inf)
        np.testing.assert_array_equal(row, np.asarray(data)[distances.argmin()])
    f = jaxplain.logit(smooth, params)

    def attributed(x, label):
        b = jaxplain.baseline.nearest_counter_class(data, labels, label)
        return jaxplain.integrated_gradients(f, baseline=b)(x, 1)

    assert bool(jnp.isfinite(jax.vmap(attributed)(x[:3], jnp.array([0, 1, 2]))).all())
    alone = jax.jit(
        lambda label: jaxplain.baseline.nearest_counter_class(data, jnp.zeros(200, jnp.int32), label)(x[0])
    )(0)
    assert bool(jnp.isnan(alone).all())


def test_bad_rows_are_named():
    data = jnp.ones((3, 2))
    with pytest.raises(ValueError, match="all rows are of class 1"):
        jaxplain.baseline.nearest_counter_class(data, jnp.ones(3, jnp.int32), 1)
    with pytest.raises(ValueError, match="labels"):
        jaxplain.baseline.nearest_counter_class(data, jnp.ones(2, jnp.int32), 1)
    with pytest.raises(TypeError, match="integers"):
        jaxplain.baseline.nearest_counter_class(data, jnp.ones(3), 1)
