"""Executes a mission through ports: the same code drives the simulator in process and a robot through Nav2."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shelfscan.errors import LedgerError
from shelfscan.mission import machine
from shelfscan.mission.machine import Progress, Rules
from shelfscan.model.mission import MissionPhase, MissionPlan, Viewpoint
from shelfscan.ports import Event, Ledger, Navigator


@dataclass(frozen=True, slots=True)
class CaptureOutcome:
    """How a capture ended. ``reason`` is one of the contract's unseen reasons plus a text, when not ok."""

    ok: bool
    capture_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds of wall time; a killed server never answers, so nothing waits for ever.

    Below ``low_battery`` (a share of full) the robot goes to its dock and on from ``full_battery``, if it is that full within
    ``charge_s``.
    """

    drive_s: float = 120.0
    dock_s: float = 60.0
    poll_s: float = 0.05
    charge_poll_s: float = 5.0
    charge_s: float = 4 * 3600.0
    low_battery: float = 0.15
    full_battery: float = 0.8


Capturer = Callable[[str, str], CaptureOutcome]
Listener = Callable[[Progress, MissionPhase, str], None]


class MissionRunner:
    """One mission from start (or resume) to its end state.

    ``capture(mission_id, viewpoint_id)`` starts a capture and returns once the pictures are safe with whoever
    works on them; the BayScan is expected in the ledger. ``clock`` gives nanoseconds (UTC), ``wait`` sleeps. ``second``: from
    where to look at what was hidden, once all of the plan is done.
    """

    def __init__(
        self,
        plan: MissionPlan,
        ledger: Ledger,
        navigator: Navigator,
        capture: Capturer,
        *,
        clock: Callable[[], int],
        wait: Callable[[float], None],
        rules: Rules | None = None,
        limits: Limits | None = None,
        listener: Listener | None = None,
        battery: Callable[[], float] = lambda: math.nan,
        stopped: Callable[[], bool] = lambda: False,
        until_ns: int | None = None,
        second: Callable[[MissionPlan], Sequence[Viewpoint]] = lambda plan: (),
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._navigator = navigator
        self._capture = capture
        self._clock = clock
        self._wait = wait
        self._rules = rules or Rules()
        self._limits = limits or Limits()
        self._listener = listener
        self._battery, self._stopped, self._until_ns = battery, stopped, until_ns
        self._second = second
        self._seq = 0
        self._read = 0
        self._progress: Progress | None = None
        self._lock = threading.Lock()
        self._abandoned = threading.Event()
        self._homing = threading.Event()

    @property
    def mission_id(self) -> str:
        """The mission's id."""
        return self._plan.mission_id

    @property
    def homing(self) -> bool:
        """Nothing is left but the way to the dock, which no order cuts short."""
        return self._homing.is_set()

    def pause(self, reason: str = "") -> bool:
        """Stop driving; False, and nothing changes, when the robot is on its way home. Safe from any thread."""
        if self.homing:
            return False
        self._append("mission.paused", reason=reason)
        self._navigator.stop()
        return True

    def resume(self) -> None:
        """Go on after a pause; safe from any thread."""
        self._append("mission.continued")

    def cancel(self, reason: str = "") -> None:
        """End the mission and go home; a robot on its way home goes on. Safe from any thread."""
        if self.homing:
            return
        self._append("mission.cancelled", reason=reason)
        self._navigator.stop()

    def abandon(self) -> None:
        """Let go: `run` returns soon and the mission stays open in the ledger, to be resumed; safe from any thread."""
        self._abandoned.set()
        self._navigator.stop()

    def run(self, *, resume: bool = False, by_itself: bool = False) -> Progress:
        """Drive until the mission has an end state (or was abandoned); it is in the ledger when this returns.

        With ``resume`` the plan and progress come from the ledger; `LedgerError` when it knows no such mission.
        ``by_itself``: no person asked for it (a restarted process), so a person's pause or cancellation still holds.
        """
        known = machine.project(self._ledger.read(kinds=machine.KINDS), self.mission_id)
        if resume:
            if known is None:
                raise LedgerError(f"the ledger knows no mission {self.mission_id!r} to resume")
            self._append("mission.resumed", by_itself=by_itself)
        elif known is not None:
            raise LedgerError(f"mission {self.mission_id!r} is in the ledger already; resume it or take another id")
        else:
            self._append("mission.started", plan=self._plan.to_json())
        while True:
            progress = self._refresh()
            if self._abandoned.is_set() or progress.ended is not None:
                return progress
            for vid in machine.overdue(progress, self._clock(), self._rules):
                text = f"no scan within {self._rules.scan_timeout_s:.0f} s"
                self._append("viewpoint.failed", viewpoint_id=vid, what="scan", reason=text)
                progress = self._refresh()
            if self._watch(progress):
                continue
            step = machine.next_step(progress, self._rules, self._clock())
            if isinstance(step, machine.Finish):
                return self._finish(progress, step)
            self._do(progress, step)

    def _watch(self, progress: Progress) -> bool:
        """Look at battery, clock and emergency stop; whether to look again before anything else is done.

        An unknown battery (NaN) is none of our business. An emergency stop is the base's: the mission waits, and what was being
        driven does not count as failed.
        """
        if self._until_ns is not None and self._clock() >= self._until_ns and not progress.time_up and progress.undocked:
            self._append("mission.time_up")
            return True
        if self._stopped() and not progress.cancelled:
            self._tell(progress, MissionPhase.PAUSED, "emergency stop")
            self._wait(self._limits.poll_s)
            return True
        if (
            self._battery() < self._limits.low_battery
            and progress.undocked
            and not progress.recharging
            and not progress.time_up
        ):
            self._append("mission.recharging", battery=round(self._battery(), 3))
            return True
        return False

    def _recharge(self, progress: Progress) -> None:
        self._tell(progress, MissionPhase.DOCKING, "battery low")
        docked = self._navigator.dock(self._limits.dock_s)
        if not docked.ok:
            docked = self._navigator.dock(self._limits.dock_s)
        if not docked.ok:
            # It cannot charge and must not go on: it stays where it is, and a person has to come.
            self._append(
                "mission.ended", phase=str(MissionPhase.FAILED), message=f"battery low and not docked: {docked.message}"
            )
            return
        began = self._clock()
        while self._battery() < self._limits.full_battery:
            if self._interrupted() or self._clock() - began > self._limits.charge_s * 1e9:
                break
            self._tell(progress, MissionPhase.WAITING, "charging")
            self._wait(self._limits.charge_poll_s)
        if self._battery() < self._limits.low_battery and not self._interrupted():
            text = f"the battery is at {self._battery():.0%} after {self._limits.charge_s / 3600:.1f} h on the dock"
            self._append("mission.ended", phase=str(MissionPhase.FAILED), message=text)
            return
        self._append("mission.recharged", battery=round(self._battery(), 3))

    def _do(self, progress: Progress, step: machine.Step) -> None:
        match step:
            case machine.Undock():
                self._tell(progress, MissionPhase.UNDOCKING, "")
                result = self._navigator.undock(self._limits.dock_s)
                # A robot that starts away from its dock has nothing to leave: the drive will tell if it is stuck.
                self._append("mission.undocked", ok=result.ok, message=result.message)
            case machine.DriveTo(viewpoint):
                self._tell(progress, MissionPhase.DRIVING, viewpoint.viewpoint_id)
                if self._interrupted():
                    return  # a stop that came before the drive began would be forgotten by it
                result = self._navigator.go_to(viewpoint.pose, self._limits.drive_s)
                if result.ok:
                    self._append("viewpoint.reached", viewpoint_id=viewpoint.viewpoint_id)
                elif not self._interrupted() and not self._stopped():
                    text = f"{result.message} (code {result.error_code})"
                    self._append("viewpoint.failed", viewpoint_id=viewpoint.viewpoint_id, what="drive", reason=text)
            case machine.Capture(viewpoint):
                self._tell(progress, MissionPhase.CAPTURING, viewpoint.viewpoint_id)
                outcome = self._capture(self.mission_id, viewpoint.viewpoint_id)
                vid = viewpoint.viewpoint_id
                if outcome.ok:
                    self._append("viewpoint.captured", viewpoint_id=vid, capture_id=outcome.capture_id)
                elif not self._abandoned.is_set():
                    self._append("viewpoint.failed", viewpoint_id=vid, what="capture", reason=outcome.reason)
            case machine.Recharge():
                self._recharge(progress)
            case machine.LookAgain():
                more = [asdict(v) for v in self._second(progress.plan)]
                self._append("mission.extended", viewpoints=more)
            case machine.Hold():
                self._tell(progress, MissionPhase.PAUSED, "")
                self._wait(self._limits.poll_s)
            case machine.WaitForWay():
                self._tell(progress, MissionPhase.WAITING, "the way is blocked")
                self._wait(self._limits.poll_s)
            case _:
                self._tell(progress, MissionPhase.WAITING, "")
                self._wait(self._limits.poll_s)

    def _finish(self, progress: Progress, step: machine.Finish) -> Progress:
        self._homing.set()
        self._tell(progress, MissionPhase.DOCKING, "")
        docked = self._navigator.dock(self._limits.dock_s)
        if not docked.ok and not self._abandoned.is_set():
            # The stop of a cancelled drive may hit the way home instead, and docking is worth a second try anyway.
            docked = self._navigator.dock(self._limits.dock_s)
        if self._abandoned.is_set():
            return progress
        message = step.message if docked.ok else f"{step.message}; not docked: {docked.message}"
        self._append("mission.ended", phase=str(step.phase), message=message)
        progress = self._refresh()
        self._tell(progress, step.phase, message)
        return progress

    def _interrupted(self) -> bool:
        progress = self._refresh()
        return progress.paused or progress.cancelled or self._abandoned.is_set()

    def _refresh(self) -> Progress:
        for stored in self._ledger.read(after=self._read, kinds=machine.KINDS):
            self._read = stored.seq
            self._progress = machine.fold(self._progress, stored.event, self.mission_id)
        if self._progress is None:
            raise LedgerError(f"the ledger lost mission {self.mission_id!r}")
        return self._progress

    def _append(self, kind: str, **payload: Any) -> None:
        with self._lock:
            now = self._clock()
            self._seq += 1
            body: Mapping[str, Any] = {"mission_id": self.mission_id, **payload}
            # A mission starts once; everything else happens as often as it happens.
            key = f"{kind}/{self.mission_id}" + ("" if kind == "mission.started" else f"/{now}-{self._seq}")
            self._ledger.append([Event(kind, key, now, body)])

    def _tell(self, progress: Progress, phase: MissionPhase, text: str) -> None:
        if self._listener is not None:
            self._listener(progress, phase, text)
