"""A folder of images with one subfolder for each class."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.data.pixels import check_folder, checked_size, scaled
from jaxplain.data.splits import Dataset
from jaxplain.program import public

FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pgm": "PPM",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""Ending of a file's name to Pillow's name of the format; no other one is tried (some start other programs)."""

MAX_PIXELS = 80_000_000
"""Just below the number at which Pillow itself begins to warn."""

BILINEAR = 2  # `PIL.Image.Resampling.BILINEAR`; Pillow is imported where a file is read

_PILLOWS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
"""What Pillow raises of damaged headers, pixels and what is written beside them."""

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")


@public
def load_image_folder(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    colour: bool = True,
    scale: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Load images by class: every subfolder is a class, in the order of their names.

    Files are read in the order of their names. Hidden files and files that do not end like an image are passed over.
    A file is read as the format that its name ends with and as no other one. Photographs are turned upright as their
    EXIF orientation says; transparency is dropped.

    Args:
        path: The folder, `path/class/image.png`. Divide the result with `.split`, or call this once for each part.
        size: (height, width) in pixels that every image is resized to (bilinear, antialiased; proportions are not
            kept). None requires images of one size.
        colour: Three channels (red, green, blue); False converts to one of grey.
        scale: Images in float32 in [0, 1]; False gives uint8.
        max_pixels: The most pixels (height times width) of one file: a few kilobytes can hold a picture that fills the
            memory. Pillow's own limit, `PIL.Image.MAX_IMAGE_PIXELS`, holds beside it.

    Returns:
        Images `[N, H, W, 3]` (or 1), labels int32 `[N]`, and the subfolders' names as class names, all in memory.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No subfolders, one without images, an image that is unreadable, of another format than its name
            says, too large or no regular file, images of more than 8 bits a channel, or of different sizes without
            `size`; the message names the file.
        ImportError: Pillow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     Image.new("L", (6, 4), 255).save(folder / name / "1.png")
        >>> data = load_image_folder(folder, colour=False)
        >>> data.inputs.shape, data.targets.tolist(), data.class_names
        ((2, 4, 6, 1), [0, 1], ('cat', 'dog'))
    """
    if size is not None:
        size = checked_size(size, "load_image_folder")
    check.count(max_pixels, "load_image_folder", "max_pixels")
    classes = _classes(Path(path))
    files = [(file, label) for label, members in enumerate(classes.values()) for file in members]
    images = [_read(file, size, colour, max_pixels) for file, _ in files]
    for (file, _), image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"load_image_folder: {file} is {image.shape[0]}x{image.shape[1]} pixels (height x width), but "
                f"{files[0][0]} is {images[0].shape[0]}x{images[0].shape[1]}. Pass size=(height, width) to resize all."
            )
    pixels = np.stack(images)
    labels = np.array([label for _, label in files], np.int32)
    return Dataset(scaled(pixels) if scale else pixels, labels, class_names=tuple(classes))


def _classes(folder: Path) -> dict[str, list[Path]]:
    check_folder(folder, "load_image_folder")
    children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not children:
        raise ValueError(
            f"load_image_folder: {folder} has no subfolders; the images of each class go into a folder of their own."
        )
    classes = {child.name: _images(child) for child in children}
    for child in children:
        if not classes[child.name]:
            raise ValueError(f"load_image_folder: {child} holds no images ({', '.join(FORMATS)}).")
    return classes


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in FORMATS and not f.name.startswith("."))


def _read(file: Path, size: tuple[int, int] | None, colour: bool, max_pixels: int) -> np.ndarray:
    """One image as uint8 `[H, W, C]`."""
    image = _decoded(file, max_pixels, "RGB" if colour else "L")
    if size is not None:
        image = image.resize((size[1], size[0]), resample=BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels if colour else pixels[..., None]


def _decoded(file: Path, max_pixels: int, mode: str) -> Any:
    """The upright image in a file, as Pillow holds it in a mode."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("load_image_folder: images are read by Pillow: `pip install pillow`.") from error
    if not file.is_file():  # a pipe would be waited for, and a device never ends
        raise ValueError(f"load_image_folder: {file} is no regular file; move it out of the folder.")
    kind = FORMATS[file.suffix.lower()]
    try:
        with Image.open(file, formats=[kind]) as opened:
            refused = _refused(file, opened, max_pixels)
            if refused is None:
                return ImageOps.exif_transpose(opened).convert(mode)
    except (*_PILLOWS, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"load_image_folder: {file} cannot be read as an image of the format {kind} ({error}).{_hint(file, kind)}"
        ) from error
    raise ValueError(refused)


def _refused(file: Path, opened: Any, max_pixels: int) -> str | None:
    """Why an image is not decoded, by what its header says."""
    if opened.width * opened.height > max_pixels:
        return (
            f"load_image_folder: {file} is {opened.height}x{opened.width} (height x width), "
            f"{opened.width * opened.height:,} pixels, more than max_pixels={max_pixels:,}. Make it smaller, or pass a "
            "larger `max_pixels` where you trust the file."
        )
    if opened.mode not in _EIGHT_BIT:
        return (
            f"load_image_folder: {file} has pixels of the kind {opened.mode!r}, more than 8 bits a channel, which "
            "conversion would cut off. Convert it to 8 bits first."
        )
    return None


def _hint(file: Path, kind: str) -> str:
    """What else the file holds, where it is another of the known formats."""
    from PIL import Image

    try:
        with Image.open(file, formats=sorted(set(FORMATS.values()) - {kind})) as opened:
            return f" By its content it is {opened.format}: give it the ending of that format."
    except (*_PILLOWS, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return ""
