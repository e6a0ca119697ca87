"""``shelfscan replay``: the same processing from a recorded bag, without a robot and without ROS."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.cli.finish import RunOutcome, finish_run
from shelfscan.config import Config
from shelfscan.errors import BadInput, SensorError
from shelfscan.inputs import expect_writable
from shelfscan.model.bundle import Bundle
from shelfscan.ports import Event

if TYPE_CHECKING:
    from shelfscan.adapters.frames_mcap import BagFrameSource


@dataclass(frozen=True)
class ReplayOutcome:
    """A replayed run; ``problems`` says what of the bag could not be used."""

    run: RunOutcome
    captures: int
    problems: tuple[str, ...]


def replay(
    bag: Annotated[Path, typer.Argument(metavar="BAG", help="Folder of a recorded bag, one of its .mcap files, or a run.")],
    store: Annotated[Path, typer.Option("--store", help="Store bundle.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Run folder to make.")],
    config: Annotated[Path | None, typer.Option("--config", help="YAML configuration.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also process captures whose scan the live run ended without.")
    ] = False,
    stored: Annotated[
        bool, typer.Option("--stored", help="BAG is a run folder: take the scans its ledger keeps, look at no picture again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Process a recorded bag: the same stock map as the live run of the same software gave.

    With ``--stored`` the map is made anew from what a run observed, in seconds: after a planogram, a catalogue or a rule was
    corrected.

    Exit 1 when nothing of the bag shows this store's shelves, 2 when the bag or the store cannot be read.
    """
    from shelfscan.bundle import load_bundle
    from shelfscan.config import load_config

    settings = load_config(config)
    bundle = load_bundle(store)
    with progress("replaying") as report:
        if stored:
            done = replay_stored(bundle, settings, bag, out_dir)
        else:
            done = replay_bag(bundle, settings, bag, out_dir, everything=everything, report=report)
    for problem in done.problems:
        err.print(f"shelfscan: {problem}", highlight=False, markup=False, soft_wrap=True)
    result = done.run.report
    if as_json:
        print_json({**result, "out": str(out_dir), "captures": done.captures, "problems": list(done.problems)})
        return
    s = result["summary"]
    out.print(
        f"{out_dir}: {done.captures} captures, {s['counted']} of {s['bins']} bins counted, {s['out_of_stock']} out of stock, "
        f"{s['low']} low, {s['misplaced']} with something misplaced",
        highlight=False,
    )


def replay_bag(
    bundle: Bundle,
    config: Config,
    bag: Path,
    run_dir: Path,
    *,
    everything: bool = False,
    report: Callable[[str, float], None] = lambda what, done: None,
) -> ReplayOutcome:
    """Process a bag into a new run folder; captures that the live run made no scan of only with ``everything``.

    Raises `BadInput`, and leaves no folder, when the bag is of no use here."""
    from shelfscan.adapters.frames_mcap import BagFrameSource

    expect_writable(run_dir, folder=True)
    if run_dir.exists() and any(run_dir.iterdir()):
        raise BadInput(f"{run_dir}: exists and is not empty; choose another run folder")
    report("looking through the bag", 0.0)
    source = BagFrameSource(bag)
    site = bundle.store.site
    if source.site and source.site != site:
        raise BadInput(f"{bag}: recorded in store {source.site!r}, not in {site!r} ({bundle.root})")
    made = not run_dir.exists()
    try:
        return _replay(bundle, config, source, run_dir, everything, report)
    except BaseException:
        # Half a run folder would look like a run in which most of the store was not seen.
        if made:
            shutil.rmtree(run_dir, ignore_errors=True)
        else:
            for path in run_dir.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _replay(
    bundle: Bundle,
    config: Config,
    source: BagFrameSource,
    run_dir: Path,
    everything: bool,
    report: Callable[[str, float], None],
) -> ReplayOutcome:
    from shelfscan.bootstrap import make_pipeline, make_privacy, make_projector, open_ledger
    from shelfscan.cli.direct import summarise
    from shelfscan.mission.machine import KINDS, project
    from shelfscan.runfolder import write_evidence
    from shelfscan.runinfo import RunInfo, write_run_info

    started = time.monotonic()
    site = bundle.store.site
    report("loading models and gallery", 0.0)
    pipeline = make_pipeline(bundle, config)
    privacy = make_privacy(bundle.store, config)
    mission_id, newest_ns, captures, faces = source.mission_id, 0, 0, 0
    times: dict[str, list[float]] = {"process_s": []}
    scanned = None if everything else source.scanned
    ledger = open_ledger(run_dir, site, config)
    try:
        ledger.append([e for e in source.events if e.kind in KINDS and e.payload.get("mission_id") == mission_id])
        for frames in source.frames():
            mission_id = mission_id or frames.mission_id
            if frames.mission_id != mission_id:
                other = f"capture {frames.capture_id} is of mission {frames.mission_id!r}, not of {mission_id!r}: left out"
                source.problems.append(f"{source.path}: {other}")
                continue
            if scanned is not None and frames.capture_id not in scanned:
                # A scan that came too late for the mission: its map did not have it.
                text = "the live run made no scan of it: left out (--all takes it)"
                source.problems.append(f"capture {frames.capture_id}: {text}")
                continue
            report(frames.viewpoint_id, min(0.99, captures / max(1, source.expected)))
            if privacy is not None:
                # Recordings of captures that nobody was looked for in: theirs or evidence of them must show nobody either.
                try:
                    frames = privacy.apply(frames, believe_marks=True)
                except SensorError as e:
                    source.problems.append(f"capture {frames.capture_id}: {e}: left out")
                    continue
            t0 = time.monotonic()
            result = pipeline.process(frames)
            times["process_s"].append(time.monotonic() - t0)
            write_evidence(run_dir, result.evidence)
            key = f"bay_scan/{mission_id}/{frames.capture_id}"
            ledger.append([Event("bay_scan", key, frames.stamp_ns, result.scan.to_json())])
            captures, newest_ns = captures + 1, max(newest_ns, frames.stamp_ns)
            faces += bool(result.scan.coverage)
            source.problems += [f"capture {frames.capture_id}: {w}" for w in result.scan.warnings]
        problems = [*(str(d) for d in source.damages), *source.problems]
        if not captures:
            raise BadInput(problems or [f"{source.path}: no complete capture in this bag"])
        if not faces:
            seen = f"none of its {captures} captures shows a shelf of store {site!r}"
            raise BadInput([f"{source.path}: {seen}; is it another store's bag?", *problems])
        ledger.append(_missing_facts(bundle, source, mission_id, newest_ns))
        info = RunInfo(str(bundle.root.resolve()), mission_id, site, "replay", _now())
        write_run_info(run_dir, info)
        ended = [s.event.stamp_ns for s in ledger.read(kinds=("mission.ended",))]
        report("writing the run folder", 1.0)
        run = finish_run(
            bundle,
            config,
            run_dir,
            ledger,
            make_projector(bundle, mission_id),
            progress=project(ledger.read(kinds=KINDS), mission_id),
            now_ns=max([newest_ns, *ended]),
            seconds=time.monotonic() - started,
            mode="replay",
            timings=summarise(times),
        )
        return ReplayOutcome(run, captures, tuple(problems))
    finally:
        ledger.close()


def replay_stored(bundle: Bundle, config: Config, source: Path, run_dir: Path) -> ReplayOutcome:
    """The stock map of a run's stored scans by today's rules, in a new run folder. Raises `BadInput` like `replay_bag`.

    What perception said of each capture stays as it was; the store, the planogram, the catalogue and everything from the
    match on may have changed since.
    """
    from shelfscan.adapters.ledger_place import has_ledger
    from shelfscan.bootstrap import make_projector, open_ledger
    from shelfscan.mission.machine import KINDS, project
    from shelfscan.runinfo import RunInfo, read_run_info, write_run_info

    started = time.monotonic()
    if not has_ledger(source):
        raise BadInput(f"{source}: no ledger.sqlite or ledger.json there; --stored expects the folder of a run")
    expect_writable(run_dir, folder=True)
    if run_dir.exists() and any(run_dir.iterdir()):
        raise BadInput(f"{run_dir}: exists and is not empty; choose another run folder")
    info = read_run_info(source)
    if info.site != bundle.store.site:
        raise BadInput(f"{source}: a run of store {info.site!r}, not of {bundle.store.site!r} ({bundle.root})")
    before = open_ledger(source, bundle.store.site)
    try:
        events = [s.event for s in before.read(kinds=(*KINDS, "bay_scan"))]
    finally:
        before.close()
    mission_id = info.mission_id
    events = [e for e in events if e.payload.get("mission_id") == mission_id]
    scans = [e for e in events if e.kind == "bay_scan"]
    if not scans:
        raise BadInput(f"{source}: its ledger holds no scan of mission {mission_id!r}")
    newest_ns = max(e.stamp_ns for e in events)
    ledger = open_ledger(run_dir, bundle.store.site, config)
    try:
        ledger.append(events)
        write_run_info(run_dir, RunInfo(str(bundle.root.resolve()), mission_id, bundle.store.site, "replay", _now()))
        if (source / "evidence").is_dir() and not (run_dir / "evidence").exists():
            shutil.copytree(source / "evidence", run_dir / "evidence")
        run = finish_run(
            bundle,
            config,
            run_dir,
            ledger,
            make_projector(bundle, mission_id),
            progress=project(ledger.read(kinds=KINDS), mission_id),
            now_ns=newest_ns,
            seconds=time.monotonic() - started,
            mode="replay",
        )
        return ReplayOutcome(run, len(scans), ())
    finally:
        ledger.close()


def _missing_facts(bundle: Bundle, source: BagFrameSource, mission_id: str, newest_ns: int) -> list[Event]:
    """What a mission's ledger has and this bag lacks: a plan, when none was recorded, and an end, when it broke off."""
    from shelfscan.mission.plan import plan_mission
    from shelfscan.model.mission import MissionPhase

    kinds = {e.kind for e in source.events if e.payload.get("mission_id") == mission_id}
    facts = []
    if "mission.started" not in kinds:
        plan = plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id=mission_id)
        body = {"mission_id": mission_id, "plan": plan.to_json()}
        facts.append(Event("mission.started", f"mission.started/{mission_id}", newest_ns, body))
    if "mission.ended" not in kinds:
        body = {"mission_id": mission_id, "phase": str(MissionPhase.DONE), "message": "the recording ends here"}
        facts.append(Event("mission.ended", f"mission.ended/{mission_id}/replay", newest_ns, body))
    return facts


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
