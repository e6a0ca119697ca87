"""Follows a ledger and keeps the stock map of its newest mission: what every live consumer of a run does."""

from __future__ import annotations

from collections.abc import Callable

from shelfscan.model.stock import StockMap
from shelfscan.ports import Event, Ledger
from shelfscan.stock.project import StockProjector


class MapFollower:
    """The projection of a ledger's newest mission, brought up to date by `poll`. Not thread-safe."""

    def __init__(self, ledger: Ledger, make_projector: Callable[[str], StockProjector]) -> None:
        self._ledger = ledger
        self._make = make_projector
        self._projector: StockProjector | None = None
        self._read = 0
        self._newest_ns = 0
        self._ended_seq = 0

    @property
    def projector(self) -> StockProjector | None:
        """The projector of the newest mission, None before any started."""
        return self._projector

    @property
    def mission_id(self) -> str:
        """The newest mission, or an empty text."""
        return self._projector.mission_id if self._projector else ""

    @property
    def ended_seq(self) -> int:
        """Place in the ledger of the newest mission's end; 0 while it has none."""
        return self._ended_seq

    def date(self, now_ns: int) -> int:
        """``now_ns``, or the newest event's time if that is later (a simulated clock runs ahead)."""
        return max(now_ns, self._newest_ns)

    def poll(self) -> bool:
        """Take in what is new; whether the map may have changed."""
        changed = False
        for stored in self._ledger.read(after=self._read):
            self._read = stored.seq
            changed = self._take(stored.seq, stored.event) or changed
        return changed

    def _take(self, seq: int, event: Event) -> bool:
        if event.kind == "mission.started" and event.payload["mission_id"] != self.mission_id:
            self._projector = self._make(str(event.payload["mission_id"]))
        if self._projector is None:
            return False
        if event.payload.get("mission_id") == self.mission_id and event.kind.startswith("mission."):
            self._ended_seq = seq if event.kind == "mission.ended" else 0
        self._newest_ns = max(self._newest_ns, event.stamp_ns)
        return self._projector.add_event(event)

    def stock_map(self, now_ns: int) -> StockMap | None:
        """The map, with the `date` of ``now_ns``; None before any mission started."""
        return self._projector.stock_map(self.date(now_ns)) if self._projector else None
