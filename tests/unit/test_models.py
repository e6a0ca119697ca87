"""The model zoo: every shipped model says all of itself, and a manifest that does not is refused with the field's name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shelfscan.adapters.models import ModelEntry, chosen_precision, manifest, model_path
from shelfscan.errors import MissingModel
from shelfscan.paths import ROOT

MODELS = ROOT / "models"


@pytest.mark.parametrize("name", ["detector", "embedder"])
def test_a_shipped_model_says_all_of_itself(name: str) -> None:
    entry = manifest(MODELS)[name]
    for field in ("licence", "card", "data", "input", "outputs", "command"):
        assert getattr(entry, field), f"{name}: {field} is empty"
    assert (MODELS / entry.card).is_file()
    variant = entry.variants["int8"]
    assert variant.made_from == entry.sha256, "the int8 variant is of other weights; python -m training.quantise makes it again"
    assert variant.metrics["comparison"].values and variant.metrics["comparison"].command
    assert model_path(name, MODELS).stat().st_size == entry.bytes
    assert model_path(name, MODELS, "int8").stat().st_size == variant.bytes
    assert not (entry.model_extra or variant.model_extra), "a field the schema does not know"


def test_every_model_file_is_in_the_manifest() -> None:
    listed = {f for e in manifest(MODELS).values() for f in (e.file, *(v.file for v in e.variants.values()))}
    assert listed == {p.name for p in MODELS.glob("*.onnx")}


def test_int8_is_a_default_only_where_it_was_measured_to_lose_little_and_to_be_faster() -> None:
    for entry in manifest(MODELS).values():
        values: Any = entry.variants["int8"].metrics["comparison"].values
        keys = ("PRODUCT", "PRODUCT_AP75") if entry.name == "detector" else ("top1",)
        for backend, precision in entry.default_precision.items():
            if precision == "int8":
                assert max(values["fp32"][k] - values["int8"][k] for k in keys) <= 0.005
                assert values["ms"][f"{backend} int8"] < values["ms"][f"{backend} fp32"]


def copied(home: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    shutil.copytree(MODELS, home / "models")
    path = home / "models" / "manifest.json"
    data = json.loads(path.read_text())
    change(next(m for m in data["models"] if m["name"] == "detector"))
    path.write_text(json.dumps(data))
    return path.parent


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop("licence"), "licence: missing"),
        (lambda m: m.update(sha256="abc"), "sha256"),
        (lambda m: m.update(file="../x.onnx"), "beside the manifest"),
        (lambda m: m.update(bytes=-1), "bytes"),
        (lambda m: m["variants"].update(int4=m["variants"]["int8"]), "variants"),
        (lambda m: m.update(name="embedder"), "more than once: embedder"),
    ],
)
def test_a_wrong_manifest_names_its_field(tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(MissingModel, match=words) as e:
        manifest(copied(tmp_path, change))
    assert "manifest.json" in str(e.value)


def test_int8_of_other_weights_is_not_used(tmp_path: Path) -> None:
    folder = copied(tmp_path, lambda m: m.update(sha256="0" * 64, default_precision={"openvino": "int8"}))
    assert chosen_precision("detector", "auto", "openvino", folder) == "fp32"
    with pytest.raises(MissingModel, match="other weights"):
        chosen_precision("detector", "int8", "openvino", folder)
    with pytest.raises(MissingModel, match="sha256"):
        model_path("detector", folder)


def test_a_variant_of_changed_bytes_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, lambda m: None)
    with (folder / "detector.int8.onnx").open("ab") as f:
        f.write(b"more")
    with pytest.raises(MissingModel, match=r"detector\.int8\.onnx: sha256"):
        model_path("detector", folder, "int8")


def test_an_entry_needs_what_is_its_own() -> None:
    assert {"name", "file", "bytes", "sha256", "licence", "data", "input", "command"} <= {
        n for n, f in ModelEntry.model_fields.items() if f.is_required()
    }
