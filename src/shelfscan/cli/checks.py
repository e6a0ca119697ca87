"""What is looked at before a robot leaves its dock: disk, clock, calibration, lenses, and whether the map is of this store."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

from shelfscan.adapters.ledger_place import has_ledger
from shelfscan.bootstrap import check_ledger
from shelfscan.config import Config
from shelfscan.errors import BadInput, LedgerError
from shelfscan.mission.sight import misplaced_faces
from shelfscan.model.bundle import Bundle
from shelfscan.runs import runs_in

#: A recorded viewpoint takes about 6 MB of bag, its evidence 1 MB; the ledger must never be what finds the disk full.
LEAST_FREE_MB, ROOMY_MB = 300, 3000
#: A calibration older than this is checked against a board again.
CALIBRATION_DAYS = 90
#: No robot runs before this was written; a clock that says so has lost its battery.
NOT_BEFORE = date(2026, 1, 1)
SICK_LENS = ("lens_smear", "defocus", "camera_turned", "calibration_drift")


@dataclass(frozen=True, slots=True)
class Check:
    """One check; ``fatal``: the run must not start. ``ok`` checks say what they found."""

    name: str
    ok: bool
    text: str
    fatal: bool = False


def startup_checks(bundle: Bundle, config: Config, run_dir: Path, now: datetime | None = None) -> list[Check]:
    """All checks of a run that is about to start in ``run_dir`` (which need not exist)."""
    at = now or datetime.now(timezone.utc)
    real = config.ros.robot == "real"
    return [
        _disk(run_dir),
        _clock(run_dir, bundle.store.site, at),
        _calibration(bundle, at, real),
        _lens(run_dir, bundle),
        _map(bundle),
        *([_ledger(config)] if config.ledger.url and not has_ledger(run_dir) else []),
    ]


def _disk(run_dir: Path) -> Check:
    folder = next(p for p in (run_dir, *run_dir.parents) if p.exists())
    free = shutil.disk_usage(folder).free // 1_000_000
    text = f"{free} MB free on the disk of {folder}"
    if free < LEAST_FREE_MB:
        return Check("disk", False, f"{text}; {LEAST_FREE_MB} are needed at least", fatal=True)
    return Check(
        "disk", free >= ROOMY_MB, text if free >= ROOMY_MB else f"{text}: the recording will be thinned; counts are kept"
    )


def _ledger(config: Config) -> Check:
    """The server that a new run's events go to."""
    try:
        return Check("ledger", True, check_ledger(config))
    except LedgerError as e:
        return Check("ledger", False, str(e), fatal=True)


def _clock(run_dir: Path, site: str, at: datetime) -> Check:
    if at.date() < NOT_BEFORE:
        return Check("clock", False, f"the clock says {at:%Y-%m-%d}; set it before anything is dated with it", fatal=True)
    parent = run_dir.resolve().parent
    newest = max((r.began for r in runs_in(parent, site) if r.path != run_dir), default=None) if parent.is_dir() else None
    if newest is not None and newest > at + timedelta(minutes=10):
        hours = (newest - at).total_seconds() / 3600
        return Check(
            "clock", False, f"the clock is {hours:.1f} h before the newest run ({newest:%Y-%m-%d %H:%M} UTC): set back?"
        )
    return Check("clock", True, f"{at:%Y-%m-%d %H:%M} UTC")


def _calibration(bundle: Bundle, at: datetime, real: bool) -> Check:
    day = bundle.robot.calibrated_on
    if day is None:
        return Check("calibration", not real, "robot.yaml does not say when its cameras were calibrated (shelfscan calibrate)")
    age = (at.date() - day).days
    text = f"cameras calibrated {age} days ago"
    if age < 0:
        return Check("calibration", False, f"robot.yaml was calibrated on {day}, which is yet to come: is the clock right?")
    return Check(
        "calibration", age <= CALIBRATION_DAYS, text if age <= CALIBRATION_DAYS else f"{text}: shelfscan calibrate check"
    )


def _lens(run_dir: Path, bundle: Bundle) -> Check:
    parent = run_dir.resolve().parent
    for run in reversed(runs_in(parent, bundle.store.site) if parent.is_dir() else []):
        try:
            sick = json.loads((run.path / "health.json").read_text(encoding="utf-8"))["sick"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        bad = [s for s in sick if s.get("kind") in SICK_LENS]
        if bad:
            return Check("lens", False, f"since {run.path.name}: {bad[0]['text']} (shelfscan health show {run.path})")
        return Check("lens", True, f"clean and in place in {run.path.name}")
    return Check("lens", True, "no earlier run to judge by")


def _map(bundle: Bundle) -> Check:
    wrong = misplaced_faces(bundle.store, bundle.grid)
    faces = sum(1 for _ in bundle.store.gondolas())
    if not wrong:
        return Check("map", True, f"fits all {faces} gondola faces")
    shown = ", ".join(wrong[:6]) + (" …" if len(wrong) > 6 else "")
    text = f"{len(wrong)} of {faces} gondola faces do not fit the map ({shown})"
    if 2 * len(wrong) > faces:
        return Check("map", False, f"{text}: map.yaml is not of this store, or store.yaml is not in its frame", fatal=True)
    return Check("map", False, f"{text}: were they moved, or is their face turned round?")


def stop_if_fatal(checks: list[Check]) -> None:
    """Raises `BadInput` with everything that keeps a run from starting."""
    fatal = [f"{c.name}: {c.text}" for c in checks if c.fatal and not c.ok]
    if fatal:
        raise BadInput(fatal)
