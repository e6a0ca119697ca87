"""Pictures for the documents: what is right, wrong and missed; sizes; and that every photograph shown may be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks import drawing
from benchmarks.drawing import MAX_BYTES, WIDTH_PX, save_jpeg
from benchmarks.picture_pages import FOLDER_BYTES, matched, shares
from PIL import Image

from shelfscan.errors import BadInput

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHOWN = DOCS / "images" / "accuracy"


def test_a_label_is_found_once_by_the_best_box() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float)
    found = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [25, 0, 35, 10]], float)  # best first; the last one overlaps by a third
    assert matched(found, truth).tolist() == [0, -1, -1]
    assert matched(found, truth[:0]).tolist() == [-1, -1, -1]
    assert matched(found[:0], truth).tolist() == []


def test_shares_of_boxes() -> None:
    iou, inside = shares(np.array([[0, 0, 10, 10.0]]), np.array([[0, 0, 20, 10.0]]))
    assert iou.tolist() == [[0.5]]
    assert inside.tolist() == [[1.0]]


def test_a_picture_is_made_small_enough_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (420, 420, 3), np.uint8))
    size = save_jpeg(noise, tmp_path / "a.jpg")
    assert size == (tmp_path / "a.jpg").stat().st_size <= MAX_BYTES
    monkeypatch.setattr(drawing, "MAX_BYTES", 10_000)
    with pytest.raises(BadInput, match="expected 10000 at most"):
        save_jpeg(noise, tmp_path / "b.jpg")
    assert not (tmp_path / "b.jpg").exists()


def test_the_page_shows_what_is_there_and_names_every_source() -> None:
    page = (DOCS / "accuracy-pictures.md").read_text(encoding="utf-8")
    there = {p.name for p in SHOWN.glob("*.jpg")}
    assert set(re.findall(r"\(images/accuracy/([\w-]+\.jpg)\)", page)) == there
    licences = (SHOWN / "LICENCES.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- `([^`]+)`: (.+)$", licences, re.MULTILINE)
    assert {name for _, files in listed for name in files.split(", ")} == there
    assert {photograph.split("/")[0] for photograph, _ in listed} == {"packshots", "price_tags"}
    assert "CC BY 4.0" in licences and "Copyright (c) 2019 Marcus Klasson" in licences


def test_pictures_stay_small() -> None:
    files = sorted(SHOWN.glob("*.jpg"))
    assert all(f.stat().st_size <= MAX_BYTES for f in files)
    assert sum(f.stat().st_size for f in files) <= FOLDER_BYTES
    for f in files:
        with Image.open(f) as picture:
            assert picture.width <= WIDTH_PX
