"""The ledger in PostgreSQL: the same promises as SQLite's, for runs whose events shall lie on a server.

An append is one statement that numbers and stores its events, so it is there or it is not. Where the line breaks before the
answer, nobody knows which; the same statement is sent again over a new line, and what was stored the first time is skipped by
its key. The row of the run is what writers wait for, so numbers are given in the order in which they become visible: a reader
that asks for what came after the last it saw misses nothing.

The outbox has one writer for a store and a warehouse system, whatever the computer: a lock of the session, which ends with it.
A writer whose line broke gets the lock again only if nobody had it in between, which a number in ``writers`` says.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import tenacity

from shelfscan.adapters._postgres import LineLost, PostgresServer
from shelfscan.errors import LedgerError, WmsTransient
from shelfscan.ports import Event, StoredEvent

VERSION = "1"
#: How long a server that does not answer is waited for: a restart, a failover.
WAIT_S = 30.0
#: How long another writer is waited for.
BUSY_S = 5.0


def _number(name: str) -> int:
    """A lock's number, 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(f"shelfscan {name}".encode()).digest()[:8], "big", signed=True)


#: One implicit transaction, behind a lock: processes start together.
SCHEMA = f"""
SELECT pg_advisory_xact_lock({_number("schema")});
DO 'BEGIN IF to_regnamespace(''shelfscan'') IS NULL THEN CREATE SCHEMA shelfscan; END IF; END';
CREATE TABLE IF NOT EXISTS shelfscan.meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS shelfscan.runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL UNIQUE,
    site text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    last_seq bigint NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS shelfscan.events (
    run_id bigint NOT NULL REFERENCES shelfscan.runs,
    seq bigint NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    stamp_ns bigint NOT NULL,
    payload text NOT NULL,
    PRIMARY KEY (run_id, seq),
    UNIQUE (run_id, key)
);
CREATE INDEX IF NOT EXISTS events_by_kind ON shelfscan.events (run_id, kind, seq);
CREATE TABLE IF NOT EXISTS shelfscan.writers (name text PRIMARY KEY, epoch bigint NOT NULL);
CREATE OR REPLACE FUNCTION shelfscan.keep() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''the ledger is append-only''; END';
CREATE OR REPLACE TRIGGER events_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON shelfscan.events
    FOR EACH STATEMENT EXECUTE FUNCTION shelfscan.keep();
INSERT INTO shelfscan.meta VALUES ('version', '{VERSION}') ON CONFLICT DO NOTHING;
"""
APPEND = """
WITH place AS (UPDATE shelfscan.runs SET last_seq = last_seq + :n WHERE id = :run RETURNING id, last_seq),
stored AS (
    INSERT INTO shelfscan.events (run_id, seq, key, kind, stamp_ns, payload)
    SELECT place.id, place.last_seq - :n + t.n, t.key, t.kind, t.stamp_ns, t.payload
    FROM place, unnest(CAST(:keys AS text[]), CAST(:kinds AS text[]), CAST(:stamps AS bigint[]), CAST(:payloads AS text[]))
        WITH ORDINALITY AS t(key, kind, stamp_ns, payload, n)
    ON CONFLICT (run_id, key) DO NOTHING
)
SELECT last_seq FROM place
"""
CLAIM = """
INSERT INTO shelfscan.writers VALUES (:name, 1)
ON CONFLICT (name) DO UPDATE SET epoch = shelfscan.writers.epoch + 1 RETURNING epoch
"""
READ = "SELECT seq, kind, key, stamp_ns, payload FROM shelfscan.events WHERE run_id = :run AND seq > :after"

Answer = TypeVar("Answer")


class PostgresLedger:
    """A `Ledger` for one run among many in a database. It holds one connection; safe to use from several threads."""

    def __init__(self, server: PostgresServer, run: str, *, site: str | None = None, wait_s: float = WAIT_S) -> None:
        """Open, and make tables and run when absent and ``site`` is given. ``run`` is unlike any other's in the database.

        Raises `LedgerError` when the server is not there, says no, or has tables of another version or another store's run.
        """
        self._server, self._run, self._wait_s = server, run, wait_s
        self._lock = threading.RLock()
        self._db: Any = None
        self._closed = False
        self._claim: tuple[str, int] | None = None
        try:
            self._id, self.site = self._patiently(lambda db: self._found(db, site))
        except BaseException:
            self.close()
            raise
        if site is not None and self.site != site:
            self.close()
            raise LedgerError(f"{server}: holds events of store {self.site!r}, not of {site!r}; choose another run folder")

    def append(self, events: Sequence[Event]) -> int:
        """See `Ledger.append`."""
        values = {
            "n": len(events),
            "run": self._id,
            "keys": _array(e.key for e in events),
            "kinds": _array(e.kind for e in events),
            "stamps": _array(str(e.stamp_ns) for e in events),
            "payloads": _array(json.dumps(dict(e.payload), separators=(",", ":")) for e in events),
        }
        # Once more after a broken line is safe: what the first try stored is known by its key.
        rows = self._patiently(lambda db: db.run(APPEND, **values), f"{len(events)} events were not acknowledged: ")
        if not rows:
            raise LedgerError(f"{self._server}: run {self._run} is gone; {len(events)} events were not stored")
        return int(rows[0][0])

    def read(self, after: int = 0, kinds: Collection[str] | None = None) -> list[StoredEvent]:
        """See `Ledger.read`."""
        query, values = READ, dict[str, Any](run=self._id, after=after)
        if kinds is not None:
            query, values["kinds"] = f"{READ} AND kind = ANY(CAST(:kinds AS text[]))", _array(kinds)
        rows = self._patiently(lambda db: db.run(f"{query} ORDER BY seq", **values))
        return [StoredEvent(seq, Event(kind, key, stamp, json.loads(payload))) for seq, kind, key, stamp, payload in rows]

    @contextmanager
    def writer(self, wms: str) -> Iterator[None]:
        """See `OneWriter.writer`."""
        name = f"{self.site}/{wms}"
        ends = time.monotonic() + BUSY_S
        while not self._claimed(name):
            if time.monotonic() >= ends:
                raise WmsTransient(f"{self._server}: another process is posting counts of {self.site} to {wms}")
            time.sleep(0.1)
        try:
            yield
        finally:
            with self._lock:
                self._claim = None
                if self._db is not None:
                    try:
                        self._once(lambda db: db.run("SELECT pg_advisory_unlock(:key)", key=_number(name)))
                    except (LineLost, LedgerError):
                        self._drop()  # the lock goes with it

    def close(self) -> None:
        """See `Ledger.close`."""
        with self._lock:
            self._closed = True
            self._drop()

    def _claimed(self, name: str) -> bool:
        """Take the lock, with a number that nobody had before; both over the same line."""
        with self._lock:
            # For the server, a lock that this connection holds already is free.
            if self._claim is None:
                epoch = self._patiently(lambda db: int(db.run(CLAIM, name=name)[0][0]) if _locked(db, name) else 0)
                self._claim = (name, epoch) if epoch else None
                return bool(epoch)
        return False

    def _patiently(self, step: Callable[[Any], Answer], doing: str = "") -> Answer:
        """Do something over the line; over a new one when it breaks, as long as ``wait_s``."""
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(LineLost),
            stop=tenacity.stop_after_delay(self._wait_s),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        )
        with self._lock:
            try:
                answer: Answer = tries(self._once, step)
                return answer
            except LineLost as e:
                raise LedgerError(f"{self._server}: {doing}{e}") from e

    def _once(self, step: Callable[[Any], Answer]) -> Answer:
        if self._closed:
            raise LedgerError(f"{self._server}: the ledger is closed")
        if self._db is None:
            self._db = self._server.connect()
            try:
                self._reclaim()
            except BaseException:
                self._drop()
                raise
        try:
            return step(self._db)
        except LedgerError:
            raise
        except Exception as e:
            meant = self._server.meaning(e)
            if not isinstance(meant, LedgerError):
                self._drop()
            raise meant from e
        except BaseException:
            # Half a statement may be on the line.
            self._drop()
            raise

    def _reclaim(self) -> None:
        """Over a new line: the lock again, if nobody had it since."""
        if self._claim is None:
            return
        name, epoch = self._claim
        try:
            if not _locked(self._db, name):
                # Perhaps by our own lost session, which the server has not noticed yet.
                raise LineLost(f"another process is posting counts ({name})")
            now = self._db.run("SELECT epoch FROM shelfscan.writers WHERE name = :name", name=name)
        except Exception as e:
            raise self._server.meaning(e) from e
        if not now or int(now[0][0]) != epoch:
            raise LedgerError(f"{self._server}: the line broke and another process has posted counts since; sync again")

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            try:
                db.close()
            except Exception:  # noqa: BLE001 - it is broken already, and the library raises what it stumbled over
                pass

    def _found(self, db: Any, site: str | None) -> tuple[int, str]:
        """The run's number and store."""
        if db.run("SELECT to_regclass('shelfscan.meta') IS NULL")[0][0]:
            if site is None:
                raise LedgerError(f"{self._server}: no shelfscan ledger in this database")
            db.run(SCHEMA)
        _check_version(self._server, db.run("SELECT value FROM shelfscan.meta WHERE name = 'version'"))
        look = "SELECT id, site FROM shelfscan.runs WHERE run = :run"
        rows = db.run(look, run=self._run)
        if not rows and site is not None:
            begin = "INSERT INTO shelfscan.runs (run, site) VALUES (:run, :site) ON CONFLICT DO NOTHING"
            db.run(begin, run=self._run, site=site)
            rows = db.run(look, run=self._run)
        if not rows:
            raise LedgerError(f"{self._server}: no run {self._run} in this database")
        return int(rows[0][0]), str(rows[0][1])


def _locked(db: Any, name: str) -> bool:
    return bool(db.run("SELECT pg_try_advisory_lock(:key)", key=_number(name))[0][0])


def _check_version(server: PostgresServer, rows: Sequence[Sequence[Any]]) -> None:
    found = rows[0][0] if rows else "unknown"
    if found != VERSION:
        raise LedgerError(f"{server}: its tables are of version {found}; this shelfscan uses version {VERSION}")


def _array(texts: Any) -> str:
    """An array as the server reads it; every text in quotes, for ``null`` is a word there."""
    escaped = (t.replace("\\", "\\\\").replace('"', '\\"') for t in texts)
    return "{" + ",".join(f'"{t}"' for t in escaped) + "}"


def about(server: PostgresServer, wait_s: float = WAIT_S) -> str:
    """What a server says of itself, in one line; nothing is made there. Raises `LedgerError` when no ledger could be used."""
    ends = time.monotonic() + wait_s
    while True:
        try:
            db = server.connect()
            break
        except LineLost as e:
            if time.monotonic() >= ends:
                raise LedgerError(f"{server}: {e}") from e
            time.sleep(0.5)
    try:
        version, fsync, made = db.run(
            "SELECT current_setting('server_version'), current_setting('fsync'), to_regclass('shelfscan.meta') IS NOT NULL"
        )[0]
        if made:
            found = db.run("SELECT value FROM shelfscan.meta WHERE name = 'version'")
            _check_version(server, found)
            runs = db.run("SELECT count(*) FROM shelfscan.runs")[0][0]
        elif not db.run(
            "SELECT has_database_privilege(current_database(), 'CREATE') OR to_regnamespace('shelfscan') IS NOT NULL"
        )[0][0]:
            raise LedgerError(f"{server}: no shelfscan tables there, and the user has no right to make any")
    except LedgerError:
        raise
    except Exception as e:
        raise LedgerError(str(server.meaning(e))) from e
    finally:
        db.close()
    text = f"{server}: PostgreSQL {version.split()[0]}, {f'{runs} runs' if made else 'no tables yet'}"
    return text if fsync == "on" else f"{text}; fsync is off: what is acknowledged there may be lost when its power fails"
