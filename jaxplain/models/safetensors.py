"""Reading Hugging Face safetensors files into the params of a Flax model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.models.safetensors_header import Tensor, read_header
from jaxplain.program import as_path, leaves_by_path, public
from jaxplain.types import Pytree

_TORCH_KERNELS = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}

Source = str | tuple[str, Callable[[np.ndarray], Any]]


@public
def load_safetensors(
    path: str | os.PathLike[str],
    params: Pytree,
    *,
    names: Mapping[str, Source],
    layout: Literal["flax", "torch"] = "flax",
) -> Pytree:
    """Fill params with the tensors of a safetensors file, by a map of names.

    Values are cast to the dtype of `params`; shapes have to agree after the layout has been changed.

    Args:
        path: The file; `~` is the home folder.
        params: A pytree of arrays or `jax.ShapeDtypeStruct`: the structure to fill, Linen's variables for example.
        names: For every leaf, named by its path ("params/head/kernel"), the tensor's name in the file
            ("classifier.weight"), or a pair of it and a function of the NumPy array that makes the leaf.
        layout: "torch" turns leaves named `kernel` around: a Linear's [out, in] to [in, out], a 2-D convolution's
            OIHW to HWIO (a 1-D one's OIW to WIO). A function in `names` does it alone.

    Returns:
        A pytree of the structure of `params`. Tensors of the file that no name asks for are left alone.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file that is cut short or no safetensors file (its header is checked as strictly as by the
            format's library), leaves without a name, names of no leaf or no tensor, shapes that differ: all named;
            before any compute.

    Example:
        >>> import tempfile, json, numpy as np
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     header = json.dumps({"w": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}).encode()
        ...     data = np.array([1.0, 2.0], "<f4").tobytes()
        ...     _ = file.write(len(header).to_bytes(8, "little") + header + data); file.flush()
        ...     load_safetensors(file.name, {"kernel": np.zeros((2, 1))}, names={"kernel": "w"}, layout="torch")
        {'kernel': Array([[1.],
               [2.]], dtype=float32)}

    The format is described in the documentation of Hugging Face safetensors: eight bytes of the header's length, a
    JSON header, the tensors' bytes.
    """
    check.choice(layout, ("flax", "torch"), "load_safetensors", "layout")
    file = as_path(path, "load_safetensors", "path")
    if file.is_dir():
        raise ValueError(f"load_safetensors: {file} is a folder; pass one of its files.")
    check.arrays(params, "load_safetensors", "params")
    header = read_header(file)
    leaves = leaves_by_path(params)
    for key, source in names.items():
        named = isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], str) and callable(source[1])
        if not (isinstance(source, str) or named):
            raise TypeError(
                f"load_safetensors: `names[{key!r}]` has to be a name in the file, or (name, function), not "
                f"{check.short(source)}."
            )
    sources = {key: value if isinstance(value, tuple) else (value, None) for key, value in names.items()}
    problems = [f"{key}: no entry in `names`" for key in leaves if key not in sources]
    problems += [f"{key}: in `names`, but not in params" for key in sources if key not in leaves]
    problems += [f"{name}: not in the file" for name, _ in sources.values() if name not in header]
    _raise(path, problems)
    filled = {}
    for key, leaf in leaves.items():
        name, change = sources[key]
        value = np.asarray((change or _turn(key, layout))(_read(file, header[name])))
        filled[key] = value
        problems += _difference(key, name, value, leaf)
    _raise(path, problems)
    arrays = [jnp.asarray(filled[key], dtype=jnp.result_type(leaf)) for key, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(params), arrays)


def _raise(path: Any, problems: list[str]) -> None:
    if problems:
        raise ValueError(f"load_safetensors: {path} does not fill the params:\n  " + "\n  ".join(problems))


def _difference(key: str, name: str, value: np.ndarray, leaf: Any) -> list[str]:
    shape, dtype = tuple(jnp.shape(leaf)), jnp.result_type(leaf)
    if value.shape != shape:
        hint = ' (`layout="torch"` may be missing)' if value.shape[::-1] == shape else ""
        return [f"{key}: {name} gives {list(value.shape)}, params have {list(shape)}{hint}"]
    if any(jnp.issubdtype(value.dtype, k) != jnp.issubdtype(dtype, k) for k in (jnp.floating, jnp.complexfloating)):
        return [f"{key}: {name} gives {value.dtype}, params have {dtype}"]
    if not value.size or value.dtype == dtype:
        return []
    if jnp.issubdtype(dtype, jnp.bool_):
        wrong = not np.isin(value, (0, 1)).all()
        return [f"{key}: {name} holds other numbers than 0 and 1, params have bool"] if wrong else []
    if jnp.issubdtype(dtype, jnp.integer):
        limits = jnp.iinfo(dtype)
        if int(value.min()) < limits.min or int(value.max()) > limits.max:
            return [f"{key}: {name} holds integers from {value.min()} to {value.max()}, params have {dtype}"]
        return []
    with np.errstate(over="ignore"):
        lost = np.isfinite(value) & ~np.isfinite(value.astype(dtype))
    return [f"{key}: {name} holds {value[lost][0]}, which is beyond the numbers of {dtype}"] if lost.any() else []


def _turn(key: str, layout: str) -> Callable[[np.ndarray], np.ndarray]:
    if layout == "flax" or key.rsplit("/", 1)[-1] != "kernel":
        return lambda value: value
    return lambda value: value.transpose(_TORCH_KERNELS.get(value.ndim, tuple(range(value.ndim))))


def _read(path: Path, tensor: Tensor) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(tensor.first)
        return np.frombuffer(file.read(tensor.end - tensor.first), dtype=tensor.dtype).reshape(tensor.shape)
