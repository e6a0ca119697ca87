"""Builds a simulated store bundle: what the pipeline may know, and the truth beside it."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from shelfscan.bundle import save_bundle, write_csv
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import BinPlace, Store, on_shelves
from shelfscan.paths import default_robot_file
from shelfscan.robotfile import robot_model
from shelfscan.sim.condition import Condition, in_bad_condition
from shelfscan.sim.disorder import DRIFT_M, Built, as_built, by_the_file, tag_on, wrong_sizes
from shelfscan.sim.gallery import render_gallery
from shelfscan.sim.layout import EDGE_M, SIZES, furnished, make_layout
from shelfscan.sim.merchandise import catalogue_of, merchandise
from shelfscan.sim.night import with_darkness, with_glare, with_obstacles
from shelfscan.sim.packaging import PackSpec, make_packs
from shelfscan.sim.people import place_people
from shelfscan.sim.reachability import reachable_bins
from shelfscan.sim.scene import Scene, SceneTag
from shelfscan.sim.space import in_other_space
from shelfscan.sim.stock import MESSINESS, BinTruth, Messiness, stock_store
from shelfscan.sim.tags import HEIGHT_M, WIDTH_M, price_text, tag_style

Report = Callable[[str, float], None]


def build_store(
    out: Path,
    *,
    seed: int,
    size: str,
    messy: int = 0,
    people: int = 0,
    progress: Report | None = None,
    gallery_pictures: int = 2,
    condition: Condition | None = None,
    disorder: Messiness | None = None,
) -> None:
    """Write a bundle; the same seed and options give the same bytes. Nothing half-done is left behind.

    ``people``: how many stand before its shelves; without them the bytes are those of a store built before there were any.
    ``condition``: goods that are damaged, fallen or turned beyond what the level has; None: none. ``disorder``: the knobs,
    None: those of the level ``messy``.

    Raises `BadInput` for an unknown size or level, or when ``out`` holds something that is not a store bundle.
    """
    if size not in SIZES or messy not in MESSINESS:
        raise BadInput(f"size {size!r}, messy {messy!r}: expected {', '.join(SIZES)} and {', '.join(map(str, MESSINESS))}")
    expect_writable(out, folder=True)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "store.yaml").is_file())):
        raise BadInput(f"{out}: is there already and is not a store bundle; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "bundle"
        made.mkdir()
        knobs = disorder or MESSINESS[messy]
        report = progress or (lambda what, done: None)
        _build(made, seed, size, messy, knobs, people, report, gallery_pictures, condition or Condition())
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)


def _build(
    root: Path,
    seed: int,
    size: str,
    level: int,
    messy: Messiness,
    people: int,
    report: Report,
    gallery_pictures: int,
    condition: Condition,
) -> None:
    report("layout", 0.0)
    layout = make_layout(size, seed)
    packs = make_packs(seed, SIZES[size].sku_limit, "store")
    store, plan = merchandise(layout.store, packs, seed)
    used = {line.sku for line in plan.values()}
    by_sku = {p.sku: p for p in packs if p.sku in used}
    known = catalogue_of(list(by_sku.values()), seed)
    catalogue, wrong = wrong_sizes(known, messy.wrong_dimensions, seed)
    unknown = _unknown_packs(messy, seed)
    all_packs = {**by_sku, **unknown}
    built = as_built(store, plan, by_sku, messy, seed)
    items, truths = stock_store(built.store, built.plan, all_packs, messy, seed, tuple(unknown))
    items, truths, spaced = in_other_space(built.store, built.plan, all_packs, items, truths, messy, built.stale, seed)
    plan = {b: replace(line, max_units=spaced[b].max_units) for b, line in plan.items()}
    damage: dict[str, str] = {}
    condition = replace(condition, fallen=max(condition.fallen, messy.fallen_items))
    if condition != Condition():
        items, truths, damage = in_bad_condition(built.store, all_packs, items, truths, condition, seed)
    tags, prices = _tags(built.store, built.plan, known, messy, seed)
    items, truths = by_the_file(store, plan, built.stale, items, truths)
    if built.up_m:
        layout = replace(layout, boxes=tuple(furnished(built.store, layout.bounds, seed)))
    packs_there = {s: p for s, p in all_packs.items() if s in used or any(i.sku == s for i in items)}
    scene = Scene(seed, size, level, packs_there, tuple(items), tuple(tags), layout.boxes, layout.lights, messy.sensing)
    scene = replace(scene, people=place_people(store, people + messy.people, seed), damage=damage)
    scene = with_obstacles(with_darkness(scene, store, messy.dark_aisles, seed), store, messy.trolleys, seed)
    scene = with_glare(scene, seed)
    document = yaml.safe_load(default_robot_file().read_text(encoding="utf-8"))
    document["dock"] = {"x_m": layout.dock.x_m, "y_m": layout.dock.y_m, "yaw_rad": layout.dock.yaw_rad}
    robot = robot_model(document, "robot.yaml")
    report("files", 0.05)
    save_bundle(root, store, catalogue, plan, layout.grid, _wms(truths, plan, seed))
    (root / "robot.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    report("what can be reached", 0.1)
    there = on_shelves(store.places.values(), built.up_m)
    reachable = reachable_bins(scene, there, robot, layout.grid)
    for place in (p for p in there if p.bay_id in built.stale):
        tag = tag_on(place, tags, EDGE_M / 2)
        prices[place.bin_id] = tag.price_text if tag else ""
    effects = Effects(built, wrong, {t.bin_id: t for t in truths})
    _write_truth(root / "truth", scene, there, known, effects, prices, reachable)
    if level or messy != MESSINESS[0]:
        knobs = messy.knobs() | {"level": level}
        (root / "truth" / "messy.yaml").write_text(yaml.safe_dump(knobs, sort_keys=False))
    (root / "gallery").mkdir()
    ordered = [by_sku[s] for s in sorted(by_sku)]
    render_gallery(ordered, root / "gallery", gallery_pictures, seed, lambda done: report("gallery", 0.2 + 0.8 * done))


def _unknown_packs(messy: Messiness, seed: int) -> dict[str, PackSpec]:
    """Packs that are sold somewhere else: they may stand on the shelves, and are in no catalogue."""
    if not messy.unknown_products:
        return {}
    return {p.sku: p for p in (replace(p, sku=p.sku.replace("SKU", "NONE")) for p in make_packs(seed, 40, "strangers"))}


def _tags(
    store: Store, plan: Mapping[str, PlanogramLine], catalogue: Mapping[str, Product], messy: Messiness, seed: int
) -> tuple[list[SceneTag], dict[str, str]]:
    """A tag below each bin's left column; and the price printed on it, by bin ("" when missing)."""
    rng = np.random.default_rng([seed, 55])
    style = tag_style(seed)
    tags: list[SceneTag] = []
    printed: dict[str, str] = {}
    for place in store.places.values():
        product = catalogue[plan[place.bin_id].sku]
        missing, wrong = rng.random() < messy.missing_tags, rng.random() < messy.wrong_prices
        price = product.price + (float(rng.choice([-0.5, -0.3, 0.2, 0.4, 1.0])) if wrong else 0.0)
        if missing:
            printed[place.bin_id] = ""
            continue
        x = place.x0_m + min(WIDTH_M / 2 + 0.002, (place.x1_m - place.x0_m) / 2)
        p = place.T_map_face @ np.array([x, -0.0075, place.z0_m - EDGE_M / 2, 1.0])
        yaw = math.atan2(place.T_map_face[1, 0], place.T_map_face[0, 0])
        text = price_text(max(0.19, price), style)
        printed[place.bin_id] = text
        width = min(WIDTH_M, place.x1_m - place.x0_m - 0.002)
        item = f"Art. {int(product.sku.split('-')[1]):06d}"
        px, py, pz = (round(float(v), 5) for v in p[:3])
        tags.append(
            SceneTag(
                place.bin_id,
                product.sku,
                px,
                py,
                pz,
                yaw,
                width,
                HEIGHT_M,
                text,
                f"{product.brand} {product.name}",
                item,
                product.gtin,
            )
        )
    return tags, printed


def _wms(truths: Sequence[BinTruth], plan: Mapping[str, PlanogramLine], seed: int) -> tuple[WmsLocation, ...]:
    """What the warehouse believes: mostly right, sometimes not; one location in ten counts the whole site."""
    rng = np.random.default_rng([seed, 66])
    out = []
    for t in truths:
        site = rng.random() < 0.1
        backroom = int(rng.integers(0, plan[t.bin_id].capacity_units + 1)) if site or rng.random() < 0.3 else 0
        error = int(rng.choice([0, 0, 0, 0, 0, 0, 0, -2, -1, 1, 2, 4]))
        on_hand = max(0, t.units + error) + (backroom if site else 0)
        out.append(WmsLocation(t.bin_id, "site" if site else "shelf", t.bin_id, t.sku, on_hand, backroom))
    return tuple(out)


@dataclass(frozen=True)
class Effects:
    """Everything that is not as the file has it. ``wrong``: (field, true metres) of catalogue sizes, by SKU."""

    built: Built
    wrong: Mapping[str, tuple[str, float]]
    truths: Mapping[str, BinTruth]


def _write_truth(
    folder: Path,
    scene: Scene,
    places: Sequence[BinPlace],
    catalogue: Mapping[str, Product],
    effects: Effects,
    prices: Mapping[str, str],
    reachable: Mapping[str, bool],
) -> None:
    folder.mkdir()
    scene.save(folder / "scene.json")
    rows = []
    findings: list[tuple[object, ...]] = []
    told: set[str] = set()
    glaring = {i.bin_id for i in scene.items if i.item_id in scene.glare and i.facing}
    for place in places:
        t = effects.truths[place.bin_id]
        x, y, z = (round(v, 4) for v in place.front_centre_map_m)
        price = prices[t.bin_id]
        rows.append(
            (
                t.bin_id,
                t.sku,
                t.status,
                int(t.misplaced),
                t.facings,
                t.units,
                price,
                int(reachable[t.bin_id]),
                x,
                y,
                z,
                int("faced_up" in t.effects),
            )
        )
        findings += _findings(t, price, catalogue[t.sku])
        if t.sku in effects.wrong:
            findings.append((t.bin_id, "dimension_mismatch", "catalogue", effects.wrong[t.sku][1]))
        up = effects.built.up_m.get(place.shelf_id, 0.0)
        if abs(up) >= DRIFT_M and place.shelf_id not in told:
            # Once a shelf, with its first bin.
            told.add(place.shelf_id)
            findings.append((t.bin_id, "layout_drift", "layout", up))
        if t.bin_id in glaring:
            findings.append((t.bin_id, "glare", "sensor", "0.00"))
    columns = ("bin_id", "sku", "status", "misplaced", "facings", "units", "tag_price", "reachable", "x", "y", "z", "faced_up")
    write_csv(folder / "bins.csv", columns, rows)
    write_csv(
        folder / "items.csv",
        ("item_id", "sku", "x", "y", "z", "yaw", "bin_id", "facing"),
        [(i.item_id, i.sku, i.x_m, i.y_m, i.z_m, i.yaw_rad, i.bin_id, int(i.facing)) for i in scene.items],
    )
    write_csv(folder / "findings.csv", ("bin_id", "type", "cause", "value"), findings)


def _findings(t: BinTruth, price: str, product: Product) -> list[tuple[object, ...]]:
    """What is amiss in a bin, one row a cause."""
    value = f"{product.price:.2f}"
    if "stale_planogram" in t.effects:
        # Whatever else its numbers say, the file is what has to be put right.
        return [(t.bin_id, "stale_planogram", "planogram", "0.00")]
    out: list[tuple[object, ...]] = []
    if t.status != "OK":
        out.append((t.bin_id, t.status.lower(), "shelf", value))
    if t.misplaced and "wrong_facings" not in t.effects:
        # A neighbour's goods that spread are one cause, told once.
        out.append((t.bin_id, "foreign" if "foreign" in t.effects else "misplaced", "shelf", value))
    out += [(t.bin_id, e, "shelf", "0.00") for e in t.effects if e in ("turned", "pushed_back", "fallen")]
    if "wrong_facings" in t.effects:
        out.append((t.bin_id, "wrong_facings", "shelf", value))
    if "overstocked" in t.effects:
        out.append((t.bin_id, "overstocked", "shelf", "0.00"))
    if "damaged" in t.effects:
        out.append((t.bin_id, "damaged", "shelf", value))
    if not price:
        out.append((t.bin_id, "missing_tag", "shelf", "0.00"))
    elif float(price.replace(",", ".")) != product.price:
        out.append((t.bin_id, "wrong_price", "shelf", value))
    return out
