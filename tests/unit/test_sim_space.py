"""Stores whose space is not used as planned: possible, consistent with the definitions, and untouched without the knobs."""

from __future__ import annotations

import collections
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.bundle import load_bundle
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import Store
from shelfscan.sim.build import build_store
from shelfscan.sim.layout import SIZES, make_layout
from shelfscan.sim.merchandise import merchandise
from shelfscan.sim.packaging import PackSpec, make_packs
from shelfscan.sim.scene import SceneItem
from shelfscan.sim.space import SELDOM, in_other_space
from shelfscan.sim.stock import MESSINESS, BinTruth, Messiness, stock_store

Night = tuple[Store, dict[str, PlanogramLine], dict[str, PackSpec], list[SceneItem], list[BinTruth]]
TROUBLES = {"overstocked", "wrong_facings"}


def night(seed: int, messy: Messiness, size: str = "tiny", stale: frozenset[str] = frozenset()) -> Night:
    packs = make_packs(seed, SIZES[size].sku_limit, "store")
    store, plan = merchandise(make_layout(size, seed).store, packs, seed)
    by_sku = {p.sku: p for p in packs if p.sku in {line.sku for line in plan.values()}}
    items, truths = stock_store(store, plan, by_sku, messy, seed)
    items, truths, plan = in_other_space(store, plan, by_sku, items, truths, messy, stale, seed)
    return store, plan, by_sku, items, truths


def knobs(over: float = 0.2, wrong: float = 0.2, level: int = 0) -> Messiness:
    return replace(MESSINESS[level], overstocked_bins=over, wrong_facings_bins=wrong)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), level=st.sampled_from([0, 1]))
def test_goods_are_clear_of_one_another_and_below_the_next_board(seed: int, level: int) -> None:
    store, _, packs, items, _ = night(seed, knobs(level=level))
    shelves = collections.defaultdict(list)
    for i in items:
        place, p = store.places[i.bin_id], packs[i.sku]
        x, y, z = apply(inverse(place.T_map_face), np.array([i.x_m, i.y_m, i.z_m]))
        half = np.array([p.width_m, p.depth_m, p.height_m]) / 2
        assert y - half[1] >= -1e-3 and y + half[1] <= place.depth_m + 1e-3 and z + half[2] <= place.z1_m
        shelves[place.shelf_id].append((np.array([x, y, z]), half))
    for goods in shelves.values():
        centre, half = np.array([c for c, _ in goods]), np.array([h for _, h in goods])
        apart = np.abs(centre[:, None] - centre[None]) - half[:, None] - half[None]
        # Turned packs are a little wider than they stand here.
        overlap = (apart < -0.004).all(axis=2) & ~np.eye(len(goods), dtype=bool)
        assert not overlap.any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_truth_is_what_stands_there(seed: int) -> None:
    _, plan, _, items, truths = night(seed, knobs())
    of_bin = collections.defaultdict(list)
    for i in items:
        of_bin[i.bin_id].append(i)
    assert len({i.item_id for i in items}) == len(items)
    for t in truths:
        line, here = plan[t.bin_id], of_bin[t.bin_id]
        own = [i for i in here if i.sku == t.sku]
        assert (t.units, t.facings) == (len(own), sum(i.facing for i in own))
        assert t.misplaced == any(i.facing and i.sku != t.sku for i in here)
        if "overstocked" in t.effects:
            # Either more than the maximum, or more than the planned rows hold.
            assert t.units > line.most_units and t.status == "OK"
        elif line.max_units is not None:
            assert t.units <= line.max_units
        if "wrong_facings" in t.effects:
            assert t.facings < line.facings_wide * line.facings_high and t.status == "OK"


def test_every_kind_comes_up_in_the_shares_asked_for() -> None:
    kinds: collections.Counter[str] = collections.Counter()
    bins = 0
    for seed in range(4):
        _, plan, _, _, truths = night(seed, knobs(0.1, 0.1), "small")
        bins += len(truths)
        for t in truths:
            stacked = t.facings > plan[t.bin_id].facings_wide * plan[t.bin_id].facings_high
            kinds["stacked" if stacked else "over"] += "overstocked" in t.effects
            kinds["spread" if t.misplaced else "narrow"] += "wrong_facings" in t.effects
    assert min(kinds.values()) >= 10
    assert kinds["stacked"] + kinds["over"] == pytest.approx(0.1 * bins, rel=0.1)
    assert kinds["spread"] + kinds["narrow"] == pytest.approx(0.1 * bins, rel=0.25)


def test_goods_spread_from_next_door_and_the_neighbour_is_full() -> None:
    store, plan, _, items, truths = night(3, knobs(0.0, 0.15), "small")
    by_bin = {t.bin_id: t for t in truths}
    spread = [t for t in truths if "wrong_facings" in t.effects and t.misplaced]
    assert len(spread) >= 5
    for t in spread:
        (sku,) = {i.sku for i in items if i.bin_id == t.bin_id and i.sku != t.sku}
        place = store.places[t.bin_id]
        near = [p for p in store.places.values() if p.shelf_id == place.shelf_id and plan[p.bin_id].sku == sku]
        beside = [p for p in near if min(abs(p.x1_m - place.x0_m), abs(p.x0_m - place.x1_m)) < 0.005]
        assert [by_bin[p.bin_id].units for p in beside] == [plan[p.bin_id].capacity_units for p in beside] != []


def test_a_column_is_left_bare_only_where_chance_would_hardly_do_so() -> None:
    from shelfscan.model.planogram import emptied_by_chance

    _, plan, _, _, truths = night(5, knobs(0.0, 0.2), "small")
    narrow = [t for t in truths if "wrong_facings" in t.effects and not t.misplaced]
    assert narrow and all(emptied_by_chance(plan[t.bin_id], 1) <= SELDOM for t in narrow)


def test_bays_put_up_anew_and_bins_with_another_trouble_are_left_alone() -> None:
    store, _, _, items, truths = night(7, MESSINESS[1], "small")
    stale = frozenset(p.bay_id for p in list(store.places.values())[:40])
    _, _, _, after, told = night(7, knobs(0.3, 0.3, level=1), "small", stale)

    def of(bin_id: str, goods: list[SceneItem]) -> list[SceneItem]:
        return [i for i in goods if i.bin_id == bin_id]

    for before, now in zip(truths, told, strict=True):
        if store.places[before.bin_id].bay_id in stale or before.misplaced or set(before.effects) - {"faced_up"}:
            assert now == before and of(now.bin_id, after) == of(before.bin_id, items)
    assert any(TROUBLES & set(t.effects) for t in told)


def test_without_the_knobs_nothing_changes(tmp_path: Path) -> None:
    store, plan, packs, items, truths = night(1, MESSINESS[1])
    same = in_other_space(store, plan, packs, items, truths, MESSINESS[1], (), 1)
    assert same == (items, truths, plan)
    assert not TROUBLES & {k.removesuffix("_bins") for k in MESSINESS[1].knobs()}
    assert "overstocked_bins" in knobs().knobs()


def test_a_store_tells_them_once_and_its_planogram_has_the_maxima(tmp_path: Path) -> None:
    root = tmp_path / "store"
    build_store(root, seed=4, size="tiny", gallery_pictures=1, disorder=knobs(0.3, 0.3))
    with (root / "truth" / "findings.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    told = collections.defaultdict(set)
    for r in rows:
        told[r["bin_id"]].add(r["type"])
        assert r["type"] not in TROUBLES or r["cause"] == "shelf"
    wrong = [types for types in told.values() if "wrong_facings" in types]
    over = [types for types in told.values() if "overstocked" in types]
    assert wrong and over
    assert not any(types & {"misplaced", "low", "out_of_stock", "overstocked"} for types in wrong)
    maxima = [line.max_units for line in load_bundle(root).planogram.values() if line.max_units is not None]
    assert maxima and "max_units" in (root / "planogram.csv").read_text().splitlines()[0]
