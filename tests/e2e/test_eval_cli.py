"""``shelfscan eval`` and ``bench`` as a user runs them: on data made here, on the real data where it lies beside the
checkout, and on every kind of data that is not what it should be.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.command_line import shelfscan
from PIL import Image

from shelfscan.paths import ROOT, shared_file

GALLERY = shared_file("maps", "demo") / "gallery"


def process(*args: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def evaluate(*args: object, run: Callable[..., subprocess.CompletedProcess[str]] = shelfscan) -> dict[str, Any]:
    done = run("eval", *args, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo store's gallery, a folder a product, each picture also darker."""
    root = tmp_path_factory.mktemp("crops")
    for sku in sorted(GALLERY.iterdir())[:12]:
        picture = np.asarray(Image.open(sorted(sku.iterdir())[0]).convert("RGB"))
        (root / sku.name).mkdir()
        for n, light in enumerate((1.0, 0.8, 0.6)):
            Image.fromarray((picture * light).astype(np.uint8)).save(root / sku.name / f"{n}.png")
    return root


def test_crops_of_known_products_are_named(crops: Path) -> None:
    result = evaluate("crops", "--data", crops, "--references", 1, "--splits", 1)
    assert result["queries"] == 24 and result["gallery"] == 12
    assert result["top1"] >= 0.9 and result["auroc_unknown"] > 0.8 and result["top5"] >= result["top1"]


def test_the_same_seed_gives_the_same_numbers(crops: Path) -> None:
    first, second = (evaluate("crops", "--data", crops, "--seed", 5, run=run) for run in (shelfscan, process))
    for r in (first, second):
        r.pop("ms_per_query")
    assert first == second


def test_packshots_name_their_photographs_and_a_broken_one_is_left_out(crops: Path, tmp_path: Path) -> None:
    data = tmp_path / "packshots"
    rows: dict[str, list[tuple[str, str]]] = {"gallery_iconic.csv": [], "labels.csv": []}
    for sku in sorted(crops.iterdir()):
        for n, table in ((0, "gallery_iconic.csv"), (2, "labels.csv")):
            (data / sku.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(sku / f"{n}.png", data / sku.name)
            rows[table].append((f"{sku.name}/{n}.png", sku.name))
    (data / "broken.png").write_bytes(b"not a picture")
    rows["labels.csv"].append(("broken.png", rows["labels.csv"][0][1]))
    for table, lines in rows.items():
        with (data / table).open("w", newline="") as f:
            csv.writer(f).writerows([("file", "fine_class"), *lines])
    done = shelfscan("eval", "recognition", "--data", data, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["queries"] == 12 and result["gallery"] == 12 and result["top1"] >= 0.9
    assert len(result["unreadable"]) == 1 and "broken.png" in result["unreadable"][0]
    assert "broken.png" in done.stderr


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("detection", "annotations.json"),
        ("recognition", "gallery_query.csv"),
        ("crops", "a folder of pictures a product"),
        ("tags", "annotations.json"),
        ("barcodes", "labels.csv"),
        ("expiry", "labels.csv"),
        ("stereo", "left.png"),
        ("facings", "facings.json"),
    ],
)
def test_an_empty_folder_ends_with_what_was_expected(what: str, expected: str, tmp_path: Path) -> None:
    done = shelfscan("eval", what, "--data", tmp_path, "--json")
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = shelfscan("eval", "detection", "--data", tmp_path / "nowhere")
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_labels_that_are_wrong_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,symbology,text\na.jpg,ean13,4006381333932\n")
    done = shelfscan("eval", "barcodes", "--data", tmp_path)
    assert done.returncode == 2 and "line 2" in done.stderr and "4006381333932" in done.stderr


def test_barcodes_read_by_many_processes_are_those_read_by_one(tmp_path: Path) -> None:
    zxingcpp = pytest.importorskip("zxingcpp")
    lines = ["file,text"]
    for n in range(33):
        text = f"40063813{n:04d}"
        text += str(-sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(text)) % 10)
        bars = np.array(zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.EAN13), scale=4))
        if n % 8:
            Image.fromarray(np.pad(bars, 40, constant_values=255)).convert("RGB").save(tmp_path / f"{n}.png")
        else:
            (tmp_path / f"{n}.png").write_bytes(b"no picture")
        lines.append(f"{n}.png,{text}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    one, many = (evaluate("barcodes", "--data", tmp_path, "--jobs", jobs) for jobs in (1, 3))
    assert one.pop("ms_per_image") > 0 and many.pop("ms_per_image") > 0
    assert one == many and one["read"] == one["total"] == 28
    assert [f"{n}.png" in p for n, p in zip((0, 8, 16, 24, 32), one["unreadable"], strict=True)] == [True] * 5


def test_bench_accounts_for_a_viewpoints_time() -> None:
    done = process("bench", "--repeats", 1, "--json")
    assert done.returncode == 0, done.stderr
    b = json.loads(done.stdout)
    parts = ("depth_ms", "detector_ms", "recogniser_ms_per_facing", "tags_ms", "map_ms", "peak_mb", "facings_per_hour")
    assert all(b[name] > 0 for name in parts) and b["machine"]
    assert sum(b["stages"].values()) == pytest.approx(b["alone_ms"], rel=0.01, abs=2.0)
    assert 0 < b["viewpoint_ms"] <= 1.01 * b["viewpoint_p95_ms"]
    # Processing every viewpoint takes what one takes, as often as there are viewpoints.
    hours = (b["viewpoints"] * b["viewpoint_ms"] + b["map_ms"]) / 3.6e6
    assert b["facings_per_hour"] == pytest.approx(b["facings"] / hours, rel=0.01)


def test_bench_of_no_store_is_bad_input(tmp_path: Path) -> None:
    done = shelfscan("bench", "--store", tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and str(tmp_path) in done.stderr


#: Least values on real photographs, well below what was measured: what falls under them is broken, not unlucky.
REAL: list[tuple[tuple[str, ...], str, dict[str, float], dict[str, float]]] = [
    (("detection",), "racks", {"images": 19, "boxes": 1037}, {"ap50": 0.62, "ap": 0.31}),
    (("recognition",), "racks", {"queries": 540, "gallery": 289}, {"top1": 0.43, "top1_planned": 0.8, "auroc_unknown": 0.55}),
    (("recognition",), "packshots", {"queries": 310, "gallery": 31}, {"top1": 0.75, "top1_planned": 0.9}),
    (("crops", "--splits", "1"), "crops", {"queries": 1092, "gallery": 84}, {"top1": 0.85, "auroc_unknown": 0.85}),
    (("tags",), "price_tags", {"tags": 288}, {"recall": 0.8, "price_answered": 0.7, "price_exact": 0.95}),
    (("barcodes",), "barcodes", {"total": 202, "misread": 0}, {"read": 165}),
    (("expiry",), "expiry", {"total": 24, "wrong": 0}, {"exact": 18}),
    (("facings",), "planogram", {"scenes": 6}, {"facing_recall": 0.7}),
]


#: Minutes of close looks.
SLOW = {"recognition-racks", "recognition-packshots", "crops-crops"}


@pytest.mark.parametrize(
    ("what", "folder", "exactly", "at_least"),
    [
        pytest.param(*r, id=name, marks=[pytest.mark.long] if name in SLOW else [])
        for r in REAL
        for name in [f"{r[0][0]}-{r[1]}"]
    ],
)
def test_real_photographs(
    shared_data: Path, what: tuple[str, ...], folder: str, exactly: dict[str, float], at_least: dict[str, float]
) -> None:
    result = evaluate(*what, "--data", shared_data / folder)
    assert {k: result[k] for k in exactly} == exactly
    assert {k: result[k] for k, least in at_least.items() if result[k] < least} == {}
    assert result["unreadable"] == []


def test_real_stereo_pairs(shared_data: Path) -> None:
    result = evaluate("stereo", "--data", shared_data / "stereo")
    assert len(result["pairs"]) == 3 and result["bad2_mean"] <= 18.0
    assert all(p["ms"] < 5000 for p in result["pairs"])
