"""Files that lie about what they are: no other program runs, nothing hangs, no more is read than was announced."""

import contextlib
import gzip
import io
import os
import subprocess
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxplain import data
from jaxplain.data.images import FORMATS

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 6\n%%EndComments\nshowpage\n%%EOF\n"


@contextlib.contextmanager
def little_memory():
    """Assert that the block's arrays and bytes stay below 4 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / "cat" / "1.png")
    return tmp_path


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_no_interpreter_is_started_for_a_file_of_another_kind(folder, monkeypatch, suffix):
    started = []
    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, lambda *arguments, **_: started.append(arguments))
    (folder / "cat" / f"0{suffix}").write_bytes(POSTSCRIPT)
    with pytest.raises(ValueError, match=rf"0\{suffix} cannot be read as an image of the format {FORMATS[suffix]}"):
        data.load_image_folder(folder)
    assert started == []


def test_every_promised_format_is_read_under_its_own_ending_only(folder):
    picture = Image.fromarray(np.full((4, 6, 3), 128, np.uint8))
    (folder / "cat" / "1.png").unlink()
    tried = 0
    for suffix, known in FORMATS.items():
        for other in sorted(set(FORMATS.values())):
            file = folder / "cat" / f"0{suffix}"
            picture.save(file, format=other)
            if other == known:
                np.testing.assert_allclose(data.load_image_folder(folder, scale=False).inputs, 128, atol=3)
            else:
                with pytest.raises(ValueError, match=rf"0\{suffix} .*format {known}.*it is {other}: give it"):
                    data.load_image_folder(folder)
            file.unlink()
            tried += 1
    assert tried == len(FORMATS) * 7


def test_only_regular_files_are_opened(folder):
    os.mkfifo(folder / "cat" / "0.png")  # reading it would wait for a writer for ever
    with pytest.raises(ValueError, match=r"0\.png is no regular file"):
        data.load_image_folder(folder)
    (folder / "cat" / "0.png").unlink()
    for target in ("/dev/zero", folder / "nowhere.png", folder):
        (folder / "cat" / "0.png").symlink_to(target)
        with pytest.raises(ValueError, match=r"0\.png is no regular file"):
            data.load_image_folder(folder)
        (folder / "cat" / "0.png").unlink()
    (folder / "cat" / "0.png").symlink_to(folder / "cat" / "1.png")
    assert len(data.load_image_folder(folder)) == 2


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(folder):
    Image.new("1", (8500, 10000)).save(folder / "cat" / "0.png")  # 85 million pixels in 11 kB
    with (
        little_memory(),
        pytest.raises(ValueError, match=r"0\.png is 10000x8500 .* 85,000,000 pixels, more than max_pixels=80,000,000"),
    ):
        data.load_image_folder(folder)
    (folder / "cat" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"1\.png is 4x6 .* 24 pixels, more than max_pixels=23"):
        data.load_image_folder(folder, max_pixels=23)
    assert data.load_image_folder(folder, max_pixels=24).inputs.shape == (1, 4, 6, 3)
    for wrong, error in ((0, ValueError), (2.5, TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(error, match="`max_pixels`"):
            data.load_image_folder(folder, max_pixels=wrong)


def header(*shape):
    return bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_is_read_as_far_as_its_header_says(tmp_path, pack):
    path = tmp_path / "labels"
    bomb = header(3) + bytes(2**26)  # as gzip 65 kB
    path.write_bytes(pack(bomb))
    del bomb
    with (
        little_memory(),
        pytest.raises(ValueError, match=r"labels is too long: .* shape \(3,\) of uint8, 3 bytes, but more follow"),
    ):
        data.read_idx(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "shape",
    [(2**32 - 1,), (2**32 - 1,) * 2, (2**32 - 1,) * 3, (2**32 - 1,) * 255, (1,) * 65, (0, *[2**32 - 1] * 3), (0,) * 65],
)
def test_an_idx_header_that_announces_the_impossible(tmp_path, pack, shape):
    path = tmp_path / "labels"
    path.write_bytes(pack(header(*shape) + b"\1"))
    with little_memory(), pytest.raises(ValueError, match=f"read_idx: {path} "):
        data.read_idx(path)


@pytest.mark.parametrize("shape", [(2**50,), (2**62, 2**62), (2**70,), (-1,)])
def test_an_npz_header_that_announces_the_impossible(tmp_path, shape):
    path = tmp_path / "set.npz"
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("inputs.npy", content.getvalue() + bytes(8))
    with pytest.raises(ValueError, match=f"the array 'inputs' of {path} cannot be read"):
        data.load_npz(path, targets=None)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says of parts that it skips
def test_whatever_pillow_raises_names_the_file(folder, tmp_path):
    """Headers of text that hold no numbers, and a JPEG of which what is written beside the pixels is cut."""
    (folder / "cat" / "x.ppm").write_bytes(b"P6 4 x 255\n" + bytes(48))
    with pytest.raises(ValueError, match=r"x\.ppm cannot be read as an image of the format PPM"):
        data.load_image_folder(folder)
    (folder / "cat" / "x.ppm").unlink()
    seen, generator = set(), np.random.default_rng(0)
    for suffix in (".jpg", ".png", ".gif", ".bmp", ".tif", ".ppm", ".webp"):
        file = folder / "cat" / f"y{suffix}"
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file)
        whole = file.read_bytes()
        for _ in range(60):
            broken = bytearray(whole)
            for place in generator.integers(0, len(whole), 3):
                broken[place] = generator.integers(256)
            file.write_bytes(broken)
            try:
                data.load_image_folder(folder)
            except ValueError as error:
                assert file.name in str(error)  # noqa: PT017
                seen.add(suffix)
        file.unlink()
    assert len(seen) > 4
