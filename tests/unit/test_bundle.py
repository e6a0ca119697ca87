"""A bundle survives a round trip, and each fault is named with file, line or field."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.bundle import check_bundle, load_bundle, read_map, save_bundle, valid_gtin, write_map
from shelfscan.errors import BadInput
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Product
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import Store
from shelfscan.paths import default_robot_file
from shelfscan.sim.layout import make_layout
from shelfscan.sim.merchandise import catalogue_of, merchandise
from shelfscan.sim.packaging import make_packs


def _write(root: Path) -> tuple[Store, dict[str, Product], dict[str, PlanogramLine], OccupancyGrid, tuple[WmsLocation, ...]]:
    layout = make_layout("tiny", 1)
    packs = make_packs(1, 100, "store")
    store, plan = merchandise(layout.store, packs, 1)
    used = {line.sku for line in plan.values()}
    catalogue = catalogue_of([p for p in packs if p.sku in used], 1)
    wms = tuple(WmsLocation(b, "shelf", b, line.sku, 3.0, 2.0) for b, line in plan.items())
    save_bundle(root, store, catalogue, plan, layout.grid, wms)
    shutil.copy(default_robot_file(), root / "robot.yaml")
    for sku in catalogue:
        (root / "gallery" / sku).mkdir(parents=True)
        cv2.imwrite(str(root / "gallery" / sku / "1.png"), np.full((8, 8, 3), 90, np.uint8))
    return store, catalogue, plan, layout.grid, wms


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _write(tmp_path)
    return tmp_path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store, catalogue, plan, grid, wms = _write(tmp_path)
    got = load_bundle(tmp_path)
    assert check_bundle(tmp_path) == []
    assert (got.store, dict(got.catalogue), dict(got.planogram), got.wms) == (store, catalogue, plan, wms)
    assert isinstance(grid, OccupancyGrid)
    assert np.array_equal(got.grid.cells, grid.cells)
    assert (got.grid.origin_m, got.grid.resolution_m) == (grid.origin_m, grid.resolution_m)
    assert set(got.gallery) == set(catalogue)


def test_a_planogram_may_have_maxima_and_has_no_column_for_them_otherwise(tmp_path: Path) -> None:
    store, catalogue, plan, grid, wms = _write(tmp_path)
    assert "max_units" not in (tmp_path / "planogram.csv").read_text()
    bin_id, line = next((b, x) for b, x in plan.items() if x.capacity_units > x.low_at_units + 1)
    plan = {**plan, bin_id: replace(line, max_units=line.low_at_units + 1)}
    save_bundle(tmp_path, store, catalogue, plan, grid, wms)
    got = load_bundle(tmp_path).planogram
    assert dict(got) == plan
    assert got[bin_id].most_units == line.low_at_units + 1
    assert all(x.most_units == x.capacity_units for b, x in got.items() if b != bin_id)


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _cell(path: Path, line: int, column: str, value: str) -> None:
    """Change one cell; ``line`` counts from 1 (the header)."""
    rows = [r.split(",") for r in path.read_text().splitlines()]
    rows[line - 1][rows[0].index(column)] = value
    path.write_text("\n".join(",".join(r) for r in rows) + "\n")


FAULTS = {
    "missing column": (
        "planogram.csv",
        lambda r: _edit(r / "planogram.csv", "facings_wide", "wide"),
        "line 1: missing column facings_wide",
    ),
    "bad number": (
        "planogram.csv",
        lambda r: _cell(r / "planogram.csv", 3, "facings_deep", "x"),
        "line 3: facings_deep is 'x'",
    ),
    "zero facings": (
        "planogram.csv",
        lambda r: _cell(r / "planogram.csv", 4, "facings_wide", "0"),
        "line 4: facings_wide is '0'",
    ),
    "a maximum that is low": (
        "planogram.csv",
        lambda r: _maximum(r / "planogram.csv", "1"),
        "max_units is 1; expected more than",
    ),
    "a maximum that is no number": (
        "planogram.csv",
        lambda r: _maximum(r / "planogram.csv", "many"),
        "max_units is 'many'",
    ),
    "unknown sku": (
        "planogram.csv",
        lambda r: _cell(r / "planogram.csv", 2, "sku", "SKU-999999"),
        "sku 'SKU-999999' is not in catalogue",
    ),
    "unknown bin": (
        "planogram.csv",
        lambda r: _cell(r / "planogram.csv", 2, "bin_id", "NOWHERE"),
        "bin NOWHERE is not in store.yaml",
    ),
    "check digit": (
        "catalogue.csv",
        lambda r: _cell(r / "catalogue.csv", 2, "gtin", "2000000000001"),
        "line 2: gtin '2000000000001'",
    ),
    "negative size": (
        "catalogue.csv",
        lambda r: _cell(r / "catalogue.csv", 2, "width_m", "-0.1"),
        "line 2: width_m is '-0.1'",
    ),
    "not a number": (
        "catalogue.csv",
        lambda r: _cell(r / "catalogue.csv", 2, "price", "nan"),
        "line 2: price is 'nan'",
    ),
    "wrong scope": ("wms.csv", lambda r: _cell(r / "wms.csv", 2, "scope", "shop"), "line 2: scope is 'shop'"),
    "no heads": ("robot.yaml", lambda r: _cut_heads(r / "robot.yaml"), "heads"),
    "unknown field": ("robot.yaml", lambda r: _edit(r / "robot.yaml", "battery_wh", "batery_wh"), "batery_wh"),
    "not yaml": ("store.yaml", lambda r: (r / "store.yaml").write_text("a: [1,"), "not YAML"),
    "wrong schema": ("store.yaml", lambda r: _edit(r / "store.yaml", "schema: 1", "schema: 9"), "schema"),
    "no map": ("map.pgm", lambda r: (r / "map.pgm").unlink(), "missing or unreadable"),
    "bad map": ("map.pgm", lambda r: (r / "map.pgm").write_text("nonsense"), "missing or unreadable"),
    "file gone": ("catalogue.csv", lambda r: (r / "catalogue.csv").unlink(), "missing"),
}


def _maximum(path: Path, value: str) -> None:
    """Give the first bin a maximum, and the others none."""
    head, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([head + ",max_units", f"{first},{value}", *(r + "," for r in rest)]) + "\n")


def _cut_heads(path: Path) -> None:
    path.write_text(path.read_text().split("heads:")[0] + "heads: []\n")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(root: Path, fault: str) -> None:
    file, spoil, words = FAULTS[fault]
    spoil(root)
    assert any(file in p and words in p for p in check_bundle(root)), check_bundle(root)
    with pytest.raises(BadInput):
        load_bundle(root)


def test_overlapping_and_outside_bins(root: Path) -> None:
    import yaml

    doc = yaml.safe_load((root / "store.yaml").read_text())
    bins = doc["aisles"][0]["gondolas"][0]["bays"][0]["shelves"][0]["bins"]
    bins[1]["x_m"] = bins[0]["x_m"] + 0.01
    bins[-1]["width_m"] = 5.0
    (root / "store.yaml").write_text(yaml.safe_dump(doc))
    problems = check_bundle(root)
    assert any(bins[0]["id"] in p and bins[1]["id"] in p and "overlap" in p for p in problems)
    assert any(bins[-1]["id"] in p and "beyond its bay" in p for p in problems)


def test_overlapping_bays_and_shelves(root: Path) -> None:
    import yaml

    doc = yaml.safe_load((root / "store.yaml").read_text())
    gondola = doc["aisles"][0]["gondolas"][0]
    low, high = gondola["bays"][0]["shelves"][:2]
    low["clear_height_m"] = 0.9
    beside = {**gondola["bays"][0], "id": "BESIDE", "x_m": gondola["bays"][0]["x_m"] + 0.5, "shelves": []}
    gondola["bays"].append(beside)
    (root / "store.yaml").write_text(yaml.safe_dump(doc))
    problems = check_bundle(root)
    assert any(low["id"] in p and high["id"] in p and "shelves" in p and "overlap" in p for p in problems)
    assert any("BESIDE" in p and "bays" in p and "overlap" in p for p in problems)


@pytest.mark.parametrize("name", ["../../outside", "/etc/bin", "..", "a\\b", "new\nline"])
def test_an_id_that_would_leave_its_folder_is_refused(root: Path, name: str) -> None:
    import yaml

    doc = yaml.safe_load((root / "store.yaml").read_text())
    first = doc["aisles"][0]["gondolas"][0]["bays"][0]["shelves"][0]["bins"][0]
    first["id"] = name
    (root / "store.yaml").write_text(yaml.safe_dump(doc))
    assert any(repr(name) in p and "expected an id without slashes" in p for p in check_bundle(root))


def test_a_sku_that_would_leave_the_gallery_is_refused(root: Path) -> None:
    _cell(root / "catalogue.csv", 2, "sku", "../truth")
    assert any("line 2: sku '../truth': expected an id" in p for p in check_bundle(root))


def test_all_problems_at_once(root: Path) -> None:
    _cell(root / "planogram.csv", 2, "sku", "SKU-999999")
    _cell(root / "catalogue.csv", 3, "width_m", "wide")
    (root / "map.pgm").unlink()
    assert len(check_bundle(root)) >= 3


def test_gallery_faults(root: Path) -> None:
    skus = sorted(p.name for p in (root / "gallery").iterdir())
    (root / "gallery" / skus[0] / "1.png").write_text("not a picture")
    assert any(skus[0] in p and "not a readable picture" in p for p in check_bundle(root))
    shutil.rmtree(root / "gallery" / skus[1])
    assert any(skus[1] in p and "no reference photograph" in p for p in check_bundle(root))


def test_truth_is_never_opened(root: Path) -> None:
    before = check_bundle(root)
    (root / "truth").mkdir()
    (root / "truth" / "bins.csv").write_bytes(b"\xff\xfe broken")
    (root / "truth" / "scene.json").write_text("{")
    assert check_bundle(root) == before == []


def test_the_default_robot_is_portrait_and_looks_left(root: Path) -> None:
    for head in load_bundle(root).robot.rig.heads:
        T = head.left.T_base_optical
        assert head.left.upright_turns == 1
        assert np.allclose(T[:3, 2], [0, 1, 0], atol=1e-9)
        assert abs(T[2, 0]) == pytest.approx(1.0)  # the long side stands upright
        step = head.right.T_base_optical[:3, 3] - T[:3, 3]
        assert np.allclose(step, head.baseline_m * T[:3, 0])
        assert head.baseline_m == pytest.approx(0.10)
        assert np.linalg.det(T[:3, :3]) == pytest.approx(1.0)


@given(st.integers(0, 10**12 - 1), st.integers(0, 11), st.integers(1, 9))
def test_a_changed_digit_is_noticed(number: int, at: int, by: int) -> None:
    body = f"{number:012d}"
    right = [f"{body}{c}" for c in range(10) if valid_gtin(f"{body}{c}")]
    assert len(right) == 1
    spoilt = right[0][:at] + str((int(right[0][at]) + by) % 10) + right[0][at + 1 :]
    assert not valid_gtin(spoilt)


def test_map_round_trip(tmp_path: Path) -> None:
    cells = np.random.default_rng(1).choice(np.array([-1, 0, 100], np.int8), (17, 23))
    write_map(tmp_path / "map.yaml", OccupancyGrid(cells, 0.05, (-1.2, 3.4)))
    got = read_map(tmp_path / "map.yaml")
    assert np.array_equal(got.cells, cells)
    assert (got.resolution_m, got.origin_m) == (0.05, (-1.2, 3.4))
