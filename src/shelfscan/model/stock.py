"""The stock map: one belief per bin, each with confidence, interval, age and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class BinStatus(str, Enum):
    """Availability only; the first that applies. Whether something foreign stands there is said apart."""

    __str__ = str.__str__

    UNSEEN = "UNSEEN"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    LOW = "LOW"
    OK = "OK"


class UnseenReason(str, Enum):
    """Why a bin was not seen in full this run."""

    __str__ = str.__str__

    BLOCKED = "blocked"
    OCCLUDED = "occluded"
    GLARE = "glare"
    OUT_OF_VIEW = "out_of_view"
    SENSOR = "sensor"
    SKIPPED = "skipped"
    TIME = "time"


#: What a reason means, for people; the dashboard's page says the same.
UNSEEN_TEXT: Mapping[str, str] = {
    "blocked": "the robot could not get there",
    "occluded": "something stood in front of it",
    "glare": "glare hid it",
    "out_of_view": "the cameras did not see all of it",
    "sensor": "the cameras failed there",
    "skipped": "this run did not go there",
    "time": "the run's time was up",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about a bin. ``value`` is the money at stake, in the store's currency.

    It puts findings in order: a unit's price, as long as nothing is known of sales; for a wrong price the difference.
    ``alarm``: sure enough to send somebody; what is not is something to check on the way.
    """

    finding_id: str
    bin_id: str
    type: str
    cause: str
    confidence: float
    value: float = 0.0
    suggestion: str = ""
    evidence: str = ""
    alarm: bool = True


@dataclass(frozen=True, slots=True)
class BinState:
    """The belief about one bin; the definitions are those of the contract.

    ``units_low..units_high`` is the inclusive 95 % interval, ``units_pmf`` the whole belief as (units, probability) of what is
    likely at all, empty where nothing is known; ``position`` the centre of the bin's front in
    ``map`` (metres) as measured; ``observed_at`` an ISO-8601 UTC time, empty when never seen.
    """

    bin_id: str
    sku: str
    status: BinStatus
    misplaced: bool
    facings: int
    units: float
    units_low: int
    units_high: int
    confidence: float
    tag_price: str
    position: tuple[float, float, float]
    observed_at: str
    reason: str = ""
    findings: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    units_pmf: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PlacedProduct:
    """One distinct product of the store's front row, fused over all looks: a row of ``observations.csv``.

    ``position_map_m`` is the estimated *centre* of the item.
    """

    observation_id: str
    bin_id: str
    sku: str
    position_map_m: tuple[float, float, float]
    confidence: float


@dataclass(frozen=True)
class StockMap:
    """The store-wide belief at one instant."""

    site: str
    mission_id: str
    created_at: str
    bins: tuple[BinState, ...]
    products: tuple[PlacedProduct, ...] = ()
    findings: tuple[Finding, ...] = ()
    schema: int = 1

    def units_of(self, sku: str) -> tuple[float, int, int] | None:
        """(units, low, high) of a SKU over all bins planned for it, or None when there is none.

        The bins' intervals are added up, so this one holds at least as often as they do.
        """
        bins = [b for b in self.bins if b.sku == sku]
        if not bins:
            return None
        return (sum(b.units for b in bins), sum(b.units_low for b in bins), sum(b.units_high for b in bins))

    def to_json(self) -> dict[str, Any]:
        """``stock_map.json`` of the contract (``products`` go to ``observations.csv`` instead)."""
        data = asdict(self)
        del data["products"]
        for b in data["bins"]:
            b["status"] = str(b["status"])
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> StockMap:
        """Inverse of `to_json`, without ``products``."""
        bins = tuple(
            BinState(
                **{
                    **b,
                    "status": BinStatus(b["status"]),
                    "position": tuple(b["position"]),
                    "findings": tuple(b["findings"]),
                    "evidence": tuple(b["evidence"]),
                    "units_pmf": tuple((int(n), float(p)) for n, p in b.get("units_pmf", ())),
                }
            )
            for b in data["bins"]
        )
        findings = tuple(Finding(**f) for f in data.get("findings", ()))
        return StockMap(data["site"], data["mission_id"], data["created_at"], bins, (), findings, int(data["schema"]))
