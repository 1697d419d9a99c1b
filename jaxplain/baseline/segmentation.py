"""Groups of an image's pixels that look alike (scikit-image is imported when it is asked for)."""

from __future__ import annotations

import importlib

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


@public
def superpixels(image: ArrayLike, segments: int = 50, *, compactness: float = 10.0) -> Array:
    """Divide an image into superpixels (SLIC): connected regions of similar colour, as `groups` for a method.

    Args:
        image: One concrete image, `[H, W]` or `[H, W, C]`, floats of any range (it is brought to 0 to 1 for this) or
            8-bit integers.
        segments: About how many superpixels.
        compactness: How much nearness counts against likeness; large values give squares.

    Returns:
        Integers `[H, W]` from 0 without gaps, row by row in the order in which superpixels begin.

    Raises:
        ImportError: scikit-image is not installed (the extra 'images').
        ValueError: An image of another shape, NaN or infinities.
        TypeError: An image that is being traced.

    Example:
        >>> import importlib.util
        >>> if importlib.util.find_spec("skimage"):
        ...     groups = superpixels(np.eye(8), 4)
        ...     assert groups.shape == (8, 8) and int(groups.min()) == 0

    Source: Achanta et al. 2012, "SLIC superpixels compared to state-of-the-art superpixel methods".
    """
    if not check.is_concrete(image):
        raise TypeError("superpixels: `image` is being traced; segment images before, and pass `groups`.")
    pixels = np.asarray(check.real(np.asarray(image), "superpixels", "image"), np.float64)
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise ValueError(f"superpixels: `image` has shape {pixels.shape}; it has to be [H, W] or [H, W, C].")
    check.finite(pixels, "superpixels", "image")
    segments = check.count(segments, "superpixels", "segments")
    check.positive(compactness, "superpixels", "compactness")
    try:
        slic = importlib.import_module("skimage.segmentation").slic
    except ImportError as error:
        raise ImportError(
            "superpixels: needs scikit-image; install it with `pip install jaxplain[images]`, or pass `groups` "
            "of your own."
        ) from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    low, high = pixels.min(), pixels.max()
    scaled = (pixels - low) / (high - low if high > low else 1.0)
    colour = pixels.shape[-1] == 3
    found = slic(scaled, segments, compactness if colour else compactness / 100, channel_axis=-1, convert2lab=colour)
    _, first, numbers = np.unique(found, return_index=True, return_inverse=True)
    order = np.empty(first.size, np.int32)
    order[np.argsort(first)] = np.arange(first.size, dtype=np.int32)
    return jnp.asarray(order[numbers.reshape(found.shape)])
