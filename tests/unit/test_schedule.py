"""What is due when: in the store's hours, once, whatever the clock does."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shelfscan.errors import BadInput
from shelfscan.schedule import Entry, State, due, read_schedule, set_back, write_schedule

BERLIN = ZoneInfo("Europe/Berlin")


def entry(**more: Any) -> Entry:
    values = {"name": "nightly", "store": "s", "runs": "r", "cron": "0 22 * * *", "time_zone": "Europe/Berlin", **more}
    return Entry.model_validate(values)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def test_a_night_is_due_in_its_hours_and_once() -> None:
    e = entry(hours="21:30-06:00")
    assert due(e, None, at("2026-03-10 21:59")) is None or due(e, None, at("2026-03-10 21:59")).planned < at("2026-03-10 00:00")
    d = due(e, at("2026-03-09 22:00"), at("2026-03-10 22:00:05"))
    assert d is not None and d.planned == at("2026-03-10 22:00") and d.until == at("2026-03-11 06:00")
    assert due(e, d.planned, at("2026-03-10 22:00:06")) is None
    late = due(e, at("2026-03-09 22:00"), at("2026-03-11 05:00"))
    assert late is not None and late.planned == d.planned, "a computer that was off begins late"
    assert due(e, at("2026-03-09 22:00"), at("2026-03-11 06:30")) is None, "but not when the store is open again"


def test_without_hours_an_hour_late_is_the_latest() -> None:
    e = entry()
    assert due(e, at("2026-03-09 22:00"), at("2026-03-10 22:59")) is not None
    assert due(e, at("2026-03-09 22:00"), at("2026-03-10 23:30")) is None


def test_after_a_week_off_only_the_newest_night_is_made_up_for() -> None:
    d = due(entry(hours="22:00-06:00"), at("2026-03-01 22:00"), at("2026-03-10 01:00"))
    assert d is not None and d.planned == at("2026-03-09 22:00")


def test_daylight_saving() -> None:
    spring = entry(cron="30 2 * * *")  # 2026-03-29 02:30 does not exist in Berlin
    times = spring.upcoming(at("2026-03-28 12:00"), 3)
    assert [t.date().day for t in times] == [29, 30, 31]
    autumn = entry(cron="30 2 * * *").upcoming(at("2026-10-24 12:00"), 2)  # 02:30 comes twice on the 25th
    assert [t.date().day for t in autumn] == [25, 26]
    e = entry(hours="22:00-06:00")
    d = due(e, None, at("2026-03-28 22:30"))
    assert d is not None and d.until - d.planned == timedelta(hours=8)
    assert (d.until.astimezone(timezone.utc) - d.planned.astimezone(timezone.utc)) == timedelta(hours=7)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.integers(-90, 400), min_size=1, max_size=40), start=st.integers(0, 3000))
def test_whatever_the_clock_does_no_night_starts_twice(steps: list[int], start: int) -> None:
    e = entry(cron="0 */6 * * *", hours=None)
    now, last, begun = at("2026-03-27 00:00") + timedelta(minutes=start), None, []
    for minutes in steps:
        now += timedelta(minutes=minutes)
        d = due(e, last, now)
        if d is not None:
            begun.append(d.planned)
            last = d.planned
            assert d.planned <= now
    assert len(begun) == len(set(begun)) and begun == sorted(begun)


def test_a_clock_that_was_set_back_is_noticed() -> None:
    assert set_back([at("2026-03-10 22:00")], at("2026-03-08 22:00")) == timedelta(days=2)
    assert set_back([at("2026-03-10 22:00")], at("2026-03-10 21:58")) is None
    assert set_back([], at("2026-03-10 21:58")) is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cron": "0 25 * * *"}, "cron '0 25"),
        ({"cron": "tonight"}, "expected minute hour"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"time_zone": "Berlin"}, "such as Europe/Berlin"),
        ({"cron": "0 12 * * *", "hours": "22:00-06:00"}, "12:00 is not within the hours"),
        ({"hours": "22-6"}, "hours"),
        ({"name": "../x"}, "name"),
    ],
)
def test_entries_that_make_no_sense(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        entry(**more)


def test_the_file_and_the_state(tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    assert read_schedule(file) == []
    write_schedule(file, [entry(), entry(name="weekly", cron="0 23 * * 0")])
    assert [e.name for e in read_schedule(file)] == ["nightly", "weekly"]
    write_schedule(file, [entry(), entry()])
    with pytest.raises(BadInput, match="'nightly' is there twice"):
        read_schedule(file)
    file.write_text("schedules:\n- {name: a, store: s, runs: r, cron: '61 * * * *'}\n")
    with pytest.raises(BadInput, match="schedule.yaml"):
        read_schedule(file)
    state = State(tmp_path / "s.json")
    state.started("a", at("2026-03-10 22:00"))
    state.started("b", at("2026-03-10 23:00"))
    assert State(tmp_path / "s.json").read() == {"a": at("2026-03-10 22:00"), "b": at("2026-03-10 23:00")}
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(BadInput, match="not a scheduler's state"):
        state.read()


def test_what_is_due_runs_and_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the night is replaced by one that fails once: retries, --resume, hours, and the lock are real."""
    from shelfscan.cli import schedule as cli

    calls: list[list[str]] = []

    def fake(command: list[str], log: Path) -> int:
        calls.append(command)
        run_dir = Path(command[command.index("--out") + 1])
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "run.json").write_text(json.dumps({}))
        return 1 if len(calls) == 1 else 0

    monkeypatch.setattr(cli, "_run", fake)
    now = datetime.now(timezone.utc) - timedelta(minutes=1)
    e = Entry.model_validate(
        {"name": "n", "store": "s", "runs": tmp_path / "runs", "cron": f"{now.minute} {now.hour} * * *", "retry_after_min": 0}
    )
    write_schedule(tmp_path / "schedule.yaml", [e])
    cli.start(tmp_path / "schedule.yaml", once=True)
    assert len(calls) == 2 and "--resume" not in calls[0] and "--resume" in calls[1]
    assert 0 < float(calls[0][calls[0].index("--most-hours") + 1]) <= 24
    cli.start(tmp_path / "schedule.yaml", once=True)
    assert len(calls) == 2, "it was started already"


def test_aisles_that_were_not_seen_for_long_come_first(tmp_path: Path) -> None:
    from test_missions import finished

    from shelfscan.cli.schedule import _overdue_aisles

    run = finished(tmp_path / "runs", "one", "2026-09-20T03:00:00Z", 1)
    e = entry(store=str(run.bundle.root), runs=str(tmp_path / "runs"), overdue_days=1)
    assert _overdue_aisles(e) == ["A01"]
    assert _overdue_aisles(entry(store=str(run.bundle.root), runs=str(tmp_path / "none"), overdue_days=1)) == []
    assert _overdue_aisles(entry(store=str(run.bundle.root), runs=str(tmp_path / "runs"))) == []


def test_two_schedulers_of_one_file(tmp_path: Path) -> None:
    from shelfscan.runfolder import claimed

    write_schedule(tmp_path / "schedule.yaml", [entry()])
    with claimed(tmp_path / ".schedule.yaml.running"):
        command = [
            sys.executable,
            "-m",
            "shelfscan.cli.main",
            "schedule",
            "start",
            "--once",
            "--file",
            str(tmp_path / "schedule.yaml"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "another run is going on" in done.stderr
