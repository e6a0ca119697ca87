"""Lamps that are out, in the light that finished runs measured: told, and told where there are none?

    python -m benchmarks.lamps RUN… [--lamps 100]

The runs' own brightness is taken as it is (no lamp is out: whatever is told is false), then dimmed to 20 to 45 % within half
the distance of two lamps around a random viewpoint, on both sides of its aisle, once for each lamp. No picture is looked at
again.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.sickness import LAMP_M
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.audit.health import Baseline, diagnose, side_by_side
from shelfscan.mission.machine import project
from shelfscan.model.mission import MissionPlan, Viewpoint
from shelfscan.model.scan import BayScan
from shelfscan.runinfo import read_run_info


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--lamps", type=int, default=100, help="lamps a run")
    args = parser.parse_args()
    print("| run | viewpoints | told with all lamps on | found | in the wrong aisle, or more than one |\n|---|---|---|---|---|")
    for run in args.runs:
        plan, scans = night(run)
        false = told(plan, scans)
        rng = random.Random(str(len(scans)))
        found = wrong = 0
        for _ in range(args.lamps):
            lamp, share = rng.choice(plan.viewpoints), rng.uniform(0.2, 0.45)
            names = told(plan, [dimmed(s, share) if near(plan, s, lamp) else s for s in scans])
            found += lamp.aisle_id in names
            wrong += names != [lamp.aisle_id] and bool(names)
        print(f"| {run.name} | {len(scans)} | {len(false)} | {found} of {args.lamps} | {wrong} |")
    return 0


def night(run: Path) -> tuple[MissionPlan, list[BayScan]]:
    """A run's plan and scans, without what says nothing of light."""
    mission = read_run_info(run).mission_id
    ledger = SqliteLedger(run / "ledger.sqlite")
    try:
        progress = project(ledger.read(kinds=("mission.started",)), mission)
        scans = [BayScan.from_json(dict(s.event.payload)) for s in ledger.read(kinds=("bay_scan",))]
    finally:
        ledger.close()
    if progress is None:
        raise SystemExit(f"{run}: its mission has not begun")
    bare = [replace(s, observations=(), tags=(), coverage=(), fronts=(), checks=(), tops=()) for s in scans]
    return progress.plan, bare


def told(plan: MissionPlan, scans: Sequence[BayScan]) -> list[str]:
    """Aisles of which a lamp is told to be out."""
    aisle_of = {v.viewpoint_id: v.aisle_id for v in plan.viewpoints}
    return [s.where for s in diagnose({}, Baseline(), scans, aisle_of, side_by_side(plan.viewpoints)) if s.kind == "lamp_out"]


def near(plan: MissionPlan, scan: BayScan, lamp: Viewpoint) -> bool:
    """Whether a capture was made in the light of the lamp over a viewpoint."""
    at = next(v for v in plan.viewpoints if v.viewpoint_id == scan.viewpoint_id)
    along = math.hypot(at.pose.x_m - lamp.pose.x_m, at.pose.y_m - lamp.pose.y_m)
    return at.aisle_id == lamp.aisle_id and along < LAMP_M


def dimmed(scan: BayScan, share: float) -> BayScan:
    quality = {k: v * share if k.endswith(".brightness") else v for k, v in scan.quality.items()}
    return replace(scan, quality=quality)


if __name__ == "__main__":
    sys.exit(main())
