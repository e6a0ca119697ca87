"""Space that is not used as planned, on request: bins that hold too much, and goods on too few or on a neighbour's facings.

What people do when they fill shelves, each with its finding in the truth:

- *stacked*: a further layer on top of a full bin, above the rows that are planned (``overstocked``);
- *over the maximum*: more than the planogram's ``max_units``, in a bin that has one (``overstocked``); for each such bin
  another one gets a maximum that its goods do not pass;
- *spread*: a product that takes its neighbour's next column, and *narrow*: a column that was never filled while the others are
  full to the back (``wrong_facings``, told at the bin whose facings are too few).

Without the knobs a store stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shelfscan.model.planogram import PlanogramLine, emptied_by_chance
from shelfscan.model.store import BinPlace, Store
from shelfscan.sim.merchandise import DEPTH_GAP_M, FRONT_M, GAP_M
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.scene import SceneItem
from shelfscan.sim.stock import BinTruth, Messiness, item_at, place_y

#: Air that stays between goods and the board above.
AIR_M = 0.012
#: Stacked goods keep this much air on the ones below.
LAYER_M = 0.0005
#: A maximum is this share of what a bin has room for, at least and at most.
MAX_SHARE = (0.45, 0.75)
#: What chance alone leaves this seldom is no chance: a column that is bare while the others are full.
SELDOM = 0.02


@dataclass
class Spaces:
    """What stands there and what is planned, while it is changed; ``touched``: bins that are part of a trouble already."""

    items: dict[str, list[SceneItem]]
    truths: dict[str, BinTruth]
    plan: dict[str, PlanogramLine]
    touched: set[str]
    made: int


def in_other_space(
    store: Store,
    plan: Mapping[str, PlanogramLine],
    packs: Mapping[str, PackSpec],
    items: Sequence[SceneItem],
    truths: Sequence[BinTruth],
    messy: Messiness,
    stale: Collection[str],
    seed: int,
) -> tuple[list[SceneItem], list[BinTruth], dict[str, PlanogramLine]]:
    """Items, truths and planogram with the shares of bins that ``messy`` asks for. Bays of ``stale`` are left alone.

    Bins in which something else is amiss (strangers, pushed back, turned) are left alone too, so that a bin has one trouble.
    """
    if not messy.overstocked_bins and not messy.wrong_facings_bins:
        return list(items), list(truths), dict(plan)
    rng = np.random.default_rng([seed, 111])
    of_bin: dict[str, list[SceneItem]] = {}
    for i in items:
        of_bin.setdefault(i.bin_id, []).append(i)
    places = {b: p for b, p in store.places.items() if p.bay_id not in stale}
    busy = {t.bin_id for t in truths if t.misplaced or set(t.effects) - {"faced_up"}}
    now = Spaces(of_bin, {t.bin_id: t for t in truths}, dict(plan), busy, len(items))
    wanted = [round(share * len(store.places)) for share in (messy.wrong_facings_bins, messy.overstocked_bins)]
    order = [list(places.values())[int(n)] for n in rng.permutation(len(places))]
    ways: tuple[tuple[int, tuple[Callable[[BinPlace], bool], ...]], ...] = (
        (wanted[0], (lambda p: _spread(p, places, packs, now, rng), lambda p: _narrow(p, packs, now, rng))),
        (wanted[1], (lambda p: _stacked(p, packs, now, rng), lambda p: _over_maximum(p, packs, now, rng))),
    )
    for count, kinds in ways:
        done = 0
        # Half of the one kind, as far as it can be made, half and what is missing of the other one.
        for kind, upto in ((kinds[0], (count + 1) // 2), (kinds[1], count), (kinds[0], count)):
            for place in order:
                if done < upto and place.bin_id not in now.touched:
                    done += kind(place)
    if wanted[1]:
        _harmless_maxima(order, now, sum(p.max_units is not None for p in now.plan.values()), rng)
    return [i for b in store.places for i in now.items.get(b, [])], [now.truths[t.bin_id] for t in truths], now.plan


def _put(
    place: BinPlace, pack: PackSpec, x: float, stacks: Sequence[int], now: Spaces, rng: np.random.Generator, first: int = 0
) -> list[SceneItem]:
    """One column of a pack from front to back: ``stacks`` items on one another at each depth, behind ``first`` empty places."""
    out: list[SceneItem] = []
    seen: set[int] = set()
    for i, stack in enumerate(stacks):
        y = place_y(first + i, pack.depth_m + DEPTH_GAP_M, FRONT_M) + pack.depth_m / 2
        for row in range(stack):
            out.append(item_at(place, pack, x, y, row, row not in seen, rng, now.made))
            seen.add(row)
            now.made += 1
    return out


def _column_x(place: BinPlace, pack: PackSpec, column: int) -> float:
    return place.x0_m + GAP_M / 2 + pack.width_m / 2 + column * (pack.width_m + GAP_M)


def _full(
    place: BinPlace, pack: PackSpec, line: PlanogramLine, columns: Collection[int], now: Spaces, rng: np.random.Generator
) -> list[SceneItem]:
    column = [line.facings_high] * line.facings_deep
    return [i for c in sorted(columns) for i in _put(place, pack, _column_x(place, pack, c), column, now, rng)]


def _told(now: Spaces, place: BinPlace, line: PlanogramLine, items: list[SceneItem], effect: str) -> None:
    """Take over a bin's new goods; ``effect``: the trouble that it now has, or empty."""
    own = [i for i in items if i.sku == line.sku]
    units = len(own)
    status = "OUT_OF_STOCK" if not units else "LOW" if units <= line.low_at_units else "OK"
    strangers = any(i.sku != line.sku and i.facing for i in items)
    facings = sum(i.facing for i in own)
    effects = (effect,) if effect else ()
    now.items[place.bin_id] = items
    now.truths[place.bin_id] = BinTruth(place.bin_id, line.sku, status, strangers, facings, units, effects)
    now.touched.add(place.bin_id)


def _stacked(place: BinPlace, packs: Mapping[str, PackSpec], now: Spaces, rng: np.random.Generator) -> bool:
    """One layer more than planned on some columns of a full bin, from the front."""
    line = now.plan[place.bin_id]
    pack = packs[line.sku]
    high = line.facings_high + 1
    if pack.shape not in ("box", "can") or high * pack.height_m > place.z1_m - place.z0_m - AIR_M:
        return False
    on = rng.permutation(line.facings_wide)[: int(rng.integers(1, line.facings_wide + 1))]
    items: list[SceneItem] = []
    for c in range(line.facings_wide):
        more = int(rng.integers(1, line.facings_deep + 1)) if c in on else 0
        stacks = [line.facings_high + (i < more) for i in range(line.facings_deep)]
        items += _put(place, pack, _column_x(place, pack, c), stacks, now, rng)
    _told(now, place, line, items, "overstocked")
    return True


def _over_maximum(place: BinPlace, packs: Mapping[str, PackSpec], now: Spaces, rng: np.random.Generator) -> bool:
    """More than a maximum that the planogram now has for the bin: between a unit and all that has room."""
    line = now.plan[place.bin_id]
    most = _maximum(line, rng)
    if most is None:
        return False
    line = now.plan[place.bin_id] = replace(line, max_units=most)
    pack = packs[line.sku]
    units = int(rng.integers(most + 1, line.capacity_units + 1))
    per_column = np.full(line.facings_wide, line.facings_deep * line.facings_high)
    for _ in range(line.capacity_units - units):
        per_column[int(rng.choice(np.flatnonzero(per_column > 0)))] -= 1
    items: list[SceneItem] = []
    for c, n in enumerate(per_column):
        full, rest = divmod(int(n), line.facings_high)
        stacks = ([rest] if rest else []) + [line.facings_high] * full
        items += _put(place, pack, _column_x(place, pack, c), stacks, now, rng, line.facings_deep - len(stacks))
    _told(now, place, line, items, "overstocked")
    return True


def _maximum(line: PlanogramLine, rng: np.random.Generator) -> int | None:
    """A maximum for a bin, above what is low and below what has room; None where nothing is in between."""
    most = max(line.low_at_units + 1, round(float(rng.uniform(*MAX_SHARE)) * line.capacity_units))
    return most if most < line.capacity_units else None


def _harmless_maxima(order: Sequence[BinPlace], now: Spaces, count: int, rng: np.random.Generator) -> None:
    """As many bins again get a maximum that they keep."""
    for place in order:
        line, truth = now.plan[place.bin_id], now.truths[place.bin_id]
        most = _maximum(line, rng)
        if count and place.bin_id not in now.touched and most is not None and truth.units <= most:
            now.plan[place.bin_id] = replace(line, max_units=most)
            now.touched.add(place.bin_id)
            count -= 1


def _narrow(place: BinPlace, packs: Mapping[str, PackSpec], now: Spaces, rng: np.random.Generator) -> bool:
    """One column is bare, and all others are full: nobody took all of one column and nothing of the others."""
    line = now.plan[place.bin_id]
    if line.facings_wide < 2 or emptied_by_chance(line, 1) > SELDOM:
        return False
    bare = int(rng.integers(line.facings_wide))
    columns = set(range(line.facings_wide)) - {bare}
    _told(now, place, line, _full(place, packs[line.sku], line, columns, now, rng), "wrong_facings")
    return True


def _spread(
    place: BinPlace, places: Mapping[str, BinPlace], packs: Mapping[str, PackSpec], now: Spaces, rng: np.random.Generator
) -> bool:
    """A neighbour's goods stand in the bin's nearest column too, from front to back; the neighbour's own bin is full."""
    line = now.plan[place.bin_id]
    if line.facings_wide < 2:
        return False
    pack = packs[line.sku]
    beside = [
        p
        for p in places.values()
        if p.shelf_id == place.shelf_id and min(abs(p.x1_m - place.x0_m), abs(p.x0_m - place.x1_m)) < 0.005
    ]
    for k in rng.permutation(len(beside)):
        other = beside[int(k)]
        theirs = now.plan[other.bin_id]
        thing = packs[theirs.sku]
        fits = thing.height_m <= place.z1_m - place.z0_m - AIR_M and theirs.sku != line.sku
        # As many of the bin's columns as one of the neighbour's needs, and one at least stays.
        taken = int(np.ceil((thing.width_m + GAP_M) / (pack.width_m + GAP_M) - 1e-6))
        left = line.capacity_units * (line.facings_wide - taken) // line.facings_wide
        if other.bin_id in now.touched or not fits or left <= line.low_at_units:
            continue
        right = other.x0_m >= place.x1_m - 0.005
        pitch = thing.width_m + GAP_M
        many = int((taken * (pack.width_m + GAP_M) + 1e-6) // pitch)
        first = place.x1_m - (many - 0.5) * pitch if right else place.x0_m + pitch / 2
        stays = range(line.facings_wide - taken) if right else range(taken, line.facings_wide)
        items = _full(place, pack, line, list(stays), now, rng)
        for n in range(many):
            items += _put(place, thing, first + n * pitch, [1] * theirs.facings_deep, now, rng)
        _told(now, place, line, items, "wrong_facings")
        full = _full(other, thing, theirs, range(theirs.facings_wide), now, rng)
        _told(now, other, theirs, full, "")
        return True
    return False
