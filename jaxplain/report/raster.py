"""Pictures of examples as data that a page holds: inputs as they are seen, maps with their values inside."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

STEPS = 32767
"""Values between zero and the end of a map's scale: 16 bits with a sign."""

SMALL = 48
"""Up to this many pixels a side a picture is kept as it is; beyond it a little is lost to JPEG."""


def pooled(maps: np.ndarray, most: int) -> np.ndarray:
    """Maps `[B, h, w]` of at most `most` cells a side, each the sum of a square of pixels: all add up as before."""
    side = -(-max(maps.shape[1:]) // most)
    if side == 1:
        return maps
    high, wide = (-(-size // side) for size in maps.shape[1:])
    padded = np.zeros((len(maps), high * side, wide * side), maps.dtype)
    padded[:, : maps.shape[1], : maps.shape[2]] = maps
    return padded.reshape(len(maps), high, side, wide, side).sum(axis=(2, 4))


def map_data(values: np.ndarray, end: float) -> str:
    """One map `[h, w]` as the address of a picture: red and green hold 16 bits of value / end, so that red is the map.

    Zero is 32768, red 128: the colour that scales of colours take for their middle.
    """
    steps = np.round(np.clip(values / end, -1, 1) * STEPS).astype(np.int64) + STEPS + 1 if end > 0 else None
    steps = np.full(values.shape, STEPS + 1) if steps is None else steps
    bits = np.stack([steps >> 8, steps & 255, np.zeros_like(steps)], axis=-1).astype(np.uint8)
    return _address(Image.fromarray(bits), "PNG")


def picture_data(image: np.ndarray, most: int) -> str:
    """One input `[H, W]` or `[H, W, C]` in the range 0 to 1 as the address of a picture of at most `most` pixels."""
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    drawn = Image.fromarray(pixels)
    if max(drawn.size) > most:
        drawn.thumbnail((most, most), Image.Resampling.BOX)
    return _address(drawn, "PNG" if max(drawn.size) <= SMALL or drawn.mode == "RGBA" else "JPEG")


def _address(image: Image.Image, form: str) -> str:
    buffer = io.BytesIO()
    more = {"quality": 90} if form == "JPEG" else {"optimize": True}
    image.save(buffer, form, **more)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
