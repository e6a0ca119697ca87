"""A small store, its catalogue and a stock map, for everything about counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shelfscan.model.bundle import Bundle, WmsLocation
from shelfscan.model.catalogue import Product
from shelfscan.model.geometry import Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.stock import BinState, BinStatus, StockMap
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.stock.project import iso_utc

#: 2030-01-01 00:00 UTC.
T0 = 1_893_456_000_000_000_000
HOUR = 3_600_000_000_000
MINUTE = 60_000_000_000


def state(bin_id: str, sku: str, units: float, *, low: int | None = None, high: int | None = None, **facts: object) -> BinState:
    """A bin that was seen in full just at T0."""
    n = int(units + 0.5)
    known: dict[str, object] = {
        "bin_id": bin_id,
        "sku": sku,
        "status": BinStatus.OUT_OF_STOCK if n == 0 else BinStatus.OK,
        "misplaced": False,
        "facings": 1,
        "units": units,
        "units_low": n if low is None else low,
        "units_high": n if high is None else high,
        "confidence": 0.99,
        "tag_price": "",
        "position": (0.0, 0.0, 0.0),
        "observed_at": iso_utc(T0),
    }
    return BinState(**{**known, **facts})  # type: ignore[arg-type]


def stock_map(*bins: BinState, mission_id: str = "m1") -> StockMap:
    return StockMap("store-1", mission_id, iso_utc(T0 + 5 * MINUTE), bins)


def bundle(rows: tuple[WmsLocation, ...]) -> Bundle:
    """A store with one shelf that has every bin the rows name."""
    ids = list(dict.fromkeys(r.bin_id for r in rows if r.bin_id))
    shelf = Shelf("S1", 0.5, 0.4, 0.4, tuple(Bin(b, 0.1 * i, 0.1) for i, b in enumerate(ids)))
    gondola = Gondola("G", Pose2D(0, 0, 0), 0.4, 2.0, (Bay("B", 0, 0.1 * max(1, len(ids)), (shelf,)),))
    skus = dict.fromkeys(r.sku for r in rows)
    products = {s: Product(s, "4006381333931", f"Tea {s}", "Brand", "tea", 0.1, 0.1, 0.1, 2.5) for s in skus}
    plan = {r.bin_id: PlanogramLine(r.bin_id, r.sku, 2, 1, 6) for r in rows if r.bin_id}
    grid = OccupancyGrid(np.zeros((2, 2), np.int8), 0.05, (0.0, 0.0))
    store = Store("store-1", (Aisle("A", (gondola,)),))
    return Bundle(Path("store"), store, products, plan, {}, grid, None, rows)  # type: ignore[arg-type]
