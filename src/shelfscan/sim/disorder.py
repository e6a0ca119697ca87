"""What a real night does to a store: shelves that hang elsewhere, bays that were reset, wrong sizes in the catalogue.

The *file* (layout, planogram, catalogue) is what the robot is told; the *shelf* is what stands there. `as_built` gives the
shelf's own store and planogram, `by_the_file` says what the file's bins then hold, by the definitions of the contract.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from shelfscan.errors import BadInput
from shelfscan.inputs import read_yaml
from shelfscan.model.catalogue import Product
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import Bay, Bin, BinPlace, Gondola, Shelf, Store
from shelfscan.sim.layout import EDGE_M, GONDOLA_HEIGHT_M
from shelfscan.sim.merchandise import DEPTH_GAP_M, FRONT_M, GAP_M
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.scene import SceneItem, SceneTag, Sensing
from shelfscan.sim.stock import MESSINESS, BinTruth, Messiness

#: Air that stays above the tallest goods of a shelf when boards are moved.
AIR_M = 0.012
#: Share of a reset bay's bins that got another product, beside all of them changing places.
REPLACED = 0.3
#: A catalogue size that is wrong is wrong by a factor within these, or by its inverse.
WRONG_BY = (1.27, 1.6)
#: A shelf that hangs this far from where the layout has it is worth telling.
DRIFT_M = 0.015


@dataclass(frozen=True)
class Built:
    """The shelf's own store and planogram; ``stale``: bays whose file is not the shelf's; ``up_m``: shelves moved, metres."""

    store: Store
    plan: Mapping[str, PlanogramLine]
    stale: frozenset[str]
    up_m: Mapping[str, float]


def as_built(
    store: Store, plan: Mapping[str, PlanogramLine], packs: Mapping[str, PackSpec], messy: Messiness, seed: int
) -> Built:
    """What stands there when the file is ``store`` and ``plan``. Without disorder it is the file itself."""
    if not messy.shelf_height_m and not messy.stale_bays:
        return Built(store, plan, frozenset(), {})
    rng = np.random.default_rng([seed, 88])
    lines = dict(plan)
    bays = [b.bay_id for _, g in store.gondolas() for b in g.bays]
    # A share and not a coin a bay: small stores have their stale bay too.
    count = max(1, round(messy.stale_bays * len(bays))) if messy.stale_bays else 0
    stale = {bays[int(n)] for n in rng.permutation(len(bays))[:count]}
    up: dict[str, float] = {}

    def rebuilt(bay: Bay) -> Bay:
        if messy.shelf_height_m:
            bay = _moved(bay, lines, packs, messy.shelf_height_m, rng, up)
        if bay.bay_id in stale:
            bay = replace(bay, shelves=tuple(_reset(s, lines, packs, rng) for s in bay.shelves))
        return bay

    def face(g: Gondola) -> Gondola:
        return replace(g, bays=tuple(rebuilt(b) for b in g.bays))

    aisles = tuple(replace(a, gondolas=tuple(face(g) for g in a.gondolas)) for a in store.aisles)
    return Built(replace(store, aisles=aisles), lines, frozenset(stale), up)


def _moved(
    bay: Bay,
    lines: Mapping[str, PlanogramLine],
    packs: Mapping[str, PackSpec],
    most_m: float,
    rng: np.random.Generator,
    up: dict[str, float],
) -> Bay:
    """The bay's boards, each up or down by at most ``most_m``, so that what is planned still fits between them."""
    tall = [
        max((lines[b.bin_id].facings_high * packs[lines[b.bin_id].sku].height_m for b in s.bins), default=0.1)
        for s in bay.shelves
    ]
    z: list[float] = []
    for n, shelf in enumerate(bay.shelves):
        # Room above the goods of the shelf below, and below the layout's next board (which moves in its turn).
        least = z[-1] + tall[n - 1] + AIR_M + EDGE_M if n else shelf.z_m - most_m
        above = bay.shelves[n + 1].z_m - EDGE_M if n + 1 < len(bay.shelves) else GONDOLA_HEIGHT_M - 0.03
        low = max(shelf.z_m - most_m, least)
        high = max(low, min(shelf.z_m + most_m, above + (most_m if n + 1 < len(bay.shelves) else 0.0) - tall[n] - AIR_M))
        z.append(round(float(rng.uniform(low, high)), 4))
        up[shelf.shelf_id] = round(z[-1] - shelf.z_m, 4)
    tops = [*(v - EDGE_M for v in z[1:]), GONDOLA_HEIGHT_M - 0.03]
    shelves = tuple(replace(s, z_m=v, clear_height_m=round(top - v, 4)) for s, v, top in zip(bay.shelves, z, tops, strict=True))
    return replace(bay, shelves=shelves)


def _reset(shelf: Shelf, lines: dict[str, PlanogramLine], packs: Mapping[str, PackSpec], rng: np.random.Generator) -> Shelf:
    """The shelf's bins in another order, some with another product that fits; ``lines`` is changed with them."""
    bins = list(shelf.bins)
    if len(bins) < 2:
        return shelf
    order = rng.permutation(len(bins))
    while (order == np.arange(len(bins))).all():
        order = rng.permutation(len(bins))
    skus = sorted(packs)
    x = bins[0].x_m
    out: list[Bin] = []
    for n in order:
        b = bins[int(n)]
        line = lines[b.bin_id]
        if rng.random() < REPLACED:
            line = _another(line, b, shelf, packs, skus, rng)
            lines[b.bin_id] = line
        width = round(line.facings_wide * (packs[line.sku].width_m + GAP_M), 4)
        out.append(Bin(b.bin_id, round(x, 4), width))
        x = round(x + width, 4)
    return replace(shelf, bins=tuple(out))


def _another(
    line: PlanogramLine, b: Bin, shelf: Shelf, packs: Mapping[str, PackSpec], skus: Sequence[str], rng: np.random.Generator
) -> PlanogramLine:
    for _ in range(40):
        pack = packs[skus[int(rng.integers(len(skus)))]]
        wide = int((b.width_m + 1e-6) // (pack.width_m + GAP_M))
        if pack.sku != line.sku and wide >= 1 and pack.height_m <= shelf.clear_height_m - AIR_M:
            deep = max(1, int((shelf.depth_m - FRONT_M - 0.01 + DEPTH_GAP_M) // (pack.depth_m + DEPTH_GAP_M)))
            return PlanogramLine(line.bin_id, pack.sku, wide, 1, deep)
    return line


def by_the_file(
    store: Store,
    plan: Mapping[str, PlanogramLine],
    stale: Collection[str],
    items: Sequence[SceneItem],
    truths: Sequence[BinTruth],
) -> tuple[list[SceneItem], list[BinTruth]]:
    """Items and truths by the file's bins. ``items`` and ``truths`` are those of the shelf's own bins.

    Only bays of which the file is stale change: an item belongs to the file's bin it stands in (the nearest of its shelf).
    """
    if not stale:
        return list(items), list(truths)
    places = store.places
    of_shelf: dict[str, list[BinPlace]] = {}
    for p in places.values():
        of_shelf.setdefault(p.shelf_id, []).append(p)
    out: list[SceneItem] = []
    inside: dict[str, list[SceneItem]] = {}
    for item in items:
        own = places[item.bin_id]
        if own.bay_id in stale:
            x = float(apply(inverse(own.T_map_face), np.array([item.x_m, item.y_m, item.z_m]))[0])
            at = min(of_shelf[own.shelf_id], key=lambda p: (max(p.x0_m - x, x - p.x1_m, 0.0), p.bin_id))
            item = replace(item, bin_id=at.bin_id)
            inside.setdefault(at.bin_id, []).append(item)
        out.append(item)
    told = []
    for t in truths:
        line = plan[t.bin_id]
        if places[t.bin_id].bay_id not in stale:
            told.append(t)
            continue
        here = inside.get(t.bin_id, [])
        units = sum(i.sku == line.sku for i in here)
        facings = sum(i.sku == line.sku and i.facing for i in here)
        strangers = any(i.sku != line.sku and i.facing for i in here)
        status = "OUT_OF_STOCK" if units == 0 else "LOW" if units <= line.low_at_units else "OK"
        told.append(BinTruth(t.bin_id, line.sku, status, strangers, facings, units, ("stale_planogram",)))
    return out, told


def tag_on(place: BinPlace, tags: Sequence[SceneTag], drop_m: float) -> SceneTag | None:
    """The first tag from the left that hangs below a bin's stretch of its shelf; ``drop_m``: how far below the surface."""
    T = inverse(place.T_map_face)
    found = []
    for tag in tags:
        x, y, z = (float(v) for v in apply(T, np.array([tag.x_m, tag.y_m, tag.z_m])))
        if place.x0_m <= x < place.x1_m and abs(y) < 0.05 and abs(z - (place.z0_m - drop_m)) < 0.1:
            found.append((x, tag))
    return min(found, key=lambda f: f[0])[1] if found else None


def wrong_sizes(
    catalogue: Mapping[str, Product], share: float, seed: int
) -> tuple[dict[str, Product], dict[str, tuple[str, float]]]:
    """The catalogue with a share of its products given one wrong side, and which: (field, true metres) by SKU."""
    out, wrong = dict(catalogue), dict[str, tuple[str, float]]()
    if not share:
        return out, wrong
    rng = np.random.default_rng([seed, 99])
    for sku in sorted(catalogue):
        if rng.random() >= share:
            continue
        name = str(rng.choice(("width_m", "height_m", "depth_m")))
        true = float(getattr(catalogue[sku], name))
        factor = float(rng.uniform(*WRONG_BY))
        said = round(true * factor if rng.random() < 0.5 else true / factor, 4)
        out[sku] = replace(catalogue[sku], **{name: said})  # type: ignore[arg-type]
        wrong[sku] = (name, true)
    return out, wrong


def load_messiness(level: int, path: Path | None = None, settings: Sequence[str] = ()) -> Messiness:
    """The knobs of a level, changed by a YAML file and then by ``name=value`` settings.

    The names are the fields of `Messiness` and of `Sensing`. Raises `BadInput` naming each wrong one.
    """
    if level not in MESSINESS:
        raise BadInput(f"messy {level!r}: expected {', '.join(map(str, MESSINESS))}")
    wanted: dict[str, Any] = {}
    problems: list[str] = []
    if path is not None:
        data = read_yaml(path, "file of disorder") or {}
        if not isinstance(data, dict):
            raise BadInput(f"{path}: expected lines such as 'stale_bays: 0.1', found {type(data).__name__}")
        wanted |= {f"{path}: {name}": (name, value) for name, value in data.items()}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--set {text}: expected name=value")
        wanted[f"--set {name}"] = (name.strip(), value.strip())
    own = {f.name for f in fields(Messiness)} - {"sensing"}
    sensing = {f.name for f in fields(Sensing)}
    changes: dict[str, dict[str, float]] = {"own": {}, "sensing": {}}
    for where, (name, value) in wanted.items():
        if name not in own | sensing:
            problems.append(f"{where}: unknown; expected one of {', '.join(sorted(own | sensing))}")
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            problems.append(f"{where}: {value!r} is no number")
            continue
        if not 0 <= number < 1000 or (name in SHARES and number > 1):
            problems.append(f"{where}: {number:g} is out of range, {'0 to 1' if name in SHARES else '0 to 1000'}")
            continue
        changes["own" if name in own else "sensing"][name] = int(number) if name in COUNTS else number
    if problems:
        raise BadInput(problems)
    base = MESSINESS[level]
    return replace(base, **changes["own"], sensing=replace(base.sensing, **changes["sensing"]))  # type: ignore[arg-type]


COUNTS = ("people", "trolleys")
SHARES = (
    "pushed_back_columns", "turned_items", "missing_tags", "wrong_prices", "faced_up_bins", "fallen_items", "stale_bays",
    "wrong_dimensions", "unknown_products", "dark_aisles", "glare_fraction", "overstocked_bins", "wrong_facings_bins",
)  # fmt: skip
