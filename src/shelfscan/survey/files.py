"""Bundles of a survey: the blank one for the first drive, and the proposal made from it. Written as a whole or not at all."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shelfscan.bundle import load_bundle, read_layout, save_bundle
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.model.bundle import Bundle, WmsLocation
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.store import Bay, Bin, Gondola, Shelf, Store
from shelfscan.survey.propose import Line
from shelfscan.survey.review import assemble, write_review

REVIEW = "review.csv"
#: A blank face is divided into fields of about this size, and the lowest begins here: the planner sees to each in full.
FIELD_WIDE_M, FIELD_HIGH_M, LOWEST_M = 0.6, 0.38, 0.05


@dataclass(frozen=True)
class Written:
    """What a proposal holds."""

    bays: int
    shelves: int
    bins: int
    unnamed: int


def write_blank(layout: Path, out: Path) -> int:
    """A bundle to drive with before anything is known of what stands where; how many fields it has.

    ``layout``: a bundle whose ``store.yaml`` has the faces; their bays need no shelves, and its ``planogram.csv`` is not read.
    Every field is given the catalogue's first product, which nobody believes. Raises `BadInput`.
    """
    bundle = read_layout(layout)
    if not bundle.catalogue:
        raise BadInput(f"{layout / 'catalogue.csv'}: no product; a survey names what it sees by the catalogue and the gallery")
    sku = next(iter(bundle.catalogue))
    aisles = tuple(replace(a, gondolas=tuple(_blank(g) for g in a.gondolas)) for a in bundle.store.aisles)
    store = replace(bundle.store, aisles=aisles)
    planogram = {b: PlanogramLine(b, sku, 1, 1, 1) for b in store.places}
    _write(bundle, out, store, planogram, ())
    return len(planogram)


def _blank(g: Gondola) -> Gondola:
    columns = max(1, round(g.length_m / FIELD_WIDE_M))
    rows = max(1, math.floor((g.height_m - LOWEST_M) / FIELD_HIGH_M))
    wide, high = g.length_m / columns, (g.height_m - LOWEST_M) / rows
    bays = []
    for n in range(columns):
        bay = f"{g.gondola_id}-B{n + 1:02d}"
        shelves = tuple(
            Shelf(f"{bay}-S{k + 1}", LOWEST_M + k * high, high, g.depth_m, (Bin(f"{bay}-S{k + 1}-01", 0.0, wide),))
            for k in range(rows)
        )
        bays.append(Bay(bay, n * wide, wide, shelves))
    return replace(g, bays=tuple(bays))


def write_proposal(bundle: Bundle, out: Path, lines: Sequence[Line]) -> Written:
    """The bundle of the lines, with ``review.csv``. Raises `BadInput` as the bundle's loader does, and then writes nothing."""
    store, planogram = assemble(bundle.store, lines)
    _write(bundle, out, store, planogram, lines)
    bays = [b for _, g in store.gondolas() for b in g.bays]
    return Written(len(bays), sum(len(b.shelves) for b in bays), len(planogram), sum(not x.sku for x in lines))


def _write(bundle: Bundle, out: Path, store: Store, planogram: Planogram, lines: Sequence[Line]) -> None:
    expect_writable(out, folder=True)
    if out.exists() and any(out.iterdir()) and not (out / REVIEW).is_file():
        raise BadInput(f"{out}: exists and is no proposal of a survey; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        scratch.chmod(0o755)
        save_bundle(scratch, store, bundle.catalogue, planogram, bundle.grid, _locations(bundle.wms, planogram))
        shutil.copyfile(bundle.root / "robot.yaml", scratch / "robot.yaml")
        shutil.copytree(bundle.root / "gallery", scratch / "gallery")
        if lines:
            write_review(scratch / REVIEW, lines, bundle.catalogue)
        try:
            load_bundle(scratch)
        except BadInput as e:
            raise BadInput(p.replace(str(scratch), str(out)) for p in e.problems) from None
        if out.exists():
            shutil.rmtree(out)
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _locations(wms: Sequence[WmsLocation], planogram: Planogram) -> tuple[WmsLocation, ...]:
    """The warehouse system's locations with the bins as they are called now; a product in several bins has none."""
    bins: dict[str, list[str]] = {}
    for line in planogram.values():
        bins.setdefault(line.sku, []).append(line.bin_id)
    out = []
    for w in wms:
        if w.bin_id:
            found = bins.get(w.sku, [])
            w = replace(w, bin_id=found[0] if len(found) == 1 else "")
        out.append(w)
    return tuple(out)
