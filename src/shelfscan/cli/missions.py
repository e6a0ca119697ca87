"""``shelfscan missions``: what was scanned, how it went, and orders to a mission that runs; ``shelfscan overdue``."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shelfscan.adapters.ledger_place import find_ledger, has_ledger
from shelfscan.bundle import load_bundle
from shelfscan.cli._console import out, print_json
from shelfscan.errors import BadInput, ShelfscanError
from shelfscan.inputs import expect_writable
from shelfscan.mission import machine
from shelfscan.mission.timeline import svg, timeline_of
from shelfscan.model.bundle import Bundle
from shelfscan.model.stock import BinStatus
from shelfscan.model.times import from_iso
from shelfscan.ports import Event
from shelfscan.runfolder import claimed, write_atomic
from shelfscan.runinfo import read_run_info
from shelfscan.runs import read_map, runs_in

app = typer.Typer(help="Missions: what was scanned, and orders to one that runs.", no_args_is_help=True)
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
ANSWER_S = 15.0


@app.command("list")
def list_(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that holds run folders.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Runs of a folder, the oldest first."""
    rows = [_row(run.path, run.info.mission_id, run.info.site, run.info.created_at) for run in runs_in(folder)]
    if as_json:
        print_json({"missions": rows})
        return
    if not rows:
        out.print(f"{folder}: no run folders", highlight=False, soft_wrap=True)
        return
    table = Table("run", "mission", "store", "began", "state", "viewpoints", "bins counted")
    for r in rows:
        counted = f"{r['bins_counted']} of {r['bins']}" if r["bins"] else ""
        table.add_row(
            r["run"], r["mission_id"], r["site"], r["began"], r["state"], f"{r['scanned']} of {r['viewpoints']}", counted
        )
    out.print(table)


def _row(path: Path, mission_id: str, site: str, began: str) -> dict[str, Any]:
    row: dict[str, Any] = {"run": path.name, "mission_id": mission_id, "site": site, "began": began, "state": "not begun"}
    row |= {"viewpoints": 0, "scanned": 0, "bins": 0, "bins_counted": 0}
    progress = _progress(path, mission_id)
    if progress is not None:
        row |= {"viewpoints": len(progress.plan.viewpoints), "scanned": len(progress.done), "state": _state(progress, path)}
    try:
        bins = read_map(path).bins
    except BadInput:
        return row
    return {**row, "bins": len(bins), "bins_counted": sum(b.status is not BinStatus.UNSEEN for b in bins)}


def _progress(path: Path, mission_id: str) -> machine.Progress | None:
    if not has_ledger(path):
        return None
    ledger = find_ledger(path)
    try:
        return machine.project(ledger.read(kinds=machine.KINDS), mission_id)
    finally:
        ledger.close()


def _state(progress: machine.Progress, path: Path) -> str:
    if progress.ended is not None:
        return str(progress.ended)
    if not _alive(path):
        return "interrupted; --resume goes on"
    if progress.cancelled:
        return "going home"
    return "paused" if progress.paused else "charging" if progress.recharging else "running"


def _alive(path: Path) -> bool:
    """Whether a process holds the run folder."""
    try:
        with claimed(path):
            return False
    except BadInput:
        return True


@app.command("show")
def show(
    run_dir: RunDir,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write the night as a timeline (SVG).")] = None,
    as_json: AsJson = False,
) -> None:
    """How a mission went, viewpoint by viewpoint where something went wrong."""
    info = read_run_info(run_dir)
    progress = _progress(run_dir, info.mission_id)
    if progress is None:
        raise BadInput(f"{run_dir}: its mission has not begun")
    if picture is not None:
        expect_writable(picture)
        ledger = find_ledger(run_dir)
        try:
            drawing = svg(timeline_of(ledger.read(kinds=machine.KINDS), info.mission_id))
        finally:
            ledger.close()
        write_atomic(picture, drawing.encode())
    row = _row(run_dir, info.mission_id, info.site, info.created_at)
    left = [v.viewpoint_id for v in progress.plan.viewpoints if v.viewpoint_id not in progress.done]
    row |= {
        "interruptions": progress.interruptions,
        "skipped_aisles": sorted(progress.skipped),
        "missing": [machine.describe(progress, v) for v in left],
        "failed_and_done_later": sorted(set(progress.failures) & progress.done),
    }
    if as_json:
        print_json(row)
        return
    out.print(
        f"{row['mission_id']} ({row['site']}), {row['began']}: {row['state']}; "
        f"{row['scanned']} of {row['viewpoints']} viewpoints, "
        f"{row['bins_counted']} of {row['bins']} bins counted, {row['interruptions']} interruptions",
        highlight=False,
        soft_wrap=True,
    )
    for text in row["missing"]:
        out.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
    if row["failed_and_done_later"]:
        out.print(f"  failed at first: {', '.join(row['failed_and_done_later'])}", highlight=False, soft_wrap=True)


@app.command("pause")
def pause(run_dir: RunDir) -> None:
    """Stop where it is, until `resume`."""
    _order(run_dir, "pause")


@app.command("resume")
def resume(run_dir: RunDir) -> None:
    """Go on after a pause."""
    _order(run_dir, "resume")


@app.command("cancel")
def cancel(run_dir: RunDir) -> None:
    """End the mission and go home; what was seen is kept, and `run --resume` goes on with the rest."""
    _order(run_dir, "cancel")


@app.command("skip")
def skip(
    run_dir: RunDir,
    aisles: Annotated[list[str], typer.Option("--aisle", help="Aisle to leave out; may be given more than once.")],
) -> None:
    """Leave aisles out from now on; their bins are UNSEEN with the reason "skipped"."""
    info = read_run_info(run_dir)
    progress = _progress(run_dir, info.mission_id)
    if progress is None or progress.ended is not None:
        raise BadInput(f"{run_dir}: no mission is going on there")
    known = {v.aisle_id for v in progress.plan.viewpoints}
    if set(aisles) - known:
        raise BadInput(
            [f"--aisle: the mission has no aisle {a!r}; it has {', '.join(sorted(known))}" for a in aisles if a not in known]
        )
    # The ledger is the way: it holds over restarts, and the mission reads it before every step.
    ledger = find_ledger(run_dir)
    try:
        ledger.append(
            [
                Event(
                    "mission.aisle_skipped",
                    f"mission.aisle_skipped/{info.mission_id}/{aisle}",
                    time.time_ns(),
                    {"mission_id": info.mission_id, "aisle_id": aisle},
                )
                for aisle in dict.fromkeys(aisles)
                if aisle not in progress.skipped
            ]
        )
    finally:
        ledger.close()
    out.print(f"{info.mission_id}: leaves {', '.join(dict.fromkeys(aisles))} out", highlight=False, soft_wrap=True)


def _order(run_dir: Path, what: str) -> None:
    """Call a service of the run's mission node, on the run's own ROS domain."""
    info = read_run_info(run_dir)
    env = run_dir / "ros.env"
    if info.mode != "ros" or not env.is_file() or not _alive(run_dir):
        raise BadInput(f"{run_dir}: no run over ROS is going on there")
    for name, value in re.findall(r"^export (\w+)='?([^'\n]*)'?$", env.read_text(encoding="utf-8"), re.MULTILINE):
        os.environ[name] = value
    from shelfscan.ros.client import trigger
    from shelfscan.ros.env import prepare

    prepare()
    ok, message = trigger(what, ANSWER_S)
    if not ok:
        raise ShelfscanError(f"{info.mission_id}: {what}: {message}")
    out.print(message, highlight=False, soft_wrap=True)


def overdue_bins(bundle: Bundle, folder: Path, days: float) -> tuple[list[dict[str, Any]], int]:
    """Bins whose last look is older than so many days, those never seen first; and how many runs there are to judge by."""
    seen: dict[str, datetime] = {}
    why: dict[str, str] = {}
    runs = [r for r in runs_in(folder, bundle.store.site) if r.ended]
    for run in runs:
        for b in read_map(run.path).bins:
            if b.status is BinStatus.UNSEEN:
                why[b.bin_id] = b.reason
            elif b.observed_at:
                at = from_iso(b.observed_at)
                seen[b.bin_id] = max(at, seen.get(b.bin_id, at))
    now = datetime.now(timezone.utc)
    rows: list[dict[str, Any]] = []
    for place in bundle.store.places.values():
        at_ = seen.get(place.bin_id)
        age = (now - at_).total_seconds() / 86400 if at_ is not None else None
        if age is None or age > days:
            row = {"bin_id": place.bin_id, "aisle_id": place.aisle_id, "age_days": age and round(age, 2)}
            rows.append({**row, "last": at_.isoformat(timespec="seconds") if at_ else "", "reason": why.get(place.bin_id, "")})
    rows.sort(key=lambda r: (r["age_days"] is not None, -(r["age_days"] or 0), str(r["bin_id"])))
    return rows, len(runs)


def overdue(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that holds run folders.")],
    store: Annotated[Path, typer.Option("--store", help="Store bundle.")],
    days: Annotated[float, typer.Option(min=0, help="Bins whose last look is older than this many days.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Bins by the age of their last look: what nobody has seen for too long, over all runs of the store."""
    bundle = load_bundle(store)
    rows, runs = overdue_bins(bundle, folder, days)
    if as_json:
        print_json({"site": bundle.store.site, "runs": runs, "days": days, "bins": len(bundle.store.places), "overdue": rows})
        return
    total = len(bundle.store.places)
    out.print(f"{len(rows)} of {total} bins were not seen for {days:g} days ({runs} runs)", highlight=False, soft_wrap=True)
    if rows:
        table = Table("aisle", "overdue", "never seen", "oldest look", "reasons")
        for aisle in dict.fromkeys(str(r["aisle_id"]) for r in rows):
            here = [r for r in rows if r["aisle_id"] == aisle]
            ages = [r["age_days"] for r in here if r["age_days"] is not None]
            oldest = f"{max(ages):.1f} days" if ages else ""
            reasons = ", ".join(sorted({str(r["reason"]) for r in here if r["reason"]}))
            table.add_row(aisle, str(len(here)), str(len(here) - len(ages)), oldest, reasons)
        out.print(table)
