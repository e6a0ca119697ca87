"""A ledger in memory that keeps the port's rules: all or none, keys once, only ever longer."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from shelfscan.errors import LedgerError
from shelfscan.ports import Event, StoredEvent


class MemoryLedger:
    """Payloads go through JSON, as in every real ledger."""

    def __init__(self) -> None:
        self._events: list[StoredEvent] = []
        self._keys: set[str] = set()
        self._closed = False

    def append(self, events: Sequence[Event]) -> int:
        """See `Ledger.append`."""
        if self._closed:
            raise LedgerError("closed")
        copies = [Event(e.kind, e.key, e.stamp_ns, json.loads(json.dumps(dict(e.payload)))) for e in events]
        for event in copies:
            if event.key not in self._keys:
                self._keys.add(event.key)
                self._events.append(StoredEvent(len(self._events) + 1, event))
        return len(self._events)

    def read(self, after: int = 0, kinds: Collection[str] | None = None) -> list[StoredEvent]:
        """See `Ledger.read`."""
        if self._closed:
            raise LedgerError("closed")
        return [s for s in self._events if s.seq > after and (kinds is None or s.event.kind in kinds)]

    def close(self) -> None:
        """See `Ledger.close`."""
        self._closed = True
