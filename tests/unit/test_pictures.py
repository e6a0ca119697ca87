"""Pictures as phones, scanners and broken disks make them: read upright as RGB, or one clear error that names the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shelfscan.adapters.pictures import gallery_shapes, picture_shape, read_gallery, read_picture
from shelfscan.errors import BadInput


def scene() -> Image.Image:
    """40 x 20: left half red, right half blue."""
    a = np.zeros((20, 40, 3), np.uint8)
    a[:, :20, 0] = 200
    a[:, 20:, 2] = 200
    return Image.fromarray(a)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_cmyk_is_converted(tmp_path: Path) -> None:
    scene().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    p = read_picture(tmp_path / "a.jpg")
    assert p.shape == (20, 40, 3) and p.dtype == np.uint8
    assert p[10, 5, 0] > 150 > 60 > p[10, 5, 2] and p[10, 35, 2] > 150 > 60 > p[10, 35, 0]


def test_sixteen_bits_keep_their_steps(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    p = read_picture(tmp_path / "a.png")
    assert p.shape == (8, 64, 3) and p[0, 0, 0] == 0 and p[0, -1, 0] == 255 and 120 < p[0, 32, 0] < 136


@pytest.mark.parametrize(("orientation", "top_left"), [(3, 2), (6, 0), (8, 2)])
def test_exif_turns_are_applied(tmp_path: Path, orientation: int, top_left: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene().save(tmp_path / "a.jpg", exif=exif, quality=95)
    p = read_picture(tmp_path / "a.jpg")
    assert p.shape[:2] == ((20, 40) if orientation == 3 else (40, 20))
    assert p[3, 3].argmax() == top_left


def test_broken_exif_is_named(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    scene().save(tmp_path / "a.jpg", exif=exif)
    data = (tmp_path / "a.jpg").read_bytes()
    assert data.count(b"\x01\x0f\x00\x02") == 1
    # The maker's name is said to be of another tag, whose value is a number.
    (tmp_path / "a.jpg").write_bytes(data.replace(b"\x01\x0f\x00\x02", b"\x01\x18\x00\x02"))
    with pytest.raises(BadInput, match=r"a\.jpg: not a readable picture"):
        read_picture(tmp_path / "a.jpg")


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    scene().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (40, 20), (0, 255, 0))])
    assert read_picture(tmp_path / "a.gif")[10, 5].argmax() == 0


@pytest.mark.parametrize("name", ["text.jpg", "empty.jpg", "cut.jpg", "zero.png", "huge.png", "folder.jpg", "gone.jpg"])
def test_what_is_no_picture_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:5000])
    (tmp_path / "zero.png").write_bytes(png_header(0, 0))
    (tmp_path / "huge.png").write_bytes(png_header(20_000, 20_000))
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(BadInput) as e:
        read_picture(tmp_path / name)
    assert len(e.value.problems) == 1 and str(tmp_path / name) in e.value.problems[0]
    if name == "huge.png":
        assert "megapixels" in str(e.value)


def test_a_gallery_says_all_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no pictures"):
        read_gallery(tmp_path)
    (tmp_path / "A").mkdir()
    (tmp_path / "B").mkdir()
    scene().save(tmp_path / "B" / "0.png")
    scene().save(tmp_path / "B.jpg")
    with pytest.raises(BadInput) as e:
        read_gallery(tmp_path)
    assert len(e.value.problems) == 2 and "A: no picture" in str(e.value) and "SKU B is there twice" in str(e.value)


def test_shapes_of_a_gallery_are_those_of_upright_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size, how in (("0.jpg", (100, 200), {}), ("1.jpg", (210, 100), {"exif": exif}), ("2.jpg", (100, 100), {})):
        Image.new("RGB", size).save(tmp_path / name, **how)
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    files = sorted(tmp_path.iterdir())
    found = gallery_shapes({"A": files, "B": files[3:], "C": [files[3], files[1], files[0]]})
    assert found == {"A": 2.0, "C": 2.1}
    for path in files[:3]:
        height, width = read_picture(path).shape[:2]
        assert picture_shape(path) == height / width
