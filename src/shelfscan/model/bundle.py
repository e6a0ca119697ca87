"""A store bundle in memory: everything the pipeline may know about a store before it drives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shelfscan.model.catalogue import Catalogue
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.planogram import Planogram
from shelfscan.model.robot import RobotModel
from shelfscan.model.store import Store


@dataclass(frozen=True, slots=True)
class WmsLocation:
    """A row of ``wms.csv``: ``scope`` is "shelf" or "site"; quantities in units as the WMS believes them."""

    location_code: str
    scope: str
    bin_id: str
    sku: str
    on_hand: float
    backroom: float


@dataclass(frozen=True)
class Bundle:
    """A checked store bundle. ``gallery``: reference photographs by SKU. Never holds anything of ``truth/``."""

    root: Path
    store: Store
    catalogue: Catalogue
    planogram: Planogram
    gallery: Mapping[str, tuple[Path, ...]]
    grid: OccupancyGrid
    robot: RobotModel
    wms: tuple[WmsLocation, ...]
