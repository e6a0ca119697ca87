"""``shelfscan sync`` and ``shelfscan review list|approve|reject``: the warehouse system outside ROS."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.table import Table

from shelfscan.adapters.ledger_place import has_ledger
from shelfscan.bootstrap import make_policy, make_wms, open_ledger
from shelfscan.bundle import load_bundle
from shelfscan.cli._console import out, print_json, wide
from shelfscan.config import Config, WmsConfig, load_config
from shelfscan.errors import BadInput
from shelfscan.model.bundle import Bundle
from shelfscan.model.stock import StockMap
from shelfscan.ports import Ledger
from shelfscan.runinfo import read_run_info
from shelfscan.runs import read_map
from shelfscan.wms import outbox
from shelfscan.wms.port import WmsClient
from shelfscan.wms.report import SyncReport
from shelfscan.wms.rules import Decision, to_ns
from shelfscan.wms.signals import Signal
from shelfscan.wms.sync import decide, sync_run

NAMES = tuple(n for n in get_args(WmsConfig.model_fields["name"].annotation) if n != "none")

review = typer.Typer(help="Counts that wait for a person before they reach the warehouse system.", no_args_is_help=True)

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
WmsName = Annotated[str | None, typer.Option("--wms", help=f"Warehouse system: {', '.join(NAMES)}. Default: the run's.")]
StoreDir = Annotated[Path | None, typer.Option("--store", help="Store bundle, when it is no longer where the run had it.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration; default RUN/config.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Lines = Annotated[list[str] | None, typer.Argument(metavar="LINE...", help="Locations, or location/sku.")]
Everything = Annotated[bool, typer.Option("--all", help="Every line that waits.")]
Why = Annotated[str, typer.Option("--why", help="The reason, kept for the audit.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; default: the user of this computer.")]


@dataclass(frozen=True)
class _Run:
    """What a run folder and its configuration say."""

    bundle: Bundle
    config: Config
    stock_map: StockMap
    ledger: Ledger
    client: WmsClient

    @property
    def wms(self) -> str:
        return self.client.capabilities().name

    @property
    def now_ns(self) -> int:
        """Now, on a clock that is not behind the map: a simulated night runs faster than the wall's."""
        return max(time.time_ns(), to_ns(self.stock_map.created_at) or 0)

    def sync(self, *, dry_run: bool = False) -> SyncReport:
        """Sync this run."""
        return sync_run(
            self.stock_map,
            self.bundle,
            self.ledger,
            self.client,
            make_policy(self.config.wms.approval),
            mission_id=self.stock_map.mission_id,
            now_ns=self.now_ns,
            dry_run=dry_run,
        )


def sync(
    run_dir: RunDir,
    wms: WmsName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    auto_post: Annotated[
        bool | None, typer.Option("--auto-post/--no-auto-post", help="Post what is within the limits without a person.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show the lines without a difference too.")] = False,
    store: StoreDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare a run's counts with the warehouse system, and post what may be posted."""
    run = open_run(run_dir, wms, store, config, auto_post)
    try:
        report = run.sync(dry_run=dry_run)
    finally:
        run.ledger.close()
    if as_json:
        print_json(report.to_json())
    else:
        show(run_dir, report, everything)
    if not report.ok:
        if as_json:
            typer.echo(f"shelfscan: {report.text}", err=True)
        raise typer.Exit(1)


@review.command("list")
def review_list(
    run_dir: RunDir, wms: WmsName = None, store: StoreDir = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Lines that wait for a person, from the last sync; works while the warehouse system is down."""
    run = open_run(run_dir, wms, store, config, synced=True)
    try:
        lines = _waiting(run, run_dir)
    finally:
        run.ledger.close()
    if as_json:
        print_json({"wms": run.wms, "mission_id": run.stock_map.mission_id, "lines": lines})
        return
    if not lines:
        out.print("nothing waits for a person")
        return
    _print_table(lines)


@review.command("approve")
def approve(
    run_dir: RunDir,
    why: Why,
    lines: Lines = None,
    everything: Everything = False,
    by: By = None,
    wms: WmsName = None,
    store: StoreDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Post held counts, unless stock has moved since; a zero that is approved counts as confirmed."""
    _check_decision(why, lines, everything)
    _decide(run_dir, True, why, lines, by, open_run(run_dir, wms, store, config, synced=True), as_json)


@review.command("reject")
def reject(
    run_dir: RunDir,
    why: Why,
    lines: Lines = None,
    everything: Everything = False,
    by: By = None,
    wms: WmsName = None,
    store: StoreDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Turn held counts down; the warehouse system keeps its number."""
    _check_decision(why, lines, everything)
    _decide(run_dir, False, why, lines, by, open_run(run_dir, wms, store, config, synced=True), as_json)


def _check_decision(why: str, wanted: Sequence[str] | None, everything: bool) -> None:
    if not why.strip():
        raise BadInput("--why: say in a few words why, for the audit")
    if bool(wanted) == everything:
        raise BadInput("name the lines, or give --all, not both")


def _decide(
    run_dir: Path,
    approved: bool,
    why: str,
    wanted: Sequence[str] | None,
    by: str | None,
    run: _Run,
    as_json: bool,
) -> None:
    """Decisions first, durably; then a sync acts on them, so that nothing is lost when the system is down."""
    try:
        chosen = _choose(_waiting(run, run_dir), wanted)
        who = by or getpass.getuser()
        for line in chosen:
            counted, on_hand = int(line["counted"]), float(line["on_hand"] or 0.0)
            decision = Decision(line["line_id"], approved, who, why.strip(), time.time_ns(), counted, on_hand)
            decide(run.ledger, run.stock_map.mission_id, run.wms, decision)
        report = run.sync()
    finally:
        run.ledger.close()
    ids = {line["line_id"] for line in chosen}
    data = report.to_json()
    now = [line for line in data["lines"] if line["line_id"] in ids]
    if as_json:
        print_json({**data, "lines": now})
    else:
        if now:
            _print_table(now)
        out.print(f"{len(ids)} {'approved' if approved else 'rejected'} by {who}", highlight=False)
    if not report.ok:
        typer.echo(f"shelfscan: the decision is kept, but not acted on: {report.text}", err=True)
        raise typer.Exit(1)


def open_run(
    run_dir: Path,
    wms: str | None,
    store: Path | None,
    config_file: Path | None,
    auto_post: bool | None = None,
    *,
    synced: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> _Run:
    """Everything a command needs; ``synced``: of a run that was synced. Raises `BadInput` before anything is touched."""
    info = read_run_info(run_dir)
    kept = run_dir / "config.yaml"
    settings = dict(overrides or {})
    if wms is not None:
        if wms not in NAMES:
            raise BadInput(f"--wms: unknown warehouse system {wms!r}; known: {', '.join(NAMES)}")
        settings["wms.name"] = wms
    if auto_post is not None:
        settings["wms.approval.auto_post"] = auto_post
    config = load_config(config_file or (kept if kept.is_file() else None), settings)
    stock_map = read_map(run_dir)
    bundle = load_bundle(store or Path(info.store))
    if bundle.store.site != stock_map.site:
        raise BadInput(f"{bundle.root}: is store {bundle.store.site!r}; the run is of {stock_map.site!r}")
    client = make_wms(bundle, run_dir, config)
    if client is None:
        raise BadInput(f"this run has no warehouse system (wms.name is none); name one with --wms {'|'.join(NAMES)}")
    if synced and not has_ledger(run_dir):
        raise BadInput(_never_synced(run_dir, config.wms.name))
    return _Run(bundle, config, stock_map, open_ledger(run_dir, bundle.store.site, config), client)


def _waiting(run: _Run, run_dir: Path) -> list[dict[str, Any]]:
    """Held lines of the newest complete report. Raises `BadInput` when there is none."""
    found = outbox.reports(run.ledger.read(kinds=(outbox.REPORT,)), run.stock_map.mission_id, run.wms)
    complete = [r for r in found if r["state"] == "done"]
    if not complete:
        raise BadInput(_never_synced(run_dir, run.wms))
    decided = outbox.decisions(run.ledger.read(kinds=(outbox.DECISION,)), run.stock_map.mission_id, run.wms)
    lines = [dict(x) for x in complete[-1]["lines"] if x["outcome"] == "held"]
    for line in lines:
        decision = decided.get(line["line_id"])
        if decision is not None and decision.counted == line["counted"]:
            verdict = "approved" if decision.approved else "rejected"
            line["reason"] = f"{verdict} by {decision.who}, waits for the next sync; {line['reason']}"
    return lines


def _never_synced(run_dir: Path, wms: str) -> str:
    return f"{run_dir}: never synced with {wms} to the end; run 'shelfscan sync' first"


def _choose(waiting: Sequence[Mapping[str, Any]], wanted: Iterable[str] | None) -> list[Mapping[str, Any]]:
    """The lines that were named; every wrong name at once. Without names: all a person may decide on."""
    if wanted is None or not list(wanted):
        return [x for x in waiting if x["approvable"]]
    chosen: dict[str, Mapping[str, Any]] = {}
    problems = []
    for name in wanted:
        hits = [x for x in waiting if name in (x["line_id"], x["location_code"])]
        if not hits:
            problems.append(f"{name}: no such line waits for a person")
        elif len(hits) > 1:
            problems.append(f"{name}: several products wait there: {', '.join(x['line_id'] for x in hits)}")
        elif not hits[0]["approvable"]:
            problems.append(f"{name}: cannot be decided here: {hits[0]['reason']}")
        else:
            chosen[hits[0]["line_id"]] = hits[0]
    if problems:
        raise BadInput(problems)
    return list(chosen.values())


def show(run_dir: Path, report: SyncReport, everything: bool, review: str = "") -> None:
    """A report for people. ``review``: how to get at what waits, where it is not as usual."""
    data = report.to_json(equal=everything)
    if data["lines"]:
        _print_table(data["lines"])
    if report.signals:
        _print_signals(report.signals)
    for t in report.tasks:
        done = t.state == "closed"
        state = ("would be done" if report.dry_run else "done") if done else "stays open"
        out.print(f"task {t.ref} ({t.location_code}) {state}: {t.text}", highlight=False, markup=False, soft_wrap=True)
    for title, names in (
        ("locations no shelf place is mapped to", report.unmapped_locations),
        ("shelf places without a location", report.unmapped_bins),
    ):
        if names:
            out.print(f"{len(names)} {title}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}", highlight=False)
    counts = report.counts
    if report.ok:
        what = "dry run, nothing was written" if report.dry_run else f"synced with {report.wms}"
        out.print(f"{what}: {report.text}", highlight=False)
        if counts["held"] and not report.dry_run:
            out.print(f"{counts['held']} wait for a person: {review or f'shelfscan review list {run_dir}'}", highlight=False)
    else:
        typer.echo(f"shelfscan: {report.text}", err=True)


def _print_signals(signals: Sequence[Signal], most: int = 20) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("signal", "location", "product"):
        table.add_column(title, overflow="fold")
    table.add_column("worth", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for s in signals[:most]:
        table.add_row(s.kind, s.location_code, s.sku, f"{s.value:.2f}", f"{s.text} ({s.confidence:.0%} sure)")
    console = wide()
    console.print(table)
    if len(signals) > most:
        console.print(f"the first {most} of {len(signals)} signals; all: --json", highlight=False)


def _print_table(lines: Sequence[Mapping[str, Any]]) -> None:
    wide().print(_table(lines))


def _table(lines: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("location", "product"):
        table.add_column(title, overflow="fold")
    for title in ("counted", "WMS has", "differs"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what happens")
    table.add_column("why", overflow="fold", ratio=1)
    for x in lines:
        what = "would post" if x["outcome"] == "pending" and not x["doc_id"] else x["outcome"]
        difference = "" if x["delta"] is None or x["scope"] == "site" else f"{x['delta']:+g}"
        on_hand = "" if x["on_hand"] is None else f"{x['on_hand']:g}"
        table.add_row(x["location_code"], f"{x['name']} ({x['sku']})", _counted(x), on_hand, difference, what, x["reason"])
    return table


def _counted(x: Mapping[str, Any]) -> str:
    if x["counted"] is None:
        return "–"
    if x["scope"] == "site":
        return f"≥ {x['counted']}"
    if x["counted_low"] == x["counted_high"]:
        return str(x["counted"])
    return f"{x['counted']} ({x['counted_low']}–{x['counted_high']})"
