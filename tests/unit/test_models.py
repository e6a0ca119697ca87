"""The model zoo: every shipped model says all of itself, and a manifest that does not is refused with the field's name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shelfscan.adapters.models import chosen_precision, entry_path, file_sha256, manifest, model_entry, model_path
from shelfscan.errors import MissingModel
from shelfscan.paths import ROOT

MODELS = ROOT / "models"


@pytest.mark.parametrize("name", ["detector", "embedder", "people"])
def test_a_shipped_model_says_all_of_itself(name: str) -> None:
    entry = manifest(MODELS)[name]
    for field in ("licence", "card", "data", "input", "outputs", "command"):
        assert getattr(entry, field), f"{name}: {field} is empty"
    assert ("## int8" in (MODELS / entry.card).read_text()) == ("int8" in entry.variants)
    assert model_path(name, MODELS).stat().st_size == entry.bytes
    assert not entry.model_extra, "a field the schema does not know"


def test_a_shipped_int8_variant_is_of_the_shipped_weights_and_was_measured_to_lose_little_and_to_be_faster() -> None:
    for entry in manifest(MODELS).values():
        for kind, variant in entry.variants.items():
            assert variant.made_from == entry.sha256, "it is of other weights; python -m training.quantise makes it again"
            assert model_path(entry.name, MODELS, kind).stat().st_size == variant.bytes
            values: Any = variant.metrics["comparison"].values
            gated = [k for k in values["fp32"] if k not in ("EMPTY", "PRODUCT_COUNT_MAE")]
            assert max(values["fp32"][k] - values["int8"][k] for k in gated) <= 0.005
            if kind == "int8":
                assert values["ms"]["openvino int8"] < values["ms"]["openvino fp32"]
            assert not variant.model_extra, "a field the schema does not know"


def test_every_model_file_is_in_the_manifest() -> None:
    listed = {f for e in manifest(MODELS).values() for f in (e.file, *(v.file for v in e.variants.values()))}
    assert listed == {p.name for p in MODELS.glob("*.onnx")}


def copied(home: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The shipped models with a changed entry of the detector, which has an int8 variant whatever is shipped."""
    shutil.copytree(MODELS, home / "models")
    path = home / "models" / "manifest.json"
    data = json.loads(path.read_text())
    entry = next(m for m in data["models"] if m["name"] == "detector")
    file = home / "models" / "detector.int8.onnx"
    shutil.copy(MODELS / entry["file"], file)
    made = {"file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file), "made_from": entry["sha256"]}
    entry["variants"] = {"int8": made}
    change(entry)
    path.write_text(json.dumps(data))
    return path.parent


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop("licence"), "licence: missing"),
        (lambda m: m.update(sha256="abc"), "sha256"),
        (lambda m: m.update(file="../x.onnx"), "beside the manifest"),
        (lambda m: m.update(bytes=-1), "bytes"),
        (lambda m: m["thresholds"].update(PRODUCT=1.5), "thresholds.PRODUCT"),
        (lambda m: m["thresholds"].update(PRODUCT=float("nan")), "thresholds.PRODUCT"),
        (lambda m: m.update(file=".."), "beside the manifest"),
        (lambda m: m["variants"].update(int4=m["variants"]["int8"]), "variants"),
        (lambda m: m.update(name="embedder"), "more than once: embedder"),
    ],
)
def test_a_wrong_manifest_names_its_field(tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(MissingModel, match=words) as e:
        manifest(copied(tmp_path, change))
    assert "manifest.json" in str(e.value)


def test_auto_is_int8_of_exactly_these_weights_on_openvino_alone(tmp_path: Path) -> None:
    folder = copied(tmp_path, lambda m: None)
    entry = model_entry("detector", folder)
    assert chosen_precision(entry, "auto", "openvino", folder) == "int8"
    assert chosen_precision(entry, "auto", "onnxruntime", folder) == "fp32"
    assert chosen_precision(entry, "int8", "onnxruntime", folder) == "int8"
    assert chosen_precision(entry, "fp32", "openvino", folder) == "fp32"
    (folder / "detector.int8.onnx").unlink()
    assert chosen_precision(entry, "auto", "openvino", folder) == "fp32"
    with pytest.raises(MissingModel, match=r"detector\.int8\.onnx: .* is missing"):
        model_path("detector", folder, "int8")


def test_int8_of_other_weights_is_not_used(tmp_path: Path) -> None:
    folder = copied(tmp_path, lambda m: m.update(sha256="0" * 64))
    entry = model_entry("detector", folder)
    assert chosen_precision(entry, "auto", "openvino", folder) == "fp32"
    with pytest.raises(MissingModel, match="other weights"):
        chosen_precision(entry, "int8", "openvino", folder)
    with pytest.raises(MissingModel, match="other weights"):
        model_path("detector", folder, "int8")
    with pytest.raises(MissingModel, match="sha256"):
        model_path("detector", folder)


def test_int8_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path, lambda m: m.pop("variants"))
    with pytest.raises(MissingModel, match="'detector': its int8 variant does not exist; ask for auto or fp32"):
        model_path("detector", folder, "int8")


def test_a_variant_of_changed_bytes_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, lambda m: None)
    with (folder / "detector.int8.onnx").open("ab") as f:
        f.write(b"more")
    with pytest.raises(MissingModel, match=r"detector\.int8\.onnx: sha256"):
        model_path("detector", folder, "int8")


def test_new_weights_drop_the_variant_of_the_old_ones_with_its_file(tmp_path: Path) -> None:
    folder = copied(tmp_path, lambda m: None)
    with (folder / "detector.onnx").open("ab") as f:
        f.write(b"\x32\x03new")  # one more text of the model's description
    command = [sys.executable, "-m", "training.manifest", "detector", str(folder / "detector.onnx")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "training.quantise" in done.stdout
    assert not (folder / "detector.int8.onnx").exists()
    assert "int8" not in (folder / "detector.md").read_text()
    entry = model_entry("detector", folder)
    assert entry.variants == {} and entry_path(entry, folder).is_file()
    command += ["--set", 'thresholds={"PRODUCT": 4}']
    wrong = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert wrong.returncode != 0 and "thresholds.PRODUCT" in wrong.stderr
    assert model_entry("detector", folder) == entry
