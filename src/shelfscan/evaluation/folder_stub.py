"""The other side of a watched folder: a warehouse system that exports, imports and answers in its own time."""

from __future__ import annotations

import csv
import io
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from shelfscan.adapters.exchange import Exchange, LocalExchange
from shelfscan.adapters.wms_folder import FolderWms
from shelfscan.evaluation.faulty_wms import Killed, MemoryWms
from shelfscan.evaluation.sync_campaign import FaultNight
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.ports import Ledger
from shelfscan.runfolder import write_atomic
from shelfscan.wms.document import CountDocument, CountLine


class FolderSystem:
    """Keeps the rules of `MemoryWms` behind files. `work` does what a scheduled job of such a system does."""

    def __init__(self, root: Path, rows: Sequence[WmsLocation], catalogue: Catalogue, clock: Callable[[], int]) -> None:
        self.root, self.books, self._catalogue = root, MemoryWms(tuple(rows), catalogue, clock), catalogue
        for folder in ("in", "out", "done", "answers"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.export()

    def work(self) -> None:
        """Import what lies in ``out/``, answer in ``done/``, export."""
        for path in sorted((self.root / "out").glob("*.csv")):
            if not (self.root / "done" / path.name).exists():
                self._import(path)
        self.export()

    def export(self) -> None:
        """Movements before stock: what stock knows, the movements know."""
        b = self.books
        self._write("locations.csv", ("location_code", "scope"), b.scopes.items())
        self._write("products.csv", ("sku", "gtin", "name"), ((p.sku, p.gtin, p.name) for p in self._catalogue.values()))
        moves = ((m.location_code, m.sku, m.delta, _iso(m.moved_at_ns), m.kind, m.reference) for m in b.movements)
        self._write("movements.csv", ("location_code", "sku", "delta", "moved_at", "kind", "reference"), moves)
        stock = ((s.location_code, s.sku, s.on_hand, s.version, s.backroom) for s in b.stock.values())
        self._write("stock.csv", ("location_code", "sku", "on_hand", "version", "backroom"), stock)

    def _import(self, path: Path) -> None:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        lines = tuple(
            CountLine(
                *(int(r["line_no"]), r["location_code"], r["sku"], r["gtin14"], int(r["qty"]), 1, 1),
                *(float(r["expected_qty"]), r["expected_version"], float(r["confidence"]), r["zero_confirmed"] == "1"),
            )
            for r in rows
        )
        receipt = self.books.submit(CountDocument(path.stem, "site", "m", 1, lines))
        answers = ((s.line_no, s.result, s.message) for s in receipt.lines)
        write_atomic(self.root / "done" / path.name, _text(("line_no", "result", "message"), answers))

    def _write(self, name: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
        write_atomic(self.root / "in" / name, _text(columns, rows))


class FolderTill(FolderWms):
    """A client of such a system, and the till beside it. ``now_and_then``: whether the system's job runs while we wait;
    ``files``: the client's way to the system's folder, where it is not on this computer."""

    def __init__(
        self,
        system: FolderSystem,
        rows: Sequence[WmsLocation],
        now_and_then: Callable[[], bool] = lambda: True,
        files: Exchange | None = None,
    ) -> None:
        self.system = system

        def sleep(seconds: float) -> None:
            if now_and_then():
                system.work()

        super().__init__(files or LocalExchange(system.root), rows, answer_wait_s=3.0, poll_s=1.0, sleep=sleep)

    def post_movement(self, location_code: str, sku: str, delta: float, *, moved_at_ns: int | None = None) -> None:
        """Pieces come or go. Raises `WmsRejected`."""
        self.system.books.post_movement(location_code, sku, delta, moved_at_ns=moved_at_ns)
        self.system.export()

    def ask(self, location_code: str) -> list[str]:
        """Staff ask for a count; the task's name."""
        row = (f"T-{location_code}", location_code)
        write_atomic(self.system.root / "in" / f"tasks-{location_code}.csv", _text(("ref", "location_code"), [row]))
        return [row[0]]


def night(
    seed: int, ledger: Ledger, folder: Path | None = None, way: Callable[[Path], Exchange] = LocalExchange
) -> tuple[FaultNight, Callable[[], None]]:
    """A night against a folder: the job runs late or not at all, the bridge dies around every write. ``way``: to the folder."""
    root = Path(tempfile.mkdtemp(prefix="shelfscan-folder-", dir=folder))
    lazy = random.Random(seed + 1)

    def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> FolderTill:
        def now_and_then() -> bool:
            if lazy.random() < 0.02:
                raise Killed
            return lazy.random() < 0.4

        return FolderTill(FolderSystem(root, rows, catalogue, clock), rows, now_and_then, way(root))

    return FaultNight(seed, build, ledger), lambda: shutil.rmtree(root, ignore_errors=True)


def _text(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _iso(stamp_ns: int) -> str:
    at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=stamp_ns // 1000)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
