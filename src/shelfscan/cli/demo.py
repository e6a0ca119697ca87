"""``shelfscan demo``: builds a store, scans it over ROS, syncs, scores, and shows the result."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shelfscan import __version__
from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.cli.finish import write_report
from shelfscan.cli.run import ended_cleanly, execute, prepared
from shelfscan.cli.score import score_run
from shelfscan.cli.store import Size
from shelfscan.config import load_config
from shelfscan.errors import ShelfscanError

#: Simulated seconds per second: driving is then quicker than the processing of what was seen.
REAL_TIME_FACTOR = 10.0
IDLE_MINUTES = 15
DASHBOARD_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str


def demo(
    size: Annotated[Size, typer.Option(case_sensitive=False, help="Size of the simulated store.")] = Size.SMALL,
    seed: Annotated[int, typer.Option(min=0, help="Which store.")] = 1,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Without the dashboard.")] = False,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Run folder; default a new one below runs/.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Build a simulated store, let the robot scan it over ROS, sync the built-in WMS, and score the result."""
    began = time.monotonic()
    run_dir = out_dir or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    config = load_config(None, {"sim.real_time_factor": REAL_TIME_FACTOR})
    with progress("building the store") as report:
        store = cached_store(size.value, seed, report)
    built_s = time.monotonic() - began
    with prepared(store, run_dir, config=config) as setup, ended_cleanly():
        with _dashboard(run_dir, wanted=not no_serve, keep=not sys.stdout.isatty()) as dashboard:
            if dashboard is not None:
                err.print(f"dashboard: {dashboard.url} (live)", highlight=False)
            with progress("scanning") as report:
                outcome = execute(setup, report)
            score = score_run(run_dir, store / "truth")
            full = {**outcome.report, "score": score, "timings": {**outcome.report["timings"], "store_s": round(built_s, 2)}}
            write_report(run_dir, full)
            seconds = time.monotonic() - began
            if as_json:
                print_json({"run_dir": str(run_dir), "store": str(store), **_shown(full), "total_s": round(seconds, 1)})
            else:
                _print(full, run_dir, store, seconds)
            if dashboard is not None:
                _say_goodbye(dashboard, run_dir)
    if not outcome.ok:
        raise typer.Exit(1)


def cached_store(size: str, seed: int, report: Any) -> Path:
    """A simulated store of this size and seed, built when this version of the builder has not built it yet."""
    import shelfscan.sim
    from shelfscan.sim.build import build_store

    digest = hashlib.sha256()
    for path in sorted(Path(shelfscan.sim.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    folder = Path(".cache") / "stores"
    store = folder / f"{size}-{seed}-{__version__}-{digest.hexdigest()[:8]}"
    if store.exists():
        return store
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{store.name}-{os.getpid()}"
    try:
        build_store(scratch, seed=seed, size=size, progress=report)
        if not store.exists():
            scratch.rename(store)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return store


@contextmanager
def _dashboard(run_dir: Path, *, wanted: bool, keep: bool) -> Iterator[Dashboard | None]:
    """The dashboard's process; it outlives this one only with ``keep``, and only after a good end."""
    if not wanted:
        yield None
        return
    log = run_dir / "logs" / "dashboard.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "shelfscan.web.server", str(run_dir), "--idle-minutes", str(IDLE_MINUTES)]
    with log.open("wb") as f:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, start_new_session=True
        )
    good = False
    try:
        yield Dashboard(process, _address(process, log))
        good = True
    finally:
        if not (good and keep):
            process.terminate()
            try:
                process.wait(timeout=10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the dashboard prints once it listens."""
    end = time.monotonic() + DASHBOARD_START_S
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("http"):
                return line.strip()
        time.sleep(0.1)
    raise ShelfscanError(f"the dashboard did not start; see {log}, or use --no-serve")


def _say_goodbye(dashboard: Dashboard, run_dir: Path) -> None:
    if not sys.stdout.isatty():
        text = f"dashboard: {dashboard.url} (process {dashboard.process.pid}; ends {IDLE_MINUTES} minutes after the last look)"
        err.print(text, highlight=False, soft_wrap=True)
        return
    err.print(f"dashboard: {dashboard.url}  Ctrl-C ends it; later: shelfscan serve {run_dir}", highlight=False, soft_wrap=True)
    try:
        while dashboard.process.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        err.print("")


def _shown(report: Mapping[str, Any]) -> dict[str, Any]:
    sync = report["sync"]
    brief = {k: v for k, v in sync.items() if k != "lines"} if isinstance(sync, Mapping) else None
    names = ("mission_id", "site", "seconds", "mission", "summary", "timings", "score")
    return {**{k: report[k] for k in names}, "sync": brief, "exceptions": report["exceptions"][:10]}


def _print(report: Mapping[str, Any], run_dir: Path, store: Path, seconds: float) -> None:
    """The result for people."""
    score, summary, mission, sync = report["score"], report["summary"], report["mission"], report["sync"]
    oos = score["status"]["OUT_OF_STOCK"]
    table = Table(
        title=f"store {report['site']}: what the robot found, against the truth", title_justify="left", show_header=False
    )
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    table.add_row("viewpoints scanned", f"{mission['scanned']} of {mission['viewpoints']}", "")
    table.add_row(
        "reachable bins counted", f"{score['bins_counted']} of {score['bins_reachable']}", _percent(score["coverage"])
    )
    table.add_row("bin assignment", _percent(score["bin_assignment_accuracy"]), "products attributed to the right bin")
    table.add_row("facings exact", _percent(score["facings_exact"]), "bins whose count of facings is right")
    table.add_row("out of stock: precision", _percent(oos["precision"]), f"{oos['said']} said")
    table.add_row("out of stock: recall", _percent(oos["recall"]), f"{oos['true']} true")
    table.add_row("units within 1", _percent(score["units_within_1"]), "")
    table.add_row("low / with something foreign", f"{summary['low']} / {summary['misplaced']}", "")
    if isinstance(sync, Mapping):
        counts = {k: n for k, n in sync.get("counts", {}).items() if n}
        said = ", ".join(f"{n} {k}" for k, n in counts.items()) or sync["text"]
        table.add_row(f"WMS ({sync['wms']})", sync["state"], said)
    t = report["timings"]
    parts = f"store {t['store_s']:.0f}, start {t['ready_s']:.0f}, mission {t['mission_s']:.0f}, sync {t['sync_s']:.0f}"
    table.add_row("time", f"{seconds:.0f} s", parts)
    out.print(table)
    if report["exceptions"]:
        top = Table(title="what needs a person first", title_justify="left")
        for name in ("bin", "product", "what", "units", "suggestion"):
            top.add_column(name, no_wrap=name != "suggestion")
        for e in report["exceptions"][:8]:
            units = "?" if e["units"] is None else f"{e['units']:g}"
            top.add_row(e["bin_id"], e["name"], e["type"], f"{units} of {e['capacity']}", e["suggestion"])
        out.print(top)
    out.print(f"run folder: {run_dir}   report: {run_dir / 'report.html'}   store: {store}", highlight=False, soft_wrap=True)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
