"""Counts that people ask for in InvenTree: stock items with a status that says so.

InvenTree plans no counts: an item's ``stocktake_date`` is when it was counted last, can be set by nobody and names no day to
come, and its stocktake reports tell of the past. What its users do have is the status of stock items, which many can be given
at once and whose history says when. So one status is agreed on, *Attention needed* or one of the store's own, and a count that
stands in InvenTree, or agrees with it, sets it back to *OK*. It is off unless a status is configured.

To set it back is a request without a condition: one that arrives late sets *OK* whatever the status has become.
"""

from __future__ import annotations

from collections.abc import Mapping

from shelfscan.adapters.inventree_api import InvenTreeApi, InvenTreeRefused, Record
from shelfscan.adapters.inventree_history import TRACK, InvenTreeHistory
from shelfscan.adapters.inventree_stock import UNAVAILABLE, InvenTreeStock, present, unfit
from shelfscan.errors import BadInput
from shelfscan.wms.tasks import CountTask

OK = 10
_NOTE = 512


class InvenTreeTasks:
    """Reads and closes them. ``status``: InvenTree's number of it, or the key of a custom status; 0: nobody asks.

    Raises `BadInput` for one that cannot mean this.
    """

    def __init__(self, api: InvenTreeApi, read: InvenTreeStock, history: InvenTreeHistory, status: int) -> None:
        if status == OK or status in UNAVAILABLE:
            raise BadInput(f"wms.inventree.ask_status: {status} cannot ask for a count; 50 is Attention needed")
        self._api, self._read, self._history, self._status = api, read, history, status

    def open(self) -> list[CountTask]:
        """A task for each stock item, the longest waiting first."""
        if not self._status:
            return []
        names = self._read.names(fresh=True)
        codes, skus = names.codes, names.skus
        out = []
        for row in self._asked():
            code, sku = codes.get(int(row["location"] or 0)), skus.get(int(row["part"]))
            if code is None or sku is None or not present(row):
                continue
            entry = self._entry(row)
            note = str(entry["notes"] or "") if entry else ""
            wrong = unfit(sku, code, [row])
            asked_ns = self._history.at(entry) if entry else 0
            out.append(CountTask(_ref(row, entry), code, sku, note=note, asked_ns=asked_ns, problem=wrong))
        return sorted(out, key=lambda t: (t.asked_ns, t.ref))

    def close(self, ref: str, text: str) -> None:
        """Set the status back, unless it is another by now, or was set anew. Raises `InvenTreeRefused`."""
        if not self._there(ref):
            return
        body = {"items": [int(ref.partition(".")[0])], "status": OK, "note": text[:_NOTE]}
        try:
            self._api.change("/api/stock/change_status/", body)
        except InvenTreeRefused:
            if self._there(ref):  # else it went meanwhile
                raise

    def _there(self, ref: str) -> bool:
        pk = ref.partition(".")[0]
        return any(str(r["pk"]) == pk and _ref(r, self._entry(r)) == ref for r in self._asked())

    def _asked(self) -> list[Record]:
        rows = self._api.rows("/api/stock/", status=self._status, part_detail="false", location_detail="false")
        return [r for r in rows if int(r.get("status_custom_key") or r["status"]) == self._status]

    def _entry(self, row: Record) -> Record | None:
        """Where the history says that this was asked for; None when it does not, or is gone with the item."""
        try:
            found = [r for r in self._api.rows(TRACK, item=row["pk"]) if _says(r["deltas"] or {}, self._status)]
        except InvenTreeRefused:
            return None
        return max(found, key=lambda r: int(r["pk"]), default=None)


def _says(deltas: Mapping[str, object], status: int) -> bool:
    return status in (deltas.get("status"), deltas.get("status_custom_key"))


def _ref(row: Record, entry: Record | None) -> str:
    """The item and the entry: who asks a second time asks for another count."""
    return f"{row['pk']}.{entry['pk'] if entry else 0}"
