"""Deletes what shows pictures of old runs: recordings and evidence. Counts, map, report and ledger stay.

A run folder is judged by when its run began (``run.json``), so that no picture in it is kept longer than said. What goes is
first renamed, in one step, then removed: a kill in between leaves a name that the next call removes. Files are unlinked;
whether a disk's old blocks can still be read is the disk's affair (encryption, TRIM).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from shelfscan.errors import BadInput
from shelfscan.runfolder import claimed, write_atomic
from shelfscan.runinfo import read_run_info

#: All that holds pictures in a run folder: the recording with its chunks, and the crops that dashboard and report show.
PICTURES = ("bag", "evidence")
#: What was deleted when; beside the counts that stay.
NOTE = "retention.json"
_GOING = ".deleted-"


@dataclass(frozen=True, slots=True)
class Deleted:
    """What `apply_retention` did in one run folder: ``reason`` why nothing was to be done, ``problem`` why it could not."""

    run_dir: str
    files: int = 0
    size_bytes: int = 0
    reason: str = ""
    problem: str = ""


@dataclass(frozen=True)
class RetentionReport:
    """All run folders that were looked at, in order of their names."""

    runs: tuple[Deleted, ...] = field(default=())

    @property
    def deleted(self) -> tuple[Deleted, ...]:
        """Those in which something was deleted (or would be)."""
        return tuple(r for r in self.runs if not r.reason and not r.problem)

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be deleted though it was to be."""
        return tuple(r.problem for r in self.runs if r.problem)

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {
            "deleted_runs": len(self.deleted),
            "deleted_files": sum(r.files for r in self.runs),
            "deleted_bytes": sum(r.size_bytes for r in self.runs),
            "runs": [asdict(r) for r in self.runs],
        }


def run_folders(root: Path) -> list[Path]:
    """The run folders of a folder: itself when it is one, else those right below it. Raises `BadInput` when there is no folder.

    Links are not followed: what they lead to is not in this folder.
    """
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder of runs")
    if (root / "run.json").is_file():
        return [root]
    return sorted(p for p in root.iterdir() if not p.is_symlink() and p.is_dir() and (p / "run.json").is_file())


def apply_retention(
    folders: Iterable[tuple[Path, float]], now: datetime, *, site: str | None = None, dry_run: bool = False
) -> RetentionReport:
    """Delete the pictures of runs that began longer ago than their days; each folder comes with its own number of days.

    ``site`` given: only that store's runs. A run that is going on is left alone and said so, and so are pictures that are a
    link (what it leads to is not in the run folder); neither keeps the others from being done. Doing it again changes nothing.
    Raises `BadInput` for days below 0 and for a folder that is no run folder, before anything is deleted.
    """
    due: list[tuple[Path, float, datetime]] = []
    for run_dir, days in folders:
        if not days >= 0:
            raise BadInput(f"retention days: expected 0 or more, found {days}")
        info = read_run_info(run_dir)
        if site is None or info.site == site:
            due.append((run_dir, days, _time(info.created_at, run_dir)))
    done: list[Deleted] = []
    for run_dir, days, began in due:
        left = began + timedelta(days=days) - now
        if left > timedelta(0):
            done.append(Deleted(str(run_dir), reason=f"kept for {left.total_seconds() / 86400:.1f} more days"))
        else:
            done.append(_delete(run_dir, days, now, dry_run))
    return RetentionReport(tuple(done))


def _delete(run_dir: Path, days: float, now: datetime, dry_run: bool) -> Deleted:
    there = [run_dir / name for name in PICTURES if os.path.lexists(run_dir / name)]
    leading_out = [p for p in there if p.is_symlink()]
    if leading_out:
        text = f"{leading_out[0]}: a link; what it leads to is outside the run folder, so nothing is deleted here"
        return Deleted(str(run_dir), problem=text)
    rests = [p for p in run_dir.iterdir() if p.name.startswith(_GOING)]
    if not there and not rests:
        return Deleted(str(run_dir), reason="has no pictures")
    files, size = _count([*there, *rests])
    if dry_run:
        return Deleted(str(run_dir), files, size)
    try:
        with claimed(run_dir):
            for path in there:
                going = run_dir / f"{_GOING}{path.name}-{os.getpid()}-{now.timestamp():.0f}"
                path.rename(going)
                rests.append(going)
            for path in rests:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            _note(run_dir, days, now, files, size)
    except BadInput as e:
        return Deleted(str(run_dir), problem=str(e))
    except OSError as e:
        return Deleted(str(run_dir), problem=f"{e.filename or run_dir}: could not be deleted: {e.strerror}")
    return Deleted(str(run_dir), files, size)


def _count(paths: Iterable[Path]) -> tuple[int, int]:
    files = [p for path in paths for p in _files(path)]
    return len(files), sum(p.lstat().st_size for p in files)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        for inside in path.iterdir():
            yield from _files(inside)
    else:
        yield path


def _note(run_dir: Path, days: float, now: datetime, files: int, size: int) -> None:
    path = run_dir / NOTE
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["deleted"]
    except (OSError, ValueError, KeyError, TypeError):
        before = []
    at = now.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    entry = {"at": at, "retention_days": days, "what": list(PICTURES), "files": files, "bytes": size}
    write_atomic(path, (json.dumps({"deleted": [*before, entry]}, indent=1) + "\n").encode())


def _time(text: str, run_dir: Path) -> datetime:
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise BadInput(
            f"{run_dir / 'run.json'}: created_at is {text!r}; expected a time such as 2026-11-25T22:00:00Z"
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
