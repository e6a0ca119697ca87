"""The built-in warehouse system: a small, real one in an SQLite file, for stores without another and for trying things.

It keeps the rules every bridge wishes for: a key is unique, a document is one transaction, a line whose stock changed
since it was read is a conflict, a shelf count never touches a backroom.
"""

from __future__ import annotations

import csv
import fcntl
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from shelfscan.errors import BadInput, WmsError, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.gtin import gtin14
from shelfscan.runfolder import write_atomic
from shelfscan.wms.document import CountDocument, CountLine
from shelfscan.wms.port import (
    Capabilities,
    Health,
    LineStatus,
    Movement,
    Receipt,
    StockRow,
    WmsPlace,
    WmsProduct,
)
from shelfscan.wms.tasks import CountTask

CSV_COLUMNS = ("location_code", "scope", "bin_id", "sku", "on_hand", "backroom")

_meta = sa.MetaData()
PRODUCTS = sa.Table(
    "products",
    _meta,
    sa.Column("sku", sa.String, primary_key=True),
    sa.Column("gtin14", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
)
LOCATIONS = sa.Table(
    "locations", _meta, sa.Column("location_code", sa.String, primary_key=True), sa.Column("scope", sa.String, nullable=False)
)
STOCK = sa.Table(
    "stock",
    _meta,
    sa.Column("location_code", sa.ForeignKey("locations.location_code"), primary_key=True),
    sa.Column("sku", sa.ForeignKey("products.sku"), primary_key=True),
    sa.Column("bin_id", sa.String, nullable=False),
    sa.Column("on_hand", sa.Float, nullable=False),
    sa.Column("backroom", sa.Float, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
MOVEMENTS = sa.Table(
    "movements",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("location_code", sa.String, nullable=False),
    sa.Column("sku", sa.String, nullable=False),
    sa.Column("delta", sa.Float, nullable=False),
    sa.Column("moved_at_ns", sa.Integer, nullable=False, index=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("reference", sa.String, nullable=False),
)
COUNTS = sa.Table(
    "counts",
    _meta,
    sa.Column("receipt_id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String, nullable=False, unique=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("document", sa.String, nullable=False),
    sa.Column("lines", sa.String, nullable=False),
    sa.Column("applied_at_ns", sa.Integer, nullable=False),
)
TASKS = sa.Table(
    "count_tasks",
    _meta,
    sa.Column("ref", sa.Integer, primary_key=True),
    sa.Column("location_code", sa.ForeignKey("locations.location_code"), nullable=False),
    sa.Column("sku", sa.String, nullable=False),
    sa.Column("due_ns", sa.Integer, nullable=False),
    sa.Column("note", sa.String, nullable=False),
    sa.Column("answer", sa.String, nullable=False),
    sa.Column("closed_at_ns", sa.Integer, nullable=False),
)


class BuiltinWms:
    """A `WmsClient` on one SQLite file. A file that is missing, locked or damaged raises `WmsTransient` at each call."""

    def __init__(
        self,
        path: Path,
        *,
        seed: tuple[Sequence[WmsLocation], Catalogue] | None = None,
        busy_s: float = 5.0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """``seed``: what a new file starts from; without it a missing file is a system that is down."""
        self._path = path
        self._seed = seed
        self._busy_s = busy_s
        self._clock = clock
        # Never make a file by opening it: only seeding does, and all at once.
        uri = f"{path.absolute().as_uri()}?mode=rw"
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None),
            poolclass=NullPool,
        )
        sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    @staticmethod
    def open(path: Path, rows: Sequence[WmsLocation], catalogue: Catalogue, **options: Any) -> BuiltinWms:
        """The system in ``path``; a new one starts with the stock of ``rows`` at its first use."""
        return BuiltinWms(path, seed=(rows, catalogue), **options)

    # The port

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`."""
        return Capabilities("builtin", unique_key=True, checks_version=True, max_lines=250)

    def pull_locations(self) -> list[WmsPlace]:
        """See `WmsClient.pull_locations`."""
        with self._reading() as c:
            rows = c.execute(sa.select(LOCATIONS).order_by(LOCATIONS.c.location_code))
            return [WmsPlace(r.location_code, r.scope) for r in rows]

    def pull_products(self) -> list[WmsProduct]:
        """See `WmsClient.pull_products`."""
        with self._reading() as c:
            return [WmsProduct(r.sku, r.gtin14, r.name) for r in c.execute(sa.select(PRODUCTS).order_by(PRODUCTS.c.sku))]

    def pull_stock(self) -> list[StockRow]:
        """See `WmsClient.pull_stock`."""
        with self._reading() as c:
            rows = c.execute(sa.select(STOCK).order_by(STOCK.c.location_code, STOCK.c.sku))
            return [StockRow(r.location_code, r.sku, r.on_hand, str(r.version), r.backroom) for r in rows]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        with self._reading() as c:
            query = sa.select(MOVEMENTS).where(MOVEMENTS.c.moved_at_ns >= since_ns)
            rows = c.execute(query.order_by(MOVEMENTS.c.moved_at_ns, MOVEMENTS.c.id))
            return [Movement(r.location_code, r.sku, r.delta, r.moved_at_ns, r.kind, r.reference) for r in rows]

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`."""
        with self._reading() as c:
            return _receipt(c.execute(sa.select(COUNTS).where(COUNTS.c.key == key)).first())

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`."""
        with self._reading() as c:
            return _receipt(c.execute(sa.select(COUNTS).where(COUNTS.c.receipt_id == receipt_id)).first())

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`. A known key with the same content gets the answer it got before."""
        with self._writing() as c:
            known = c.execute(sa.select(COUNTS).where(COUNTS.c.key == doc.doc_id)).first()
            receipt = _receipt(known)
            if known is not None and receipt is not None:
                if known.digest != doc.digest:
                    raise WmsRejected(f"key {doc.doc_id} belongs to another count document")
                return receipt
            statuses = tuple(self._apply(c, doc, line) for line in doc.lines)
            texts = json.dumps([{"line_no": s.line_no, "result": s.result, "message": s.message} for s in statuses])
            row = {
                "key": doc.doc_id,
                "digest": doc.digest,
                "document": json.dumps(doc.to_json()),
                "lines": texts,
                "applied_at_ns": self._clock(),
            }
            number = c.execute(sa.insert(COUNTS).values(row)).inserted_primary_key
            return Receipt(doc.doc_id, str(number[0]) if number else "", statuses)

    def health(self) -> Health:
        """See `WmsClient.health`."""
        try:
            with self._reading() as c:
                count = c.execute(sa.select(sa.func.count()).select_from(STOCK)).scalar_one()
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"{self._path}: {count} stock records")

    def pull_tasks(self) -> list[CountTask]:
        """See `TaskSource.pull_tasks`."""
        with self._reading() as c:
            if not sa.inspect(c).has_table(TASKS.name):  # a file of before there were tasks
                return []
            query = sa.select(TASKS).where(TASKS.c.closed_at_ns == 0)
            rows = c.execute(query.order_by(TASKS.c.due_ns == 0, TASKS.c.due_ns, TASKS.c.ref))
            return [CountTask(str(r.ref), r.location_code, r.sku, r.due_ns, r.note) for r in rows]

    def close_task(self, ref: str, text: str) -> None:
        """See `TaskSource.close_task`."""
        with self._writing() as c:
            where = (TASKS.c.ref == ref) & (TASKS.c.closed_at_ns == 0)
            c.execute(sa.update(TASKS).where(where).values(answer=text, closed_at_ns=self._clock()))

    @contextmanager
    def writer(self) -> Iterator[None]:
        """See `WmsClient.writer`."""
        self._ensure()
        with self._locked():
            # From here on a missing file is a loss to be noticed, not a new system to be made.
            self._lock_path.write_text("made\n")
            yield

    @property
    def _lock_path(self) -> Path:
        return self._path.with_name(self._path.name + ".lock")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """A lock on a file beside the database, which the kernel drops when its holder dies."""
        try:
            handle = self._lock_path.open("a")
        except OSError as e:
            raise WmsTransient(f"{self._path}: cannot be written: {e.strerror}") from e
        with handle:
            ends = time.monotonic() + self._busy_s
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() >= ends:
                        raise WmsTransient(f"{self._path}: another process is posting counts") from None
                    time.sleep(0.1)
            yield

    # What a till, a delivery or a spreadsheet does

    def post_movement(
        self,
        location_code: str,
        sku: str,
        delta: float,
        *,
        kind: str = "sale",
        reference: str = "",
        moved_at_ns: int | None = None,
        backroom_delta: float = 0.0,
    ) -> None:
        """Change stock by ``delta`` pieces (below zero leaves), as sales and deliveries do. Raises `WmsRejected`."""
        with self._writing() as c:
            where = (STOCK.c.location_code == location_code) & (STOCK.c.sku == sku)
            change = {
                "on_hand": STOCK.c.on_hand + delta,
                "backroom": STOCK.c.backroom + backroom_delta,
                "version": STOCK.c.version + 1,
            }
            if c.execute(sa.update(STOCK).where(where).values(change)).rowcount != 1:
                raise WmsRejected(f"no stock of {sku} at {location_code}")
            self._moved(c, location_code, sku, delta, kind, reference, moved_at_ns)

    def post_task(self, location_code: str, sku: str = "", *, due_ns: int = 0, note: str = "") -> str:
        """Ask for a count; its number. Raises `WmsRejected` for what is not kept there."""
        with self._writing() as c:
            TASKS.create(c, checkfirst=True)
            where = STOCK.c.location_code == location_code
            found = c.execute(sa.select(STOCK.c.sku).where(where & (STOCK.c.sku == sku) if sku else where)).first()
            if found is None:
                raise WmsRejected(f"no stock of {sku or 'anything'} at {location_code}")
            row = {"location_code": location_code, "sku": sku, "due_ns": due_ns, "note": note, "answer": "", "closed_at_ns": 0}
            number = c.execute(sa.insert(TASKS).values(row)).inserted_primary_key
            return str(number[0]) if number else ""

    def export_csv(self, path: Path) -> None:
        """Write the stock in the columns of a store bundle's ``wms.csv``."""
        with self._reading() as c:
            query = sa.select(STOCK, LOCATIONS.c.scope).join(LOCATIONS).order_by(STOCK.c.location_code, STOCK.c.sku)
            rows = c.execute(query).all()
        lines = [(r.location_code, r.scope, r.bin_id, r.sku, f"{r.on_hand:g}", f"{r.backroom:g}") for r in rows]
        write_atomic(path, _csv_text(lines).encode())

    def import_csv(self, path: Path) -> int:
        """Set stock from a file with the columns ``location_code, sku, on_hand, backroom``; all rows or none.

        Returns how many records changed; each change is a movement of kind "import". Raises `BadInput` naming every
        wrong line.
        """
        wanted = _read_stock_csv(path)
        with self._writing() as c:
            have = {(r.location_code, r.sku): r for r in c.execute(sa.select(STOCK))}
            wrong = [f"{path}: line {n}: no stock of {sku} at {code}" for n, code, sku, *_ in wanted if (code, sku) not in have]
            if wrong:
                raise BadInput(wrong)
            changed = 0
            for _, code, sku, on_hand, backroom in wanted:
                row = have[code, sku]
                if (row.on_hand, row.backroom) == (on_hand, backroom):
                    continue
                where = (STOCK.c.location_code == code) & (STOCK.c.sku == sku)
                values = {"on_hand": on_hand, "backroom": backroom, "version": STOCK.c.version + 1}
                c.execute(sa.update(STOCK).where(where).values(values))
                self._moved(c, code, sku, on_hand - row.on_hand, "import", path.name, None)
                changed += 1
        return changed

    # Inside

    def _apply(self, c: sa.Connection, doc: CountDocument, line: CountLine) -> LineStatus:
        where = (STOCK.c.location_code == line.location_code) & (STOCK.c.sku == line.sku)
        row = c.execute(sa.select(STOCK, LOCATIONS.c.scope).join(LOCATIONS).where(where)).first()
        if row is None:
            return LineStatus(line.line_no, "rejected", f"no stock of {line.sku} at {line.location_code}")
        if row.scope == "site":
            text = f"{line.location_code} is the whole site; a shelf count would erase its backroom"
            return LineStatus(line.line_no, "rejected", text)
        if str(row.version) != line.expected_version:
            return LineStatus(line.line_no, "conflict", f"on hand is {row.on_hand:g} now, {line.expected_qty:g} was read")
        c.execute(sa.update(STOCK).where(where).values(on_hand=float(line.qty), version=STOCK.c.version + 1))
        self._moved(c, line.location_code, line.sku, line.qty - row.on_hand, "count", doc.doc_id, None)
        return LineStatus(line.line_no, "applied")

    def _moved(
        self, c: sa.Connection, code: str, sku: str, delta: float, kind: str, reference: str, moved_at_ns: int | None
    ) -> None:
        at = self._clock() if moved_at_ns is None else moved_at_ns
        row = {"location_code": code, "sku": sku, "delta": delta, "moved_at_ns": at, "kind": kind, "reference": reference}
        c.execute(sa.insert(MOVEMENTS).values(row))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._ensure()
        try:
            with self._engine.connect() as c:
                yield c
        except sa.exc.DBAPIError as e:
            raise WmsTransient(f"{self._path}: {e.orig}") from e

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """One transaction: all or nothing, and durable once this is left."""
        self._ensure()
        committing = False
        try:
            with self._engine.connect() as c, c.begin() as transaction:
                yield c
                committing = True
                transaction.commit()
        except sa.exc.DBAPIError as e:
            # A commit that fails may still be on the disk; whatever fails before it is not.
            raise (WmsUnknown if committing else WmsTransient)(f"{self._path}: {e.orig}") from e

    def _ensure(self) -> None:
        """Make a new file from the seed, complete or not at all. Raises `WmsTransient`."""
        if self._path.is_file():
            return
        if self._seed is None or not self._path.parent.is_dir():
            raise WmsTransient(f"{self._path}: no such database")
        if self._lock_path.is_file() and self._lock_path.stat().st_size:
            raise WmsTransient(f"{self._path}: was in use before and is gone; bring it back, or remove {self._lock_path.name}")
        scratch = self._path.with_name(f".{self._path.name}.new")
        try:
            with self._locked():
                if self._path.is_file():
                    return
                scratch.unlink(missing_ok=True)
                engine = sa.create_engine(sa.URL.create("sqlite", database=str(scratch)), poolclass=NullPool)
                with engine.begin() as c:
                    _meta.create_all(c)
                    _fill(c, *self._seed)
                scratch.rename(self._path)
        except (OSError, sa.exc.DBAPIError) as e:
            raise WmsTransient(f"{self._path}: cannot be made: {e}") from e


def _fill(c: sa.Connection, rows: Sequence[WmsLocation], catalogue: Catalogue) -> None:
    """The first stock. A product the catalogue lacks is not known here either."""
    scopes: dict[str, str] = {}
    stock: dict[tuple[str, str], dict[str, Any]] = {}
    for r in rows:
        scopes[r.location_code] = "site" if "site" in (r.scope, scopes.get(r.location_code)) else r.scope
        if r.sku in catalogue and (r.location_code, r.sku) not in stock:
            facts = {"location_code": r.location_code, "sku": r.sku, "bin_id": r.bin_id}
            stock[r.location_code, r.sku] = {**facts, "on_hand": r.on_hand, "backroom": r.backroom, "version": 1}
    for table, values in (
        (PRODUCTS, [{"sku": p.sku, "gtin14": gtin14(p.gtin), "name": p.name} for p in catalogue.values()]),
        (LOCATIONS, [{"location_code": code, "scope": scope} for code, scope in scopes.items()]),
        (STOCK, list(stock.values())),
    ):
        if values:
            c.execute(sa.insert(table), values)


def _receipt(row: sa.Row[Any] | None) -> Receipt | None:
    if row is None:
        return None
    return Receipt(row.key, str(row.receipt_id), tuple(LineStatus(**s) for s in json.loads(row.lines)))


def _csv_text(rows: Sequence[tuple[Any, ...]]) -> str:
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def _read_stock_csv(path: Path) -> list[tuple[int, str, str, float, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            reader = csv.DictReader(f)
            missing = [n for n in ("location_code", "sku", "on_hand", "backroom") if n not in (reader.fieldnames or ())]
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{path}: cannot be read: {e}") from e
    if missing:
        raise BadInput(f"{path}: missing column {', '.join(missing)}")
    out, problems, seen = [], [], set()
    for n, row in rows:
        try:
            on_hand, backroom = float(row["on_hand"]), float(row["backroom"])
            if not (0 <= on_hand < 1e9 and 0 <= backroom < 1e9):
                raise ValueError
        except (TypeError, ValueError):
            problems.append(f"{path}: line {n}: on_hand and backroom must be numbers from 0")
            continue
        if (row["location_code"], row["sku"]) in seen:
            problems.append(f"{path}: line {n}: {row['sku']} at {row['location_code']} stands there twice")
        seen.add((row["location_code"], row["sku"]))
        out.append((n, str(row["location_code"]), str(row["sku"]), on_hand, backroom))
    if problems:
        raise BadInput(problems)
    return out
