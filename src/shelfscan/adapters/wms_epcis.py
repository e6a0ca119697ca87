"""EPCIS 2.0: counts as observations, into a folder, a repository behind HTTP, or onto an MQTT topic.

EPCIS takes note of what was seen and keeps no stock. So there is nothing to compare with, nothing to overwrite and no conflict:
the sync sends every count that is sure enough (see `wms.observe`). An event's identity follows from the document's key; what is
sent again is the same event.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn, Protocol

from shelfscan.adapters.wms_http import local_writer
from shelfscan.errors import WmsError, WmsRejected, WmsTransient
from shelfscan.runfolder import write_atomic
from shelfscan.wms.document import CountDocument
from shelfscan.wms.epcis import LINES, Places, event_id, to_epcis
from shelfscan.wms.port import Capabilities, Health, LineStatus, Movement, Receipt, StockRow, WmsPlace, WmsProduct

_KEY = re.compile(r"^[A-Za-z0-9-]{1,64}$")
#: Events of one capture; repositories have limits, and each event is looked up by its identity.
MAX_LINES = 50


class Carrier(Protocol):
    """A way out for EPCIS documents. ``kind`` and ``address`` name it."""

    kind: str
    address: str

    def lines_of(self, key: str) -> int | None:
        """How many lines the document with this key had, when all its events arrived; None otherwise."""
        ...

    def send(self, key: str, document: dict[str, Any]) -> Mapping[str, str]:
        """Send a document; the reasons of events that were refused, by their identity. Raises as `WmsClient.submit`."""
        ...

    def health(self) -> Health:
        """Never raises."""
        ...


class EpcisWms:
    """A `WmsClient` that observes only."""

    def __init__(self, carrier: Carrier, places: Places) -> None:
        self._carrier, self._places = carrier, places

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`. Every destination has a name of its own: what one got, another has not."""
        where = hashlib.sha256(self._carrier.address.encode()).hexdigest()[:6]
        name = f"epcis-{self._carrier.kind}-{where}"
        return Capabilities(name, unique_key=False, checks_version=False, max_lines=MAX_LINES, keeps_stock=False)

    def pull_locations(self) -> list[WmsPlace]:
        """Raises `WmsError`: there are none."""
        self._has_none("locations")

    def pull_products(self) -> list[WmsProduct]:
        """Raises `WmsError`: there are none."""
        self._has_none("products")

    def pull_stock(self) -> list[StockRow]:
        """Raises `WmsError`: there is none."""
        self._has_none("stock")

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """Raises `WmsError`: there are none."""
        self._has_none("movements of stock")

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`."""
        if not _KEY.match(key):
            raise WmsRejected(f"key {key!r}: expected letters, digits and dashes")
        lines = self._carrier.lines_of(key)
        return None if lines is None else _receipt(key, lines, {})

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`; nothing is ever a conflict."""
        if not _KEY.match(doc.doc_id):
            raise WmsRejected(f"key {doc.doc_id!r}: expected letters, digits and dashes")
        refused = self._carrier.send(doc.doc_id, to_epcis(doc, self._places))
        return _receipt(doc.doc_id, len(doc.lines), refused)

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`; the receipt's number is the key."""
        return self.find(receipt_id)

    def health(self) -> Health:
        """See `WmsClient.health`."""
        return self._carrier.health()

    def writer(self) -> AbstractContextManager[None]:
        """See `WmsClient.writer`."""
        return local_writer(f"epcis {self._carrier.kind} {self._carrier.address}", busy_s=0.5)

    def _has_none(self, what: str) -> NoReturn:
        raise WmsError(f"EPCIS ({self._carrier.address}) takes note of what was seen and has no {what}")


class FolderCarrier:
    """One file a document, ``KEY.json``, written in one step."""

    kind = "folder"

    def __init__(self, root: Path) -> None:
        self._root, self.address = root, str(root.absolute())

    def lines_of(self, key: str) -> int | None:
        """See `Carrier.lines_of`. A file that the receiver took away is unknown here."""
        events = self._read(self._root / f"{key}.json")
        return None if events is None else len(events)

    def send(self, key: str, document: dict[str, Any]) -> Mapping[str, str]:
        """See `Carrier.send`."""
        path = self._root / f"{key}.json"
        there = self._read(path)
        if there is not None:
            if there != document["epcisBody"]["eventList"]:
                raise WmsRejected(f"key {key} belongs to another count document ({path})")
            return {}
        try:
            write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())
        except OSError as e:
            raise WmsTransient(f"{path}: cannot be written: {e.strerror}") from e
        return {}

    def health(self) -> Health:
        """See `Carrier.health`."""
        if self._root.exists() and not self._root.is_dir():
            return Health(False, f"{self._root}: not a folder")
        return Health(True, f"folder {self._root}: {sum(1 for _ in self._root.glob('*.json'))} documents")

    @staticmethod
    def _read(path: Path) -> list[Any] | None:
        try:
            events = json.loads(path.read_text(encoding="utf-8"))["epcisBody"]["eventList"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise WmsError(f"{path}: not an EPCIS document: {type(e).__name__}: {e}") from e
        if (
            not isinstance(events, list)
            or not events
            or any(e.get(LINES) != len(events) for e in events if isinstance(e, dict))
        ):
            raise WmsError(f"{path}: not all events of one of our documents")
        return events


def _lines(event: Any) -> Any:
    return event.get(LINES) if isinstance(event, dict) else None


def _receipt(key: str, lines: int, refused: Mapping[str, str]) -> Receipt:
    said = []
    for n in range(1, lines + 1):
        why = refused.get(event_id(key, n))
        said.append(LineStatus(n, "applied") if why is None else LineStatus(n, "rejected", why))
    # Without a number of its own an answer is looked up again: what was refused may turn out to be there.
    return Receipt(key, "" if refused else key, tuple(said))
