"""The same mission and processing as under ROS, in one process: for many seeds, ablations and machines without ROS."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from shelfscan.bootstrap import (
    make_pipeline,
    make_privacy,
    make_projector,
    make_rules,
    make_simulator,
    open_ledger,
    plan_of,
    second_looks_of,
)
from shelfscan.cli._workers import Workers
from shelfscan.cli.finish import RunOutcome, finish_run
from shelfscan.config import Config
from shelfscan.errors import SensorError
from shelfscan.mission.machine import KINDS, Progress, project
from shelfscan.mission.runner import CaptureOutcome, MissionRunner
from shelfscan.model.bundle import Bundle
from shelfscan.model.imaging import FrameBundle
from shelfscan.model.mission import MissionPhase
from shelfscan.perception.privacy import less_hidden
from shelfscan.pipeline import ScanResult
from shelfscan.ports import Event
from shelfscan.runfolder import write_evidence

Report = Callable[[str, float], None]

#: A look that was mostly hidden for somebody is taken again so much later, simulated seconds.
RETAKE_AFTER_S = 0.3


def run_direct(
    bundle: Bundle,
    config: Config,
    run_dir: Path,
    *,
    mission_id: str,
    faults_file: Path | None = None,
    resume: bool = False,
    aisles: Collection[str] = (),
    bins: Collection[str] = (),
    workers: int = 0,
    report: Report = lambda what, done: None,
) -> RunOutcome:
    """Run one mission against the simulator as fast as it computes; returns once the run folder is complete.

    With ``workers`` so many other processes work on the captures while the robot drives on; the results are the same.
    """
    from shelfscan.sim.faults import Faults
    from shelfscan.sim.simulator import SimFrameSource, SimNavigator

    started = time.monotonic()
    faults = Faults.load(faults_file) if faults_file is not None else None
    report("loading models and gallery", 0.0)
    pipeline = make_pipeline(bundle, config) if not workers else None
    privacy = make_privacy(bundle.store, config)
    projector = make_projector(bundle, mission_id)
    report("starting the simulator", 0.0)
    ledger = open_ledger(run_dir, bundle.store.site, config)
    # A simulated night may have run ahead of the wall clock: one that goes on goes on later, not earlier.
    start_ns = max([time.time_ns(), *(s.event.stamp_ns for s in ledger.read())])
    try:
        simulator = make_simulator(bundle, config, start_ns=start_ns, faults=faults)
    except BaseException:
        ledger.close()
        raise
    source = SimFrameSource(simulator)
    timings: dict[str, list[float]] = {"capture_s": [], "privacy_s": [], "process_s": []}

    def keep(result: ScanResult, seconds: float) -> None:
        timings["process_s"].append(seconds)
        write_evidence(run_dir, result.evidence)
        scan = result.scan
        event = Event("bay_scan", f"bay_scan/{scan.mission_id}/{scan.capture_id}", scan.stamp_ns, scan.to_json())
        ledger.append([event])
        projector.add_event(event)

    pool = Workers(bundle, config, workers, keep)
    try:
        plan = plan_of(bundle, config, mission_id, aisles=aisles, bins=bins).plan

        def again(mission: str, viewpoint_id: str) -> FrameBundle:
            simulator.step(RETAKE_AFTER_S)
            frames = source.capture(mission, viewpoint_id)
            return privacy.apply(frames) if privacy is not None else frames

        def capture(mission: str, viewpoint_id: str) -> CaptureOutcome:
            t0 = time.monotonic()
            try:
                frames = source.capture(mission, viewpoint_id)
                t1 = time.monotonic()
                if privacy is not None:
                    frames = less_hidden(privacy.apply(frames), lambda: again(mission, viewpoint_id))
            except SensorError as e:
                return CaptureOutcome(False, reason=f"sensor: {e}")
            t2 = time.monotonic()
            timings["capture_s"].append(t1 - t0)
            timings["privacy_s"].append(t2 - t1)
            if pipeline is not None:
                keep(pipeline.process(frames), time.monotonic() - t2)
            else:
                pool.submit(frames)
                pool.collect()
            return CaptureOutcome(True, frames.capture_id)

        def pause(seconds: float) -> None:
            # Simulated time stands still while a scan is waited for: perception that is slow here would be late there.
            if not pool.collect(at_least_one=True):
                simulator.step(seconds)

        def tell(progress: Progress, phase: MissionPhase, text: str) -> None:
            total = max(1, len(progress.plan.viewpoints))
            report(f"{phase} {text}".strip(), len(progress.done) / total)

        rules, limits = make_rules(config)
        # In one process nothing is in flight: a scan is in the ledger before its capture returns. With workers the clock
        # says nothing of how long one takes, and none is lost in silence: a worker that dies ends the run.
        runner = MissionRunner(
            plan,
            ledger,
            SimNavigator(simulator),
            capture,
            clock=lambda: simulator.now_ns,
            wait=pause,
            rules=replace(rules, max_pending=workers + 1, scan_timeout_s=math.inf),
            limits=limits,
            listener=tell,
            battery=lambda: simulator.battery,
            until_ns=start_ns + int(config.mission.most_hours * 3600e9) if config.mission.most_hours else None,
            second=lambda plan: second_looks_of(bundle, config, ledger, plan),
        )
        runner.run(resume=resume)
        progress = project(ledger.read(kinds=KINDS), mission_id)
        report("writing the run folder", 1.0)
        return finish_run(
            bundle,
            config,
            run_dir,
            ledger,
            projector,
            progress=progress,
            now_ns=simulator.now_ns,
            seconds=time.monotonic() - started,
            mode="direct",
            timings=summarise(timings),
        )
    finally:
        pool.close()
        ledger.close()
        simulator.close()


def summarise(timings: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and sums of stage times, seconds."""
    out: dict[str, Any] = {}
    for name, values in timings.items():
        if values:
            ordered = sorted(values)
            out[name] = {"median": round(ordered[len(ordered) // 2], 4), "sum": round(sum(values), 3), "n": len(values)}
    return out
