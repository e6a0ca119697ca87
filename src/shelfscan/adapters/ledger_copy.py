"""A run's ledger copied from its file to a server or back: event by event, checked, and only then the one that is used.

What the run had stays as it is; the copy is used because ``ledger.json`` begins, or ceases, to lie in the run folder, which is
the last step. A copy that was broken off is gone on with: a target may hold the beginning of this ledger, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from shelfscan.adapters.ledger_place import (
    PLACE,
    SQLITE,
    LedgerPlace,
    find_ledger,
    has_ledger,
    keep_place,
    ledger_file,
    server_of,
)
from shelfscan.adapters.ledger_postgres import PostgresLedger
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.errors import BadInput, LedgerError
from shelfscan.ports import Event, Ledger
from shelfscan.runfolder import claimed

#: What ``ledger.json`` is called once the run's ledger is a file again.
WAS = "ledger-was.json"
#: An append carries about this much, in bytes of events.
BATCH = 1_000_000
_NAMES = uuid.UUID("5b0c6f1e-6d0f-4d0c-9a39-0d5a3f1c8b11")


@dataclass(frozen=True, slots=True)
class Contents:
    """How many events a ledger has, and what they are: SHA-256 over all of them, in order."""

    events: int
    digest: str

    @staticmethod
    def of(events: Iterable[Event]) -> Contents:
        """Of events; their numbers do not count, for a ledger may leave some out."""
        count, digest = 0, hashlib.sha256()
        for e in events:
            count += 1
            digest.update(_line(e))
        return Contents(count, digest.hexdigest())


def contents(run_dir: Path) -> Contents:
    """Of the ledger that a run uses. Raises `LedgerError`, `BadInput`."""
    ledger = find_ledger(run_dir)
    try:
        return Contents.of(_events(ledger))
    finally:
        ledger.close()


def to_server(run_dir: Path, place: LedgerPlace) -> Contents:
    """Copy a run's file to a server, and use that from now on; ``place.run`` is given by what the ledger begins with.

    Raises `BadInput` when the run has no file, or is going on; `LedgerError` when the server cannot be used, or holds another
    ledger under that name.
    """
    with _claimed_run(run_dir):
        if ledger_file(run_dir).name == PLACE:
            raise BadInput(f"{run_dir / PLACE}: the ledger of this run is on a server already")
        source = SqliteLedger(run_dir / SQLITE)
        try:
            events = _events(source)
            if not events:
                raise BadInput(f"{run_dir}: the ledger is empty; there is nothing to copy")
            place = replace(place, run=str(uuid.uuid5(_NAMES, f"{source.site} {_line(events[0]).decode()}")))
            target = PostgresLedger(server_of(place), place.run, site=source.site, wait_s=place.wait_s)
            done = _moved(source, target, place.url, lambda: keep_place(run_dir, place))
        finally:
            source.close()
        _check(run_dir, done)
        return done


def to_file(run_dir: Path) -> Contents:
    """Copy a run's ledger from its server into ``ledger.sqlite``, and use that from now on. Raises as `to_server`."""
    with _claimed_run(run_dir):
        if ledger_file(run_dir).name == SQLITE:
            raise BadInput(f"{run_dir / SQLITE}: the ledger of this run is a file already")
        source = find_ledger(run_dir)
        assert isinstance(source, PostgresLedger)
        try:
            if not source.read():
                raise BadInput(f"{run_dir}: the ledger is empty; there is nothing to copy")
            target = SqliteLedger(run_dir / SQLITE, site=source.site)
            done = _moved(source, target, str(run_dir / SQLITE), lambda: os.replace(run_dir / PLACE, run_dir / WAS))
        finally:
            source.close()
        _check(run_dir, done)
        return done


def _claimed_run(run_dir: Path) -> AbstractContextManager[None]:
    """The run folder for this process alone. Raises `BadInput` when there is no run in it."""
    if not has_ledger(run_dir):
        raise BadInput(f"{run_dir}: no ledger.sqlite or ledger.json there")
    return claimed(run_dir)


def _moved(source: Ledger, target: Ledger, where: str, use: Callable[[], object]) -> Contents:
    """What the target, which is closed, holds after all was copied and ``use`` made it the run's ledger."""
    try:
        copied = _copy(source, target, where)
        use()
        return _late(source, target, copied)
    finally:
        target.close()


def _copy(source: Ledger, target: Ledger, where: str) -> list[Event]:
    """Append what the target lacks. Raises `LedgerError` when it is not the beginning of the source."""
    events, there = _events(source), _events(target)
    if Contents.of(there) != Contents.of(events[: len(there)]):
        raise LedgerError(f"{where}: holds {len(there)} events that are not the first ones of this ledger; nothing was copied")
    for batch in _batches(events[len(there) :]):
        target.append(batch)
    return events


def _late(source: Ledger, target: Ledger, copied: list[Event]) -> Contents:
    """Append what came while it was copied, from a process that began before."""
    late = _events(source)[len(copied) :]
    if late:
        target.append(late)
    return Contents.of([*copied, *late])


def _check(run_dir: Path, done: Contents) -> None:
    """Over a new line, as every command will read it."""
    found = contents(run_dir)
    if found != done:
        raise LedgerError(
            f"{ledger_file(run_dir)}: {found.events} events, digest {found.digest}; copied were {done.events}, {done.digest}; "
            "something else works with this run"
        )


def _batches(events: Sequence[Event]) -> Iterator[list[Event]]:
    batch: list[Event] = []
    size = 0
    for e in events:
        batch.append(e)
        size += len(_line(e))
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _events(ledger: Ledger) -> list[Event]:
    return [s.event for s in ledger.read()]


def _line(e: Event) -> bytes:
    return json.dumps([e.kind, e.key, e.stamp_ns, dict(e.payload)], separators=(",", ":"), sort_keys=True).encode() + b"\n"
