"""What the WMS bridge did, as far as the ledger and the report tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shelfscan.ports import Event
from shelfscan.web.schema import SignalOut, SyncLineOut, SyncOut, TaskOut
from shelfscan.wms.report import OUTCOMES


class SyncView:
    """The newest sync of a run; the ledger is newer than the report when both speak."""

    def __init__(self) -> None:
        self._state = SyncOut(state="none")
        self._from_ledger = False

    def state(self) -> SyncOut:
        """The newest state."""
        return self._state

    def add_report(self, data: Any) -> None:
        """Take ``sync`` of ``report.json``."""
        if isinstance(data, Mapping) and not self._from_ledger:
            self._state = sync_out(data)

    def add_event(self, event: Event) -> bool:
        """Take a ledger event in; whether anything changed."""
        if not event.kind.startswith("sync."):
            return False
        report = event.payload.get("report", event.payload)
        if isinstance(report, Mapping) and "lines" in report:
            self._state, self._from_ledger = sync_out(report), True
            return True
        return False


def sync_out(data: Mapping[str, Any]) -> SyncOut:
    """A sync report's plain data as the API gives it. Unknown fields are ignored, absent ones left empty."""
    lines = [_line(x) for x in data.get("lines") or () if isinstance(x, Mapping)]
    counts = data.get("counts")
    if not isinstance(counts, Mapping):
        counts = {o: data[o] for o in OUTCOMES if isinstance(data.get(o), int)}
    if not counts:
        for x in lines:
            counts = {**counts, x.outcome: counts.get(x.outcome, 0) + 1}
    return SyncOut(
        state=str(data.get("state") or "done"),
        wms=str(data.get("wms") or ""),
        text=str(data.get("text") or ""),
        counts={str(k): int(v) for k, v in counts.items()},
        lines=lines,
        signals=[_signal(x) for x in data.get("signals") or () if isinstance(x, Mapping)],
        tasks=[_task(x) for x in data.get("tasks") or () if isinstance(x, Mapping)],
    )


def _line(x: Mapping[str, Any]) -> SyncLineOut:
    return SyncLineOut(
        location_code=str(x.get("location_code") or x.get("location") or ""),
        bin_id=str(x.get("bin_id") or ""),
        sku=str(x.get("sku") or ""),
        counted=_number(x.get("counted")),
        on_hand=_number(x.get("on_hand")),
        outcome=str(x.get("outcome") or ""),
        reason=str(x.get("reason") or ""),
    )


def _signal(x: Mapping[str, Any]) -> SignalOut:
    return SignalOut(
        kind=str(x.get("kind") or ""),
        location_code=str(x.get("location_code") or ""),
        bin_id=_first(x.get("bins")),
        sku=str(x.get("sku") or ""),
        units=_number(x.get("units")),
        value=_number(x.get("value")),
        confidence=_number(x.get("confidence")),
        text=str(x.get("text") or ""),
    )


def _task(x: Mapping[str, Any]) -> TaskOut:
    return TaskOut(
        ref=str(x.get("ref") or ""),
        location_code=str(x.get("location_code") or ""),
        bin_id=_first(x.get("bins")),
        state=str(x.get("state") or "open"),
        text=str(x.get("text") or ""),
    )


def _first(bins: Any) -> str:
    return str(bins[0]) if isinstance(bins, (list, tuple)) and bins else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
