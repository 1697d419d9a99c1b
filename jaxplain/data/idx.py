"""IDX files, the format of MNIST and its family, gzipped or not."""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.data.pixels import check_folder, scaled
from jaxplain.data.splits import Dataset, Splits, hold_out
from jaxplain.program import public

# The third byte of the magic number; everything in the file is big-endian.
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 32
"""What every NumPy can hold."""

PART = 2**20

_NAME = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?")


@public
def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file: two zero bytes, a dtype code, the number of axes, their lengths, the values, all big-endian.

    Args:
        path: The file; whether it is gzipped is seen from its first bytes, not from its name.

    Returns:
        The array in the file's shape and dtype (uint8, int8, int16, int32, float32, float64), in native byte order.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not an IDX file, an unknown dtype code, too few or too many bytes, a corrupt gzip stream.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        >>> read_idx(path)
        array([7, 9], dtype=uint8)

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits, "File formats".
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"read_idx: there is no file at {path}.")
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            return _array(raw, path)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                return _array(stream, path)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"read_idx: {path} is a corrupt or truncated gzip file ({error}).") from error


def _array(stream: Any, path: str | os.PathLike[str]) -> np.ndarray:
    """The array in a stream, of which no more is read than its header announces and one byte."""
    shape, dtype = _header(stream, path)
    size = math.prod(shape) * dtype.itemsize
    content = _read(stream, size + 1)
    if len(content) != size:
        what, follow = ("is truncated", len(content)) if len(content) < size else ("is too long", "more")
        raise ValueError(
            f"read_idx: {path} {what}: its header announces shape {shape} of {dtype.name}, {size} bytes, but "
            f"{follow} follow."
        )
    try:
        return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:  # a length of 0 beside lengths whose product is beyond any memory
        raise ValueError(f"read_idx: {path} announces the shape {shape}, which no array has ({error}).") from error


def _header(stream: Any, path: str | os.PathLike[str]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype that the file announces."""
    magic = _read(stream, 4)
    if len(magic) < 4:
        raise ValueError(f"read_idx: {path} is truncated: it has {len(magic)} bytes, less than a magic number.")
    zeros, code, axes = struct.unpack(">HBB", magic)
    if zeros or code not in DTYPES or not 1 <= axes <= MOST_AXES:
        raise ValueError(
            f"read_idx: {path} starts with the bytes {magic.hex(' ')}, which is no IDX magic number: 00 00, a "
            f"dtype code ({', '.join(f'{known:02x}' for known in DTYPES)}), and the number of axes (1 to {MOST_AXES})."
        )
    lengths = _read(stream, 4 * axes)
    if len(lengths) < 4 * axes:
        raise ValueError(
            f"read_idx: {path} is truncated in its header of {4 + 4 * axes} bytes (it has {4 + len(lengths)})."
        )
    return struct.unpack(f">{axes}I", lengths), np.dtype(DTYPES[code])


def _read(stream: Any, size: int) -> bytes:
    """Up to `size` bytes, in parts: a read of all at once takes the memory that is asked for, not what is there."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(min(size, PART))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@public
def load_idx_folder(
    path: str | os.PathLike[str],
    *,
    test: float | int | None = None,
    validation: float | int = 0,
    scale: bool = True,
    prefix: str | None = None,
) -> Splits:
    """Load a folder of the MNIST family: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the `t10k-` pair.

    A `.gz` at the end of a name and a dot before `idx` are accepted, and `test-` for `t10k-`; where a file is there
    with and without `.gz`, the plain one is read. Images are returned as stored (EMNIST's are stored transposed).

    Args:
        path: The folder.
        test: None where the folder has both parts. For a folder with one part only: the share (float) or number
            (integer) of its examples, the last in the file's order, that become the test set.
        validation: Share or number of the training examples, the last in the file's order (of a single part: of all
            its examples, those before the test set); 0 makes none.
        scale: Images in float32 in [0, 1]; False gives the file's uint8 (`images.astype(float32) / 255` is the same).
        prefix: What stands before `train-`, where the folder holds several sets (such as 'emnist-letters-').

    Returns:
        Splits with images `[N, H, W, 1]` and labels int32 `[N]`.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: A file that is missing, broken, of another shape or dtype, or of another length than its partner;
            one part without `test`, or both with it.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 0]))
        >>> header = bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2])
        >>> _ = (folder / "t10k-images-idx3-ubyte").write_bytes(header + bytes([0, 255, 51, 0, 0, 0]))
        >>> splits = load_idx_folder(folder, test=1)
        >>> splits.train.inputs.shape, splits.train.inputs[0, 0, :, 0].tolist()
        ((2, 1, 2, 1), [0.0, 1.0])
    """
    files = _find(Path(path), prefix)
    parts = {part: _load_part(Path(path), files, part, scale) for part in sorted({part for part, _ in files})}
    if len(parts) == 1:
        (part,) = parts
        if test is None:
            raise ValueError(
                f"load_idx_folder: {path} holds only the {part}- files. Add the others, or pass `test=` (such as "
                "test=0.2) to divide this part in its order."
            )
        return parts[part].split(None, test=test, validation=validation)
    if test is not None:
        raise ValueError(
            f"load_idx_folder: {path} has a test part of its own ({' and '.join(parts)}). Leave `test` out; it divides "
            "a folder that has one part."
        )
    train, validated = hold_out(parts["train"], validation, "load_idx_folder")
    return Splits(train, parts["t10k"], validated)


def _find(folder: Path, prefix: str | None) -> dict[tuple[str, str], Path]:
    """The files of one set: (part, kind) -> path."""
    check_folder(folder, "load_idx_folder")
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for file in sorted(folder.iterdir()):  # a plain name sorts before the same name with .gz, and the first one stays
        match = _NAME.fullmatch(file.name)
        if match and file.is_file():
            part = "t10k" if match["part"] == "test" else match["part"]
            found.setdefault(match["prefix"], {}).setdefault((part, match["kind"]), file)
    if prefix is None and len(found) > 1:
        raise ValueError(f"load_idx_folder: {folder} holds several sets; pass prefix= one of {sorted(found)}.")
    files = next(iter(found.values()), None) if prefix is None else found.get(prefix)
    if not files:
        raise ValueError(
            f"load_idx_folder: {folder} holds no files named like {prefix or ''}train-images-idx3-ubyte or "
            f"{prefix or ''}t10k-images-idx3-ubyte (with or without .gz)."
        )
    return files


def _load_part(folder: Path, files: dict[tuple[str, str], Path], part: str, scale: bool) -> Dataset:
    for kind in ("images", "labels"):
        if (part, kind) not in files:
            raise ValueError(f"load_idx_folder: {folder} holds no {part}-{kind} file beside its partner.")
    image_file, label_file = files[part, "images"], files[part, "labels"]
    images, labels = read_idx(image_file), read_idx(label_file)
    for file, array, axes in ((image_file, images, 3), (label_file, labels, 1)):
        if array.ndim != axes or array.dtype != np.uint8:
            raise ValueError(
                f"load_idx_folder: {file} holds an array of shape {array.shape} and dtype {array.dtype}; {axes} axes "
                "of uint8 were expected. Read it with read_idx."
            )
    if len(images) != len(labels):
        raise ValueError(
            f"load_idx_folder: {image_file} holds {len(images)} images, but {label_file} holds {len(labels)} labels."
        )
    if len(images) == 0:
        raise ValueError(f"load_idx_folder: {image_file} is empty: it holds 0 images.")
    pixels = images[..., None]
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Dataset(scaled(pixels) if scale else pixels, labels.astype(np.int32), class_names=names)
