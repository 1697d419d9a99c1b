"""CIFAR-10 in its binary version: records of one label byte and 3,072 pixel bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from jaxplain.data.pixels import check_folder, scaled
from jaxplain.data.splits import Dataset, Splits, hold_out
from jaxplain.program import public

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAIN, _TEST = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"
_RECORD = 1 + 3 * 32 * 32


@public
def read_cifar10(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read one binary batch: records of a label byte, then 1,024 red, green and blue bytes each, row by row.

    Args:
        path: The file, such as `data_batch_1.bin`.

    Returns:
        Images `[N, 32, 32, 3]` uint8 and labels `[N]` int32.

    Raises:
        FileNotFoundError: No such file.
        ValueError: An empty file, one that is no whole number of records, labels above 9.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "data_batch_1.bin"
        >>> _ = path.write_bytes(bytes([6]) + bytes([255] * 1024) + bytes(2048))
        >>> images, labels = read_cifar10(path)
        >>> images.shape, images[0, 0, 0].tolist(), labels.tolist()
        ((1, 32, 32, 3), [255, 0, 0], [6])

    Source: Krizhevsky, The CIFAR-10 dataset, "Binary version".
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"read_cifar10: there is no file at {path}.")
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % _RECORD:
        raise ValueError(
            f"read_cifar10: {path} has {content.size} bytes, which is no whole number of records of {_RECORD} bytes; "
            "it is truncated, empty, or not the binary version."
        )
    records = content.reshape(-1, _RECORD)
    labels = records[:, 0].astype(np.int32)
    if labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise ValueError(f"read_cifar10: {path} has the label {labels[row]} in record {row}; labels run from 0 to 9.")
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


@public
def load_cifar10(path: str | os.PathLike[str], *, validation: float | int = 0, scale: bool = True) -> Splits:
    """Load the folder of CIFAR-10's binary version: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.

    Args:
        path: The folder (`cifar-10-batches-bin`).
        validation: Share (float) or number (integer) of the training examples, the last ones; 0 makes none.
        scale: Images in float32 in [0, 1]; False gives the file's uint8.

    Returns:
        Splits with images `[N, 32, 32, 3]`, labels int32 `[N]` and class names.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: A file that is missing or broken.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        ...     _ = (folder / f"{name}.bin").write_bytes(bytes(3073))
        >>> train, test, *_ = load_cifar10(folder)
        >>> train.inputs.shape, test.inputs.shape, train.class_names[0]
        ((5, 32, 32, 3), (1, 32, 32, 3), 'airplane')
    """
    folder = Path(path)
    check_folder(folder, "load_cifar10")
    missing = [name for name in (*_TRAIN, _TEST) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"load_cifar10: {folder} lacks {', '.join(missing)}.")
    train, test = _joined(folder, _TRAIN, scale), _joined(folder, (_TEST,), scale)
    train, validated = hold_out(train, validation, "load_cifar10")
    return Splits(train, test, validated)


def _joined(folder: Path, names: tuple[str, ...], scale: bool) -> Dataset:
    parts = [read_cifar10(folder / name) for name in names]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Dataset(scaled(images) if scale else images, labels, class_names=CLASSES)
