"""The door to a warehouse system. Every implementation passes one contract suite."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from shelfscan.wms.document import CountDocument

Scope = Literal["shelf", "site"]
LineResult = Literal["applied", "conflict", "rejected"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a system can promise. ``unique_key``: it refuses a second document with a known key by itself;
    ``checks_version``: it compares ``expected_version`` and applies in one transaction; ``max_lines`` a document.
    ``keeps_stock`` false: it only takes note of what was seen, so there is nothing to compare with, and the pulls raise.
    """

    name: str
    unique_key: bool
    checks_version: bool
    max_lines: int
    keeps_stock: bool = True


@dataclass(frozen=True, slots=True)
class WmsPlace:
    """A location as the system knows it. ``scope`` "site": its stock is the whole store's, backroom included."""

    location_code: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class WmsProduct:
    """A product as the system knows it; ``gtin14`` empty when it has no valid one."""

    sku: str
    gtin14: str
    name: str


@dataclass(frozen=True, slots=True)
class StockRow:
    """What the system believes now, in pieces. ``version`` changes with every change of ``on_hand``."""

    location_code: str
    sku: str
    on_hand: float
    version: str
    backroom: float = 0.0


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of stock: ``delta`` pieces at ``moved_at_ns`` (UTC); ``reference`` is the key of a count document's."""

    location_code: str
    sku: str
    delta: float
    moved_at_ns: int
    kind: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class LineStatus:
    """What became of one line."""

    line_no: int
    result: LineResult
    message: str = ""


@dataclass(frozen=True)
class Receipt:
    """The system's answer to one document, kept by it under the document's key."""

    key: str
    receipt_id: str
    lines: tuple[LineStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Receipt:
        """Inverse of `to_json`."""
        return Receipt(str(data["key"]), str(data["receipt_id"]), tuple(LineStatus(**s) for s in data["lines"]))


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the system can be worked with now, and what is wrong otherwise."""

    ok: bool
    text: str


class WmsClient(Protocol):
    """A warehouse system. Calls block and raise the `WmsError` that tells what may be done next.

    Making a client never touches the system, so a client of a system that is down can be held.
    """

    def capabilities(self) -> Capabilities:
        """Constant; works without the system."""
        ...

    def pull_locations(self) -> Sequence[WmsPlace]: ...

    def pull_products(self) -> Sequence[WmsProduct]: ...

    def pull_stock(self) -> Sequence[StockRow]: ...

    def pull_movements(self, since_ns: int) -> Sequence[Movement]:
        """Everything with ``moved_at_ns >= since_ns``, in order, counts of others included."""
        ...

    def find(self, key: str) -> Receipt | None:
        """The answer once given to the document with this key; None when it was never applied."""
        ...

    def submit(self, doc: CountDocument) -> Receipt:
        """Apply a document; a line whose stock has another version is a conflict and is not applied.

        Raises `WmsTransient` (nothing was applied), `WmsUnknown` (perhaps it was), `WmsConflict` or `WmsRejected` (the
        document as a whole was refused and nothing was applied).
        """
        ...

    def status(self, receipt_id: str) -> Receipt | None:
        """The answer by the system's own number."""
        ...

    def health(self) -> Health:
        """Never raises."""
        ...

    def writer(self) -> AbstractContextManager[None]:
        """The right to write, for one process at a time; given back when that process dies.

        Entering raises `WmsTransient` when another process keeps it.
        """
        ...
