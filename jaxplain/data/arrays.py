"""Arrays that NumPy saved."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.data.batching import common_length
from jaxplain.data.splits import Dataset
from jaxplain.program import public


@public
def load_npz(path: str | os.PathLike[str], *, inputs: str = "inputs", targets: str | None = "targets") -> Dataset:
    """Load a dataset from an `.npz` file, values as they are stored.

    Args:
        path: The file, as `numpy.savez` or `numpy.savez_compressed` writes it.
        inputs: Name of the array of inputs `[N, ...]` in the file (such as 'x_train').
        targets: Name of the array of targets `[N, ...]`; None loads inputs alone.

    Returns:
        The dataset, with the file's shapes and dtypes in native byte order (nothing is scaled).

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not an `.npz` file or a broken one, a name that is not in it, arrays of Python objects or text, no
            examples, unequal lengths.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "set.npz"
        >>> np.savez(path, x_train=np.zeros((3, 2)), y_train=np.arange(3))
        >>> data = load_npz(path, inputs="x_train", targets="y_train")
        >>> data.inputs.shape, data.targets.tolist()
        ((3, 2), [0, 1, 2])
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"load_npz: there is no file at {path}.")
    with open(path, "rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"load_npz: {path} is not an .npz file, or a broken one ({error}).") from error
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError(f"load_npz: {path} holds a single array without a name; read it with numpy.load.")
        with file:
            data = Dataset(_array(file, inputs, path), None if targets is None else _array(file, targets, path))
    common_length({inputs: data.inputs, targets or "": data.targets}, f"load_npz: {path}")
    return data


def _array(file: Any, name: str, path: Any) -> np.ndarray:
    if name not in file.files:
        raise ValueError(f"load_npz: {path} has no array {name!r}; it has: {', '.join(sorted(file.files)) or 'none'}.")
    try:
        values = file[name]
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"load_npz: the array {name!r} of {path} cannot be read ({error}). It is broken, or holds Python objects, "
            "which are not loaded because that would run code; save plain numbers."
        ) from error
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
        raise ValueError(f"load_npz: the array {name!r} of {path} has dtype {values.dtype}; save plain numbers.")
    if values.ndim == 0:
        raise ValueError(f"load_npz: {name!r} of {path} is a single number; one row for each example was expected.")
    return values.astype(values.dtype.newbyteorder("="), copy=False)
