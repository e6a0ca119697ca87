"""What stands behind the front row of simulated stores that are there to be learned from; no test store is read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shelfscan.bundle import load_bundle
from shelfscan.errors import BadInput
from shelfscan.model.bundle import Bundle
from shelfscan.model.geometry import apply, inverse

#: Training stores have seeds from here; what is published is measured on others.
FIRST_SEED = 100_000


def training_bundle(root: Path) -> Bundle:
    """A store to learn from. Raises `BadInput` for one whose seed is a test seed."""
    bundle = load_bundle(root)
    seed = bundle.store.site.rsplit("-", 1)[-1]
    if not seed.isdigit() or int(seed) < FIRST_SEED:
        raise BadInput(f"{root}: is store {bundle.store.site}; training stores have seeds from {FIRST_SEED}")
    return bundle


def columns_of(root: Path, bundle: Bundle) -> dict[str, list[list[float]]]:
    """Per bin and planned column, how far behind the front plane the middle of each of the planned SKU's items is, metres."""
    out: dict[str, list[list[float]]] = {b: [[] for _ in range(bundle.planogram[b].facings_wide)] for b in bundle.store.places}
    with (root / "truth" / "items.csv").open(newline="", encoding="utf-8") as f:
        rows: Sequence[dict[str, str]] = list(csv.DictReader(f))
    for row in rows:
        place = bundle.store.places.get(row["bin_id"])
        if place is None or row["sku"] != bundle.planogram[row["bin_id"]].sku:
            continue
        p = apply(inverse(place.T_map_face), np.array([float(row[k]) for k in "xyz"]))
        columns = out[row["bin_id"]]
        pitch = (place.x1_m - place.x0_m) / len(columns)
        columns[min(len(columns) - 1, max(0, int((p[0] - place.x0_m) / pitch)))].append(float(p[1]))
    return {b: [sorted(c) for c in columns] for b, columns in out.items()}
