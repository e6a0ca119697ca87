"""The true state of the shelves: what stands where tonight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import BinPlace, Store
from shelfscan.sim.merchandise import DEPTH_GAP_M, FRONT_M, GAP_M
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.scene import SceneItem, Sensing


@dataclass(frozen=True)
class Messiness:
    """Every knob of disorder, as shares of bins, columns, items or tags. Level 0 is all off."""

    pushed_back_columns: float = 0.0
    turned_items: float = 0.0
    missing_tags: float = 0.0
    wrong_prices: float = 0.0
    faced_up_bins: float = 0.15
    sensing: Sensing = field(default_factory=Sensing)
    #: Of the front row's items that have room to.
    fallen_items: float = 0.0
    #: Boards hang up to so far above or below where the layout has them, metres.
    shelf_height_m: float = 0.0
    #: Bays that were put up anew while the planogram was not.
    stale_bays: float = 0.0
    #: Products of which the catalogue has one side wrong by more than a quarter.
    wrong_dimensions: float = 0.0
    #: Of the strangers, those that are in no catalogue.
    unknown_products: float = 0.0
    dark_aisles: float = 0.0
    people: int = 0
    trolleys: int = 0
    #: Bins that hold more than planned; bins whose product stands on too few facings. Off at every level.
    overstocked_bins: float = 0.0
    wrong_facings_bins: float = 0.0

    def knobs(self) -> dict[str, Any]:
        """Every knob by name; the newest ones only where they are on, so that older stores stay the same bytes."""
        out = asdict(self)
        return {k: v for k, v in out.items() if v or k not in ("overstocked_bins", "wrong_facings_bins")}


MESSINESS = {
    0: Messiness(),
    1: Messiness(
        0.08, 0.05, 0.03, 0.03, 0.15, Sensing(0.03, math.radians(1), 5.0, 0.3, 1.005, 1.0, 4.0, 1.0, 0.1),
        0.02, 0.03, 0.1, 0.05, 0.2,
    ),
    2: Messiness(
        0.16, 0.10, 0.06, 0.06, 0.30, Sensing(0.06, math.radians(2), 5.0, 0.6, 1.01, 2.0, 6.0, 2.0, 0.2),
        0.04, 0.06, 0.2, 0.10, 0.4, 0.25, 1, 2,
    ),
}  # fmt: skip
#: Kept free behind a column that was shoved back.
SHOVE_MARGIN_M = 0.006
#: Shares of bins at every level.
OUT_OF_STOCK, LOW, FOREIGN = 0.06, 0.08, 0.03


@dataclass(frozen=True, slots=True)
class BinTruth:
    """The contract's true numbers of one bin."""

    bin_id: str
    sku: str
    status: str
    misplaced: bool
    facings: int
    units: int
    effects: tuple[str, ...] = ()


class _Column:
    """One column of a bin: stacks of units from front (0) to back."""

    def __init__(self, deep: int, high: int, units: int, faced_up: bool) -> None:
        full, rest = divmod(units, high)
        stacks = [high] * full + ([rest] if rest else [])
        stacks = stacks[:deep]
        # Shoppers take from the front: what is left stands at the back, the broken stack foremost.
        empty = deep - len(stacks)
        self.stacks = stacks[::-1] + [0] * empty if faced_up else [0] * empty + stacks[::-1]


def stock_store(
    store: Store,
    plan: Mapping[str, PlanogramLine],
    packs: Mapping[str, PackSpec],
    messy: Messiness,
    seed: int,
    unknown: Sequence[str] = (),
) -> tuple[list[SceneItem], list[BinTruth]]:
    """Put items on the shelves. Each bin draws from a stream of its own, so bins don't depend on one another.

    ``unknown``: SKUs of ``packs`` that are in no catalogue; only strangers are of them.
    """
    items: list[SceneItem] = []
    truths: list[BinTruth] = []
    skus = sorted(set(packs) - set(unknown))
    for n, place in enumerate(store.places.values()):
        rng = np.random.default_rng([seed, 44, n])
        found, truth = _stock_bin(place, plan[place.bin_id], packs, skus, messy, rng, len(items), sorted(unknown))
        items += found
        truths.append(truth)
    return items, truths


def _units(line: PlanogramLine, rng: np.random.Generator) -> int:
    draw = rng.random()
    if draw < OUT_OF_STOCK:
        return 0
    if draw < OUT_OF_STOCK + LOW:
        return int(rng.integers(1, line.low_at_units + 1))
    least = min(line.low_at_units + 1, line.capacity_units)
    return int(rng.integers(least, line.capacity_units + 1)) if rng.random() < 0.7 else line.capacity_units


def _stock_bin(
    place: BinPlace,
    line: PlanogramLine,
    packs: Mapping[str, PackSpec],
    skus: list[str],
    messy: Messiness,
    rng: np.random.Generator,
    first_id: int,
    unknown: Sequence[str] = (),
) -> tuple[list[SceneItem], BinTruth]:
    pack = packs[line.sku]
    units = _units(line, rng)
    # A share of all bins; a bin with nothing in it can't be faced up, and a full one has no emptiness behind.
    faced_up = bool(rng.random() < messy.faced_up_bins / (1 - OUT_OF_STOCK)) and units > 0
    if faced_up and units == line.capacity_units:
        least = min(line.low_at_units + 1, line.capacity_units - 1)
        units = int(rng.integers(least, line.capacity_units)) if least > line.low_at_units else units
    per_column = np.full(line.facings_wide, line.facings_deep * line.facings_high)
    for _ in range(line.capacity_units - units):
        per_column[int(rng.choice(np.flatnonzero(per_column > 0)))] -= 1
    columns = [_Column(line.facings_deep, line.facings_high, int(c), faced_up) for c in per_column]
    foreign = _foreign(place, line, packs, skus, rng) if rng.random() < FOREIGN else None
    foreign_column = int(rng.integers(line.facings_wide)) if foreign else -1
    effects: list[str] = ["faced_up"] if faced_up and 0 < units < line.capacity_units else []
    if foreign and messy.unknown_products and rng.random() < messy.unknown_products:
        stranger = _foreign(place, line, packs, unknown, rng)
        if stranger is not None:
            foreign = stranger
            effects.append("foreign")
    items: list[SceneItem] = []
    pitch = pack.width_m + GAP_M
    step = pack.depth_m + DEPTH_GAP_M
    facings = counted = 0
    foreign_front = False
    for c, column in enumerate(columns):
        x = place.x0_m + GAP_M / 2 + pack.width_m / 2 + c * pitch
        push = 0.0
        if messy.pushed_back_columns and not faced_up and c != foreign_column and rng.random() < messy.pushed_back_columns:
            # The whole column is shoved, at most against the back of the shelf.
            room = place.depth_m - (FRONT_M + line.facings_deep * step) - SHOVE_MARGIN_M
            push = max(0.0, min(room, float(rng.uniform(0.1, 0.5)) * place.depth_m)) if any(column.stacks) else 0.0
            if push > 0.005:
                effects.append("pushed_back")
        stacks = list(column.stacks)
        seen_rows: set[int] = set()
        if c == foreign_column and foreign is not None:
            # The stray stands where a shopper would put it back: at the front, or on the first free place.
            at = next((i for i, s in enumerate(stacks) if s), 0)
            stacks[at] = 0
            y = place_y(at, step, FRONT_M) + foreign.depth_m / 2
            items.append(
                item_at(place, foreign, x, min(y, place.depth_m - foreign.depth_m / 2), 0, True, rng, first_id + len(items))
            )
            seen_rows.add(0)
            foreign_front = True
        for i, stack in enumerate(stacks):
            y = place_y(i, step, FRONT_M) + pack.depth_m / 2 + push
            for row in range(stack):
                front = row not in seen_rows
                seen_rows.add(row)
                facings += front
                counted += 1
                item, turned = _turned(item_at(place, pack, x, y, row, front, rng, first_id + len(items)), pack, messy, rng)
                items.append(item)
                if turned and front:
                    effects.append("turned")
    status = "OUT_OF_STOCK" if counted == 0 else "LOW" if counted <= line.low_at_units else "OK"
    return items, BinTruth(place.bin_id, line.sku, status, foreign_front, facings, counted, tuple(sorted(set(effects))))


def place_y(index: int, step_m: float, front_m: float) -> float:
    """Front of the item at a depth index, metres behind the shelf's edge."""
    return front_m + index * step_m


def item_at(
    place: BinPlace, pack: PackSpec, x: float, y: float, row: int, front: bool, rng: np.random.Generator, number: int
) -> SceneItem:
    """An item in the face frame, with the little disorder of hands, in ``map``."""
    dx, dy = rng.uniform(-0.002, 0.002), rng.uniform(0.0, 0.001)
    if pack.shape in ("can", "bottle"):
        dyaw = rng.normal(0.0, 0.15)
    else:
        # So little that neighbours, turned as much the other way, stay clear of one another.
        most = min(0.03, (DEPTH_GAP_M - 0.0015) / pack.width_m, (GAP_M - 0.0045) / pack.depth_m)
        dyaw = float(np.clip(rng.normal(0.0, 0.012), -most, most))
    p = place.T_map_face @ np.array([x + dx, y + dy, place.z0_m + pack.height_m * (row + 0.5) + 0.0005 * row, 1.0])
    yaw = math.atan2(place.T_map_face[1, 0], place.T_map_face[0, 0]) + dyaw
    xyz = (round(float(p[0]), 5), round(float(p[1]), 5), round(float(p[2]), 5))
    return SceneItem(f"I{number:06d}", pack.sku, *xyz, round(yaw, 5), place.bin_id, front)


def _turned(item: SceneItem, pack: PackSpec, messy: Messiness, rng: np.random.Generator) -> tuple[SceneItem, bool]:
    """The item with its side or back to the shopper, if the draw says so; the side only where that fits."""
    if not messy.turned_items or rng.random() >= messy.turned_items:
        return item, False
    square = pack.shape in ("can", "bottle") or abs(pack.width_m - pack.depth_m) < 0.001
    turn = float(rng.choice([math.pi / 2, math.pi, -math.pi / 2])) if square else math.pi
    return replace(item, yaw_rad=round(item.yaw_rad + turn, 5)), True


def _foreign(
    place: BinPlace, line: PlanogramLine, packs: Mapping[str, PackSpec], skus: Sequence[str], rng: np.random.Generator
) -> PackSpec | None:
    """Another product that fits into one column."""
    own = packs[line.sku]
    for _ in range(60 if skus else 0):
        other = packs[skus[int(rng.integers(len(skus)))]]
        fits = other.width_m <= own.width_m and other.height_m <= place.z1_m - place.z0_m - 0.02
        if other.sku != own.sku and fits and other.depth_m <= own.depth_m:
            return other
    return None
