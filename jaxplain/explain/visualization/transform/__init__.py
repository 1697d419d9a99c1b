"""Random transforms `(key, x) -> x` between the image and the model; a chain is a tuple, applied in order.

They act on images `[H, W, C]` and signals `[T, C]`; only `pad`, `crop` and `resize` change the size. An image that
survives them is one whose score does not hang on single pixels.
"""

from jaxplain.explain.visualization.transform.appearance import blur, colour_jitter, composite, noise
from jaxplain.explain.visualization.transform.geometry import crop, jitter, pad, random_crop, resize, rotate, scale

__all__ = [
    "blur",
    "colour_jitter",
    "composite",
    "crop",
    "jitter",
    "noise",
    "pad",
    "random_crop",
    "resize",
    "rotate",
    "scale",
]
