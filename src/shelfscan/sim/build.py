"""Builds a simulated store bundle: what the pipeline may know, and the truth beside it."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from shelfscan.bundle import save_bundle, write_csv
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import Store
from shelfscan.paths import default_robot_file
from shelfscan.robotfile import robot_model
from shelfscan.sim.condition import Condition, in_bad_condition
from shelfscan.sim.gallery import render_gallery
from shelfscan.sim.layout import EDGE_M, SIZES, make_layout
from shelfscan.sim.merchandise import catalogue_of, merchandise
from shelfscan.sim.packaging import make_packs
from shelfscan.sim.people import place_people
from shelfscan.sim.reachability import reachable_bins
from shelfscan.sim.scene import Scene, SceneTag
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
) -> None:
    """Write a bundle; the same seed and options give the same bytes. Nothing half-done is left behind.

    ``people``: how many stand before its shelves; without them the bytes are those of a store built before there were any.
    ``condition``: goods that are damaged, fallen or turned beyond what the level has; None: none.

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
        _build(
            made, seed, size, messy, people, progress or (lambda what, done: None), gallery_pictures, condition or Condition()
        )
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)


def _build(
    root: Path, seed: int, size: str, level: int, people: int, report: Report, gallery_pictures: int, condition: Condition
) -> None:
    report("layout", 0.0)
    messy = MESSINESS[level]
    layout = make_layout(size, seed)
    packs = make_packs(seed, SIZES[size].sku_limit, "store")
    store, plan = merchandise(layout.store, packs, seed)
    used = {line.sku for line in plan.values()}
    by_sku = {p.sku: p for p in packs if p.sku in used}
    catalogue = catalogue_of(list(by_sku.values()), seed)
    items, truths = stock_store(store, plan, by_sku, messy, seed)
    damage: dict[str, str] = {}
    if condition != Condition():
        items, truths, damage = in_bad_condition(store, by_sku, items, truths, condition, seed)
    tags, prices = _tags(store, plan, catalogue, messy, seed)
    scene = Scene(seed, size, level, by_sku, tuple(items), tuple(tags), layout.boxes, layout.lights, messy.sensing)
    scene = replace(scene, people=place_people(store, people, seed), damage=damage)
    document = yaml.safe_load(default_robot_file().read_text(encoding="utf-8"))
    document["dock"] = {"x_m": layout.dock.x_m, "y_m": layout.dock.y_m, "yaw_rad": layout.dock.yaw_rad}
    robot = robot_model(document, "robot.yaml")
    report("files", 0.05)
    save_bundle(root, store, catalogue, plan, layout.grid, _wms(truths, plan, seed))
    (root / "robot.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    report("what can be reached", 0.1)
    reachable = reachable_bins(scene, store, robot, layout.grid)
    _write_truth(root / "truth", scene, store, catalogue, truths, prices, reachable)
    (root / "gallery").mkdir()
    ordered = [by_sku[s] for s in sorted(by_sku)]
    render_gallery(ordered, root / "gallery", gallery_pictures, seed, lambda done: report("gallery", 0.2 + 0.8 * done))


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


def _write_truth(
    folder: Path,
    scene: Scene,
    store: Store,
    catalogue: Mapping[str, Product],
    truths: Sequence[BinTruth],
    prices: Mapping[str, str],
    reachable: Mapping[str, bool],
) -> None:
    folder.mkdir()
    scene.save(folder / "scene.json")
    rows = []
    findings: list[tuple[object, ...]] = []
    for t in truths:
        x, y, z = (round(v, 4) for v in store.places[t.bin_id].front_centre_map_m)
        price = prices[t.bin_id]
        rows.append((t.bin_id, t.sku, t.status, int(t.misplaced), t.facings, t.units, price, int(reachable[t.bin_id]), x, y, z))
        value = f"{catalogue[t.sku].price:.2f}"
        if t.status != "OK":
            findings.append((t.bin_id, t.status.lower(), "shelf", value))
        if t.misplaced:
            findings.append((t.bin_id, "misplaced", "shelf", value))
        findings += [(t.bin_id, e, "shelf", "0.00") for e in t.effects if e in ("turned", "pushed_back", "fallen")]
        if "damaged" in t.effects:
            findings.append((t.bin_id, "damaged", "shelf", value))
        if not price:
            findings.append((t.bin_id, "missing_tag", "shelf", "0.00"))
        elif float(price.replace(",", ".")) != catalogue[t.sku].price:
            findings.append((t.bin_id, "wrong_price", "shelf", value))
    columns = ("bin_id", "sku", "status", "misplaced", "facings", "units", "tag_price", "reachable", "x", "y", "z")
    write_csv(folder / "bins.csv", columns, rows)
    write_csv(
        folder / "items.csv",
        ("item_id", "sku", "x", "y", "z", "yaw", "bin_id", "facing"),
        [(i.item_id, i.sku, i.x_m, i.y_m, i.z_m, i.yaw_rad, i.bin_id, int(i.facing)) for i in scene.items],
    )
    write_csv(folder / "findings.csv", ("bin_id", "type", "cause", "value"), findings)
