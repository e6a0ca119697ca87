"""Counts that a system behind a watched folder asks for: ``in/tasks.csv`` and ``in/tasks-….csv``, answered in ``answers/``.

A task is open as long as a row names it and ``answers/`` has no file of its name. That file is written once, in one step. So a
name must never be used for a second task; the system takes the row away, and then the answer.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Sequence

from shelfscan.adapters.exchange import Exchange
from shelfscan.adapters.folder_csv import iso, rows_of, stamp_of
from shelfscan.errors import WmsAuth, WmsError, WmsRejected, WmsTransient
from shelfscan.wms.tasks import CountTask

_REF = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
_FILE = re.compile(r"^tasks(-.*)?\.csv$")
COLUMNS = ("ref", "location_code", "sku", "state", "message", "closed_at")


class FolderTasks:
    """Reads and answers tasks of one exchange."""

    def __init__(self, files: Exchange, clock: Callable[[], int] = time.time_ns) -> None:
        self._files, self._clock = files, clock
        self._known: dict[str, CountTask] = {}

    def open(self) -> list[CountTask]:
        """By when they are due, those of any time last. What is wrong with a row or a file is a problem; the others count.

        Raises `WmsTransient` for a file that cannot be had just now: its tasks would stay open without anybody knowing why.
        """
        names = [n for n in self._files.names("in", "tasks") if _FILE.match(n)]
        if not names:
            return []
        answered = set(self._files.names("answers", ""))
        found: dict[str, tuple[dict[str, str], CountTask]] = {}
        out: list[CountTask] = []
        rows: list[dict[str, str]] = []
        for name in names:
            try:
                data = self._files.read("in", name)
            except (WmsTransient, WmsAuth):
                raise
            except WmsError as e:
                out.append(CountTask(name, "?", problem=str(e)))
                continue
            try:
                rows += self._rows(name, data)
            except WmsError as e:
                out.append(CountTask(name, "?", problem=str(e)))
        for row in rows:
            task = _task(row)
            said = {k: v for k, v in row.items() if v and k != "@"}
            before = found.get(task.ref)
            if _file_of(task.ref) in answered and not task.problem:
                continue
            if before is not None and before[0] == said:
                continue  # the same task in two files
            if before is not None:
                problem = f"{row['@']}: ref {task.ref!r} is another task's: {before[1].location_code} {before[1].sku}".rstrip()
                task = CountTask(f"{task.ref} ({row['@']})", task.location_code, task.sku, problem=problem)
            found.setdefault(task.ref, (said, task))
            out.append(task)
        self._known = {t.ref: t for t in out if not t.problem}
        return sorted(out, key=lambda t: (t.due_ns == 0, t.due_ns, t.ref))

    def close(self, ref: str, text: str) -> None:
        """Write the answer, unless there is one."""
        if not _REF.match(ref):
            raise WmsRejected(f"task {ref!r}: {_NAMED}")
        if _file_of(ref) in self._files.names("answers", ""):
            return
        if ref not in self._known:
            self.open()
        task = self._known.get(ref)
        if task is None:
            return
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows((COLUMNS, (ref, task.location_code, task.sku, "closed", text, iso(self._clock()))))
        self._files.write("answers", _file_of(ref), out.getvalue().encode())

    def _rows(self, name: str, data: bytes | None) -> Sequence[dict[str, str]]:
        # The system may have taken it away since.
        return [] if data is None else rows_of(self._files.where("in", name), data, ("ref", "location_code"), filled=False)


_NAMED = "expected a ref of letters, digits, dots, dashes and underscores, at most 64"


def _task(row: dict[str, str]) -> CountTask:
    problems = []
    if not _REF.match(row["ref"]):
        problems.append(f"ref is {row['ref']!r}; {_NAMED}")
    if not row["location_code"]:
        problems.append("location_code is empty")
    times = {}
    for column in ("due_at", "asked_at"):
        try:
            times[column] = stamp_of(row, column) if row.get(column) else 0
        except WmsError as e:
            problems.append(str(e).removeprefix(f"{row['@']}: "))
    problem = f"{row['@']}: {'; '.join(problems)}" if problems else ""
    return CountTask(
        row["ref"] or row["@"],
        row["location_code"],
        row.get("sku", ""),
        times.get("due_at", 0),
        row.get("note", ""),
        asked_ns=times.get("asked_at", 0),
        problem=problem,
    )


def _file_of(ref: str) -> str:
    return f"{ref}.csv"
