"""The ledger in SQLite: append-only, durable, safe for several processes at once."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from shelfscan.errors import LedgerError
from shelfscan.ports import Event, StoredEvent

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    stamp_ns INTEGER NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_kind ON events (kind, seq);
CREATE TRIGGER IF NOT EXISTS events_keep BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
#: Another process holds the write lock for milliseconds; longer means a broken disk.
BUSY_S = 30.0


class SqliteLedger:
    """A `Ledger` in one file (write-ahead log, ``synchronous=FULL``: acknowledged is on the disk)."""

    def __init__(self, path: Path, *, site: str | None = None) -> None:
        """Open, and make when absent and ``site`` is given. Raises `LedgerError` for a foreign or broken file."""
        if site is None and not path.is_file():
            raise LedgerError(f"{path}: no such ledger")
        self._path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            _write_ahead(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
            if site is not None:
                self._db.execute("INSERT OR IGNORE INTO meta VALUES ('site', ?)", (site,))
            row = self._db.execute("SELECT value FROM meta WHERE name = 'site'").fetchone()
        except sqlite3.Error as e:
            raise LedgerError(f"{path}: not a usable ledger: {e}") from e
        self.site = str(row[0]) if row else ""
        if site is not None and self.site != site:
            self._db.close()
            raise LedgerError(f"{path}: holds events of store {self.site!r}, not of {site!r}; choose another run folder")

    def append(self, events: Sequence[Event]) -> int:
        """See `Ledger.append`."""
        rows = [(e.key, e.kind, e.stamp_ns, json.dumps(dict(e.payload), separators=(",", ":"))) for e in events]
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._db.executemany(
                        "INSERT INTO events (key, kind, stamp_ns, payload) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                        rows,
                    )
                    last = self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchone()[0]
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as e:
                raise LedgerError(f"{self._path}: {len(rows)} events were not stored: {e}") from e
        return int(last)

    def read(self, after: int = 0, kinds: Collection[str] | None = None) -> list[StoredEvent]:
        """See `Ledger.read`."""
        query, values = "SELECT seq, kind, key, stamp_ns, payload FROM events WHERE seq > ?", [after, *(kinds or ())]
        if kinds is not None:
            query += f" AND kind IN ({','.join('?' * len(kinds))})"
        with self._lock:
            try:
                rows = self._db.execute(query + " ORDER BY seq", values).fetchall()
            except sqlite3.Error as e:
                raise LedgerError(f"{self._path}: cannot be read: {e}") from e
        return [StoredEvent(seq, Event(kind, key, stamp, json.loads(payload))) for seq, kind, key, stamp, payload in rows]

    def close(self) -> None:
        """See `Ledger.close`."""
        with self._lock:
            self._db.close()


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite's own waiting does not cover this switch, and processes start together."""
    ends = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or time.monotonic() >= ends:
                raise
            time.sleep(0.01)
