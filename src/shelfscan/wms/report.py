"""What a sync did, for people, programs and the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from shelfscan.wms.signals import Signal


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """What became of a count that the system had asked for (`shelfscan.wms.tasks`).

    ``state``: closed | open. ``bins``: the shelf places it means, none when its location is not mapped.
    """

    ref: str
    location_code: str
    sku: str
    state: str
    text: str
    bins: tuple[str, ...] = ()


OUTCOMES = ("equal", "posted", "held", "recount", "ignored", "pending", "rejected", "conflict")


@dataclass(frozen=True, slots=True)
class SyncLine:
    """One location and product after a sync. Quantities in pieces, value in the store's currency.

    ``outcome`` is one of `OUTCOMES`; ``observed_at`` ISO-8601 UTC; ``doc_id`` the count document it went out with.
    """

    location_code: str
    sku: str
    name: str
    scope: str
    bin_id: str
    counted: int | None
    counted_low: int | None
    counted_high: int | None
    on_hand: float | None
    delta: float | None
    value: float
    confidence: float
    outcome: str
    reason: str
    observed_at: str = ""
    approvable: bool = False
    doc_id: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def line_id(self) -> str:
        """Location and product: what a person names a line by."""
        return f"{self.location_code}/{self.sku}"


@dataclass(frozen=True)
class SyncReport:
    """``state`` is "done", or "degraded" when the warehouse system could not be reached to the end; then ``text`` says
    why, and the next sync goes on where this one stopped.
    """

    mission_id: str
    wms: str
    state: str
    text: str
    dry_run: bool
    lines: tuple[SyncLine, ...]
    unmapped_locations: tuple[str, ...] = ()
    unmapped_bins: tuple[str, ...] = ()
    signals: tuple[Signal, ...] = ()
    tasks: tuple[TaskAnswer, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Lines per outcome, every outcome named."""
        out = dict.fromkeys(OUTCOMES, 0)
        for line in self.lines:
            out[line.outcome] += 1
        return out

    @property
    def ok(self) -> bool:
        """The warehouse system answered everything."""
        return self.state == "done"

    def to_json(self, *, equal: bool = True) -> dict[str, Any]:
        """Plain JSON data; without the ``equal`` lines for places where size matters."""
        lines = [{"line_id": x.line_id, **asdict(x)} for x in self.lines if equal or x.outcome != "equal"]
        return {
            "mission_id": self.mission_id,
            "wms": self.wms,
            "state": self.state,
            "text": self.text,
            "dry_run": self.dry_run,
            "counts": self.counts,
            "unmapped_locations": list(self.unmapped_locations),
            "unmapped_bins": list(self.unmapped_bins),
            "lines": lines,
            "signals": [{**asdict(s), "bins": list(s.bins)} for s in self.signals],
            "tasks": [{**asdict(t), "bins": list(t.bins)} for t in self.tasks],
        }
