"""Counts that a warehouse system asks for: where the robot looks first, and which of them a sync has answered.

A task is answered by a count that stands in the system, or by one that agrees with it. What was not seen, waits for a person or
was refused leaves it open: the system, or staff, asked for a number and have none yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.report import SyncLine, TaskAnswer

#: Outcomes that answer a task.
ANSWERED = ("equal", "posted")


@dataclass(frozen=True, slots=True)
class CountTask:
    """One location to be counted. ``ref``: the system's name for the task; ``sku`` empty: all that is kept there; ``due_ns``:
    UTC, 0 for none."""

    ref: str
    location_code: str
    sku: str = ""
    due_ns: int = 0
    note: str = ""

    def covers(self, location_code: str, sku: str) -> bool:
        """Whether a count of this product at this location is asked for."""
        return location_code == self.location_code and self.sku in ("", sku)


@runtime_checkable
class TaskSource(Protocol):
    """A `WmsClient` that asks for counts. Both calls raise `WmsError`s as its other calls do."""

    def pull_tasks(self) -> Sequence[CountTask]:
        """Tasks that are open, the most urgent first."""
        ...

    def close_task(self, ref: str, text: str) -> None:
        """Say that a task is done; one that is closed already, or gone, stays as it is."""
        ...


def bins_of(tasks: Iterable[CountTask], mapping: Sequence[WmsLocation]) -> dict[str, tuple[str, ...]]:
    """The shelf places each task means, by its ref; empty for a location that no place is mapped to."""
    out: dict[str, tuple[str, ...]] = {}
    by_code: dict[str, list[WmsLocation]] = {}
    for row in mapping:
        by_code.setdefault(row.location_code, []).append(row)
    for t in tasks:
        rows = [r for r in by_code.get(t.location_code, ()) if r.bin_id and t.covers(r.location_code, r.sku)]
        out[t.ref] = tuple(dict.fromkeys(r.bin_id for r in rows))
    return out


def ref_of(tasks: Iterable[CountTask], location_code: str, sku: str) -> str:
    """The first task that a count answers; empty when none asked for it."""
    return next((t.ref for t in tasks if t.covers(location_code, sku)), "")


def answers(tasks: Iterable[CountTask], lines: Iterable[SyncLine], mapping: Sequence[WmsLocation]) -> list[TaskAnswer]:
    """What a sync's lines say to each task."""
    by_code: dict[str, list[SyncLine]] = {}
    for line in lines:
        by_code.setdefault(line.location_code, []).append(line)
    tasks = list(tasks)
    places: Mapping[str, tuple[str, ...]] = bins_of(tasks, mapping)
    out = []
    for t in tasks:
        found = [x for x in by_code.get(t.location_code, ()) if t.covers(x.location_code, x.sku)]
        missing = [x for x in found if x.outcome not in ANSWERED]
        bins = places[t.ref]
        if not bins:
            out.append(TaskAnswer(t.ref, t.location_code, t.sku, "open", "no shelf place is mapped to this location"))
        elif missing or not found:
            text = "; ".join(f"{x.sku}: {x.outcome}: {x.reason}" for x in missing[:3]) or "nothing was counted here"
            more = f" … and {len(missing) - 3} more" if len(missing) > 3 else ""
            out.append(TaskAnswer(t.ref, t.location_code, t.sku, "open", text + more, bins))
        else:
            text = ", ".join(f"{x.sku} {'agrees' if x.outcome == 'equal' else 'posted'}: {x.counted}" for x in found)
            out.append(TaskAnswer(t.ref, t.location_code, t.sku, "closed", text, bins))
    return out
