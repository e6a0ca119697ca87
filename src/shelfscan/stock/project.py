"""The stock map as a pure projection of ledger events."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from datetime import datetime, timezone

from shelfscan.audit.availability import bin_state, findings_of
from shelfscan.audit.match import Placed, Seen, place_products
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.geometry import apply
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import BayScan, BinCoverage, TagReading
from shelfscan.model.stock import BinState, Finding, PlacedProduct, StockMap
from shelfscan.model.store import BinPlace, Store
from shelfscan.ports import Event
from shelfscan.stock.fuse import fuse, latest_per_viewpoint

#: Where a tag's centre hangs below its shelf's surface, until the face has told better.
TAG_BELOW_M = 0.0225
