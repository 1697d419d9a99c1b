"""Readers of files: what was written comes back, and every broken file is named with what is wrong with it."""

import builtins
import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from jaxplain import data

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (7, 3, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 2], np.uint8)


def idx(array):
    """The bytes of an IDX file, written from the format's description."""
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_part(folder, part, images=IMAGES, labels=LABELS, *, pack=bytes, end="", dash="-"):
    (folder / f"{part}-images{dash}idx3-ubyte{end}").write_bytes(pack(idx(images)))
    (folder / f"{part}-labels{dash}idx1-ubyte{end}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_files_come_back_as_written(tmp_path, dtype, shape, pack):
    written = (GENERATOR.normal(size=shape) * 50).astype(dtype)
    path = tmp_path / "anything"  # gzip is told by the content
    path.write_bytes(pack(idx(written)))
    read = data.read_idx(path)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, written)
    read[...] = 0  # writable, no view of the file's bytes


BROKEN = {  # named: a packed file holds the time, and a test's name must be the same in every process
    "empty": (b"", "is truncated: it has 0 bytes"),
    "short header": (idx(IMAGES)[:10], "is truncated in its header of 16 bytes"),
    "short": (
        idx(IMAGES)[:-1],
        r"is truncated: its header announces shape \(7, 3, 5\) of uint8, 105 bytes, but 104 follow",
    ),
    "long": (idx(IMAGES) + b"\0", "is too long: .* but more follow"),
    "png": (b"\x89PNG and more", "starts with the bytes 89 50 4e 47, which is no IDX magic number"),
    "unknown type": (bytes([0, 0, 0x0A, 1, 0, 0, 0, 0]), "starts with the bytes 00 00 0a 01"),
    "no dimensions": (bytes([0, 0, 8, 0]), "starts with the bytes 00 00 08 00, which is no IDX magic number"),
    "short gzip": (gzip.compress(idx(IMAGES))[:40], "is a corrupt or truncated gzip file"),
    "gzip's sum": (gzip.compress(idx(IMAGES))[:-6] + b"\0" * 6, "is a corrupt or truncated gzip file"),
    "gzip's header": (b"\x1f\x8b\x08\x00" + b"\xff" * 30, "is a corrupt or truncated gzip file"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_idx_files_are_named(tmp_path, content, message):
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"read_idx: {path} {message}"):
        data.read_idx(path)


def test_a_missing_idx_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no file at {tmp_path / 'labels'}"):
        data.read_idx(tmp_path / "labels")


@pytest.mark.parametrize(
    ("pack", "end", "dash", "second"),
    [(bytes, "", "-", "t10k"), (gzip.compress, ".gz", "-", "t10k"), (bytes, "", ".", "test")],
)
def test_a_folder_of_the_mnist_family(tmp_path, pack, end, dash, second):
    write_part(tmp_path, "train", pack=pack, end=end, dash=dash)
    write_part(tmp_path, second, IMAGES[:2], LABELS[:2], pack=pack, end=end, dash=dash)
    splits = data.load_idx_folder(tmp_path)
    assert splits.train.inputs.shape == (7, 3, 5, 1)
    assert splits.train.inputs.dtype == np.float32
    np.testing.assert_allclose(splits.train.inputs[..., 0], IMAGES / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(splits.test.targets, LABELS[:2])
    assert splits.test.targets.dtype == np.int32
    assert splits.train.class_names == ("0", "1", "2")
    raw = data.load_idx_folder(str(tmp_path), scale=False, validation=2)
    assert raw.train.inputs.dtype == np.uint8
    np.testing.assert_array_equal(raw.train.inputs[..., 0], IMAGES[:5])
    np.testing.assert_array_equal(raw.validation.inputs[..., 0], IMAGES[5:])
    np.testing.assert_array_equal(raw.train.inputs.astype(np.float32) / 255, splits.train.inputs[:5])


def test_one_part_is_divided_in_its_order_when_asked(tmp_path):
    write_part(tmp_path, "t10k")
    splits = data.load_idx_folder(tmp_path, test=2, validation=1)
    for part, labels in ((splits.train, LABELS[:4]), (splits.validation, LABELS[4:5]), (splits.test, LABELS[5:])):
        np.testing.assert_array_equal(part.targets, labels)
    with pytest.raises(ValueError, match=r"holds only the t10k- files\. .* pass `test=`"):
        data.load_idx_folder(tmp_path)
    write_part(tmp_path, "train")
    with pytest.raises(ValueError, match=r"has a test part of its own \(t10k and train\)"):
        data.load_idx_folder(tmp_path, test=2)
    with pytest.raises(ValueError, match="load_idx_folder: validation=7 leaves nothing of 7"):
        data.load_idx_folder(tmp_path, validation=7)


def test_several_sets_in_a_folder_are_told_apart_by_prefix(tmp_path):
    write_part(tmp_path, "letters-train")
    write_part(tmp_path, "letters-test")
    assert len(data.load_idx_folder(tmp_path).test) == 7  # one set: its prefix needs no saying
    write_part(tmp_path, "train", IMAGES[:3], LABELS[:3])
    with pytest.raises(ValueError, match=r"several sets; pass prefix= one of \['', 'letters-'\]"):
        data.load_idx_folder(tmp_path)
    assert len(data.load_idx_folder(tmp_path, prefix="", test=1).train) == 2
    assert len(data.load_idx_folder(tmp_path, prefix="letters-").train) == 7
    with pytest.raises(ValueError, match="no files named like digits-train-images"):
        data.load_idx_folder(tmp_path, prefix="digits-")


def test_the_plain_file_is_read_where_both_are_there(tmp_path):
    write_part(tmp_path, "t10k")
    write_part(tmp_path, "t10k", pack=lambda content: b"broken", end=".gz")
    assert len(data.load_idx_folder(tmp_path, test=1).train) == 6


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:6], "holds 7 images, but .*labels-idx1-ubyte holds 6 labels"),
        (IMAGES[0], LABELS, r"images-idx3-ubyte holds an array of shape \(3, 5\) and dtype uint8; 3 axes of uint8"),
        (IMAGES, LABELS.astype(np.int32), "labels-idx1-ubyte holds .* dtype int32; 1 axes of uint8"),
        (IMAGES[:0], LABELS[:0], "is empty: it holds 0 images"),
    ],
)
def test_files_that_do_not_belong_together_are_named(tmp_path, images, labels, message):
    write_part(tmp_path, "t10k", images, labels)
    with pytest.raises(ValueError, match=message):
        data.load_idx_folder(tmp_path, test=1)


def test_missing_partners_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere is not there"):
        data.load_idx_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no files named like train-images-idx3-ubyte"):
        data.load_idx_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    with pytest.raises(ValueError, match="holds no train-labels file"):
        data.load_idx_folder(tmp_path, test=1)
    with pytest.raises(FileNotFoundError, match="a file, not a folder"):
        data.load_idx_folder(tmp_path / "train-images-idx3-ubyte")


def cifar(labels):
    """Records and their images: planes of red, green and blue, row by row."""
    planes = GENERATOR.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    content = b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, planes, strict=True))
    return content, np.moveaxis(planes, 1, -1)


def test_a_cifar_folder(tmp_path):
    written = {}
    for i, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        content, written[name] = cifar([i, 9])
        (tmp_path / name).write_bytes(content)
    splits = data.load_cifar10(tmp_path, validation=3)
    assert [len(part) for part in splits[:3]] == [7, 2, 3]
    assert splits.train.targets.tolist() == [0, 9, 1, 9, 2, 9, 3]
    np.testing.assert_array_equal(splits.train.inputs[2:4], written["data_batch_2.bin"].astype(np.float32) / 255)
    assert splits.test.class_names[9] == "truck"
    raw = data.load_cifar10(tmp_path, scale=False)
    assert raw.validation is None
    np.testing.assert_array_equal(raw.test.inputs, written["test_batch.bin"])
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(ValueError, match=r"lacks data_batch_4.bin\."):
        data.load_cifar10(tmp_path)


def test_broken_cifar_batches_are_named(tmp_path):
    content, _ = cifar([1, 12])
    path = tmp_path / "test_batch.bin"
    for broken, message in (
        (content, "has the label 12 in record 1"),
        (content[:-1], "has 6145 bytes, which is no whole number of records"),
        (b"", "has 0 bytes"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"read_cifar10: {path} {message}"):
            data.read_cifar10(path)
    with pytest.raises(FileNotFoundError, match="no file at"):
        data.read_cifar10(tmp_path / "other.bin")


@pytest.fixture
def folder(tmp_path):
    """Two classes of 4x6 pixels, one file in capitals, and files to pass over."""
    pixels = GENERATOR.integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    for name, image in zip(("cat/1.png", "cat/2.PNG", "dog/1.bmp"), pixels, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "dog" / "._1.png").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path, pixels


def test_a_folder_of_images_by_class(folder):
    path, pixels = folder
    read = data.load_image_folder(path)
    np.testing.assert_allclose(read.inputs, pixels / 255.0, rtol=1e-6)
    assert read.inputs.dtype == np.float32
    assert (read.targets.tolist(), read.targets.dtype, read.class_names) == ([0, 0, 1], np.int32, ("cat", "dog"))
    np.testing.assert_array_equal(data.load_image_folder(path, scale=False).inputs, pixels)
    grey = data.load_image_folder(path, colour=False, scale=False).inputs
    assert grey.shape == (3, 4, 6, 1)
    np.testing.assert_allclose(grey[..., 0], pixels @ np.array([0.299, 0.587, 0.114]), atol=1)


def test_images_of_different_size_need_a_size(folder):
    path, pixels = folder
    Image.new("RGB", (12, 8), (255, 0, 0)).save(path / "dog" / "2.png")
    with pytest.raises(ValueError, match=r"dog/2\.png is 8x12 pixels .*cat/1\.png is 4x6\. Pass size="):
        data.load_image_folder(path)
    read = data.load_image_folder(path, size=(4, 6), scale=False)
    np.testing.assert_array_equal(read.inputs[:3], pixels)
    np.testing.assert_array_equal(read.inputs[3], np.broadcast_to(np.array([255, 0, 0], np.uint8), (4, 6, 3)))
    for size, error in (((4, 0), ValueError), (4, TypeError), ((4, 6, 3), TypeError), ((4.0, 6.0), TypeError)):
        with pytest.raises(error, match="load_image_folder: `size`"):
            data.load_image_folder(path, size=size)


def test_a_photograph_is_turned_upright(folder):
    path, _ = folder
    stored = Image.new("RGB", (4, 6), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    stored.save(path / "cat" / "3.png", exif=exif)
    assert data.load_image_folder(path).inputs.shape == (4, 4, 6, 3)


def test_broken_images_and_folders_are_named(folder, tmp_path_factory):
    path, _ = folder
    whole = (path / "cat" / "1.png").read_bytes()
    for content in (whole[:60], b"no image"):
        (path / "dog" / "2.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"dog/2\.png cannot be read as an image"):
            data.load_image_folder(path)
    Image.fromarray(np.full((4, 6), 40000, np.uint16)).save(path / "dog" / "2.png")
    with pytest.raises(ValueError, match=r"dog/2\.png has pixels of the kind 'I;16', more than 8 bits"):
        data.load_image_folder(path)
    (path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        data.load_image_folder(path)
    with pytest.raises(ValueError, match="cat has no subfolders"):
        data.load_image_folder(path / "cat")
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        data.load_image_folder(path / "nowhere")


def test_a_missing_pillow_is_said_with_the_remedy(folder, monkeypatch):
    original = builtins.__import__

    def without_pillow(name, *args, **kwargs):
        if name.startswith("PIL"):
            raise ImportError("no Pillow here")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(ImportError, match="pip install pillow"):
        data.load_image_folder(folder[0])


def test_npz_files_come_back_as_written(tmp_path):
    path, x = tmp_path / "set.npz", GENERATOR.normal(size=(4, 2))
    np.savez_compressed(path, inputs=x.astype(">f4"), targets=np.arange(4), x_train=x)
    read = data.load_npz(path)
    assert read.inputs.dtype == np.float32
    assert read.inputs.dtype.isnative
    np.testing.assert_array_equal(read.inputs, x.astype(np.float32))
    np.testing.assert_array_equal(read.targets, np.arange(4))
    unlabelled = data.load_npz(path, inputs="x_train", targets=None)
    np.testing.assert_array_equal(unlabelled.inputs, x)
    assert unlabelled.targets is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3), "y": np.zeros(3)}, "has no array 'inputs'; it has: x, y"),
        ({"inputs": np.zeros(3)}, "has no array 'targets'; it has: inputs"),
        ({}, "it has: none"),
        ({"inputs": np.array([{}, []], dtype=object), "targets": np.zeros(2)}, "'inputs' of .* Python objects"),
        ({"inputs": np.array(["a", "b"]), "targets": np.zeros(2)}, "'inputs' of .* has dtype <U1"),
        ({"inputs": np.zeros((3, 2)), "targets": np.zeros(2)}, r"lengths are \{'inputs': 3, 'targets': 2\}"),
        ({"inputs": np.zeros((0, 2)), "targets": np.zeros(0)}, "is empty"),
        ({"inputs": np.float32(3), "targets": np.zeros(2)}, "'inputs' of .* is a single number"),
    ],
)
def test_npz_files_without_what_is_needed_are_named(tmp_path, arrays, message):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as raised:
        data.load_npz(path)
    assert str(path) in str(raised.value)


def test_broken_npz_files_are_named(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, inputs=np.arange(1000.0), targets=np.zeros(1000))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[500] ^= 0xFF
    for content, message in (
        (whole[:3000], "is not an .npz file, or a broken one"),
        (b"text", "is not an .npz file"),
        (b"", "is not an .npz file"),
        (bytes(flipped), "the array 'inputs' of .* cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            data.load_npz(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(ValueError, match="holds a single array"):
        data.load_npz(tmp_path / "single.npy")
    with pytest.raises(FileNotFoundError, match="no file at"):
        data.load_npz(tmp_path / "nowhere.npz")
