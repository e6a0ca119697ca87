"""Follows one run folder: the ledger while the run is going on, its files afterwards. Reads only, never writes."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shelfscan.adapters.ledger_place import LEDGER_FILES, find_ledger, ledger_file
from shelfscan.bootstrap import make_projector, make_rules
from shelfscan.bundle import load_bundle
from shelfscan.config import load_config
from shelfscan.errors import BadInput, LedgerError, ShelfscanError
from shelfscan.mission import machine
from shelfscan.mission.machine import Progress, Rules
from shelfscan.model.bundle import Bundle
from shelfscan.model.mission import MissionPhase, Viewpoint
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS
from shelfscan.model.stock import StockMap
from shelfscan.ports import Event, Ledger
from shelfscan.runinfo import RunInfo, read_run_info
from shelfscan.stock.project import StockProjector, iso_utc
from shelfscan.web.schema import LookOut, SyncOut
from shelfscan.web.sync import SyncView

#: The ledger is asked for news at most this often.
POLL_S = 0.3
#: A projection may take at most this share of the time, so that a big store's map does not starve the run itself.
PROJECT_SHARE = 0.2
#: A run that has not ended and wrote nothing for so long is said to be interrupted.
SILENT_S = 120.0
CELLS = COVERAGE_COLUMNS * COVERAGE_ROWS


@dataclass
class Snapshot:
    """What is known of a run at one instant. ``versions`` grow when a part changes; compare, never interpret."""

    info: RunInfo
    bundle: Bundle | None = None
    bundle_problem: str = ""
    map_problem: str = ""
    progress: Progress | None = None
    rules: Rules = field(default_factory=Rules)
    phase: MissionPhase = MissionPhase.IDLE
    next_viewpoint: str = ""
    message: str = ""
    last_event_ns: int = 0
    last_at: str = ""
    ledger_gone: bool = False
    silent_s: float = 0.0
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stock_map: StockMap | None = None
    live: bool = True
    sync: SyncOut = field(default_factory=lambda: SyncOut(state="none"))
    versions: dict[str, int] = field(default_factory=lambda: {"mission": 0, "stock_map": 0, "sync": 0})

    @property
    def robot_viewpoint(self) -> Viewpoint | None:
        """The viewpoint the robot reached last."""
        if self.progress is None:
            return None
        return next((v for v in self.progress.plan.viewpoints if v.viewpoint_id == self.last_at), None)


class RunView:
    """One run folder, kept up to date by asking. Safe to use from several threads."""

    def __init__(self, run_dir: Path, store: Path | None = None) -> None:
        """Raises `BadInput` when it is not a run folder. ``store`` stands in for a bundle that has moved."""
        self.run_dir = run_dir
        self._lock = threading.RLock()
        self._ledger: Ledger | None = None
        self._inode = 0
        self._asked = 0.0
        self._news_at = 0.0
        self._projected_until = 0.0
        self._stale_map = True
        self._map_stamp = 0.0
        self._report_stamp = 0.0
        self._now = Snapshot(read_run_info(run_dir))
        root = store or Path(self._now.info.store)
        try:
            self._now.bundle = load_bundle(root)
        except BadInput as e:
            self._now.bundle_problem = f"the store bundle cannot be read: {e.problems[0]}"
        try:
            self._now.rules = make_rules(load_config(run_dir / "config.yaml"))[0]
        except BadInput:
            # Rules only decide which viewpoint is called given up; the defaults say nearly the same.
            pass
        self._forget()

    def _forget(self) -> None:
        """Back to before the first event."""
        self._seq = 0
        self._projector: StockProjector | None = None
        self._looks: dict[str, list[LookOut]] = {}
        self._sync = SyncView()
        now = self._now
        now.map_problem = ""
        if now.bundle is not None:
            self._projector = make_projector(now.bundle, now.info.mission_id)
        now.progress, now.last_event_ns, now.last_at, now.message, now.warnings = None, 0, "", "", {}

    def look(self) -> Snapshot:
        """The newest snapshot; reads the ledger when that was not done just now."""
        with self._lock:
            if time.monotonic() - self._asked >= POLL_S:
                self._follow()
                self._files()
                self._project()
                self._asked = time.monotonic()
            return self._now

    def looks_at(self, bin_id: str) -> list[LookOut]:
        """Every capture that had the bin in view, newest first."""
        with self._lock:
            return list(reversed(self._looks.get(bin_id, [])))

    def close(self) -> None:
        """Let go of the ledger."""
        with self._lock:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None

    def _follow(self) -> None:
        now = self._now
        try:
            inode = ledger_file(self.run_dir).stat().st_ino
        except OSError:
            self.close()
            # Before the first event there is none yet; afterwards, what is shown is the last that was known.
            self._set_gone(self._seq > 0)
            return
        if self._ledger is not None and inode != self._inode:
            self.close()
        try:
            if self._ledger is None:
                self._ledger = find_ledger(self.run_dir, wait_s=1.0)
                if self._seq:
                    self._forget()
                self._inode = inode
            events = self._ledger.read(after=self._seq)
        except (LedgerError, BadInput):
            self.close()
            self._set_gone(True)
            return
        self._set_gone(False)
        for stored in events:
            self._seq = stored.seq
            self._take(stored.event)
        if events:
            self._news_at = time.time()
            now.versions["mission"] += 1
        elif not self._news_at:
            self._news_at = _modified(self.run_dir)
        self._judge()

    def _set_gone(self, gone: bool) -> None:
        if gone != self._now.ledger_gone:
            self._now.ledger_gone = gone
            self._now.versions["mission"] += 1

    def _take(self, event: Event) -> None:
        now, p = self._now, event.payload
        if p.get("mission_id", now.info.mission_id) != now.info.mission_id:
            return
        now.progress = machine.fold(now.progress, event, now.info.mission_id)
        now.last_event_ns = max(now.last_event_ns, event.stamp_ns)
        if event.kind == "viewpoint.reached":
            now.last_at = str(p["viewpoint_id"])
        elif event.kind == "mission.ended":
            now.message = str(p.get("message", ""))
        elif event.kind == "bay_scan":
            self._take_scan(event)
        if self._sync.add_event(event):
            now.versions["sync"] += 1
        try:
            if self._projector is not None and self._projector.add_event(event):
                self._stale_map = True
        except (KeyError, TypeError, ValueError):
            # Of another version: a finished run still has its map in a file.
            self._projector = None
            now.map_problem = f"the ledger's event {event.key} is of another version; no live stock map can be made of it"

    def _take_scan(self, event: Event) -> None:
        p = event.payload
        self._now.warnings[str(p["viewpoint_id"])] = tuple(str(w) for w in p.get("warnings", ()))
        for c in p["coverage"]:
            self._looks.setdefault(str(c["bin_id"]), []).append(
                LookOut(
                    capture_id=str(p["capture_id"]),
                    viewpoint_id=str(p["viewpoint_id"]),
                    at=iso_utc(int(p["stamp_ns"])),
                    seen=round(int(c["seen"]).bit_count() / CELLS, 3),
                    blocked=round(int(c["blocked"]).bit_count() / CELLS, 3),
                    evidence=str(c["evidence"]),
                )
            )

    def _judge(self) -> None:
        """Phase, next stop and silence from progress."""
        now = self._now
        silent = 0.0
        now.next_viewpoint = ""
        if now.progress is None:
            now.phase = MissionPhase.IDLE
        elif now.progress.ended is not None:
            now.phase = now.progress.ended
        else:
            now.phase, now.next_viewpoint = _doing(now.progress, now.rules)
        if now.progress is None or now.progress.ended is None:
            silent = max(0.0, time.time() - self._news_at)
        silent = silent if silent > SILENT_S else 0.0
        if bool(silent) != bool(now.silent_s):
            now.versions["mission"] += 1
        now.silent_s = silent

    def _files(self) -> None:
        """What the run wrote at its end."""
        now = self._now
        report = self.run_dir / "report.json"
        stamp = _mtime(report)
        if stamp and stamp != self._report_stamp:
            self._report_stamp = stamp
            data = _read_json(report)
            if isinstance(data, dict):
                self._sync.add_report(data.get("sync"))
                if not now.message:
                    mission = data.get("mission")
                    now.message = str(mission.get("message", "")) if isinstance(mission, dict) else ""
            now.versions["sync"] += 1
            now.versions["mission"] += 1
        now.sync = self._sync.state()

    def _project(self) -> None:
        """The stock map: the finished run's own file, else a projection of the ledger."""
        now = self._now
        path = self.run_dir / "stock_map.json"
        stamp = _mtime(path)
        ended = now.progress is None or now.progress.ended is not None
        if not ended:
            # Left over from before the mission was resumed.
            self._map_stamp = stamp
        elif stamp and (stamp != self._map_stamp or not now.live):
            if stamp != self._map_stamp:
                try:
                    now.stock_map = StockMap.from_json(json.loads(path.read_text(encoding="utf-8")))
                except (OSError, ValueError, KeyError, TypeError):
                    return
                self._map_stamp, now.live = stamp, False
                now.versions["stock_map"] += 1
            return
        due = self._stale_map or not now.live
        if self._projector is None or not due or time.monotonic() < self._projected_until:
            return
        started = time.monotonic()
        try:
            now.stock_map = self._projector.stock_map(now.last_event_ns)
        except ShelfscanError:
            return
        took = time.monotonic() - started
        self._projected_until = time.monotonic() + took * (1 / PROJECT_SHARE - 1)
        self._stale_map, now.live = False, True
        now.versions["stock_map"] += 1


def _doing(progress: Progress, rules: Rules) -> tuple[MissionPhase, str]:
    """What the mission does now, and the viewpoint it does it at."""
    match machine.next_step(progress, rules):
        case machine.Undock():
            return MissionPhase.UNDOCKING, ""
        case machine.DriveTo(viewpoint):
            return MissionPhase.DRIVING, viewpoint.viewpoint_id
        case machine.Capture(viewpoint):
            return MissionPhase.CAPTURING, viewpoint.viewpoint_id
        case machine.Hold():
            return MissionPhase.PAUSED, ""
        case machine.Finish():
            return MissionPhase.DOCKING, ""
        case _:
            return MissionPhase.WAITING, ""


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _modified(run_dir: Path) -> float:
    """When the ledger was last written, seconds of the epoch."""
    return max(_mtime(run_dir / n) for n in (*LEDGER_FILES, "run.json"))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
