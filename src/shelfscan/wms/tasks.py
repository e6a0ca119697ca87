"""Counts that a warehouse system asks for: where the robot looks first, and which of them a sync has answered.

A task is answered by a count that stands in the system, or by one that agrees with it. What was not seen, waits for a person or
was refused leaves it open: the system, or staff, asked for a number and have none yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.report import SyncLine, TaskAnswer
from shelfscan.wms.rules import NS, to_ns

#: Outcomes that answer a task.
ANSWERED = ("equal", "posted")
#: Why a count that seemed to agree answers nothing yet; the next sync tells.
MOVED = "moved while it was compared"


@dataclass(frozen=True, slots=True)
class CountTask:
    """One location to be counted. ``ref``: the system's name for the task, never that of a later one.

    ``sku`` is one product and ``skus`` are several; with neither all that is kept there. ``due_ns`` and ``asked_ns`` (when it
    was asked): UTC, 0 for unknown. ``problem``: why no count of ours can answer it; such a task is never closed.
    """

    ref: str
    location_code: str
    sku: str = ""
    due_ns: int = 0
    note: str = ""
    skus: tuple[str, ...] = ()
    asked_ns: int = 0
    problem: str = ""

    @property
    def products(self) -> tuple[str, ...]:
        """The products asked for; none for all that is kept there."""
        return ((self.sku,) if self.sku else ()) + self.skus

    def covers(self, location_code: str, sku: str) -> bool:
        """Whether a count of this product at this location is asked for."""
        return location_code == self.location_code and (not self.products or sku in self.products)


@runtime_checkable
class TaskSource(Protocol):
    """A `WmsClient` that asks for counts. Both calls raise `WmsError`s as its other calls do."""

    def pull_tasks(self) -> Sequence[CountTask]:
        """Tasks that are open, the most urgent first."""
        ...

    def close_task(self, ref: str, text: str) -> None:
        """Say that a task is done; one that is closed already, or gone, stays as it is.

        Changes no stock. Raises `WmsConflict` or `WmsRejected` for a task that has to stay open, and says why.
        """
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


def problem_of(task: CountTask, mapping: Sequence[WmsLocation]) -> str:
    """Why a task cannot be answered whatever is counted; empty when it can be."""
    if task.problem:
        return task.problem
    here = {r.sku for r in mapping if r.location_code == task.location_code and r.bin_id}
    if not here:
        return f"no shelf place is mapped to this location ({task.location_code})"
    unknown = [s for s in task.products if s not in here]
    return f"no shelf place of {', '.join(unknown)} is mapped to {task.location_code}" if unknown else ""


def ref_of(tasks: Iterable[CountTask], location_code: str, sku: str) -> str:
    """The first task that a count answers; empty when none asked for it."""
    return next((t.ref for t in tasks if not t.problem and t.covers(location_code, sku)), "")


def answers(
    tasks: Iterable[CountTask],
    lines: Iterable[SyncLine],
    mapping: Sequence[WmsLocation],
    stock: Collection[tuple[str, str]] = (),
    moved: Collection[tuple[str, str]] = (),
) -> list[TaskAnswer]:
    """What a sync's lines say to each task.

    ``stock``: location and product of all that the system has any of; ``moved``: of what moved while it was compared.
    """
    by_code: dict[str, list[SyncLine]] = {}
    for line in lines:
        by_code.setdefault(line.location_code, []).append(line)
    tasks = list(tasks)
    places: Mapping[str, tuple[str, ...]] = bins_of(tasks, mapping)
    out = []
    for t in tasks:
        found = [x for x in by_code.get(t.location_code, ()) if t.covers(x.location_code, x.sku)]
        problem = problem_of(t, mapping)
        missing = list(_missing(t, found, stock, moved))
        if problem:
            counted = ", ".join(f"{x.sku} {x.counted}" for x in found if x.counted is not None)
            state, text = "open", f"{problem}; counted: {counted}" if counted else problem
        elif missing:
            state, text = "open", "; ".join(missing[:3]) + (f" … and {len(missing) - 3} more" if len(missing) > 3 else "")
        else:
            said = (f"{x.sku} {'agrees' if x.outcome == 'equal' else 'posted'}: {x.counted}" for x in found)
            state, text = "closed", ", ".join(said)
        out.append(TaskAnswer(t.ref, t.location_code, ", ".join(t.products), state, text, places[t.ref]))
    return out


def _missing(
    t: CountTask, found: Sequence[SyncLine], stock: Collection[tuple[str, str]], moved: Collection[tuple[str, str]]
) -> Iterable[str]:
    """What still has to be counted for a task to be done."""
    for x in found:
        if x.outcome not in ANSWERED:
            yield f"{x.sku}: {x.outcome}: {x.reason}"
        elif x.outcome == "equal" and (x.location_code, x.sku) in moved:
            yield f"{x.sku}: stock {MOVED}"
        elif t.asked_ns and (to_ns(x.observed_at) or 0) + NS <= t.asked_ns:  # lines tell whole seconds, cut off
            yield f"{x.sku}: was counted before it was asked for"
    counted = {x.sku for x in found}
    if not found and not t.products:
        yield "nothing was counted here"
    yield from (f"{s}: nothing was counted here" for s in t.products if s not in counted)
    if not t.products:
        # The whole location is more than what the store maps of it.
        others = sorted(s for code, s in stock if code == t.location_code and s not in counted)
        yield from (f"{s}: is kept here too, and no shelf place of it is mapped" for s in others)
