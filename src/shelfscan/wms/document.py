"""The count document: what is sent to a warehouse system, complete in itself and the same on every retry."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from shelfscan.errors import WmsRejected

#: More units than any bin holds: beyond it a count is a mistake.
MAX_UNITS = 1_000_000
#: Lines in one document; warehouse systems are quickest and their errors still readable at 100 to 250.
BATCH_LINES = 200

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://shelfscan.dev/count-document")


@dataclass(frozen=True, slots=True)
class CountLine:
    """One absolute count of one product at one location.

    ``qty`` in whole pieces; ``observed_from_ns``/``observed_to_ns`` UTC; ``expected_qty`` and ``expected_version`` are
    what the warehouse system said when the decision was made: a system that holds another version must refuse the
    line. With an empty version nothing was expected, because the system keeps no stock. ``zero_confirmed`` is set when a
    person said that there really is nothing.
    """

    line_no: int
    location_code: str
    sku: str
    gtin14: str
    qty: int
    observed_from_ns: int
    observed_to_ns: int
    expected_qty: float
    expected_version: str
    confidence: float
    zero_confirmed: bool = False
    coverage: Literal["full", "partial", "occluded"] = "full"
    uom: str = "EA"
    lot: str = ""
    serial: str = ""
    evidence: str = ""

    @property
    def line_id(self) -> str:
        """Location and product: what a person names a line by."""
        return line_id(self.location_code, self.sku)


def line_id(location_code: str, sku: str) -> str:
    """How a line is named to people and in the ledger."""
    return f"{location_code}/{sku}"


@dataclass(frozen=True)
class CountDocument:
    """Counts that go out together. ``doc_id`` is the key that makes them happen once."""

    doc_id: str
    site: str
    mission_id: str
    created_ns: int
    lines: tuple[CountLine, ...]
    kind: Literal["cycle_counting", "stock_taking"] = "cycle_counting"
    wms_task_ref: str = ""
    schema_version: int = 1

    def __post_init__(self) -> None:
        problems = list(line_problems(self.lines))
        if problems:
            raise WmsRejected(f"count document {self.doc_id}: " + "; ".join(problems))

    @property
    def observed_from_ns(self) -> int:
        """The oldest look any line rests on."""
        return min(line.observed_from_ns for line in self.lines)

    @property
    def digest(self) -> str:
        """Fingerprint of what the document says, whenever it was written."""
        said = {k: v for k, v in self.to_json().items() if k != "created_ns"}
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> CountDocument:
        """Inverse of `to_json`. Raises `WmsRejected` when a line could not be sent."""
        return CountDocument(**{**data, "lines": tuple(CountLine(**line) for line in data["lines"])})


def line_problems(lines: Sequence[CountLine]) -> Iterable[str]:
    """Everything about a document's lines that no warehouse system should be sent, one text each."""
    if not lines:
        yield "no lines"
    seen: set[str] = set()
    for n, line in enumerate(lines, start=1):
        where = f"line {line.line_no} ({line.line_id})"
        if line.line_no != n:
            yield f"{where}: expected line number {n}"
        if line.line_id in seen:
            yield f"{where}: counted twice"
        seen.add(line.line_id)
        if not line.location_code or not line.sku:
            yield f"{where}: no location or no product"
        if isinstance(line.qty, bool) or not isinstance(line.qty, int) or not 0 <= line.qty <= MAX_UNITS:
            yield f"{where}: quantity {line.qty!r} is not a whole number of pieces from 0 to {MAX_UNITS}"
        if line.uom != "EA":
            yield f"{where}: unit {line.uom!r}; only pieces (EA) are counted"
        if line.coverage != "full":
            yield f"{where}: not seen in full ({line.coverage})"
        if line.qty == 0 and not line.zero_confirmed:
            yield f"{where}: a zero that nobody confirmed"
        if not 0 < line.observed_from_ns <= line.observed_to_ns:
            yield f"{where}: no usable time of observation"


def document_key(site: str, mission_id: str, wms: str, number: int, lines: Sequence[CountLine]) -> str:
    """The same document gets the same key, after a restart and even after the ledger was lost; another one never does."""
    said = "|".join(f"{line.line_id}={line.qty}@{line.expected_version}" for line in lines)
    return str(uuid.uuid5(_NAMESPACE, f"{site}\n{mission_id}\n{wms}\n{number}\n{said}"))
