"""Read weights that PyTorch saved, without PyTorch: `torch.save`'s zip archive and the older stream before it.

Both hold a pickle in which the numbers of a tensor are named and not written, and the numbers beside it. The pickle is
read by an unpickler that knows dictionaries, tensors and the words for their dtypes, and refuses everything else, so
that a file from a stranger runs no code.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxplain.program import as_path, public
from jaxplain.types import Pytree

NAME = "load_torch"
MAGIC = 0x1950A86A20F9469CFC6C
"""The number with which the older format begins."""

STORAGES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "UntypedStorage": np.uint8,
}
DTYPES: dict[str, Any] = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")},
    **{name: np.dtype(name) for name in ("uint16", "uint32", "uint64", "complex64", "complex128")},
    **{name: getattr(ml_dtypes, name) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")},
    "bool": np.bool_,
}


class _Storage(NamedTuple):
    """Numbers that a pickle names: the key under which they are written, their dtype, and how many they are."""

    key: str
    dtype: Any
    total: int


class _Tensor:
    """A tensor as the pickle tells it: a view of a storage. Nothing can be set on it, whatever the pickle says."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def __setstate__(self, state: Any) -> None:
        raise _unreadable("a tensor with a state of its own")


@public
def load_torch(path: str | Path) -> Pytree:
    """Read what `torch.save` wrote: a state dict, or any nesting of dictionaries, lists and tensors.

    Both formats are read: the zip archive (PyTorch 1.6 and later) and the older stream. Keys, shapes and axes stay as
    they are in the file; PyTorch's are `[out, in, height, width]` of a convolution and `[out, in]` of a linear layer,
    where Flax has `[height, width, in, out]` and `[in, out]`.

    Args:
        path: A file, such as `model.pth`.

    Returns:
        What was saved, with a NumPy array for each tensor (in its own dtype; bfloat16 and float8 from `ml_dtypes`) and
        a `dict` for each dictionary. Tensors that share numbers are copies here. Cost: the file is read once; memory
        twice its size.

    Raises:
        ValueError: A file of another format, truncated, or with a tensor that reaches beyond its numbers; one that
            holds anything but tensors, containers, numbers and texts (a whole model, an optimizer of a class of its
            own), which is named: save `model.state_dict()` instead. No code of the file is run.
        FileNotFoundError: There is no such file.

    Example:
        >>> state = load_torch("model.pth")  # doctest: +SKIP
        >>> kernel = state["conv.weight"].transpose(2, 3, 1, 0)  # doctest: +SKIP
    """
    file = as_path(path, NAME, "path")
    if not file.is_file():
        raise FileNotFoundError(f"{NAME}: there is no file at {file}.")
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return _arrays(*_from_zip(archive))
    with file.open("rb") as stream:
        return _arrays(*_from_stream(stream, file.stat().st_size))


def _from_zip(archive: zipfile.ZipFile) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    """The pickle of an archive, and how the numbers of a storage are read."""
    names = archive.namelist()
    pickled = next((name for name in names if name.rpartition("/")[2] == "data.pkl"), None)
    if pickled is None:
        raise ValueError(f"{NAME}: {archive.filename} is a zip archive without `data.pkl`, which torch.save writes.")
    folder = pickled.rpartition("/")[0]
    order = archive.read(f"{folder}/byteorder") if f"{folder}/byteorder" in names else b"little"

    def numbers(storage: _Storage) -> np.ndarray:
        name = f"{folder}/data/{storage.key}"
        size = archive.getinfo(name).file_size if name in names else 0
        _enough(storage, size)
        return _ordered(np.frombuffer(archive.read(name), np.uint8), storage, order == b"little")

    return _Unpickler(io.BytesIO(archive.read(pickled))).load_all(), numbers


def _from_stream(stream: Any, size: int) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    """The pickles of the older format: a magic number, a protocol, the system, the value, keys; then raw numbers."""
    try:
        magic = _Unpickler(stream).load_all()
    except ValueError:
        magic = None
    if magic != MAGIC:
        raise ValueError(f"{NAME}: {stream.name} is no file of torch.save: no zip archive, and without a magic number.")
    _Unpickler(stream).load_all()  # the protocol
    system = _Unpickler(stream).load_all()
    unpickler = _Unpickler(stream)
    value, keys = unpickler.load_all(), _Unpickler(stream).load_all()
    little = not isinstance(system, Mapping) or bool(system.get("little_endian", True))
    found: dict[str, np.ndarray] = {}
    for key in keys:
        storage = unpickler.storages.get(str(key))
        if storage is None:
            raise ValueError(f"{NAME}: {stream.name} lists numbers {key!r} that no tensor names.")
        stream.seek(8, io.SEEK_CUR)  # how many they are, which the pickle says as well
        _enough(storage, size - stream.tell())
        found[storage.key] = np.frombuffer(stream.read(_bytes(storage)), np.uint8)

    def numbers(storage: _Storage) -> np.ndarray:
        _enough(storage, len(found.get(storage.key, b"")))
        return _ordered(found[storage.key], storage, little)

    return value, numbers


_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
)
"""What reading a pickle raises of which bytes are missing or changed."""


class _Unpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, texts and tensors; every other name in the pickle is refused."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def load_all(self) -> Any:
        """One value; whatever a broken pickle raises is said as one error."""
        try:
            return self.load()
        except _BROKEN as error:
            raise ValueError(f"{NAME}: the file is truncated or no pickle of tensors ({error}).") from error

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in _REBUILT:
            return _REBUILT[name]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return np.dtype(STORAGES[name])
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        if (module, name) == ("torch", "Size"):
            return tuple
        raise _unreadable(f"`{module}.{name}`")

    def persistent_load(self, identity: Any) -> _Storage:
        """Numbers that are written beside the pickle."""
        known = isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage"
        if not known or not isinstance(identity[1], np.dtype):
            raise _unreadable(f"a reference {identity!r}")
        _, dtype, key, _, count, *view = identity
        if view and view[0] is not None:
            raise _unreadable("a storage that is a view of another (PyTorch before 0.4)")
        storage = _Storage(str(key), dtype, _whole(count))
        return self.storages.setdefault(storage.key, storage)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise _unreadable("a tensor without numbers")
    sizes, steps = tuple(map(_whole, shape)), tuple(map(_whole, strides))
    last = _whole(offset) + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if 0 not in sizes and last >= storage.total:
        raise ValueError(
            f"{NAME}: the file is broken: a tensor of shape {sizes} reaches to number {last} of {storage.total}."
        )
    return _Tensor(storage, _whole(offset), sizes, steps)


def _typed(storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any) -> _Tensor:
    """A tensor whose dtype stands beside a storage of bytes."""
    if not isinstance(storage, _Storage) or not isinstance(dtype, np.dtype):
        raise _unreadable("a tensor without numbers or dtype")
    return _tensor(storage._replace(dtype=dtype, total=storage.total // dtype.itemsize), offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


_REBUILT: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _typed,
    "_rebuild_parameter": _parameter,
}


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _unreadable(f"{value!r} where a size belongs")
    return value


def _unreadable(what: str) -> ValueError:
    return ValueError(
        f"{NAME}: the file holds {what}; only tensors, dictionaries, lists, numbers and texts are read, since anything "
        "else could run code. Save the weights alone: torch.save(model.state_dict(), path)."
    )


def _bytes(storage: _Storage) -> int:
    return storage.total * storage.dtype.itemsize


def _enough(storage: _Storage, size: int) -> None:
    if size < _bytes(storage):
        raise ValueError(
            f"{NAME}: the file is truncated: storage {storage.key} has {storage.total} numbers of {storage.dtype}, but "
            f"{size} bytes."
        )


def _ordered(raw: np.ndarray, storage: _Storage, little: bool) -> np.ndarray:
    """The bytes of a storage in this machine's order."""
    if little or storage.dtype.itemsize == 1:
        return raw
    width = storage.dtype.itemsize // (2 if storage.dtype.kind == "c" else 1)
    return raw.reshape(-1, width)[:, ::-1].reshape(-1)


def _arrays(value: Any, numbers: Callable[[_Storage], np.ndarray]) -> Any:
    """A value with an array for each tensor, and plain dictionaries."""
    kept: dict[str, np.ndarray] = {}

    def array(tensor: _Tensor) -> np.ndarray:
        storage = tensor.storage
        if storage.key not in kept:
            kept[storage.key] = numbers(storage)
        flat = kept[storage.key][: _bytes(storage)].view(storage.dtype)[tensor.offset :]
        steps = [step * storage.dtype.itemsize for step in tensor.strides]
        return np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False).copy()

    def walk(part: Any) -> Any:
        if isinstance(part, _Tensor):
            return array(part)
        if isinstance(part, dict):
            return {key: walk(inner) for key, inner in part.items()}
        return type(part)(map(walk, part)) if type(part) in (list, tuple) else part

    return walk(value)
