"""Where a run's ledger is: ``ledger.sqlite`` in the run folder, or on a server that ``ledger.json`` there names.

``ledger.json`` is written once, before the first event. It names the place of the password, never the password.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from shelfscan.adapters._postgres import PostgresServer, Tls
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.adapters.secret import read_secret
from shelfscan.errors import BadInput, LedgerError

if TYPE_CHECKING:
    from shelfscan.ports import Ledger

SQLITE, PLACE = "ledger.sqlite", "ledger.json"
#: Files whose times say when a run last wrote to its ledger, where it is one of them.
LEDGER_FILES = (SQLITE, f"{SQLITE}-wal", PLACE)


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """A database, and the name of one run in it. ``password``: its place, empty for none; ``ca``: a file, or empty."""

    url: str
    password: str
    tls: Tls
    ca: str
    wait_s: float
    run: str

    @staticmethod
    def new(url: str, password: str, tls: Tls, ca: Path | None, wait_s: float) -> LedgerPlace:
        """A place for a run that nobody has yet. Raises `BadInput` for an address that is none."""
        PostgresServer.of(url)
        return LedgerPlace(url, password, tls, str(ca.expanduser().absolute()) if ca else "", wait_s, str(uuid.uuid4()))


def server_of(place: LedgerPlace) -> PostgresServer:
    """The server, with the password from where it is kept. Raises `BadInput` when it is not there."""
    password = read_secret(place.password, "ledger.password") if place.password else ""
    return PostgresServer.of(place.url, password=password, tls=place.tls, ca=Path(place.ca) if place.ca else None)


def ledger_file(run_dir: Path) -> Path:
    """The file that is, or stands for, the ledger of a run; it need not be there."""
    place = run_dir / PLACE
    return place if place.is_file() else run_dir / SQLITE


def has_ledger(run_dir: Path) -> bool:
    """Whether the run has a ledger, wherever."""
    return ledger_file(run_dir).is_file()


def find_ledger(run_dir: Path, *, site: str | None = None, wait_s: float | None = None) -> Ledger:
    """The run's ledger; made when absent and ``site`` is given. ``wait_s`` over the run's own patience with a server.

    Raises `LedgerError` when there is none or it cannot be used, `BadInput` when the password or the library is missing.
    """
    file = ledger_file(run_dir)
    if file.name == SQLITE:
        return SqliteLedger(file, site=site)
    from shelfscan.adapters.ledger_postgres import PostgresLedger

    place = _read_place(file)
    return PostgresLedger(server_of(place), place.run, site=site, wait_s=place.wait_s if wait_s is None else wait_s)


def keep_place(run_dir: Path, place: LedgerPlace) -> None:
    """Write ``ledger.json`` unless it is there: of several processes that begin a run, the first one's holds."""
    handle, name = tempfile.mkstemp(dir=run_dir, prefix=f".{PLACE}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(json.dumps(asdict(place), indent=2) + "\n")
            f.flush()
            os.fsync(f.fileno())
        os.chmod(name, 0o644)
        try:
            os.link(name, run_dir / PLACE)
        except FileExistsError:
            return
        folder = os.open(run_dir, os.O_RDONLY)
        try:
            # Events that nobody finds again would be lost.
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        Path(name).unlink(missing_ok=True)


def _read_place(file: Path) -> LedgerPlace:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        place = LedgerPlace(**data)
        PostgresServer.of(place.url, f"{file}: url")
        right = all(isinstance(t, str) for t in (place.password, place.ca, place.run)) and place.tls in get_args(Tls)
        if not right or not place.run or not isinstance(place.wait_s, int | float):
            raise ValueError("a field is of the wrong kind")
    except (OSError, ValueError, TypeError) as e:
        raise LedgerError(f"{file}: says not where the ledger is: {e}") from e
    except BadInput as e:
        raise LedgerError(str(e)) from e
    return place
