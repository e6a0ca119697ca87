"""The mission as a pure state machine over ledger events.

`project` folds events into `Progress`; `next_step` says what to do. Nothing here drives, waits or asks the time:
whoever executes appends what happened as events and asks again. So any process may die between any two events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from shelfscan.model.mission import MissionPhase, MissionPlan, Viewpoint, viewpoint_of
from shelfscan.ports import Event, StoredEvent

KINDS = (
    "mission.started",
    "mission.resumed",
    "mission.undocked",
    "mission.paused",
    "mission.continued",
    "mission.cancelled",
    "mission.recharging",
    "mission.recharged",
    "mission.time_up",
    "mission.aisle_skipped",
    "mission.extended",
    "mission.ended",
    "viewpoint.reached",
    "viewpoint.captured",
    "viewpoint.failed",
    "bay_scan",
    "scan.begun",
)


#: No place that was blocked is left alone for longer while nothing else is to do.
LONGEST_REST_S = 120.0
#: What a tour did not show is looked at from elsewhere this often.
SECOND_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """How patient a mission is. Seconds of the executor's clock.

    ``scan_timeout_s`` runs from the capture, and anew whenever work on any capture begins: perception that is merely
    slow has lost nothing. A place that could not be driven to is tried again after ``retry_after_s``, then after twice that,
    and so on: what stands there may go away, and asking at once again only wastes the tries. ``second_looks``: when the tour is
    done, what it did not show in full is looked at from elsewhere, and what that does not show once more.
    """

    max_drives: int = 3
    max_captures: int = 3
    max_pending: int = 3
    scan_timeout_s: float = 90.0
    retry_after_s: float = 30.0
    second_looks: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """A capture whose BayScan is not in the ledger yet."""

    capture_id: str
    since_ns: int


@dataclass(frozen=True)
class Progress:
    """All that matters of a mission's past."""

    plan: MissionPlan
    undocked: bool = False
    paused: bool = False
    cancelled: bool = False
    recharging: bool = False
    time_up: bool = False
    ended: MissionPhase | None = None
    at: str = ""
    working_ns: int = 0
    interruptions: int = 0
    done: frozenset[str] = frozenset()
    pending: dict[str, Pending] = field(default_factory=dict)
    drives_failed: dict[str, int] = field(default_factory=dict)
    captures: dict[str, int] = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()
    failed_ns: dict[str, int] = field(default_factory=dict)
    extended: int = 0

    def given_up(self, viewpoint_id: str, rules: Rules) -> bool:
        """Tried as often as the rules allow, without a scan."""
        return viewpoint_id not in self.done and (
            self.drives_failed.get(viewpoint_id, 0) >= rules.max_drives
            or (self.captures.get(viewpoint_id, 0) >= rules.max_captures and viewpoint_id not in self.pending)
        )


@dataclass(frozen=True, slots=True)
class Undock:
    """Leave the dock."""


@dataclass(frozen=True, slots=True)
class DriveTo:
    """Drive to a viewpoint; then append `viewpoint.reached` or `viewpoint.failed`."""

    viewpoint: Viewpoint


@dataclass(frozen=True, slots=True)
class Capture:
    """The robot stands at the viewpoint: capture; then append `viewpoint.captured` or `viewpoint.failed`."""

    viewpoint: Viewpoint


@dataclass(frozen=True, slots=True)
class WaitForScans:
    """Nothing to drive to now: scans are being worked on."""


@dataclass(frozen=True, slots=True)
class WaitForWay:
    """Every place that is left could not be driven to a moment ago."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Paused by a person."""


@dataclass(frozen=True, slots=True)
class Recharge:
    """The battery is low: dock and charge; then append `mission.recharged`."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """The tour is done: append `mission.extended` with the viewpoints from which to look at what was hidden, if any."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Go home and append `mission.ended` with this phase."""

    phase: MissionPhase
    message: str


Step = Undock | DriveTo | Capture | WaitForScans | WaitForWay | Hold | Recharge | LookAgain | Finish


def project(events: Iterable[StoredEvent], mission_id: str) -> Progress | None:
    """Fold a mission's events, in order; None when it never started."""
    progress: Progress | None = None
    for stored in events:
        progress = fold(progress, stored.event, mission_id)
    return progress


def unended(events: Iterable[StoredEvent]) -> str:
    """The mission that was started (or resumed) last and has no end, or an empty text."""
    open_ids: list[str] = []
    for stored in events:
        kind, mission_id = stored.event.kind, str(stored.event.payload.get("mission_id", ""))
        if kind in ("mission.started", "mission.resumed", "mission.ended") and mission_id in open_ids:
            open_ids.remove(mission_id)
        if kind in ("mission.started", "mission.resumed"):
            open_ids.append(mission_id)
    return open_ids[-1] if open_ids else ""


def fold(progress: Progress | None, event: Event, mission_id: str) -> Progress | None:
    """Progress after one more event; events of other missions and kinds change nothing."""
    p = event.payload
    if p.get("mission_id") != mission_id or event.kind not in KINDS:
        return progress
    if event.kind == "mission.started":
        return progress or Progress(MissionPlan.from_json(dict(p["plan"])))
    if progress is None:
        return None
    if event.kind == "bay_scan":
        vid = str(p["viewpoint_id"])
        return replace(progress, done=progress.done | {vid}, pending=_without(progress.pending, vid))
    if event.kind == "scan.begun":
        return replace(progress, working_ns=max(progress.working_ns, event.stamp_ns))
    if progress.ended is not None and event.kind != "mission.resumed":
        return progress
    return _fold_mission(progress, event) if event.kind.startswith("mission.") else _fold_viewpoint(progress, event)


def _fold_mission(progress: Progress, event: Event) -> Progress:
    match event.kind:
        case "mission.resumed":
            # Whoever drove is gone: where the robot stands and what was in flight is no longer known. Tries that an
            # interruption cut short do not count against a viewpoint. What a person ordered holds until a person goes on.
            # A mission that never left the dock, or ended on it, has it to leave.
            by_itself = bool(event.payload.get("by_itself", False))
            return replace(
                progress,
                at="",
                undocked=progress.undocked and progress.ended is None,
                pending={},
                captures={},
                drives_failed={},
                paused=progress.paused and by_itself,
                cancelled=progress.cancelled and by_itself,
                time_up=progress.time_up and by_itself,
                ended=None,
                interruptions=progress.interruptions + 1,
            )
        case "mission.undocked":
            return replace(progress, undocked=True)
        case "mission.paused":
            return replace(progress, paused=True)
        case "mission.continued":
            return replace(progress, paused=False)
        case "mission.cancelled":
            return replace(progress, cancelled=True)
        case "mission.recharging":
            return replace(progress, recharging=True, at="")
        case "mission.recharged":
            return replace(progress, recharging=False, undocked=False)
        case "mission.time_up":
            return replace(progress, time_up=True)
        case "mission.extended":
            more = tuple(viewpoint_of(v) for v in event.payload["viewpoints"])
            plan = replace(progress.plan, viewpoints=(*progress.plan.viewpoints, *more))
            # Where there is nowhere better to look from, there is not later either.
            return replace(progress, plan=plan, extended=progress.extended + 1 if more else SECOND_ROUNDS)
        case "mission.aisle_skipped":
            return replace(progress, skipped=progress.skipped | {str(event.payload["aisle_id"])})
        case _:
            return replace(progress, ended=MissionPhase(str(event.payload["phase"])))


def _fold_viewpoint(progress: Progress, event: Event) -> Progress:
    p = event.payload
    vid = str(p["viewpoint_id"])
    if event.kind == "viewpoint.reached":
        return replace(progress, at=vid)
    if event.kind == "viewpoint.captured":
        captures = {**progress.captures, vid: progress.captures.get(vid, 0) + 1}
        if vid in progress.done:
            return replace(progress, captures=captures, at="")
        pending = {**progress.pending, vid: Pending(str(p["capture_id"]), event.stamp_ns)}
        return replace(progress, captures=captures, pending=pending, at="")
    what, reason = str(p["what"]), str(p["reason"])
    failures = {**progress.failures, vid: (what, reason)}
    if what == "drive":
        drives = {**progress.drives_failed, vid: progress.drives_failed.get(vid, 0) + 1}
        failed_ns = {**progress.failed_ns, vid: event.stamp_ns}
        return replace(progress, drives_failed=drives, failures=failures, failed_ns=failed_ns, at="")
    captures = progress.captures
    if what == "capture":
        captures = {**captures, vid: captures.get(vid, 0) + 1}
    # A scan fails while the robot is long on its way: it then still stands where it stands.
    at = progress.at if what == "scan" and progress.at != vid else ""
    return replace(progress, captures=captures, failures=failures, at=at, pending=_without(progress.pending, vid))


def _without(pending: dict[str, Pending], viewpoint_id: str) -> dict[str, Pending]:
    return {k: v for k, v in pending.items() if k != viewpoint_id}


def overdue(progress: Progress, now_ns: int, rules: Rules) -> list[str]:
    """Captured viewpoints whose scan should be there by now; append `viewpoint.failed` (what="scan") for each."""
    limit_ns = rules.scan_timeout_s * 1e9
    return [v for v, c in progress.pending.items() if now_ns - max(c.since_ns, progress.working_ns) > limit_ns]


def rested(progress: Progress, viewpoint_id: str, rules: Rules, now_ns: int | None) -> bool:
    """Whether a place that could not be driven to may be tried again. A clock that was set back makes nobody wait."""
    tries, failed_ns = progress.drives_failed.get(viewpoint_id, 0), progress.failed_ns.get(viewpoint_id, 0)
    if now_ns is None or tries == 0 or now_ns < failed_ns:
        return True
    rest_s = min(LONGEST_REST_S, rules.retry_after_s * 2 ** min(tries - 1, 10))
    return bool(now_ns - failed_ns >= rest_s * 1e9)


def next_step(progress: Progress, rules: Rules, now_ns: int | None = None) -> Step:
    """What to do now; ``now_ns``: the executor's clock, without which no place that failed gets a rest."""
    if progress.cancelled:
        return Finish(MissionPhase.CANCELLED, "cancelled by a person")
    if progress.paused:
        return Hold()
    if progress.time_up:
        if progress.pending:
            return WaitForScans()
        missing = [v.viewpoint_id for v in progress.plan.viewpoints if v.viewpoint_id not in progress.done]
        return Finish(MissionPhase.DONE, f"the time is up, {len(missing)} viewpoints are left for the next night")
    if progress.recharging:
        return Recharge()
    if not progress.undocked:
        return Undock()
    by_id = {v.viewpoint_id: v for v in progress.plan.viewpoints}
    here = by_id.get(progress.at)
    if here is not None and progress.at not in progress.done and here.aisle_id not in progress.skipped:
        return Capture(here)
    todo = [
        v
        for v in progress.plan.viewpoints
        if v.viewpoint_id not in progress.done
        and v.viewpoint_id not in progress.pending
        and v.aisle_id not in progress.skipped
        and not progress.given_up(v.viewpoint_id, rules)
    ]
    ready = [v for v in todo if rested(progress, v.viewpoint_id, rules, now_ns)]
    if ready and len(progress.pending) < rules.max_pending:
        # Places that failed before come after all others: what blocked them may have moved on.
        return DriveTo(min(ready, key=lambda v: _tries(progress, v.viewpoint_id)))
    if todo and not progress.pending:
        return WaitForWay()
    if progress.pending:
        return WaitForScans()
    if rules.second_looks and progress.extended < SECOND_ROUNDS and progress.done:
        return LookAgain()
    missing = [v.viewpoint_id for v in progress.plan.viewpoints if v.viewpoint_id not in progress.done]
    if not missing:
        return Finish(MissionPhase.DONE, "every viewpoint scanned")
    if not progress.done and not progress.skipped:
        return Finish(MissionPhase.FAILED, f"no viewpoint could be scanned; {describe(progress, missing[0])}")
    return Finish(MissionPhase.DONE, f"{len(missing)} viewpoints not scanned: {', '.join(missing[:8])}")


def _tries(progress: Progress, viewpoint_id: str) -> int:
    return progress.drives_failed.get(viewpoint_id, 0) + progress.captures.get(viewpoint_id, 0)


def describe(progress: Progress, viewpoint_id: str) -> str:
    """Why a viewpoint failed last, for people."""
    what, reason = progress.failures.get(viewpoint_id, ("", "not tried"))
    return f"{viewpoint_id}: {what} {reason}".strip()
