"""``shelfscan run``: one mission, over ROS or directly in one process."""

from __future__ import annotations

import importlib.util
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfscan.bundle import load_bundle
from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.cli.checks import startup_checks, stop_if_fatal
from shelfscan.cli.finish import RunOutcome
from shelfscan.cli.tasks import Tasks, asked_for
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput, ShelfscanError
from shelfscan.inputs import expect_writable
from shelfscan.model.bundle import Bundle
from shelfscan.model.stock import BinStatus
from shelfscan.runfolder import claimed, write_atomic
from shelfscan.runinfo import RunInfo, read_run_info, write_run_info
from shelfscan.runs import read_map

#: What a run needs of ROS beyond a plain installation.
ROS_PACKAGES = ("rclpy", "shelfscan_msgs", "nav2_msgs", "tf2_msgs")


@dataclass(frozen=True)
class RunSetup:
    """A checked run that may start."""

    bundle: Bundle
    config: Config
    run_dir: Path
    mission_id: str
    faults_file: Path | None
    resume: bool
    direct: bool
    aisles: tuple[str, ...] = ()
    bins: tuple[str, ...] = ()
    workers: int = 0


@contextmanager
def prepared(
    store: Path,
    run_dir: Path,
    *,
    config: Config | None = None,
    faults_file: Path | None = None,
    resume: bool = False,
    direct: bool = False,
    mission_id: str = "",
    aisles: Sequence[str] = (),
    bins: Sequence[str] = (),
    workers: int = 0,
) -> Iterator[RunSetup]:
    """Check everything a run needs, then claim its folder and write what it is a run of.

    ``config`` None: the folder's own when resuming, else the defaults. Raises `BadInput` before anything is changed.
    """
    bundle = _load(store, faults_file, direct=direct)
    used = run_dir.exists() and (not run_dir.is_dir() or any(p.name != ".lock" for p in run_dir.iterdir()))
    if used and not resume:
        raise BadInput(f"{run_dir}: exists already; use --resume to go on with it, or another --out")
    expect_writable(run_dir, folder=True)
    if resume:
        info = read_run_info(run_dir)
        if info.site != bundle.store.site:
            raise BadInput(f"{run_dir}: is a run of store {info.site!r}, not of {bundle.store.site!r}")
        if mission_id and mission_id != info.mission_id:
            raise BadInput(f"{run_dir}: is mission {info.mission_id!r}, not {mission_id!r}")
        mission_id = info.mission_id
    if config is None:
        kept = run_dir / "config.yaml"
        config = load_config(kept if resume and kept.exists() else None)
    if faults_file is not None and config.ros.robot != "simulator" and not direct:
        raise BadInput(f"--faults: only the simulator has faults to inject, and ros.robot is {config.ros.robot!r}")
    _check_models(config)
    _check_plan(bundle, config, aisles, bins)
    checks = startup_checks(bundle, config, run_dir)
    stop_if_fatal(checks)
    for c in checks:
        if not c.ok:
            err.print(f"  check {c.name}: {c.text}", highlight=False, markup=False, soft_wrap=True)
    now = datetime.now(timezone.utc)
    mission_id = mission_id or now.strftime("m-%Y%m%d-%H%M%S")
    with claimed(run_dir):
        write_atomic(run_dir / "config.yaml", config.to_yaml().encode())
        if not resume:
            mode, created = ("direct" if direct else "ros"), now.isoformat(timespec="seconds").replace("+00:00", "Z")
            write_run_info(run_dir, RunInfo(str(store.resolve()), mission_id, bundle.store.site, mode, created))
        _apply_retention(run_dir, config, bundle.store.site)
        yield RunSetup(bundle, config, run_dir, mission_id, faults_file, resume, direct, tuple(aisles), tuple(bins), workers)


def _apply_retention(run_dir: Path, config: Config, site: str) -> None:
    """Old pictures go before new ones come; what stands in the way of that is said and stops no run."""
    from shelfscan.cli.retention import apply_beside

    try:
        done = apply_beside(run_dir, config, site)
    except ShelfscanError as e:
        err.print(f"shelfscan: retention: {e}", highlight=False, markup=False, soft_wrap=True)
        return
    for problem in done.problems:
        err.print(f"shelfscan: retention: {problem}", highlight=False, markup=False, soft_wrap=True)
    if done.deleted:
        text = f"pictures of {len(done.deleted)} runs older than {config.privacy.retention_days:g} days deleted"
        err.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def ended_cleanly() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: nodes stop, the run can be resumed."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def execute(
    setup: RunSetup, report: Callable[[str, float], None], stay: Callable[[RunOutcome], None] | None = None
) -> RunOutcome:
    """Run it, either way; see `run_live` for ``stay``."""
    if setup.direct:
        from shelfscan.cli.direct import run_direct

        return run_direct(
            setup.bundle,
            setup.config,
            setup.run_dir,
            mission_id=setup.mission_id,
            faults_file=setup.faults_file,
            resume=setup.resume and _started(setup),
            aisles=setup.aisles,
            bins=setup.bins,
            workers=setup.workers,
            report=report,
        )
    from shelfscan.cli.live import run_live

    return run_live(
        setup.bundle,
        setup.config,
        setup.run_dir,
        mission_id=setup.mission_id,
        faults_file=setup.faults_file,
        # A run that was killed before its mission began has nothing to resume.
        resume=setup.resume and _started(setup),
        aisles=setup.aisles,
        bins=setup.bins,
        report=report,
        tell=lambda line: err.print(f"  {line}", highlight=False, markup=False, soft_wrap=True),
        stay=stay,
    )


def _load(store: Path, faults_file: Path | None, *, direct: bool) -> Bundle:
    bundle = load_bundle(store)
    if faults_file is not None:
        from shelfscan.sim.faults import Faults

        problems = Faults.load(faults_file).problems([h.name for h in bundle.robot.rig.heads])
        if problems:
            raise BadInput([f"{faults_file}: {p}" for p in problems])
    if not direct:
        missing = [p for p in ROS_PACKAGES if importlib.util.find_spec(p) is None]
        if missing:
            raise BadInput(f"ROS is not complete here: no {', '.join(missing)}; run scripts/setup.sh, or use --direct")
    return bundle


def _check_models(config: Config) -> None:
    """Open both models once: what a node would find wrong with them later is said before anything starts."""
    from shelfscan.bootstrap import make_detector, make_embedder, make_people_finders

    make_detector(config)
    make_embedder(config)
    if config.privacy.blur:
        make_people_finders(config)


def _check_plan(bundle: Bundle, config: Config, aisles: Sequence[str], bins: Sequence[str]) -> None:
    """What is named must be there: said before anything starts. Where the robot cannot go is the plan's own matter."""
    named = {"--aisle": aisles, "mission.first_aisles": config.mission.first_aisles}
    known = {a.aisle_id for a in bundle.store.aisles}
    wrong = [f"{what}: the store has no aisle {a!r}" for what, all_ in named.items() for a in all_ if a not in known]
    wrong += [f"--bin: the store has no bin {b!r}" for b in bins if b not in bundle.store.places]
    if wrong:
        raise BadInput(wrong)


def _bins_to_look_at_again(run_dir: Path, site: str) -> list[str]:
    """Bins that an earlier run could not count."""
    earlier = read_map(run_dir)
    if earlier.site != site:
        raise BadInput(f"--rescan {run_dir}: is a run of store {earlier.site!r}, not of {site!r}")
    bins = [b.bin_id for b in earlier.bins if b.status is BinStatus.UNSEEN]
    if not bins:
        raise BadInput(f"--rescan {run_dir}: that run saw every bin; there is nothing to look at again")
    return bins


def _started(setup: RunSetup) -> bool:
    from shelfscan.bootstrap import open_ledger
    from shelfscan.mission.machine import project

    ledger = open_ledger(setup.run_dir, setup.bundle.store.site, setup.config)
    try:
        return project(ledger.read(kinds=("mission.started",)), setup.mission_id) is not None
    finally:
        ledger.close()


def summary_line(report: dict[str, Any]) -> str:
    """A run in one line."""
    s, m = report["summary"], report["mission"]
    reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(s["unseen"].items()))
    unseen = f"{s['bins'] - s['counted']} not seen ({reasons}), " if reasons else ""
    return (
        f"{m['phase']}: {m['scanned']} of {m['viewpoints']} viewpoints, {s['counted']} of {s['bins']} bins counted, {unseen}"
        f"{s['out_of_stock']} out of stock, {s['low']} low, {s['misplaced']} with something foreign, {report['seconds']:.0f} s"
    )


def _wait(outcome: RunOutcome) -> None:
    """Until Ctrl-C or SIGTERM; the nodes go on publishing what they know."""
    err.print(f"  {summary_line(dict(outcome.report))}", highlight=False, soft_wrap=True)
    err.print("  the nodes stay up; Ctrl-C ends them", highlight=False)
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        pass


def run(
    store: Annotated[Path, typer.Option("--store", help="Store bundle.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Run folder; made new, or gone on with under --resume.")],
    config: Annotated[Path | None, typer.Option("--config", help="YAML configuration.")] = None,
    faults: Annotated[Path | None, typer.Option("--faults", help="YAML file of faults to inject (simulator).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the mission of the run folder.")] = False,
    direct: Annotated[bool, typer.Option("--direct", help="In one process, without ROS.")] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=64, help="With --direct: processes that work on captures beside it.")
    ] = 0,
    aisles: Annotated[list[str] | None, typer.Option("--aisle", help="Only this aisle; may be given more than once.")] = None,
    bins: Annotated[list[str] | None, typer.Option("--bin", help="Only this bin; may be given more than once.")] = None,
    rescan: Annotated[Path | None, typer.Option("--rescan", help="Only the bins that this earlier run did not see.")] = None,
    first: Annotated[
        list[str] | None, typer.Option("--first", help="Aisle that comes before all others; over the configuration's.")
    ] = None,
    tasks: Annotated[
        Tasks | None,
        typer.Option("--tasks", help="Counts that the warehouse system asks for: their aisles first, or only their bins."),
    ] = None,
    most_hours: Annotated[
        float | None, typer.Option("--most-hours", min=0.001, max=24, help="Go home after so long; over the configuration's.")
    ] = None,
    mission_id: Annotated[str, typer.Option("--mission-id", help="Name of the mission; made up when not given.")] = "",
    stay: Annotated[bool, typer.Option("--stay", help="Keep the ROS nodes up afterwards, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Scan a store: drive the mission, process every capture, write the run folder."""
    if stay and direct:
        raise BadInput("--stay: keeps ROS nodes up, and --direct has none")
    if workers and not direct:
        raise BadInput("--workers: belongs to --direct; over ROS the nodes are processes already")
    over: dict[str, Any] = {"mission.most_hours": most_hours} if most_hours is not None else {}
    over |= {"mission.first_aisles": list(first)} if first else {}
    kept = out_dir / "config.yaml"
    file = config or (kept if resume and kept.exists() else None)
    chosen = load_config(file, over) if file is not None or over else None
    if resume and (aisles or bins or rescan or tasks):
        raise BadInput("--resume: goes on with the mission as it was planned; leave --aisle, --bin, --rescan and --tasks out")
    wanted = list(bins or ())
    if tasks is not None:
        chosen, asked = asked_for(tasks, load_bundle(store), chosen or load_config(None))
        wanted += asked
    if rescan is not None:
        wanted += _bins_to_look_at_again(rescan, load_bundle(store).store.site)
    going_on: dict[str, Any] = {"resume": resume, "direct": direct, "mission_id": mission_id}
    going_on |= {"aisles": aisles or (), "bins": tuple(dict.fromkeys(wanted)), "workers": workers}
    with prepared(store, out_dir, config=chosen, faults_file=faults, **going_on) as setup, ended_cleanly():
        with progress("scanning") as report:
            outcome = execute(setup, report, _wait if stay else None)
    if as_json:
        print_json({"run_dir": str(out_dir), **outcome.report})
    else:
        out.print(f"{out_dir}: {summary_line(dict(outcome.report))}", highlight=False, soft_wrap=True)
    for s in outcome.report["health"]:
        err.print(f"shelfscan: {s['kind']} ({s['where']}): {s['text']}", highlight=False, markup=False, soft_wrap=True)
    sync = outcome.report["sync"]
    if sync is not None and sync["state"] == "degraded":
        text = f"the run is complete, but not synced: {sync['text']}; later: shelfscan sync {out_dir}"
        err.print(f"shelfscan: {text}", highlight=False, markup=False, soft_wrap=True)
    if not outcome.ok:
        raise typer.Exit(1)
