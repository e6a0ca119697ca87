"""What simulated stores hold: possible, consistent, in the stated shares, and the same every time."""

from __future__ import annotations

import collections
import csv
import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.model.geometry import apply, inverse
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import Store
from shelfscan.sim.layout import AISLE_WIDTH_M, SIZES, make_layout
from shelfscan.sim.merchandise import catalogue_of, merchandise
from shelfscan.sim.packaging import PackSpec, make_packs
from shelfscan.sim.scene import SceneItem
from shelfscan.sim.stock import MESSINESS, BinTruth, stock_store


@lru_cache(maxsize=8)
def _stocked(
    size: str, seed: int, level: int
) -> tuple[Store, dict[str, PlanogramLine], dict[str, PackSpec], list[SceneItem], list[BinTruth]]:
    packs = make_packs(seed, SIZES[size].sku_limit, "store")
    store, plan = merchandise(make_layout(size, seed).store, packs, seed)
    used = {line.sku for line in plan.values()}
    by_sku = {p.sku: p for p in packs if p.sku in used}
    return store, plan, by_sku, *stock_store(store, plan, by_sku, MESSINESS[level], seed)


def _boxes(store: Store, packs: dict[str, PackSpec], items: list[SceneItem]) -> np.ndarray:
    """(N, 3, 2): extent of each item in its face frame along x, y, z; round packs keep theirs when turned."""
    out = []
    for i in items:
        T = store.places[i.bin_id].T_map_face
        centre = apply(inverse(T), np.array([i.x_m, i.y_m, i.z_m]))
        yaw = i.yaw_rad - math.atan2(T[1, 0], T[0, 0])
        p = packs[i.sku]
        c, s = (1.0, 0.0) if p.shape in ("can", "bottle") else (abs(math.cos(yaw)), abs(math.sin(yaw)))
        half = np.array([p.width_m * c + p.depth_m * s, p.width_m * s + p.depth_m * c, p.height_m]) / 2
        out.append(np.stack([centre - half, centre + half], axis=1))
    return np.array(out)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), level=st.sampled_from([0, 1, 2]))
def test_items_stand_in_their_bins_and_clear_of_one_another(seed: int, level: int) -> None:
    store, _, packs, items, _ = _stocked("tiny", seed, level)
    extent = _boxes(store, packs, items)
    shelves = collections.defaultdict(list)
    for n, i in enumerate(items):
        place = store.places[i.bin_id]
        low = np.array([place.x0_m, 0.0, place.z0_m]) - 2e-4
        high = np.array([place.x1_m, place.depth_m, place.z1_m]) + 2e-4
        assert (extent[n, :, 0] >= low).all() and (extent[n, :, 1] <= high).all(), i
        shelves[place.shelf_id].append(n)
    for members in shelves.values():
        e = extent[members]
        shared = np.minimum(e[:, None, :, 1], e[None, :, :, 1]) - np.maximum(e[:, None, :, 0], e[None, :, :, 0])
        deepest = shared.min(axis=2)
        np.fill_diagonal(deepest, -1.0)
        assert deepest.max() < 2e-4


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), level=st.sampled_from([0, 1, 2]))
def test_the_truth_is_what_the_items_say(seed: int, level: int) -> None:
    store, plan, packs, items, truths = _stocked("tiny", seed, level)
    extent = _boxes(store, packs, items)
    by_bin = collections.defaultdict(list)
    for n, i in enumerate(items):
        by_bin[i.bin_id].append(n)
    assert [t.bin_id for t in truths] == list(store.places)
    for t in truths:
        line, mine = plan[t.bin_id], by_bin[t.bin_id]
        units = sum(items[n].sku == t.sku for n in mine)
        place = store.places[t.bin_id]
        pitch = (place.x1_m - place.x0_m) / line.facings_wide
        front: dict[tuple[int, int], int] = {}
        for n in mine:
            column = int((extent[n, 0].mean() - place.x0_m) // pitch)
            level_of = round((extent[n, 2, 0] - place.z0_m) / packs[items[n].sku].height_m)
            key = (column, level_of)
            if key not in front or extent[n, 1].mean() < extent[front[key], 1].mean():
                front[key] = n
        assert {n for n in mine if items[n].facing} == set(front.values())
        assert t.units == units <= line.capacity_units
        assert t.facings == sum(items[n].sku == t.sku for n in front.values())
        assert t.misplaced == any(items[n].sku != t.sku for n in front.values())
        expected = "OUT_OF_STOCK" if units == 0 else "LOW" if units <= line.low_at_units else "OK"
        assert t.status == expected


def test_what_is_left_of_a_column_stands_at_the_back_unless_faced_up() -> None:
    store, plan, packs, items, truths = _stocked("small", 3, 0)
    extent = _boxes(store, packs, items)
    faced = {t.bin_id for t in truths if "faced_up" in t.effects}
    strays = {t.bin_id for t in truths if t.misplaced}
    fronts = collections.defaultdict(lambda: 9.0)
    for n, i in enumerate(items):
        fronts[i.bin_id] = min(fronts[i.bin_id], extent[n, 1, 0])
    # Fewer units than a column is deep: no column of these can be full.
    thin = [t for t in truths if 0 < t.units < plan[t.bin_id].facings_deep and t.bin_id not in strays]
    assert {t.bin_id in faced for t in thin} == {True, False}
    for t in thin:
        assert (fronts[t.bin_id] < 0.02) == (t.bin_id in faced)


def test_shares_over_many_seeds() -> None:
    truths = [t for seed in range(100, 110) for t in _stocked("small", seed, 0)[4]]
    share = {s: sum(t.status == s for t in truths) / len(truths) for s in ("OUT_OF_STOCK", "LOW", "OK")}
    assert share["OUT_OF_STOCK"] == pytest.approx(0.06, abs=0.015)
    assert share["LOW"] == pytest.approx(0.08, abs=0.02)
    assert sum(t.misplaced for t in truths) / len(truths) == pytest.approx(0.03, abs=0.012)
    assert sum("faced_up" in t.effects for t in truths) / len(truths) == pytest.approx(0.15, abs=0.025)


def test_order_has_no_disorder_and_a_normal_night_has() -> None:
    def effects(level: int) -> set[str]:
        return {e for t in _stocked("small", 1, level)[4] for e in t.effects}

    assert effects(0) == {"faced_up"}
    assert effects(1) == {"faced_up", "pushed_back", "turned"}


@pytest.mark.parametrize(("size", "low", "high"), [("tiny", 45, 100), ("small", 540, 690), ("medium", 4000, 6000)])
def test_sizes(size: str, low: int, high: int) -> None:
    plan = _stocked(size, 1, 0)[1]
    assert low <= sum(line.facings_wide * line.facings_high for line in plan.values()) <= high


def test_a_small_store_has_most_categories_and_products_mostly_once() -> None:
    _, plan, packs, _, _ = _stocked("small", 1, 0)
    uses = collections.Counter(line.sku for line in plan.values())
    assert len({p.category for p in packs.values()}) >= 10
    assert sum(n > 1 for n in uses.values()) <= 0.05 * len(uses)


@pytest.mark.parametrize("size", ["tiny", "small", "medium"])
def test_the_robot_has_room(size: str) -> None:
    layout = make_layout(size, 1)
    assert layout.grid.is_free(layout.dock.x_m, layout.dock.y_m)
    for _, gondola in layout.store.gondolas():
        T = gondola.face.matrix()
        for x in np.arange(-1.2, gondola.length_m + 1.2, 0.1):
            p = apply(T, np.array([x, -AISLE_WIDTH_M / 2, 0.0]))
            assert layout.grid.is_free(float(p[0]), float(p[1]))
        inside = apply(T, np.array([gondola.length_m / 2, gondola.depth_m / 2, 0.0]))
        assert not layout.grid.is_free(float(inside[0]), float(inside[1]))


def test_bins_are_no_wider_than_a_robot_can_tell() -> None:
    store = _stocked("small", 2, 0)[0]
    places = store.places.values()
    assert max(p.x1_m - p.x0_m for p in places) <= 0.5
    assert max(p.z1_m for p in places) <= 1.95


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_price_is_one_a_tag_shows(seed: int) -> None:
    products = catalogue_of(make_packs(seed, 60, "store"), seed).values()
    assert min(p.price for p in products) >= 0.19


_PARTS = ("shelfscan.sim.gallery", "shelfscan.sim.reachability")
needs_all = pytest.mark.skipif(
    any(importlib.util.find_spec(p) is None for p in _PARTS), reason="the gallery renderer or ray-caster is not there"
)


@needs_all
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    from shelfscan.bundle import check_bundle
    from shelfscan.sim.build import build_store

    for name in ("a", "b"):
        build_store(tmp_path / name, seed=7, size="tiny", messy=1)
    files = {n: {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "ab"}
    assert files["a"] == files["b"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert check_bundle(tmp_path / "a") == []
    with (tmp_path / "a" / "truth" / "bins.csv").open() as f:
        assert {r["reachable"] for r in csv.DictReader(f)} <= {"0", "1"}


@needs_all
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    from shelfscan.errors import BadInput
    from shelfscan.sim.build import build_store

    (tmp_path / "letters.txt").write_text("keep me")
    with pytest.raises(BadInput, match="not a store bundle"):
        build_store(tmp_path, seed=1, size="tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]
