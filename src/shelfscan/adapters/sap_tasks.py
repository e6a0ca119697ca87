"""Counts that planners ask for in SAP: physical inventory documents that are not ours and wait for a count.

They are where the robot looks first, and no count of ours closes one. While such a document is open SAP takes no other for the
same material and storage location. To count *into* it would leave nothing of ours in SAP: the service lets a client change the
count of an item and nothing of the head, so there is no place for a count document's key. An answer that was lost could not be
looked up, nor a count that a person entered be told from ours. So the planner enters what was counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from shelfscan.adapters.sap_inventory import Sheet
from shelfscan.adapters.sap_odata import day_of
from shelfscan.adapters.sap_stock import SapStock
from shelfscan.adapters.store_day import StoreDays
from shelfscan.wms.tasks import CountTask


def tasks_of(found: Iterable[tuple[dict[str, Any], Sequence[Sheet]]], read: SapStock, days: StoreDays) -> list[CountTask]:
    """A task for each document, the one that is planned first first. ``days``: SAP's."""
    out = []
    for head, sheets in found:
        planned = head.get("PhysInventoryPlannedCountDate")
        due_ns = days.begin_ns(day_of(planned)) if planned else 0
        skus = tuple(dict.fromkeys(read.sku(s.material) for s in sheets))
        code = read.code((str(head["Plant"]), str(head["StorageLocation"])))
        note = str(head.get("PhysicalInventoryDocumentDesc") or "")
        ref = sheets[0].name
        one, more = (skus[0], ()) if len(skus) == 1 else ("", skus)
        out.append(CountTask(ref, code, one, due_ns, note, more, problem=theirs(ref)))
    return sorted(out, key=lambda t: (t.due_ns == 0, t.due_ns, t.ref))


def theirs(ref: str) -> str:
    """What has to be done with a planner's document."""
    return f"enter the count in SAP's physical inventory document {ref} (MI04); while it is open SAP takes none of ours"
