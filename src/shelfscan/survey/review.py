"""The proposal as a table that staff go through, and back."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shelfscan.bundle import write_csv
from shelfscan.errors import BadInput
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.survey.propose import Line

#: ``keep`` takes a line as it is, ``drop`` leaves it out; ``name`` stands where nobody knows the product yet.
ACTIONS = ("keep", "drop", "name")
TEXTS = ("aisle_id", "gondola_id", "bay_id", "shelf_id", "bin_id", "sku")
LENGTHS = ("bay_x_m", "bay_width_m", "shelf_z_m", "clear_height_m", "depth_m", "x_m", "width_m")
COUNTS = ("facings_wide", "facings_high", "facings_deep")
#: The columns that are read back, the widths of a bay and a shelf on each of their lines; the others only inform.
READ = ("action", *TEXTS, *COUNTS, *LENGTHS)
COLUMNS = (*READ, "name", "confidence", "why", "products_seen", "tag_price", "or_else", "evidence")


def write_review(path: Path, lines: Sequence[Line], catalogue: Catalogue) -> None:
    """Write the table, the least sure lines of the store first to find by sorting its column ``confidence``."""
    rows = []
    for x in lines:
        product = catalogue.get(x.sku)
        told: dict[str, Any] = {n: getattr(x, n) for n in (*TEXTS, *COUNTS, *LENGTHS)}
        told |= {
            "action": "keep" if product else "name",
            "name": product.name if product else "",
            "confidence": f"{x.confidence:.2f}",
            "why": x.why,
            "products_seen": x.seen,
            "tag_price": x.tag_price,
            "or_else": " ".join(x.others),
            "evidence": x.evidence,
        }
        rows.append(tuple(told[c] for c in COLUMNS))
    write_csv(path, COLUMNS, rows)


def read_review(path: Path, catalogue: Catalogue) -> list[Line]:
    """The lines that staff kept. Raises `BadInput` with every wrong line and field."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            missing = [c for c in READ if c not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(f"{path}: line 1: missing column {', '.join(missing)}")
            rows = [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; expected the review.csv of a survey") from None
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{path}: cannot be read: {e}") from e
    problems: list[str] = []
    out = []
    for number, row in rows:
        where = f"{path}: line {number}"
        if row["action"] not in ACTIONS:
            problems.append(f"{where}: action is {row['action']!r}; expected {', '.join(ACTIONS)}")
        elif row["action"] != "drop":
            line = _line(where, row, problems)
            if not row["sku"]:
                problems.append(f"{where}: bin {row['bin_id']}: sku is empty; name the product, or set action to drop")
            elif row["sku"] not in catalogue:
                problems.append(f"{where}: bin {row['bin_id']}: sku {row['sku']!r} is not in catalogue.csv")
            if line is not None:
                out.append((where, line))
    problems += _one_place(out)
    if not out and not problems:
        problems.append(f"{path}: no line to keep")
    if problems:
        raise BadInput(problems)
    return [line for _, line in out]


def _line(where: str, row: dict[str, str], problems: list[str]) -> Line | None:
    before = len(problems)
    for name in TEXTS[:-1]:
        if not row[name]:
            problems.append(f"{where}: {name} is empty")
    lengths: dict[str, float] = {}
    for name in LENGTHS:
        try:
            lengths[name] = float(row[name])
        except ValueError:
            lengths[name] = math.nan
        least = 0.0 if name in ("bay_x_m", "shelf_z_m", "x_m") else 0.001
        if not math.isfinite(lengths[name]) or lengths[name] < least - 1e-9:
            problems.append(f"{where}: {name} is {row[name]!r}; expected metres of at least {least:g}")
    counts: dict[str, int] = {}
    for name in COUNTS:
        counts[name] = int(row[name]) if row[name].isdigit() else 0
        if counts[name] < 1:
            problems.append(f"{where}: {name} is {row[name]!r}; expected a whole number of at least 1")
    if len(problems) > before:
        return None
    values: dict[str, Any] = {**{n: row[n] for n in TEXTS}, **lengths, **counts}
    return Line(**values, confidence=1.0, why="accepted", seen=0, tag_price="", others=(), evidence="")


def _one_place(lines: Sequence[tuple[str, Line]]) -> list[str]:
    """Lines that put a bay or a shelf at two places."""
    problems = []
    known: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for where, x in lines:
        bay, shelf = (x.gondola_id, x.bay_x_m, x.bay_width_m), (x.bay_id, x.shelf_z_m, x.clear_height_m, x.depth_m)
        for kind, name, place in (("bay", x.bay_id, bay), ("shelf", x.shelf_id, shelf)):
            first = known.setdefault(f"{kind} {name}", (where, place))
            if first[1] != place:
                problems.append(f"{where}: {kind} {name} is at another place than in {first[0].rsplit(': ', 1)[-1]}")
    return problems


def assemble(layout: Store, lines: Sequence[Line]) -> tuple[Store, Planogram]:
    """The store and the planogram of the lines that have a SKU, on the faces of ``layout``.

    Raises `BadInput` when a line names a face that the layout has not.
    """
    lines = [x for x in lines if x.sku]
    faces = {g.gondola_id for _, g in layout.gondolas()}
    unknown = sorted({x.gondola_id for x in lines} - faces)
    if unknown:
        raise BadInput([f"gondola {g!r} is not in the layout; it has {', '.join(sorted(faces))}" for g in unknown])
    planogram = {x.bin_id: PlanogramLine(x.bin_id, x.sku, x.facings_wide, x.facings_high, x.facings_deep) for x in lines}
    aisles = tuple(Aisle(a.aisle_id, tuple(_gondola(g, lines) for g in a.gondolas)) for a in layout.aisles)
    return replace(layout, aisles=aisles), planogram


def _gondola(gondola: Gondola, lines: Sequence[Line]) -> Gondola:
    bays: dict[str, Bay] = {}
    for x in (x for x in lines if x.gondola_id == gondola.gondola_id):
        bay = bays.setdefault(x.bay_id, Bay(x.bay_id, x.bay_x_m, x.bay_width_m, ()))
        shelf = next((s for s in bay.shelves if s.shelf_id == x.shelf_id), None)
        rest = tuple(s for s in bay.shelves if s is not shelf)
        shelf = shelf or Shelf(x.shelf_id, x.shelf_z_m, x.clear_height_m, x.depth_m, ())
        bins = (*shelf.bins, Bin(x.bin_id, x.x_m, x.width_m))
        shelf = replace(shelf, bins=tuple(sorted(bins, key=lambda b: (b.x_m, b.bin_id))))
        bays[x.bay_id] = replace(bay, shelves=tuple(sorted((*rest, shelf), key=lambda s: (s.z_m, s.shelf_id))))
    return replace(gondola, bays=tuple(sorted(bays.values(), key=lambda b: (b.x_m, b.bay_id))))
