"""Where every count document stands, as a pure projection of ledger events.

::

    pending ──▶ sending ──▶ acked | conflict | rejected
       ▲           │
       │           ├──▶ failed   nothing was applied            (as good as pending)
       └───────────┴──▶ unknown  perhaps it was: look the key up
    pending | failed | unknown and looked up ──▶ held            too old to be sent
    sending ──▶ split    refused as a whole: its halves go out instead

A writer that dies leaves ``sending``, which is as good as ``unknown``. A request that got stuck may still arrive after a
later one was refused: such documents are looked up at every sync, and the system's own answer then overrides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from shelfscan.ports import Event, StoredEvent
from shelfscan.wms.document import CountDocument
from shelfscan.wms.port import LineStatus, Receipt
from shelfscan.wms.rules import Decision

PREFIX = "sync."
DECISION = "sync.decision"
REPORT = "sync.report"
#: The bridge has dealt with a mission's end, well or not; not a matter of documents.
SYNCED = "bridge.synced"


class DocState(str, Enum):
    """Where a document stands."""

    __str__ = str.__str__

    PENDING = "pending"
    SENDING = "sending"
    UNKNOWN = "unknown"
    FAILED = "failed"
    ACKED = "acked"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    HELD = "held"
    SPLIT = "split"


#: Nothing changes a document that got here.
FINAL = frozenset({DocState.ACKED, DocState.CONFLICT, DocState.REJECTED, DocState.HELD, DocState.SPLIT})
#: Documents that stand for none of their lines any more.
GONE = frozenset({DocState.HELD, DocState.SPLIT})
KINDS = tuple(f"{PREFIX}{state}" for state in DocState)


@dataclass(frozen=True)
class Entry:
    """A document and where it stands. ``attempts``: how often it was sent, of which ``failed`` did nothing for sure;
    ``receipt`` once there is an answer."""

    doc: CountDocument
    state: DocState = DocState.PENDING
    attempts: int = 0
    failed: int = 0
    receipt: Receipt | None = None
    message: str = ""

    @property
    def final(self) -> bool:
        """Nothing is left to send."""
        return self.state in FINAL

    @property
    def doubtful(self) -> bool:
        """Refused or held after an earlier try whose outcome nobody knows: it may yet turn out to be applied."""
        own = self.receipt is not None and bool(self.receipt.receipt_id)
        return self.final and not own and self.attempts > (self.state is not DocState.HELD)

    def results(self) -> dict[str, LineStatus]:
        """What became of each line, by line id; empty until there is an answer."""
        if self.receipt is None:
            return {}
        ids = {line.line_no: line.line_id for line in self.doc.lines}
        return {ids[s.line_no]: s for s in self.receipt.lines if s.line_no in ids}


def entries(events: Iterable[StoredEvent], mission_id: str, wms: str) -> dict[str, Entry]:
    """A mission's documents for one warehouse system by their id, oldest first."""
    out: dict[str, Entry] = {}
    for stored in events:
        fold(out, stored.event, mission_id, wms)
    return out


def fold(known: dict[str, Entry], event: Event, mission_id: str, wms: str) -> None:
    """Take one event in; other missions', other systems' and other kinds of events change nothing."""
    p = event.payload
    if event.kind not in KINDS or p.get("mission_id") != mission_id or p.get("wms") != wms:
        return
    state = DocState(event.kind.removeprefix(PREFIX))
    doc_id = str(p["doc_id"])
    entry = known.get(doc_id)
    if state is DocState.PENDING:
        if entry is None:
            known[doc_id] = Entry(CountDocument.from_json(dict(p["doc"])))
        return
    if entry is None:
        return
    receipt = Receipt.from_json(dict(p["receipt"])) if p.get("receipt") else None
    if entry.final and not (entry.doubtful and receipt is not None and receipt.receipt_id):
        return
    attempts = entry.attempts + (state is DocState.SENDING)
    failed = entry.failed + (state is DocState.FAILED)
    said = str(p.get("message", ""))
    known[doc_id] = replace(entry, state=state, attempts=attempts, failed=failed, receipt=receipt, message=said)


def decisions(events: Iterable[StoredEvent], mission_id: str, wms: str) -> dict[str, Decision]:
    """The newest decision of a person about each line."""
    out: dict[str, Decision] = {}
    for stored in events:
        p = stored.event.payload
        if stored.event.kind == DECISION and p.get("mission_id") == mission_id and p.get("wms") == wms:
            d = p["decision"]
            out[str(d["line_id"])] = Decision(**d)
    return out


def reports(events: Iterable[StoredEvent], mission_id: str, wms: str) -> list[dict[str, Any]]:
    """The plain data of every report (`SyncReport.to_json` without equal lines), oldest first."""
    return [
        dict(s.event.payload["report"])
        for s in events
        if s.event.kind == REPORT and s.event.payload.get("mission_id") == mission_id and s.event.payload.get("wms") == wms
    ]


def state_of(receipt: Receipt) -> DocState:
    """Acked when anything was applied; else what stopped the lines."""
    results = {s.result for s in receipt.lines}
    if "applied" in results:
        return DocState.ACKED
    return DocState.CONFLICT if "conflict" in results else DocState.REJECTED
