"""What the units' inference would say if every front were measured exactly: the truth's front row instead of depth and boxes.

It knows no more of what stands behind the fronts than the robot, and no tops. What it misses nobody can see from the front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shelfscan.adapters.units_file import load_units_model
from shelfscan.audit.availability import status_of
from shelfscan.audit.match import Placed
from shelfscan.audit.units import estimate
from shelfscan.bundle import load_bundle
from shelfscan.model.geometry import apply, inverse
from shelfscan.paths import shared_file
from shelfscan.sim.scene import scene_of


def oracle_states(root: Path, front: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Per bin what a stock map would say of its units. ``root``: the bundle; ``front``: rows of the truth's front items."""
    bundle = load_bundle(root)
    packs = scene_of(root).packs
    model = load_units_model(shared_file("models", "units.json"))
    items: dict[str, list[Mapping[str, str]]] = {}
    for row in front:
        items.setdefault(row["bin_id"], []).append(row)
    out: dict[str, dict[str, Any]] = {}
    for bin_id, place in bundle.store.places.items():
        line = bundle.planogram[bin_id]
        pack = packs.get(line.sku)
        product = bundle.catalogue[line.sku]
        if pack is not None:
            product = replace(product, width_m=pack.width_m, depth_m=pack.depth_m, height_m=pack.height_m)
        pitch = (place.x1_m - place.x0_m) / line.facings_wide
        placed = []
        above = 0
        for n, row in enumerate(items.get(bin_id, ())):
            x, y, z = (float(v) for v in apply(inverse(place.T_map_face), np.array([float(row[k]) for k in "xyz"])))
            own = packs.get(row["sku"])
            y -= (own.depth_m if own else product.depth_m) / 2
            column = min(line.facings_wide - 1, max(0, int((x - place.x0_m) / pitch)))
            stack = round((z - place.z0_m) / max(0.02, product.height_m) - 0.5)
            planned = row["sku"] == line.sku
            if planned and stack >= line.facings_high:
                above += 1
                continue
            placed.append(
                Placed(
                    str(n), bin_id, row["sku"], planned, column, min(line.facings_high - 1, max(0, stack)), (x, y, z), 1.0, None
                )
            )
        units = estimate(placed, line, product, (), model, False, above)
        out[bin_id] = {
            "status": str(status_of(units, line)),
            "facings": sum(p.planned for p in placed) + above,
            "units": units.best,
            "units_low": units.low,
            "units_high": units.high,
            "units_pmf": units.pmf,
        }
    return out
