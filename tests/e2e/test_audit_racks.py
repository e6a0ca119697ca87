"""Plain photographs through the command line: real racks where they lie beside the checkout, and every kind of bad file."""

from __future__ import annotations

import csv
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from fakes.command_line import shelfscan
from PIL import Image

from shelfscan.adapters.pictures import read_picture
from shelfscan.paths import ROOT, shared_file

GALLERY = shared_file("maps", "demo") / "gallery"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of two rows of products on a plain wall, put together from gallery pictures."""
    canvas = np.full((900, 1200, 3), 205, np.uint8)
    for row, top in enumerate((120, 520)):
        canvas[top + 260 : top + 290] = 90
        for column in range(8):
            sku = sorted(GALLERY.iterdir())[(4 * row + column // 2) % 8]
            product = Image.fromarray(read_picture(sorted(sku.iterdir())[0])).resize((120, 250))
            canvas[top + 10 : top + 260, 60 + 135 * column : 180 + 135 * column] = np.asarray(product)
    path = tmp_path_factory.mktemp("shelf") / "shelf.jpg"
    Image.fromarray(canvas).save(path, quality=92)
    return path


def bad_pictures(folder: Path, good: Path) -> dict[str, Path]:
    """Files that are no picture, each in its own way."""
    header = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    empty_png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    files = {
        "empty.jpg": b"",
        "text.jpg": b"not a picture at all",
        "cut.jpg": good.read_bytes()[: good.stat().st_size // 3],
        "zero.png": empty_png,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    # 196 megapixels in 190 kB: refused by its header, before it is unpacked.
    Image.new("1", (14000, 14000)).save(folder / "huge.png")
    return {name: folder / name for name in [*files, "huge.png"]}


def test_one_bad_file_never_stops_the_others(shelf: Path, tmp_path: Path) -> None:
    bad = bad_pictures(tmp_path, shelf)
    done = shelfscan("detect", *bad.values(), shelf, "--out", tmp_path / "coco.json", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["images"] == 1 and len(said["unreadable"]) == len(bad)
    for name in bad:
        assert name in done.stderr
    assert "Traceback" not in done.stderr
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert len(coco["annotations"]) == said["boxes"] >= 12
    assert {c["name"] for c in coco["categories"]} == {"product", "price_tag", "empty"}


def test_nothing_but_bad_files_is_bad_input(shelf: Path, tmp_path: Path) -> None:
    bad = bad_pictures(tmp_path, shelf)
    done = shelfscan("detect", *bad.values(), "--out", tmp_path / "coco.json")
    assert done.returncode == 2 and all(name in done.stderr for name in bad)
    assert not (tmp_path / "coco.json").exists()


def test_pictures_of_any_make_give_the_same_boxes(shelf: Path, tmp_path: Path) -> None:
    plain = Image.open(shelf)
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for viewing
    turned.save(tmp_path / "exif.png", exif=exif)
    plain.convert("CMYK").save(tmp_path / "cmyk.tif")
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    gray = np.asarray(plain.convert("L"), np.uint16) * 257
    Image.fromarray(gray).save(tmp_path / "deep.png")
    plain.save(tmp_path / "plain.png")
    done = shelfscan("detect", tmp_path, "--out", tmp_path / "coco.json", "--json")
    assert done.returncode == 0, done.stderr
    coco = json.loads((tmp_path / "coco.json").read_text())
    sizes = {Path(i["file_name"]).name: (i["width"], i["height"]) for i in coco["images"]}
    assert sizes == dict.fromkeys(["alpha.png", "cmyk.tif", "deep.png", "exif.png", "plain.png"], plain.size)
    boxes: dict[int, list[list[float]]] = {}
    for a in coco["annotations"]:
        boxes.setdefault(a["image_id"], []).append(a["bbox"])
    of = {Path(i["file_name"]).name: boxes[i["id"]] for i in coco["images"]}
    assert of["exif.png"] == of["alpha.png"] == of["plain.png"]
    assert len(of["deep.png"]) >= 8, "a 16-bit picture is not black or white"


def test_an_audit_counts_names_and_draws(shelf: Path, tmp_path: Path) -> None:
    planogram = tmp_path / "planogram.csv"
    planogram.write_text("bin_id,sku,facings_wide,facings_high,facings_deep\nB1,SKU-000001,9,1,1\n")
    done = shelfscan("audit", shelf, "--gallery", GALLERY, "--planogram", planogram, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    (photo,) = json.loads(done.stdout)["photos"]
    assert 12 <= photo["facings"] <= 20 and photo["rows"] == 2
    skus = {p.name for p in sorted(GALLERY.iterdir())[:8]}
    named = sum(n for sku, n in photo["per_sku"].items() if sku in skus)
    assert named >= 0.8 * photo["facings"], "gallery pictures are recognised as themselves"
    assert sum(r["facings"] for r in photo["runs"]) == photo["facings"]
    with (tmp_path / "out" / "facings.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == photo["facings"] and {r["row"] for r in rows} == {"0", "1"}
    drawn, plain = read_picture(Path(photo["annotated"])), read_picture(shelf)
    assert drawn.shape == plain.shape
    assert (np.abs(drawn.astype(int) - plain).max(axis=-1) > 60).mean() > 0.01, "boxes and names are drawn"
    difference = json.loads(done.stdout)["planogram"]
    assert {"sku": "SKU-000001", "planned": 9, "seen": photo["per_sku"].get("SKU-000001", 0)} in difference


def test_audit_refuses_what_it_cannot_use(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "plan.csv").write_text("bin_id,sku\nB1,X\n")
    for args, text in (
        ((tmp_path / "nowhere.jpg", "--gallery", GALLERY), "no such picture"),
        ((shelf, "--gallery", tmp_path / "none"), "no pictures"),
        ((shelf, "--gallery", GALLERY, "--planogram", tmp_path / "plan.csv"), "line 1: missing column"),
    ):
        done = shelfscan("audit", *args, "--out", tmp_path / "out")
        assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()


def test_real_racks_are_audited(shared_data: Path, tmp_path: Path) -> None:
    """Rough bounds on real photographs: products are found where they are labelled, and rows, names and drawing are there.

    The gallery is cut into the test's scratch folder: these photographs are for evaluation only.
    """
    sys.path.insert(0, str(ROOT))
    from benchmarks.racks_gallery import cut_gallery

    data = shared_data / "racks"
    assert cut_gallery(data, tmp_path / "gallery") == 289
    photos = sorted((data / "images").iterdir())[:6]
    done = shelfscan("audit", *photos, "--gallery", tmp_path / "gallery", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    found = {Path(p["photo"]).name: p for p in json.loads(done.stdout)["photos"]}
    labels = json.loads((data / "annotations.json").read_text())
    ids = {i["id"]: Path(i["file_name"]).name for i in labels["images"]}
    boxes: dict[str, list[list[float]]] = {}
    for a in labels["annotations"]:
        boxes.setdefault(ids[a["image_id"]], []).append(a["bbox"])
    with (tmp_path / "out" / "facings.csv").open() as f:
        rows = list(csv.DictReader(f))
    hit = total = 0
    sides = ("x_min_px", "y_min_px", "x_max_px", "y_max_px")
    for name in found:
        mine = [[float(r[side]) for side in sides] for r in rows if Path(r["photo"]).name == name]
        total += len(boxes[name])
        hit += sum(any(_iou((x, y, x + w, y + h), m) >= 0.5 for m in mine) for x, y, w, h in boxes[name])
        assert found[name]["rows"] >= 2 and Path(found[name]["annotated"]).is_file()
    assert hit / total > 0.4
    assert len(json.loads(done.stdout)["per_sku"]) > 40


def _iou(a: tuple[float, ...], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, w) * max(0.0, h)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
