"""XRAI: regions of an image ordered by how much attribution they hold for their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.baseline import as_baseline, warn_where_equal
from jaxplain.explain.gradient.path import IntegratedGradients, integrated_gradients
from jaxplain.program import Function, as_function, like, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, ArrayLike, Arrays, Pytree


class Xrai(Function):
    """Attribution of regions. Made by `xrai`."""

    explain: _Mean
    regions: Any
    name: str = setting(default="xrai")

    @property
    def needs_key(self) -> bool:
        """Whether the explanation under it is random."""
        return needs_key(self.explain)

    def __call__(self, *inputs: Any) -> Array:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where a baseline is drawn."""
        x = inputs[1] if self.needs_key else inputs[0]
        check.differentiable(x, self.name)
        if jnp.ndim(x) not in (2, 3):
            raise ValueError(f"{self.name}: `x` has shape {jnp.shape(x)}; it has to be an image [H, W] or [H, W, C].")
        regions = self._masks(x)
        attribution = jnp.asarray(self.explain(*inputs))
        summed = attribution.astype(wide_dtype(attribution.dtype)).reshape(*x.shape[:2], -1).sum(axis=-1)
        gains = _covered(summed, regions)
        return like(jnp.broadcast_to(gains.reshape(*gains.shape, *(1,) * (x.ndim - 2)), x.shape), x)

    def check_baseline(self, x: Pytree) -> None:
        """Warn, once for a concrete batch, of images that equal every baseline."""
        self.explain.check_baseline(x)

    def _masks(self, x: Any) -> Array:
        """The regions as masks `[R, H, W]`."""
        regions = self.regions
        if regions is None:
            if not check.is_concrete(x):
                raise ValueError(
                    f"{self.name}: without `regions` the image is segmented on the host, which is not possible inside "
                    "jit, vmap or explain_batch. Make them before, `regions = jaxplain.image_regions(x)`, and pass "
                    "them: jax.vmap(lambda x, r: jaxplain.xrai(f, regions=r)(x))(images, regions)."
                )
            regions = image_regions(x)
        shape = jnp.shape(regions)
        if len(shape) != 3 or shape[1:] != jnp.shape(x)[:2] or jnp.result_type(regions) != jnp.bool_:
            raise ValueError(
                f"{self.name}: `regions` has {check.describe(regions)}, but `x` has shape {jnp.shape(x)}. Pass boolean "
                f"masks of shape (R, {jnp.shape(x)[0]}, {jnp.shape(x)[1]}), one for each region."
            )
        return jnp.asarray(regions)


def _covered(attribution: Array, regions: Array) -> Array:
    """Take regions in the order of their mean attribution over what is not covered yet; each pixel gets that mean."""
    flat = regions.reshape(regions.shape[0], -1).astype(attribution.dtype)
    values = attribution.reshape(-1)

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        free, gains = carry
        area = flat @ free
        mean = jnp.where(area > 0, (flat @ (values * free)) / jnp.maximum(area, 1), -jnp.inf)
        best = jnp.argmax(mean)
        new = (flat[best] * free > 0) & (area[best] > 0)
        return (jnp.where(new, 0, free), jnp.where(new, mean[best], gains)), None

    (free, gains), _ = lax.scan(step, (jnp.ones_like(values), jnp.zeros_like(values)), None, length=flat.shape[0])
    rest = jnp.sum(values * free) / jnp.maximum(free.sum(), 1)  # what no region covers is one more region
    return jnp.where(free > 0, rest, gains).reshape(attribution.shape)


@public
def xrai(
    f: Callable[..., Any],
    *,
    regions: Arrays | None = None,
    baseline: Sequence[Any] = (0.0, 1.0),
    steps: int = 32,
    batch_size: int | None = None,
) -> Xrai:
    """Rank regions by the integrated gradients they hold for their size, and give each pixel its region's density.

    Integrated gradients are averaged over the baselines (black and white) and summed over channels. Of overlapping
    regions the one with the largest mean attribution over its pixels not covered yet is taken next, until none adds
    pixels; these get that mean. What no region covers is taken as one more. Thresholding the result at a pixel's value
    gives the regions taken up to it, as far as later ones are not denser.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        regions: Boolean masks `[R, H, W]`, which may overlap; empty ones are skipped (fill up with them to make
            examples alike). May be traced, as under `vmap`. None segments the image at six scales by `image_regions`
            (scikit-image), for plain calls.
        baseline: Baselines of integrated gradients in a tuple, each as there.
        steps: Gradients for each baseline.
        batch_size: As in `integrated_gradients`.

    Returns:
        `e(x, *args) -> attribution` of x's shape, the same in all channels, in units of the score for a pixel.
        Cost: `steps` forward and backward passes for each baseline, and R^2 H W multiplications.

    Raises:
        ValueError: `x` is no image, masks that do not fit, no `regions` under a transformation.
        TypeError: As in `integrated_gradients`.
        ImportError: No `regions`, and scikit-image is not installed (the extra 'images').

    Example:
        >>> left = jnp.array([[True, False]])
        >>> e = xrai(lambda x: 2 * x[0, 0], regions=jnp.stack([left, ~left]), baseline=(0.0,))
        >>> (e(jnp.ones((1, 2))) + 0.0).round(4).tolist()
        [[2.0, 0.0]]

    Source: Kapishnikov et al. 2019, "XRAI: better attributions through regions", Algorithm 1.
    """
    name = "xrai"
    score = as_function(check.callable_score(f, name))
    if not isinstance(baseline, tuple | list) or not baseline:
        raise ValueError(f"{name}: `baseline` has to be a tuple of at least one baseline, not {baseline!r}.")
    parts = tuple(
        integrated_gradients(score, baseline=as_baseline(b), steps=steps, batch_size=batch_size) for b in baseline
    )
    return Xrai(_Mean(parts), regions)


class _Mean(Function):
    """The mean of explanations."""

    parts: tuple[IntegratedGradients, ...]

    @property
    def needs_key(self) -> bool:
        return any(needs_key(part) for part in self.parts)

    def check_baseline(self, x: Pytree) -> None:
        warn_where_equal([part.baseline for part in self.parts], x, "xrai", "baseline", derivative=True)

    def __call__(self, *inputs: Any) -> Any:
        key: Any = inputs[0] if self.needs_key else None
        x, *args = inputs[1:] if self.needs_key else inputs
        check.finite(x, "xrai")
        starts = [
            part.start(jax.random.fold_in(key, index) if needs_key(part) else None, x)
            for index, part in enumerate(self.parts)
        ]
        if all(check.equal(x, start) for start in starts):
            check.nothing_changes("xrai", argument="baseline", derivative=True)
        found = [part.between(start, x, tuple(args)) for part, start in zip(self.parts, starts, strict=True)]
        return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *found)


@public
def image_regions(
    image: ArrayLike,
    *,
    scales: Sequence[float] = (50, 100, 150, 250, 500, 1200),
    least: int = 20,
    dilation: int = 5,
    most: int = 512,
) -> np.ndarray:
    """Overlapping regions of an image: Felzenszwalb's segmentation at several scales, each region a little enlarged.

    Args:
        image: `[H, W]` or `[H, W, C]`, of any range.
        scales: Larger ones make larger regions.
        least: The smallest region, in pixels.
        dilation: By how many pixels regions are enlarged, so that they hold their edges.
        most: The most regions, the largest ones.

    Returns:
        Boolean masks `[R, H, W]`, a NumPy array. Cost: a few seconds for 224 x 224, on the host.

    Raises:
        ImportError: scikit-image is not installed (the extra 'images').
        ValueError: An image of another shape, NaN or infinities.

    Example:
        >>> image_regions(np.zeros((8, 8))).shape  # doctest: +SKIP
        (1, 8, 8)

    Source: Felzenszwalb and Huttenlocher 2004, "Efficient graph-based image segmentation"; the scales are those of
    Kapishnikov et al. 2019, section 3.
    """
    check.count(dilation, "image_regions", "dilation", least=0)
    if len(scales) == 0:
        raise ValueError("image_regions: `scales` is empty; pass at least one scale of segmentation.")
    values = np.asarray(check.real(np.asarray(image), "image_regions", "image"), np.float64)
    if values.ndim not in (2, 3) or values.size == 0:
        raise ValueError(f"image_regions: `image` has shape {values.shape}; it has to be [H, W] or [H, W, C].")
    check.finite(values, "image_regions", "image")
    try:
        import skimage.morphology as morphology
        import skimage.segmentation as segmentation
    except ImportError as error:
        raise ImportError(
            "image_regions: needs scikit-image; install it with `pip install jaxplain[images]`, or pass `regions` of "
            "your own to xrai, boolean masks [R, H, W]."
        ) from error
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    axis = -1 if values.ndim == 3 else None
    found: dict[bytes, np.ndarray] = {}
    for scale in scales:
        labels = segmentation.felzenszwalb(values, scale=scale, sigma=0.8, min_size=least, channel_axis=axis)
        for label in np.unique(labels):
            mask = labels == label
            mask = morphology.dilation(mask, morphology.disk(dilation)) if dilation else mask
            found[mask.tobytes()] = mask
    return np.stack(sorted(found.values(), key=lambda mask: -int(mask.sum()))[:most])
