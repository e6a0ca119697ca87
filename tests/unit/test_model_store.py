"""A site's own models: in use before the shipped ones, never overwritten, and undone version by version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes.command_line import shelfscan

from shelfscan.adapters.model_store import faults, in_use, install, roll_back, versions
from shelfscan.adapters.models import manifest, model_path
from shelfscan.bootstrap import make_detector
from shelfscan.config import load_config
from shelfscan.errors import BadInput, MissingModel

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = manifest()["detector"].sha256


def variant(folder: Path, word: str) -> Path:
    """The shipped network in a file with other bytes: one more text of the model's description."""
    file = folder / f"{word}.onnx"
    text = word.encode()
    file.write_bytes(model_path("detector").read_bytes() + b"\x32" + bytes([len(text)]) + text)
    return file


def entry(threshold: float) -> dict[str, object]:
    kept = {k: v for k, v in manifest()["detector"].to_json().items() if k in ("classes", "iou", "licence", "input")}
    thresholds = {"PRODUCT": threshold, "PRICE_TAG": 0.5, "EMPTY": 0.5}
    return {**kept, "thresholds": thresholds, "data": "twenty photographs", "command": "shelfscan train detector"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    for n, word in enumerate(["one", "two"]):
        install(folder, "detector", variant(tmp_path, word), entry(0.3 + 0.1 * n), f"# {word}\n")
    return folder


def used(site: Path) -> str:
    (one,) = (v for v in versions(site) if v.name == "detector" and v.used)
    return one.sha256


def test_what_is_installed_is_used_and_the_rest_is_shipped(site: Path) -> None:
    config = load_config(None, {"models.folder": site, "detector.backend": "onnx"})
    detector = make_detector(config)
    assert detector.settings.thresholds[0] == pytest.approx(0.4)  # type: ignore[attr-defined]
    assert "detector-" in detector.description
    assert in_use("embedder", site) is None
    found = detector.detect(np.full((96, 96, 3), 127, np.uint8))
    assert found.scores.dtype == np.float32


@pytest.fixture
def shipped_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Shipped models whose detector has an int8 variant of its weights; returns the variant's file name."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "models", home / "models")
    shutil.copy(ROOT / "models" / "detector.onnx", home / "models" / "detector.int8.onnx")
    path = home / "models" / "manifest.json"
    data = json.loads(path.read_text())
    for m in data["models"]:
        if m["name"] == "detector":
            made = {"bytes": m["bytes"], "sha256": m["sha256"], "made_from": m["sha256"]}
            m["variants"] = {"int8": {"file": "detector.int8.onnx", **made}}
    path.write_text(json.dumps(data))
    monkeypatch.setenv("SHELFSCAN_HOME", str(home))
    return "detector.int8.onnx"


def test_weights_of_a_site_are_never_run_as_the_shipped_int8_variant(site: Path, shipped_int8: str) -> None:
    pytest.importorskip("openvino", reason="int8 is for OpenVINO; it is not installed")
    shipped = {"detector.backend": "openvino"}
    mine = {**shipped, "models.folder": site}
    assert f"({shipped_int8}), OpenVINO CPU, int8" in make_detector(load_config(None, shipped)).description
    own = make_detector(load_config(None, mine))
    assert own.description.startswith(f"detector (detector-{used(site)[:12]}.onnx), OpenVINO CPU, fp32")
    assert own.settings.thresholds[0] == pytest.approx(0.4)  # type: ignore[attr-defined]
    with pytest.raises(MissingModel, match="its int8 variant does not exist; ask for auto or fp32"):
        make_detector(load_config(None, {**mine, "detector.precision": "int8"}))
    # Back at the shipped weights, their variant is used again.
    roll_back(site, "detector", "shipped")
    assert ", int8" in make_detector(load_config(None, mine)).description


def test_a_variant_that_a_site_copied_from_other_weights_is_a_fault(site: Path) -> None:
    document = json.loads((site / "manifest.json").read_text())
    other = {"file": "x.onnx", "bytes": 1, "sha256": "0" * 64, "made_from": SHIPPED}
    for part in ("models", "kept"):
        document[part][-1]["variants"] = {"int8": other}
    (site / "manifest.json").write_text(json.dumps(document))
    config = load_config(None, {"models.folder": site, "detector.backend": "onnx"})
    assert ", fp32" in make_detector(config).description
    (bad,) = (p for v in versions(site) for p in faults(v))
    assert "int8 variant was made from other weights" in bad


def test_a_version_of_an_earlier_install_keeps_all_that_was_said_of_it(site: Path) -> None:
    document = json.loads((site / "manifest.json").read_text())
    document["kept"][0]["note"] = "aisle 4 only"
    (site / "manifest.json").write_text(json.dumps(document))
    roll_back(site, "detector")
    after = json.loads((site / "manifest.json").read_text())
    assert after["kept"] == document["kept"]
    assert after["models"] == document["kept"][:1]


def test_a_site_manifest_with_a_wrong_kept_version_names_the_field(site: Path) -> None:
    document = json.loads((site / "manifest.json").read_text())
    document["kept"][0]["sha256"] = "abc"
    (site / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(MissingModel, match=r"kept\.0\.sha256"):
        versions(site)


def test_every_version_is_kept_with_its_card(site: Path) -> None:
    mine = [v for v in versions(site) if not v.shipped]
    assert [v.used for v in mine] == [False, True]
    assert [(site / v.entry.card).read_text() for v in mine] == ["# one\n", "# two\n"]
    assert mine[0].entry.replaced == SHIPPED
    assert mine[1].entry.replaced == mine[0].sha256
    assert [p for v in versions(site) for p in faults(v)] == []


def test_rolling_back_goes_down_to_the_shipped_weights(site: Path) -> None:
    one, two = (v.sha256 for v in versions(site) if not v.shipped)
    assert used(site) == two
    assert roll_back(site, "detector").sha256 == one
    assert used(site) == one
    assert roll_back(site, "detector").shipped
    assert used(site) == SHIPPED
    assert in_use("detector", site) is None
    with pytest.raises(BadInput, match="nothing to roll back"):
        roll_back(site, "detector")
    assert roll_back(site, "detector", two[:8]).sha256 == two
    assert roll_back(site, "detector", "shipped").shipped
    with pytest.raises(BadInput, match="0000: no version of detector; known"):
        roll_back(site, "detector", "0000")


def test_a_version_whose_file_was_changed_is_not_gone_back_to(site: Path) -> None:
    one = next(v for v in versions(site) if not v.shipped)
    file = site / one.entry.file
    file.write_bytes(file.read_bytes()[:-1])
    before = (site / "manifest.json").read_bytes()
    with pytest.raises(MissingModel, match="is not the manifest's"):
        roll_back(site, "detector")
    assert (site / "manifest.json").read_bytes() == before
    assert any("sha256" in p for p in faults(one))


def test_a_configured_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"models\.folder of the configuration: no manifest\.json"):
        make_detector(load_config(None, {"models.folder": tmp_path}))


def test_the_commands_list_verify_and_roll_back(site: Path) -> None:
    listed = json.loads(shelfscan("models", "list", "--models", site, "--json").stdout)
    assert [v["used"] for v in listed if v["name"] == "detector"] == [False, False, True]
    assert shelfscan("models", "verify", "--models", site).returncode == 0
    done = json.loads(shelfscan("models", "rollback", "detector", "--models", site, "--json").stdout)
    assert done["sha256"] == used(site)
    next(site.glob("detector-*.md")).unlink()
    broken = shelfscan("models", "verify", "--models", site)
    assert broken.returncode == 1
    assert "card of detector is missing" in broken.stderr
    assert shelfscan("models", "rollback", "detector").returncode == 2
    assert shelfscan("models", "list", "--models", site / "nowhere").returncode == 2
