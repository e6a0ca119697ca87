"""A run over ROS: starts the node table, orders the mission, follows the ledger to its end, and writes the run folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shelfscan.bootstrap import make_projector, open_ledger, prepare_gallery
from shelfscan.cli.finish import RunOutcome, finish_run
from shelfscan.config import Config
from shelfscan.errors import ShelfscanError
from shelfscan.mission import machine
from shelfscan.mission.machine import Progress
from shelfscan.model.bundle import Bundle
from shelfscan.ports import Ledger
from shelfscan.ros.env import free_domain, prepare, release_domain
from shelfscan.ros.nodes import select
from shelfscan.runfolder import write_atomic
from shelfscan.supervisor import Child, State, Supervisor
from shelfscan.wms.outbox import SYNCED

if TYPE_CHECKING:
    from shelfscan.ros.client import MissionClient

Report = Callable[[str, float], None]

POLL_S = 0.4
#: The mission node's answer to an order, and all orders together.
ORDER_S, ORDERS_S = 10.0, 90.0
SYNC_S = 60.0
#: Share of the progress line for starting up; the rest is the mission.
START_SHARE = 0.05


@dataclass
class _Times:
    began: float = field(default_factory=time.monotonic)
    gallery_s: float = 0.0
    ready_s: float = 0.0
    mission_s: float = 0.0
    sync_s: float = 0.0


def run_live(
    bundle: Bundle,
    config: Config,
    run_dir: Path,
    *,
    mission_id: str,
    faults_file: Path | None = None,
    resume: bool = False,
    aisles: Collection[str] = (),
    bins: Collection[str] = (),
    report: Report = lambda what, done: None,
    tell: Callable[[str], None] = lambda line: None,
    stay: Callable[[RunOutcome], None] | None = None,
) -> RunOutcome:
    """Run one mission over ROS; returns once the run folder is complete and every node has ended.

    ``stay`` is called with the finished run while the nodes are still up: late subscribers get the latched map.
    ``run_dir`` holds ``config.yaml`` already. Raises `ShelfscanError` when nodes or mission cannot go on; the folder
    can then be resumed. An interrupt (SIGINT) stops everything cleanly and passes on.
    """
    own_domain = config.ros.domain_id is None and config.ros.robot == "simulator"
    domain = free_domain() if own_domain else config.ros.domain_id
    env = prepare(domain)
    # Whoever wants to listen needs the same domain: `source RUN/ros.env`.
    wanted = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_DEFAULT_PROFILES_FILE")
    shell = "".join(f"export {name}={shlex.quote(env[name])}\n" for name in wanted if name in env)
    write_atomic(run_dir / "ros.env", shell.encode())
    tell(f"ROS_DOMAIN_ID={env.get('ROS_DOMAIN_ID', '0')}; to listen: source {run_dir / 'ros.env'}")
    times = _Times()
    ledger: Ledger | None = None
    try:
        prepare_gallery(bundle, config, lambda text, _: report(text, 0.0), tell)
        times.gallery_s = time.monotonic() - times.began
        ledger = open_ledger(run_dir, bundle.store.site, config)
        with Supervisor(_children(bundle, config, run_dir, faults_file), env=env, log_dir=run_dir / "logs", tell=tell) as nodes:
            _wait_ready(nodes, config, report)
            times.ready_s = time.monotonic() - times.began - times.gallery_s
            # ROS is imported here, after its environment is set.
            from shelfscan.ros.client import MissionClient

            with MissionClient() as client:
                _order(client, ledger, nodes, mission_id, resume=resume, aisles=aisles, bins=bins)
            progress = _follow(ledger, nodes, config, mission_id, report)
            times.mission_s = time.monotonic() - times.began - times.gallery_s - times.ready_s
            sync = _sync(ledger, nodes, config, mission_id, report)
            times.sync_s = time.monotonic() - times.began - times.gallery_s - times.ready_s - times.mission_s
            restarts = {s.name: s.restarts for s in nodes.statuses() if s.restarts}
            report("writing the run folder", 1.0)
            outcome = finish_run(
                bundle,
                config,
                run_dir,
                ledger,
                make_projector(bundle, mission_id),
                progress=progress,
                now_ns=_newest_ns(ledger),
                seconds=time.monotonic() - times.began,
                mode="ros",
                timings={
                    "gallery_s": round(times.gallery_s, 2),
                    "ready_s": round(times.ready_s, 2),
                    "mission_s": round(times.mission_s, 2),
                    "sync_s": round(times.sync_s, 2),
                    "restarts": restarts,
                },
                sync=sync,
            )
            if stay is not None:
                stay(outcome)
            report("stopping the nodes", 1.0)
        return outcome
    finally:
        if ledger is not None:
            ledger.close()
        if own_domain and domain is not None:
            release_domain(domain)


def _children(bundle: Bundle, config: Config, run_dir: Path, faults_file: Path | None) -> list[Child]:
    values = {
        "store": str(bundle.root.resolve()),
        "run_dir": str(run_dir.resolve()),
        "config": str((run_dir / "config.yaml").resolve()),
        "faults": str(faults_file.resolve()) if faults_file is not None else "",
    }
    specs = select(simulator=config.ros.robot == "simulator", record=config.ros.record, wms=config.wms.name != "none")
    return [Child(s.name, tuple(s.command(values)), critical=s.critical, ready_s=s.ready_s) for s in specs]


def _wait_ready(nodes: Supervisor, config: Config, report: Report) -> None:
    def progress(ready: int, total: int) -> None:
        report(f"starting the nodes ({ready} of {total})", START_SHARE * ready / total)

    if not nodes.wait_ready(config.ros.ready_timeout_s, progress):
        late = ", ".join(s.name for s in nodes.statuses() if s.state is not State.READY)
        raise ShelfscanError(
            nodes.failure or f"not ready after {config.ros.ready_timeout_s:.0f} s: {late}; see the logs folder"
        )


def _order(
    client: MissionClient,
    ledger: Ledger,
    nodes: Supervisor,
    mission_id: str,
    *,
    resume: bool,
    aisles: Collection[str] = (),
    bins: Collection[str] = (),
) -> None:
    """Have the mission started, however often the mission node is killed meanwhile; the ledger says that it was."""
    before = max((s.seq for s in ledger.read(kinds=machine.KINDS)), default=0) if resume else 0
    end = time.monotonic() + ORDERS_S
    while time.monotonic() < end:
        _check(nodes)
        client.start(mission_id, resume=resume, timeout_s=ORDER_S, aisles=aisles, bins=bins)
        until = time.monotonic() + ORDER_S
        while time.monotonic() < until:
            for stored in ledger.read(after=before, kinds=("mission.started", "mission.resumed")):
                if stored.event.payload["mission_id"] == mission_id:
                    return
            # It may have resumed itself while the nodes started, before ``before`` was read.
            if resume and machine.unended(ledger.read(kinds=machine.KINDS)) == mission_id:
                return
            time.sleep(POLL_S)
            _check(nodes)
    raise ShelfscanError(
        f"mission {mission_id}: the mission node did not start it within {ORDERS_S:.0f} s; see logs/mission.log"
    )


def _follow(ledger: Ledger, nodes: Supervisor, config: Config, mission_id: str, report: Report) -> Progress:
    """Follow the mission to its end."""
    m = config.mission
    patience_s = m.drive_timeout_s + m.scan_timeout_s + m.dock_timeout_s + 60.0
    progress: Progress | None = None
    seen, changed = 0, time.monotonic()
    while progress is None or progress.ended is None:
        _check(nodes)
        for stored in ledger.read(after=seen, kinds=machine.KINDS):
            seen, changed = stored.seq, time.monotonic()
            progress = machine.fold(progress, stored.event, mission_id)
        if progress is not None:
            total = max(1, len(progress.plan.viewpoints))
            done = len(progress.done)
            report(f"{done} of {total} viewpoints scanned", START_SHARE + (1 - START_SHARE) * done / total)
            if progress.paused or progress.recharging:
                changed = time.monotonic()
        if time.monotonic() - changed > patience_s:
            raise ShelfscanError(f"mission {mission_id}: nothing happened for {patience_s:.0f} s; see the logs folder")
        time.sleep(POLL_S)
    return progress


def _sync(ledger: Ledger, nodes: Supervisor, config: Config, mission_id: str, report: Report) -> Mapping[str, Any] | None:
    """Wait for the bridge to have tried; None when there is no WMS or the bridge was given up."""
    if config.wms.name == "none":
        return None
    report("syncing with the WMS", 1.0)
    end = time.monotonic() + SYNC_S
    while time.monotonic() < end:
        _check(nodes)
        summary = newest_sync(ledger, mission_id)
        if summary is not None:
            return summary
        if any(s.name == "wms_bridge" and s.state is State.GIVEN_UP for s in nodes.statuses()):
            break
        time.sleep(POLL_S)
    return {"wms": config.wms.name, "state": "degraded", "text": "the bridge gave no answer; sync later with: shelfscan sync"}


def newest_sync(ledger: Ledger, mission_id: str) -> Mapping[str, Any] | None:
    """The report of the sync that followed the mission's (last) end; None while there is none."""
    report: Mapping[str, Any] | None = None
    done = False
    for stored in ledger.read(kinds=("mission.ended", "sync.report", SYNCED)):
        if stored.event.payload["mission_id"] == mission_id:
            match stored.event.kind:
                case "mission.ended":
                    done = False
                case "sync.report":
                    report = stored.event.payload["report"]
                case _:
                    done = True
    return report if done else None


def _newest_ns(ledger: Ledger) -> int:
    """Now, or the newest event where a simulated clock has run ahead of it."""
    return max([time.time_ns(), *(s.event.stamp_ns for s in ledger.read(kinds=("bay_scan",)))])


def _check(nodes: Supervisor) -> None:
    if nodes.failed:
        raise ShelfscanError(f"the run was stopped: {nodes.failure}")
