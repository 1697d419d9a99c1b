"""Safetensors files that lie: whatever the format's own library refuses is refused here, with the file's name."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxplain import models
from jaxplain.models.safetensors_header import read_header


def write(path, header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def entry(dtype, shape, *offsets):
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def known(path):
    """Whether the format's library takes a file."""
    try:
        safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError:
        return False
    return True


TABLE = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
LIES = (
    ({"w": entry("F32", [2], -8, 0)}, 8, "two integers from 0"),
    ({"w": entry("F32", [2], 4, -4)}, 8, "two integers from 0"),
    (
        {"w": entry("F32", [2], 0, 8), "v": entry("F32", [2], 4, 12)},
        12,
        "'v' begins at 4, but what comes before it ends",
    ),
    ({"w": entry("F32", [2], 0, 8), "v": entry("F32", [2], 0, 8)}, 8, "'v' begins at 0|'w' begins at 0"),
    ({"w": entry("F32", [1], 0, 4), "v": entry("F32", [1], 8, 12)}, 12, "'v' begins at 8"),
    ({"w": entry("F32", [1], 4, 8)}, 8, "'w' begins at 4, but what comes before it ends at 0"),
    ({"w": entry("F32", [1], 0, 4)}, 8, "its tensors end at"),
    ({"w": entry("F32", [2], 0, 8)}, 4, "is cut short"),
    ({"w": entry("F32", [1], 4, 0)}, 4, "size does not agree"),
    ({"w": entry("F32", [2**32, 2**32], 0, 0)}, 0, "larger than any file"),
    ({"w": entry("F32", [2**40, 2**40, 0], 0, 0)}, 0, "larger than any file"),
    ({"w": entry("F32", [2**62], 0, 0)}, 0, "larger than any file"),
    ({"w": entry("F32", [0, 10**30], 0, 0)}, 0, "a list of integers"),
    ({"w": entry("F32", [-1], 0, 4)}, 4, "a list of integers"),
    ({"w": entry("F32", [1.0], 0, 4)}, 4, "a list of integers"),
    ({"w": entry("F32", [True], 0, 4)}, 4, "a list of integers"),
    ({"w": entry("F32", ["1"], 0, 4)}, 4, "a list of integers"),
    ({"w": entry("F32", 1, 0, 4)}, 4, "a list of integers"),
    ({"w": entry("F32", None, 0, 4)}, 4, "a list of integers"),
    ({"w": entry("F32", [1], 0.0, 4.0)}, 4, "two integers"),
    ({"w": entry("F32", [1], 0)}, 4, "two integers"),
    ({"w": entry("F32", [1], 0, 4, 8)}, 4, "two integers"),
    ({"w": entry("F99", [1], 0, 4)}, 4, "the dtype F99, which is not known"),
    ({"w": entry(["F32"], [1], 0, 4)}, 4, "which is not known"),
    ({"w": entry(None, [1], 0, 4)}, 4, "which is not known"),
    ({"w": {"dtype": "F32", "shape": [1]}}, 4, "needs 'dtype', 'shape' and 'data_offsets'"),
    ({"w": 3}, 4, "needs 'dtype'"),
    ({"w": None}, 4, "needs 'dtype'"),
    ({"__metadata__": {"a": 1}, "w": entry("F32", [1], 0, 4)}, 4, "'__metadata__' is not a table of texts"),
    ({"__metadata__": [1], "w": entry("F32", [1], 0, 4)}, 4, "'__metadata__' is not a table of texts"),
    (b"[]", 0, "it is a list"),
    (b"null", 0, "it is a NoneType"),
    (b"", 0, "it is no JSON"),
    (TABLE + b"x", 4, "it is no JSON"),
    (TABLE.replace(b"w", b"\xff"), 4, "it is no JSON"),
    (TABLE.replace(b'"w"', b'"\\ud800"'), 4, "a name is no text"),
    (TABLE.replace(b"[1]", b"[NaN]"), 4, "it holds NaN"),
    (TABLE.replace(b"[1]", b"[" + b"1" * 5000 + b"]"), 4, "it is no JSON"),
    (TABLE.replace(b'"shape"', b'"dtype":"F16","shape"'), 4, "a name is there twice"),
    (b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0, "RecursionError|needs 'dtype'"),
)


def test_lies_are_refused_by_name(tmp_path):
    for number, (header, size, message) in enumerate(LIES):
        path = write(tmp_path / f"{number}.safetensors", header, bytes(size))
        assert not known(path), header
        with pytest.raises(ValueError, match=f"load_safetensors: .*{number}.safetensors.*({message})"):
            models.load_safetensors(path, {"w": np.zeros(1, np.float32)}, names={"w": "w"})


def test_lengths_of_the_header(tmp_path):
    for data in (b"", b"\1", bytes(7), b"\xff" * 8, b"\xff" * 8 + TABLE, (2**63).to_bytes(8, "little") + TABLE):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ValueError, match="cut short or no safetensors file"):
            read_header(tmp_path / "a")


def test_twice_the_same_name_is_refused_though_the_library_takes_the_last(tmp_path):
    with pytest.raises(ValueError, match="a name is there twice"):
        read_header(write(tmp_path / "a", TABLE[:-1] + b"," + TABLE[1:], bytes(4)))


def test_what_is_true_is_read(tmp_path):
    from safetensors.numpy import save_file

    kinds = (
        "float64",
        "float32",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint64",
        "uint32",
        "uint16",
        "uint8",
        "bool",
    )
    tensors = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in kinds} | {"none": np.zeros((0, 3), np.float32)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "np"})
    header = read_header(tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    for name, tensor in header.items():
        found = np.frombuffer(data[tensor.first : tensor.end], tensor.dtype).reshape(tensor.shape)
        np.testing.assert_array_equal(found, tensors[name])
    assert set(header) == set(tensors)
    assert read_header(write(tmp_path / "b", b" " + TABLE + b"\n \t", bytes(4)))["w"].shape == (1,)


def test_integers_that_do_not_fit_are_refused_and_a_pipe_is_not_waited_for(tmp_path):
    path = write(tmp_path / "a", {"w": entry("I64", [1], 0, 8)}, (2**40).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="w: w holds integers from 1099511627776 to 1099511627776, params have int32"):
        models.load_safetensors(path, {"w": np.zeros(1, np.int32)}, names={"w": "w"})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no safetensors file"):
        read_header(tmp_path / "pipe")


NUMBERS = st.one_of(st.integers(-2, 12), st.sampled_from([2**31, 2**62, 2**64, 1.0, True, None, "1"]))
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "F0", 1]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
    }
)
HONEST = st.lists(
    st.tuples(st.sampled_from(["F32", "U8", "BF16"]), st.lists(st.integers(0, 3), max_size=2)), max_size=3
)


@pytest.mark.parametrize(
    ("dtype", "values", "wanted", "words"),
    [
        ("F32", np.array([1e30, -7e4], "<f4"), jnp.float16, "beyond the numbers of float16"),
        ("F64", np.array([1e300, 1.0], "<f8"), jnp.float32, "beyond the numbers of float32"),
        ("F32", np.array([1e5, 1.0], "<f4"), jnp.float8_e4m3fn, "beyond the numbers of float8_e4m3fn"),
        ("I32", np.array([5, -1], "<i4"), jnp.bool_, "other numbers than 0 and 1"),
    ],
)
def test_values_that_the_params_cannot_hold_are_refused(tmp_path, dtype, values, wanted, words):
    path = write(tmp_path / "t.safetensors", {"w": entry(dtype, [2], 0, values.nbytes)}, values.tobytes())
    with pytest.raises(ValueError, match=f"w: w holds .*{words}"):
        models.load_safetensors(path, {"w": jnp.zeros(2, wanted)}, names={"w": "w"})
    for names in ({"w": ("w", 1, 2)}, {"w": ("w", 1)}, {"w": (["w"], None)}):
        with pytest.raises(TypeError, match=r"`names\['w'\]` has to be a name in the file"):
            models.load_safetensors(path, {"w": jnp.zeros(2)}, names=names)
    with pytest.raises(ValueError, match="is a folder"):
        models.load_safetensors(tmp_path, {"w": jnp.zeros(2)}, names={"w": "w"})
    with pytest.raises(TypeError, match="`params"):
        models.load_safetensors(path, {"w": "text"}, names={"w": "w"})


@st.composite
def files(draw):
    """A true file with a few numbers or bytes of its header changed, or a header of chance."""
    if draw(st.booleans()):
        return json.dumps(draw(st.dictionaries(st.text(max_size=2), ENTRIES, max_size=3))).encode(), draw(
            st.integers(0, 12)
        )
    sizes, header, end = {"F32": 4, "U8": 1, "BF16": 2}, {}, 0
    for name, (dtype, shape) in enumerate(draw(HONEST)):
        size = sizes[dtype] * int(np.prod(shape))
        header[str(name)], end = entry(dtype, shape, end, end + size), end + size
    text = bytearray(json.dumps(header).encode())
    for _ in range(draw(st.integers(0, 2))):
        text[draw(st.integers(0, len(text) - 1))] = draw(st.sampled_from(list(b'0123456789-.,[]{}":eF \xff')))
    return bytes(text), end + draw(st.sampled_from([0, 0, 0, 1, -1])) if end else end


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(files())
@pytest.mark.slow
def test_what_the_library_refuses_is_refused(tmp_path_factory, file):
    path = write(tmp_path_factory.getbasetemp() / "chance.safetensors", file[0], bytes(max(file[1], 0)))
    try:
        read_header(path)
    except ValueError as error:
        taken, message = False, str(error)
    else:
        taken, message = True, ""
    assert not taken or known(path)
    assert taken or str(path) in message
    assert taken or not known(path) or "twice" in message or "nothing else" in message
