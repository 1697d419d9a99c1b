"""Earth mover's distance: closed forms, linear programming, and what has none."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.optimize import linprog

from jaxplain.evaluate import earth_movers_distance

PIXELS = earth_movers_distance(relative=False)


def by_linear_programming(attribution, mask):
    """The least cost over all plans with the given margins."""
    attribution = attribution.astype(float)
    have, want = np.abs(attribution).ravel() / np.abs(attribution).sum(), mask.ravel() / mask.sum()
    places = np.argwhere(np.ones(mask.shape))
    columns = np.flatnonzero(want)
    cost = np.sqrt(((places[:, None] - places[None, columns]) ** 2).sum(-1))
    rows, size = len(have), len(columns)
    margins = np.concatenate([np.kron(np.eye(rows), np.ones(size)), np.kron(np.ones(rows), np.eye(size))])
    return linprog(cost.ravel(), A_eq=margins, b_eq=np.concatenate([have, want[columns]])).fun


def maps(count, shape, key=0):
    """Maps of some kinds: dense, sparse, close to the mask, with ties; masks of a few places."""
    generator = np.random.default_rng(key)
    size = int(np.prod(shape))
    found, masks = [], []
    for index in range(count):
        mask = np.zeros(size, bool)
        mask[generator.permutation(size)[: generator.integers(1, size // 2)]] = True
        dense = generator.normal(size=size)
        kinds = (dense, dense * (generator.random(size) < 0.2) + 1e-3, 5.0 * mask + 0.1 * dense, np.rint(2 * dense) + 3)
        found.append(kinds[index % 4].reshape(shape))
        masks.append(mask.reshape(shape))
    return np.array(found, np.float32), np.array(masks)


def judged(attributions, masks):
    return np.asarray(jax.jit(jax.vmap(PIXELS))(attributions, masks))


@pytest.mark.slow
def test_it_is_the_linear_program_s_optimum():
    for shape in ((4, 4), (3, 5)):
        attributions, masks = maps(16, shape)
        right = [by_linear_programming(a, m) for a, m in zip(attributions, masks, strict=True)]
        np.testing.assert_allclose(judged(attributions, masks), right, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
def test_it_is_the_linear_program_s_optimum_on_8x8():
    attributions, masks = maps(40, (8, 8), key=1)
    right = [by_linear_programming(a, m) for a, m in zip(attributions, masks, strict=True)]
    np.testing.assert_allclose(judged(attributions, masks), right, rtol=1e-5, atol=2e-6)


def test_closed_forms():
    """All of it in one place; on the object; a line, where the distance is that between distribution functions."""
    line = np.random.default_rng(2).random((3, 9)).astype(np.float32)
    masks = np.zeros((3, 9), bool)
    masks[0, 4], masks[1, [0, 8]], masks[2, 2:7] = True, True, True
    steps = np.cumsum(line / line.sum(1, keepdims=True), 1) - np.cumsum(masks / masks.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(judged(line, masks), np.abs(steps).sum(1), rtol=1e-5)
    one, ends = np.zeros((3, 9), np.float32), np.zeros((3, 9), bool)
    one[0, 6], one[1], one[2, 0] = -2.0, 3.0 * masks[2], 1.0
    ends[0, [0, 8]], ends[1], ends[2, 8] = True, masks[2], True
    np.testing.assert_allclose(judged(one, ends), [(6 + 2) / 2, 0, 8], rtol=1e-6)
    corner = np.zeros((4, 4, 2), np.float32)
    corner[0, 0] = 1.0, -3.0  # of channels the signed sum
    assert float(earth_movers_distance()(corner, np.eye(4, dtype=bool)[::-1, ::-1] & (np.arange(4) == 3))) == 1


def test_what_has_no_distance():
    mask = np.eye(3, dtype=bool)
    ones = np.ones((3, 3), np.float32)
    for attribution, inside in ((0 * ones, mask), (ones * np.nan, mask), (ones, ones < 0)):
        assert np.isnan(PIXELS(attribution, inside))
    with pytest.raises(ValueError, match=r"\(17, 17\) have 289 places, too many.*at most 256"):
        PIXELS(np.ones((17, 17)), np.ones((17, 17), bool))
    with pytest.raises(ValueError, match="the mask"):
        PIXELS(ones, mask[:2])
    with pytest.raises(TypeError, match="boolean"):
        PIXELS(ones, ones)
