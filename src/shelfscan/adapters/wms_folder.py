"""A warehouse system that speaks in files: CSV in a watched folder, of this computer or of an SFTP server (see `exchange`).

It writes ``in/``: ``locations.csv``, ``products.csv``, ``movements.csv``, and ``stock.csv`` *last*, so that what stock knows
the movements know as well. We write ``out/<key>.csv``, one file a document, in one step; it answers with ``done/<key>.csv``. A
file's name is the document's key: writing it again changes nothing, so nothing is ever sent twice, and a document whose answer
is late stays unknown until the next sync looks it up. The system must refuse lines whose ``expected_version`` is not its own
any more.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from shelfscan.adapters.exchange import Exchange
from shelfscan.adapters.folder_csv import iso, number_of, rows_of, stamp_of
from shelfscan.adapters.folder_tasks import FolderTasks
from shelfscan.adapters.wms_http import local_writer
from shelfscan.errors import WmsError, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.gtin import gtin14
from shelfscan.wms.document import CountDocument
from shelfscan.wms.port import (
    Capabilities,
    Health,
    LineResult,
    LineStatus,
    Movement,
    Receipt,
    StockRow,
    WmsPlace,
    WmsProduct,
)
from shelfscan.wms.tasks import CountTask

OUT_COLUMNS = (
    *("key", "digest", "line_no", "location_code", "sku", "gtin14", "qty", "uom", "zero_confirmed"),
    *("expected_qty", "expected_version", "observed_from", "observed_to", "confidence"),
)
_KEY = re.compile(r"^[A-Za-z0-9-]{1,64}$")
_RESULTS: tuple[LineResult, ...] = ("applied", "conflict", "rejected")


class FolderWms:
    """A `WmsClient` of a folder. ``rows``: what the store maps; scopes come from there, or from the system where it says more.

    ``answer_wait_s``: how long a submit waits for the answer before the document is left as unknown.
    """

    def __init__(
        self,
        files: Exchange,
        rows: Sequence[WmsLocation],
        *,
        answer_wait_s: float = 60.0,
        poll_s: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._files, self._wait_s, self._poll_s, self._sleep = files, answer_wait_s, poll_s, sleep
        self._tasks = FolderTasks(files)
        self._scope = {r.location_code: r.scope for r in rows}

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`."""
        return Capabilities("folder", unique_key=True, checks_version=True, max_lines=200)

    def pull_locations(self) -> list[WmsPlace]:
        """See `WmsClient.pull_locations`; a location is site-wide when either side says so."""
        out = []
        for r in self._read("locations.csv", ("location_code",)):
            site = "site" in (r.get("scope", ""), self._scope.get(r["location_code"], ""))
            out.append(WmsPlace(r["location_code"], "site" if site else "shelf"))
        return out

    def pull_products(self) -> list[WmsProduct]:
        """See `WmsClient.pull_products`."""
        rows = self._read("products.csv", ("sku",))
        return [WmsProduct(r["sku"], gtin14(r.get("gtin", "")), r.get("name", "")) for r in rows]

    def pull_stock(self) -> list[StockRow]:
        """See `WmsClient.pull_stock`."""
        return [
            StockRow(r["location_code"], r["sku"], number_of(r, "on_hand"), r["version"], number_of(r, "backroom", "0"))
            for r in self._read("stock.csv", ("location_code", "sku", "on_hand", "version"))
        ]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        columns = ("location_code", "sku", "delta", "moved_at", "kind")
        found = [
            Movement(
                r["location_code"], r["sku"], number_of(r, "delta"), stamp_of(r, "moved_at"), r["kind"], r.get("reference", "")
            )
            for r in self._read("movements.csv", columns)
        ]
        return [m for m in found if m.moved_at_ns >= since_ns]

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`."""
        name = _file_of(key)
        data = self._files.read("done", name)
        if data is None:
            return None
        lines = []
        for r in rows_of(self._files.where("done", name), data, ("line_no", "result")):
            if r["result"] not in _RESULTS or not r["line_no"].isdigit():
                raise WmsError(f"{r['@']}: expected a line_no and one of {', '.join(_RESULTS)}, found {r['result']!r}")
            result = next(x for x in _RESULTS if x == r["result"])
            lines.append(LineStatus(int(r["line_no"]), result, r.get("message", "")))
        return Receipt(key, key, tuple(sorted(lines, key=lambda s: s.line_no)))

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`; the receipt's number is the key."""
        return self.find(receipt_id)

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`."""
        name = _file_of(doc.doc_id)
        there = self._files.read("out", name)
        if there is None:
            self._files.write("out", name, to_csv(doc).encode())
        elif _digest(there) != doc.digest:
            raise WmsRejected(f"key {doc.doc_id} belongs to another count document")
        where, waited = self._files.where("out", name), 0.0
        while (receipt := self._answer(doc.doc_id)) is None:
            if waited >= self._wait_s:
                raise WmsUnknown(f"{where}: no answer in done/ after {self._wait_s:g} s; looked up again with the next sync")
            self._sleep(self._poll_s)
            waited += self._poll_s
        return receipt

    def _answer(self, key: str) -> Receipt | None:
        """As `find`, once the document is there: whatever goes wrong from now on, it may be applied."""
        try:
            return self.find(key)
        except WmsError as e:
            raise WmsUnknown(f"out/{_file_of(key)} is there, but its answer cannot be looked up: {e}") from e

    def health(self) -> Health:
        """See `WmsClient.health`."""
        try:
            rows = len(self.pull_stock())
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"folder {self._files.address}: {rows} stock records")

    def pull_tasks(self) -> list[CountTask]:
        """See `TaskSource.pull_tasks`."""
        return self._tasks.open()

    def close_task(self, ref: str, text: str) -> None:
        """See `TaskSource.close_task`."""
        self._tasks.close(ref, text)

    def writer(self) -> AbstractContextManager[None]:
        """See `WmsClient.writer`."""
        return local_writer(f"folder {self._files.address}", busy_s=0.5)

    def _read(self, name: str, columns: Sequence[str]) -> list[dict[str, str]]:
        where, data = self._files.where("in", name), self._files.read("in", name)
        if data is None:
            raise WmsTransient(f"{where}: missing; has the warehouse system exported it?")
        return rows_of(where, data, columns)


def _file_of(key: str) -> str:
    if not _KEY.match(key):
        raise WmsRejected(f"key {key!r}: expected letters, digits and dashes")
    return f"{key}.csv"


def to_csv(doc: CountDocument) -> str:
    """A document as its file says it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(OUT_COLUMNS)
    for x in doc.lines:
        observed = (iso(x.observed_from_ns), iso(x.observed_to_ns))
        first = (doc.doc_id, doc.digest, x.line_no, x.location_code, x.sku, x.gtin14, x.qty, x.uom, int(x.zero_confirmed))
        writer.writerow((*first, f"{x.expected_qty:g}", x.expected_version, *observed, x.confidence))
    return text.getvalue()


def _digest(data: bytes) -> str:
    row = next(csv.DictReader(io.StringIO(data.decode(errors="replace"))), {})
    return str(row.get("digest", ""))
