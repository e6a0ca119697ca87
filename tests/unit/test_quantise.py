"""The tool that makes the int8 variant: what is good goes into use, what is not leaves nothing behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from training.manifest import with_section

from shelfscan.adapters.embed_onnx import OnnxEmbedder
from shelfscan.adapters.models import model_entry, model_path
from shelfscan.paths import ROOT
from shelfscan.sim.layout import SIZES
from shelfscan.sim.packaging import make_packs

onnx = pytest.importorskip("onnx", reason="onnx is not installed; int8 variants are made with it")
pytest.importorskip("openvino", reason="openvino is not installed; int8 variants are measured with it")
TensorProto = onnx.TensorProto


def test_the_section_of_a_card_is_put_in_replaced_and_taken_away() -> None:
    card = "# Detector\n\nWhat it is.\n"
    one = with_section(card, "## int8\n\none\n")
    assert one == "# Detector\n\nWhat it is.\n\n## int8\n\none\n"
    assert with_section(one + "\n## Data\n\nours\n", "## int8\n\ntwo\n") == (
        "# Detector\n\nWhat it is.\n\n## int8\n\ntwo\n\n## Data\n\nours\n"
    )
    assert with_section(one, "") == card == with_section(card, "")


def zero_points(file: Path) -> set[int]:
    """Types of the zero points of activations: those that QuantizeLinear takes."""
    model = onnx.load(str(file))
    types = {i.name: i.data_type for i in model.graph.initializer}
    return {types[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"}


def pool(folder: Path) -> Path:
    """Two drawn shelves with their boxes, as `training.detector.data` keeps them."""
    folder.mkdir()
    for n in range(2):
        rng = np.random.default_rng(n)
        img = np.full((320, 480, 3), 60, np.uint8)
        boxes = np.array([[20 + 75 * i, 60, 85 + 75 * i, 230] for i in range(6)], np.float32)
        for x0, y0, x1, y1 in boxes.astype(int):
            img[y0:y1, x0:x1] = rng.integers(60, 250, 3)
            img[y0 + 40 : y0 + 80, x0 + 8 : x1 - 8] = rng.integers(0, 255, 3)
        img[230:270] = 190
        cv2.imwrite(str(folder / f"{n:06d}.jpg"), img)
        np.savez(folder / f"{n:06d}.npz", boxes=boxes, classes=np.zeros(6, np.int64))
    return folder


def crops(folder: Path) -> Path:
    """Three products as gallery pictures and once on a shelf, as `training.embedder.pool` keeps them."""
    folder.mkdir(parents=True)
    skus = [p.sku for p in make_packs(100900, SIZES["small"].sku_limit, "train")[:3]]
    with (folder / "index.csv").open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["file", "sku", "family", "kind", "x0", "y0", "x1", "y1"])
        for n, sku in enumerate(skus):
            img = np.full((130, 80, 3), 40 + 60 * n, np.uint8)
            img[20 + 20 * n : 60 + 20 * n, 10:70] = (255 - 70 * n, 30 * n, 200)
            for kind in ("gallery", "gallery", "shelf"):
                name = f"{sku}-{kind}.jpg"
                cv2.imwrite(str(folder / name), img)
                rows.writerow([name, f"100900/{sku}", f"100900/{n}", kind, 2, 2, 78, 128])
    return folder


def quantise(models: Path, pictures: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.quantise", "--models", models, "--calibrate", pictures, "--measure", pictures]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    arguments = [*map(str, command), "--pictures", "2", "--repeats", "5", *options]
    return subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)


def test_a_good_variant_is_used_and_one_that_loses_is_not(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models)
    pictures = pool(tmp_path / "drawn")
    weights = model_entry("detector", models).sha256
    # Calibrated on two drawings: only that all of it works is looked at.
    lenient = ("--float-first", "1", "--most-lost", "1", "--least-matched", "0", "--most-apart", "1")
    done = quantise(models, pictures, *lenient)
    assert done.returncode == 0, done.stdout + done.stderr
    entry = model_entry("detector", models)
    assert entry.int8 is not None and entry.sha256 == entry.int8.made_from == weights
    for kind in ("int8", "int8_symmetric"):
        assert model_path("detector", models, kind).is_file(), "with the checksum of the manifest"  # type: ignore[arg-type]
        zeros = zero_points(models / f"detector.{kind}.onnx")
        assert zeros == ({TensorProto.UINT8} if kind == "int8" else {TensorProto.INT8}), "what TensorRT and OpenVINO each need"
    (golden,) = {json.dumps(v.metrics["comparison"].values["golden"]) for k, v in entry.variants.items() if k == "int8"}
    assert {"matched", "score_worst"} == set(json.loads(golden))
    assert entry.int8.command.startswith("python -m training.quantise --calibrate pools/drawn --measure pools/drawn")
    assert f"    {entry.int8.command}\n" in (models / "detector.md").read_text()
    refused = quantise(models, pictures, *lenient, "--most-lost", "-2")
    assert refused.returncode == 1 and json.loads(refused.stdout)["put into use"] is False
    assert model_entry("detector", models).variants == {} and list(models.glob("detector.int8*")) == []
    assert "int8" not in (models / "detector.md").read_text()
    nothing = quantise(models, tmp_path)
    assert nothing.returncode != 0 and "no pictures; expected pools" in nothing.stderr


def test_the_embedder_gets_both_variants_and_a_wrong_pool_changes_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models)
    before = (models / "manifest.json").read_bytes()
    nothing = quantise(models, tmp_path, "--model", "embedder")
    assert nothing.returncode != 0 and "no pictures" in nothing.stderr
    assert (models / "manifest.json").read_bytes() == before
    pictures = crops(tmp_path / "drawn" / "crops")
    lenient = ("--float-first", "1", "--most-lost", "1", "--least-matched", "0", "--most-apart", "2")
    done = quantise(models, pictures, "--model", "embedder", *lenient)
    said = json.loads(done.stdout)
    entry = model_entry("embedder", models)
    assert {k for k in ("int8", "int8_symmetric") if said[k]["put into use"]} == set(entry.variants)
    assert "int8_symmetric" in entry.variants, "nothing that was lost, and its speed is not asked"
    assert f"    {entry.variants['int8_symmetric'].command}\n" in (models / "embedder.md").read_text()
    assert "--calibrate pools/drawn/crops" in entry.variants["int8_symmetric"].command
    assert OnnxEmbedder(models=models, precision="int8" if entry.int8 else "fp32", threads=1).embed([]).shape[0] == 0
