"""Counts that people ask for in Tryton: draft inventories that are not ours.

A request is never confirmed and no quantity is ever put into it: our own inventories post, with their key and their version,
and a confirmed request would post its difference once more, to what was expected when it was last saved. A request that is
answered is cancelled, which moves nothing, with the answer behind its number.

For the same reason nothing is posted at a location where a person is counting, and the expected quantities of
open requests are brought up to date after a post.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from shelfscan.adapters.store_day import StoreDays
from shelfscan.adapters.tryton_rpc import TrytonRpc, ns_of
from shelfscan.errors import WmsConflict, WmsRejected
from shelfscan.wms.tasks import CountTask

#: Numbers of our own inventories: a count document's key and a line.
OURS = re.compile(r"^([0-9a-f]{8}-[0-9a-f-]{27})/(\d+)(?: (conflict|rejected): (.*))?$", re.DOTALL)
_ANSWERED = "; shelfscan "
_FIELDS = ("number", "state", "date", "location", "create_date", "_timestamp")


class TrytonTasks:
    """Reads and closes requests of one database."""

    def __init__(self, rpc: TrytonRpc, days: StoreDays) -> None:
        self._rpc, self._days = rpc, days

    def open(self, codes: Mapping[str, int], products: Mapping[str, int]) -> list[CountTask]:
        """Requests whose day has come, the oldest day first. ``codes`` and ``products``: numbers of locations and products."""
        names, skus = {v: k for k, v in codes.items()}, {v: k for k, v in products.items()}
        today = self._days.today()
        asked = [r for r in self._theirs([]).values() if _day(r["date"]) <= today]
        lines: dict[int, list[dict[str, Any]]] = {int(r["id"]): [] for r in asked}
        for x in self._lines([int(r["id"]) for r in asked]):
            lines[int(x["inventory"])].append(x)
        asked.sort(key=lambda r: (_day(r["date"]), int(r["id"])))
        return [self._task(r, lines[int(r["id"])], names, skus) for r in asked]

    def close(self, ref: str, text: str) -> None:
        """Cancel a request; one that is no draft any more is left alone. Raises `WmsConflict` where somebody works in it."""
        try:
            self._close(int(ref), text)
        except (WmsConflict, WmsRejected):
            # Tryton refuses what a doubled request has done already, and what somebody saved since it was read.
            self._close(int(ref), text)

    def _close(self, request: int, text: str) -> None:
        found = self._rpc.read("stock.inventory", [["id", "=", request], ["state", "=", "draft"]], _FIELDS)
        if not found:
            return
        if any(x["quantity"] is not None for x in self._lines([request])):
            raise WmsConflict(_BUSY)
        number = str(found[0]["number"] or "")
        if _ANSWERED not in number:
            # With the record's time: what somebody saved since it was read is neither lost nor cancelled.
            once = {"_timestamp": {f"stock.inventory,{request}": found[0]["_timestamp"]}}
            said = f"{number}{_ANSWERED}{text.removeprefix('shelfscan ')[:200]}"
            self._rpc.call("model.stock.inventory.write", [request], {"number": said}, changes=True, context=once)
        self._rpc.call("model.stock.inventory.cancel", [request], changes=True)

    def busy(self, places: Collection[int]) -> dict[int, str]:
        """Locations where a person has entered a count and not confirmed it, with the number of the inventory.

        The whole location, for what is posted now is not expected there by lines that are counted next.
        """
        where = [["inventory.state", "=", "draft"], ["inventory.location", "in", list(places)], ["quantity", "!=", None]]
        lines = self._rpc.read("stock.inventory.line", where, ["inventory"]) if places else []
        drafts = self._theirs([["id", "in", sorted({int(x["inventory"]) for x in lines})]]) if lines else {}
        return {int(d["location"]): str(d["number"] or d["id"]) for d in drafts.values()}

    def refresh(self, places: Collection[int]) -> None:
        """Let open requests expect what is there now: Tryton does it at every save, and its counting wizard saves none."""
        drafts = self._theirs([["location", "in", list(places)]]) if places else {}
        idle = set(drafts) - {int(x["inventory"]) for x in self._lines(sorted(drafts)) if x["quantity"] is not None}
        for n in sorted(idle):
            once = {"_timestamp": {f"stock.inventory,{n}": drafts[n]["_timestamp"]}}
            try:
                self._rpc.call("model.stock.inventory.write", [n], {"number": drafts[n]["number"]}, changes=True, context=once)
            except WmsConflict:
                continue  # somebody saved it just now, and with that did the same

    def _theirs(self, domain: Sequence[Any]) -> dict[int, dict[str, Any]]:
        rows = self._rpc.read("stock.inventory", [["state", "=", "draft"], *domain], _FIELDS)
        return {int(r["id"]): r for r in rows if not OURS.match(str(r["number"] or ""))}

    def _lines(self, requests: list[int]) -> list[dict[str, Any]]:
        if not requests:
            return []
        return self._rpc.read("stock.inventory.line", [["inventory", "in", requests]], ["inventory", "product", "quantity"])

    def _task(
        self, row: Mapping[str, Any], lines: list[dict[str, Any]], names: Mapping[int, str], skus: Mapping[int, str]
    ) -> CountTask:
        place, problem = int(row["location"]), ""
        nameless = [int(x["product"]) for x in lines if int(x["product"]) not in skus]
        if place not in names:
            problem = f"location {place} of Tryton has no code"
        elif nameless:
            problem = f"products without a code: {', '.join(str(n) for n in nameless)}"
        elif any(x["quantity"] is not None for x in lines):
            problem = _BUSY
        wanted = tuple(skus[int(x["product"])] for x in lines if int(x["product"]) in skus)
        return CountTask(
            ref=str(row["id"]),
            location_code=names.get(place, str(place)),
            sku=wanted[0] if len(wanted) == 1 else "",
            due_ns=self._days.begin_ns(_day(row["date"])),
            note=str(row["number"] or ""),
            skus=wanted if len(wanted) > 1 else (),
            asked_ns=ns_of(row["create_date"]),
            problem=problem,
        )


_BUSY = "quantities are entered in it: somebody is counting, and that inventory is theirs to confirm or cancel"


def _day(value: Any) -> date:
    if isinstance(value, dict):
        return date(int(value["year"]), int(value["month"]), int(value["day"]))
    return date.min
