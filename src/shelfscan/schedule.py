"""When which store is scanned: cron lines in a time zone, kept to the hours a store is closed, one mission at a time.

What is due is a pure function of the entry, what was started last, and the time. Times are aware; daylight saving is cronsim's
business (a time that the clock jumps over runs right after it, one that comes twice runs once).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import yaml
from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems, read_yaml
from shelfscan.runfolder import write_atomic

#: A computer that was off may begin so much late where an entry names no hours.
CATCH_UP = timedelta(hours=1)
#: The clock was set back when it is this much before what was started already.
SET_BACK = timedelta(minutes=10)


class Entry(BaseModel):
    """One line of the schedule. ``hours``: from-to, local time, in which the robot may be out (over midnight if to < from);
    aisles with bins not seen for ``overdue_days`` come first, those of the warehouse system's ``tasks`` before them; a night
    that fails is gone on with up to ``retries`` times, ``retry_after_min`` minutes after the failure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)
    store: Path
    runs: Path
    cron: str
    time_zone: str = "UTC"
    hours: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")
    config: Path | None = None
    retries: int = Field(default=2, ge=0, le=20)
    retry_after_min: float = Field(default=10.0, ge=0, le=600)
    overdue_days: float | None = Field(default=None, gt=0)
    tasks: Literal["first", "only"] | None = None
    direct: bool = False

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("expected the name of a time zone such as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _cron(self) -> Entry:
        try:
            sim = CronSim(self.cron, datetime.now(timezone.utc).astimezone(self.zone))
        except CronSimError as e:
            raise ValueError(
                f"cron {self.cron!r}: {e}; expected minute hour day month weekday, such as '0 22 * * 1-6'"
            ) from None
        first = list(islice(sim, 50))
        if not first:
            raise ValueError(f"cron {self.cron!r}: no such time ever comes")
        outside = [t for t in first if self.closes(t) is None] if self.hours else []
        if outside:
            raise ValueError(f"cron {self.cron!r}: {outside[0]:%H:%M} is not within the hours {self.hours}")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The entry's time zone."""
        return ZoneInfo(self.time_zone)

    def closes(self, at: datetime) -> datetime | None:
        """When the hours that hold at a time end; None outside of them. Without hours: a day later."""
        if self.hours is None:
            return at + timedelta(days=1)
        a, _, b = self.hours.partition("-")
        local = at.astimezone(self.zone)
        for days in (0, -1):
            day = local.date() + timedelta(days=days)
            opens = datetime.combine(day, datetime.strptime(a, "%H:%M").time(), self.zone)
            closes = datetime.combine(day, datetime.strptime(b, "%H:%M").time(), self.zone)
            if closes <= opens:
                closes = datetime.combine(day + timedelta(days=1), closes.time(), self.zone)
            if opens <= local < closes:
                return closes
        return None

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """The next times after one."""
        return list(islice(CronSim(self.cron, after.astimezone(self.zone)), count))


@dataclass(frozen=True, slots=True)
class Due:
    """A start that should happen: ``planned`` as the cron line says, ``until`` when the robot must be home."""

    entry: Entry
    planned: datetime
    until: datetime


def due(entry: Entry, last: datetime | None, now: datetime) -> Due | None:
    """What should be started now. ``last``: the planned time of what was started last.

    A start that was missed is made up for as long as the entry's hours (else `CATCH_UP`) last, and only the newest one: a
    robot that was off for a week does not scan seven times. Nothing is started twice, whatever the clock does.
    """
    back = now - timedelta(days=1) if last is None else max(last, now - timedelta(days=1))
    missed = [t for t in _between(entry, back, now) if last is None or t > last]
    for planned in reversed(missed):
        closes = entry.closes(planned)
        if closes is None:
            continue
        if now < closes and (entry.hours is not None or now - planned <= CATCH_UP):
            return Due(entry, planned, closes)
    return None


def _between(entry: Entry, after: datetime, until: datetime) -> list[datetime]:
    """Times of a cron line after one and up to another."""
    out = []
    for t in CronSim(entry.cron, after.astimezone(entry.zone)):
        if t > until:
            break
        out.append(t)
    return out


def set_back(lasts: Sequence[datetime], now: datetime) -> timedelta | None:
    """By how much the clock is before what was started already; None when it is not."""
    newest = max(lasts, default=None)
    return newest - now if newest is not None and newest - now > SET_BACK else None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schedules: list[Entry] = []


def read_schedule(path: Path) -> list[Entry]:
    """The entries of a schedule file; none when it does not exist. Raises `BadInput` naming every wrong field."""
    if not path.exists():
        return []
    data = read_yaml(path, "schedule") or {}
    try:
        entries = _File.model_validate(data).schedules
    except ValidationError as e:
        raise BadInput(field_problems(path, e, _File)) from e
    names = [e.name for e in entries]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadInput([f"{path}: the name {n!r} is there twice" for n in twice])
    return entries


def write_schedule(path: Path, entries: Sequence[Entry]) -> None:
    """Replace the file in one step."""
    data: dict[str, Any] = {"schedules": [e.model_dump(mode="json", exclude_none=True) for e in entries]}
    write_atomic(path, yaml.safe_dump(data, sort_keys=False).encode())


@dataclass
class State:
    """What the scheduler started, beside the schedule file: planned times by entry. A broken file starts nothing twice: it is
    an error."""

    path: Path

    def read(self) -> dict[str, datetime]:
        """By entry. Raises `BadInput` for a file that is none."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(k): datetime.fromisoformat(v) for k, v in data["started"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise BadInput(f"{self.path}: not a scheduler's state: {e}; delete it to forget what was started") from e

    def started(self, name: str, planned: datetime) -> None:
        """Write down a start, before it happens."""
        now = {**self.read(), name: planned}
        text = json.dumps({"started": {k: v.astimezone(timezone.utc).isoformat() for k, v in now.items()}}, indent=2)
        write_atomic(self.path, text.encode())
