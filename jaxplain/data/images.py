"""A folder of images with one subfolder for each class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from jaxplain.data.pixels import check_folder, checked_size, scaled
from jaxplain.data.splits import Dataset
from jaxplain.program import public

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")


@public
def load_image_folder(
    path: str | os.PathLike[str], *, size: tuple[int, int] | None = None, color: bool = True, scale: bool = True
) -> Dataset:
    """Load images by class: every subfolder is a class, in the order of their names.

    Files are read in the order of their names. Hidden files and files that do not end like an image are passed over.
    Photographs are turned upright as their EXIF orientation says; transparency is dropped.

    Args:
        path: The folder, `path/class/image.png`. Divide the result with `.split`, or call this once for each part.
        size: (height, width) in pixels that every image is resized to (bilinear, antialiased; proportions are not
            kept). None requires images of one size.
        color: Three channels (red, green, blue); False converts to one of grey.
        scale: Images in float32 in [0, 1]; False gives uint8.

    Returns:
        Images `[N, H, W, 3]` (or 1), labels int32 `[N]`, and the subfolders' names as class names, all in memory.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No subfolders, one without images, an unreadable image, images of more than 8 bits a channel, or
            of different sizes without `size`; the message names the file.
        ImportError: Pillow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     Image.new("L", (6, 4), 255).save(folder / name / "1.png")
        >>> data = load_image_folder(folder, color=False)
        >>> data.inputs.shape, data.targets.tolist(), data.class_names
        ((2, 4, 6, 1), [0, 1], ('cat', 'dog'))
    """
    if size is not None:
        size = checked_size(size, "load_image_folder")
    classes = _classes(Path(path))
    files = [(file, label) for label, members in enumerate(classes.values()) for file in members]
    images = [_read(file, size, color) for file, _ in files]
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
            raise ValueError(f"load_image_folder: {child} holds no images ({', '.join(SUFFIXES)}).")
    return classes


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))


def _read(file: Path, size: tuple[int, int] | None, color: bool) -> np.ndarray:
    """One image as uint8 `[H, W, C]`."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("load_image_folder: images are read by Pillow: `pip install pillow`.") from error
    try:
        with Image.open(file) as opened:
            mode, image = opened.mode, ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow raises each of them
        raise ValueError(f"load_image_folder: {file} cannot be read as an image ({error}).") from error
    if mode not in _EIGHT_BIT:
        raise ValueError(
            f"load_image_folder: {file} has pixels of the kind {mode!r}, more than 8 bits a channel, which conversion "
            "would cut off. Convert it to 8 bits first."
        )
    image = image.convert("RGB" if color else "L")
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels if color else pixels[..., None]
