"""``shelfscan schedule``: nightly runs that start by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from shelfscan.bundle import check_bundle, load_bundle
from shelfscan.cli._console import err, out, print_json
from shelfscan.cli.missions import overdue_bins
from shelfscan.cli.run import ended_cleanly
from shelfscan.cli.tasks import Tasks
from shelfscan.config import load_config
from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems
from shelfscan.runfolder import claimed
from shelfscan.schedule import Due, Entry, State, due, read_schedule, set_back, write_schedule

app = typer.Typer(help="Nightly runs: when which store is scanned.", no_args_is_help=True)
File = Annotated[Path, typer.Option("--file", envvar="SHELFSCAN_SCHEDULE", help="The schedule file (YAML).")]
DEFAULT = Path("schedule.yaml")
POLL_S = 5.0


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name of the entry; a new entry of the same name is refused.")],
    store: Annotated[Path, typer.Option("--store", help="Store bundle.")],
    runs: Annotated[Path, typer.Option("--runs", help="Folder that gets one run folder a night.")],
    cron: Annotated[str, typer.Option("--cron", help="minute hour day month weekday, such as '0 22 * * 1-6'.")],
    time_zone: Annotated[str, typer.Option("--time-zone", help="Name of the store's time zone.")] = "UTC",
    hours: Annotated[str | None, typer.Option("--hours", help="When the robot may be out, such as 22:00-06:00.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML configuration of the runs.")] = None,
    retries: Annotated[int, typer.Option(min=0, max=20, help="How often a failed night is gone on with.")] = 2,
    retry_after_min: Annotated[float, typer.Option("--retry-after", min=0, max=600, help="Minutes before that.")] = 10.0,
    overdue_days: Annotated[
        float | None, typer.Option("--overdue-first", min=0.01, help="Aisles with bins not seen for so many days come first.")
    ] = None,
    tasks: Annotated[
        Tasks | None, typer.Option("--tasks", help="Counts the warehouse system asks for: first, or only.")
    ] = None,
    direct: Annotated[bool, typer.Option("--direct", help="Runs in one process, without ROS.")] = False,
    file: File = DEFAULT,
) -> None:
    """Add an entry; everything about it is checked now."""
    entries = read_schedule(file)
    if any(e.name == name for e in entries):
        raise BadInput(f"{file}: there is an entry {name!r} already; remove it first")
    problems = check_bundle(store)
    if problems:
        raise BadInput(problems)
    load_config(config)
    values = {
        "name": name,
        "store": store.resolve(),
        "runs": runs.resolve(),
        "cron": cron,
        "time_zone": time_zone,
        "hours": hours,
        "config": config.resolve() if config else None,
        "retries": retries,
        "retry_after_min": retry_after_min,
        "overdue_days": overdue_days,
        "tasks": tasks and tasks.value,
        "direct": direct,
    }
    try:
        entry = Entry.model_validate(values)
    except ValidationError as e:
        raise BadInput(field_problems("schedule add", e, Entry)) from e
    write_schedule(file, [*entries, entry])
    first = entry.upcoming(datetime.now(timezone.utc), 1)[0]
    out.print(f"{name}: first on {first:%a %Y-%m-%d %H:%M} ({time_zone})", highlight=False, soft_wrap=True)


@app.command("list")
def list_(file: File = DEFAULT, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Entries, what they started last, and when they come next."""
    entries, lasts, now = read_schedule(file), _state(file).read(), datetime.now(timezone.utc)
    rows = [(e, lasts.get(e.name), e.upcoming(max(now, lasts.get(e.name, now)), 1)) for e in entries]
    if as_json:
        print_json(
            {
                "schedules": [
                    {**e.model_dump(mode="json"), "last": last and last.isoformat(), "next": n[0].isoformat() if n else None}
                    for e, last, n in rows
                ]
            }
        )
        return
    table = Table("name", "store", "cron", "hours", "time zone", "last", "next")
    for e, last, coming in rows:
        when = [f"{t.astimezone(e.zone):%a %m-%d %H:%M}" if t else "" for t in (last, coming[0] if coming else None)]
        table.add_row(e.name, e.store.name, e.cron, e.hours or "any", e.time_zone, *when)
    out.print(table)


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="Name of the entry.")], file: File = DEFAULT) -> None:
    """Remove an entry; runs stay."""
    entries = read_schedule(file)
    left = [e for e in entries if e.name != name]
    if len(left) == len(entries):
        raise BadInput(f"{file}: no entry {name!r}; known: {', '.join(e.name for e in entries) or 'none'}")
    write_schedule(file, left)
    out.print(f"{name}: removed", highlight=False, soft_wrap=True)


@app.command("start")
def start(
    file: File = DEFAULT,
    once: Annotated[bool, typer.Option("--once", help="Start what is due now, wait for its end, and return.")] = False,
) -> None:
    """Wait and start what is due, until Ctrl-C. One mission at a time; a service (systemd) is the place for this."""
    entries = read_schedule(file)
    if not entries:
        raise BadInput(f"{file}: has no entries; add one with: shelfscan schedule add")
    with claimed(file.resolve().parent / f".{file.name}.running"), ended_cleanly():
        for e in entries:
            coming = e.upcoming(datetime.now(timezone.utc), 1)
            _say(f"{e.name}: next on {coming[0]:%a %Y-%m-%d %H:%M} ({e.time_zone})")
        warned = ""
        while True:
            # The file may be edited meanwhile; a version with a mistake in it changes nothing.
            try:
                entries = read_schedule(file)
            except BadInput as e:
                warned = _once("; ".join(e.problems), warned)
            state = _state(file)
            lasts, now = state.read(), datetime.now(timezone.utc)
            back = set_back(list(lasts.values()), now)
            if back is not None:
                hours = back.total_seconds() / 3600
                warned = _once(
                    f"the clock is {hours:.1f} h before the last start: was it set back? nothing is started twice", warned
                )
            waiting = [d for d in (due(e, lasts.get(e.name), now) for e in entries) if d is not None]
            if waiting:
                first = min(waiting, key=lambda d: (d.planned, d.entry.name))
                state.started(first.entry.name, first.planned)
                _night(first)
            elif once:
                return
            else:
                time.sleep(POLL_S)


def _night(d: Due) -> None:
    """Run one night to its end, gone on with where it fails, as long as the hours last."""
    e = d.entry
    run_dir = e.runs / f"{e.name}-{d.planned.astimezone(e.zone):%Y%m%d-%H%M}"
    for attempt in range(e.retries + 1):
        left_h = (d.until - datetime.now(timezone.utc)).total_seconds() / 3600
        if left_h <= 0.02:
            _say(f"{e.name}: the hours are over")
            return
        resume = (run_dir / "run.json").is_file()
        command = [sys.executable, "-m", "shelfscan.cli.main", "run", "--store", str(e.store), "--out", str(run_dir)]
        command += ["--resume"] if resume else []
        command += ["--direct"] if e.direct else []
        command += ["--config", str(e.config)] if e.config else []
        if not resume:
            command += ["--tasks", e.tasks] if e.tasks else []
            command += [part for aisle in _overdue_aisles(e) for part in ("--first", aisle)]
        command += ["--most-hours", f"{min(24.0, left_h):.3f}"]
        _say(f"{e.name}: {'goes on with' if resume else 'starts'} {run_dir}")
        code = _run(command, run_dir.parent / f"{run_dir.name}.log")
        if code == 0:
            _say(f"{e.name}: done; see: shelfscan serve {run_dir}")
            return
        _say(f"{e.name}: ended with {code}; see {run_dir.parent / (run_dir.name + '.log')}")
        if code == 2 and not resume:
            return  # bad input does not get better by itself
        if attempt < e.retries:
            ends = datetime.now(timezone.utc) + timedelta(minutes=e.retry_after_min)
            while datetime.now(timezone.utc) < min(ends, d.until):
                time.sleep(min(POLL_S, 1.0))
    _say(f"{e.name}: given up for tonight; what was seen is kept, go on with: shelfscan run --resume --out {run_dir}")


def _overdue_aisles(e: Entry) -> list[str]:
    """Aisles with bins that were not seen for too long; what stands in the way of knowing stops no night."""
    if e.overdue_days is None or not e.runs.is_dir():
        return []
    try:
        rows, runs = overdue_bins(load_bundle(e.store), e.runs, e.overdue_days)
    except BadInput as problem:
        _say(f"{e.name}: what is overdue is not known: {'; '.join(problem.problems)}")
        return []
    # In a first night everything is overdue, and nothing comes first.
    return sorted({str(r["aisle_id"]) for r in rows}) if runs else []


def _run(command: list[str], log: Path) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as f:
        process = subprocess.Popen(command, stdout=f, stderr=f, start_new_session=True)
        with _ends_with(process):
            return process.wait()


@contextmanager
def _ends_with(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A scheduler that is stopped ends its run cleanly: the run can be resumed."""
    try:
        yield
    except BaseException:
        os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def _state(file: Path) -> State:
    return State(file.with_suffix(".state.json"))


def _say(text: str) -> None:
    stamp = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
    err.print(f"{stamp} {text}", highlight=False, markup=False, soft_wrap=True)


def _once(text: str, before: str) -> str:
    if text != before:
        _say(text)
    return text
