"""What a plan will see, proven before the robot drives: bins, the reasons of those left out, way, hours, charges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shelfscan.mission.plan import MAX_SPACING_M, Planned
from shelfscan.model.robot import RobotModel
from shelfscan.model.store import Store

#: A stop: creeping in, standing still, the picture, setting off. Simulated nights take 5 to 6 s a stop.
STOP_S = 6.0
#: A way is driven at this share of the top speed, with turns and slow starts.
SPEED_SHARE = 0.7
CHARGE_W = 150.0


@dataclass(frozen=True, slots=True)
class FaceCoverage:
    """One face: how many of its bins the plan sees in full."""

    gondola_id: str
    aisle_id: str
    bins: int
    covered: int
    viewpoints: int


@dataclass(frozen=True)
class Coverage:
    """The report. ``hidden_faces``: faces nobody can see anything of; ``late_aisles``: what will not fit into the hours;
    ``tour_gap``: how much longer than the best possible the order of faces can be at most (0.02: 2 %)."""

    site: str
    bins: int
    covered: int
    missing: dict[str, tuple[str, ...]]
    hidden_faces: tuple[str, ...]
    faces: tuple[FaceCoverage, ...]
    viewpoints: int
    way_m: float
    between_faces_m: float
    tour_gap: float
    hours: float
    energy_wh: float
    charges: int
    late_aisles: tuple[str, ...]
    rolling_speed_mps: float
    rolling_hours: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def rolling_speed_mps(robot: RobotModel, exposure_s: float, blur_px: float, captures_per_s: float) -> float:
    """How fast the robot may pass a shelf while it takes pictures: blur and overlap allow no more.

    At the least standoff a point moves ``speed * exposure * f / distance`` pixels during an exposure.
    """
    focal_px = max(head.rgb.intrinsics.fx_px for head in robot.rig.heads)
    by_blur = blur_px * robot.standoff_min_m / (focal_px * exposure_s)
    return min(robot.max_speed_mps, by_blur, MAX_SPACING_M * captures_per_s)


def coverage_of(
    planned: Planned,
    store: Store,
    robot: RobotModel,
    *,
    hours: float | None = None,
    exposure_s: float = 0.004,
    blur_px: float = 1.0,
    captures_per_s: float = 1.0,
) -> Coverage:
    """The report of a plan. ``hours``: how long the robot may be out; the rest is of driving past shelves without stopping."""
    plan = planned.plan
    planned_faces = {v.gondola_id for v in plan.viewpoints}
    stops = Counter(v.gondola_id for v in plan.viewpoints)
    faces = []
    for aisle, gondola in store.gondolas():
        ids = [p.bin_id for p in store.places_of(gondola.gondola_id)]
        covered = sum(b not in plan.why for b in ids) if gondola.gondola_id in planned_faces else 0
        faces.append(FaceCoverage(gondola.gondola_id, aisle.aisle_id, len(ids), covered, stops[gondola.gondola_id]))
    missing: dict[str, list[str]] = {}
    for bin_id, reason in plan.why.items():
        missing.setdefault(reason, []).append(bin_id)
    ends_s = _ends(planned, robot)
    total_s = ends_s[-1] + planned.legs_m[-1] / (SPEED_SHARE * robot.max_speed_mps)
    moving_s = sum(planned.legs_m) / (SPEED_SHARE * robot.max_speed_mps)
    energy_wh = (robot.idle_w * total_s + robot.drive_w * moving_s) / 3600
    usable_wh = 0.65 * robot.battery_wh
    charges = max(0, math.ceil(energy_wh / usable_wh) - 1)
    total_s += charges * usable_wh / CHARGE_W * 3600
    late = [v.aisle_id for v, end in zip(plan.viewpoints, ends_s, strict=True) if hours is not None and end > hours * 3600]
    rolling = rolling_speed_mps(robot, exposure_s, blur_px, captures_per_s)
    between = planned.tour.cost
    along = sum(planned.legs_m) - between
    return Coverage(
        site=plan.site,
        bins=sum(f.bins for f in faces),
        covered=sum(f.covered for f in faces),
        missing={reason: tuple(bins) for reason, bins in sorted(missing.items())},
        hidden_faces=tuple(f.gondola_id for f in faces if f.bins and not f.covered and not _skipped(plan.why, store, f)),
        faces=tuple(faces),
        viewpoints=len(plan.viewpoints),
        way_m=round(sum(planned.legs_m), 1),
        between_faces_m=round(between, 1),
        tour_gap=round(between / planned.tour.bound - 1, 4) if planned.tour.bound > 0 else 0.0,
        hours=round(total_s / 3600, 2),
        energy_wh=round(energy_wh, 0),
        charges=charges,
        late_aisles=tuple(dict.fromkeys(late)),
        rolling_speed_mps=round(rolling, 3),
        rolling_hours=round((along / rolling + between / (SPEED_SHARE * robot.max_speed_mps)) / 3600, 2),
    )


def _ends(planned: Planned, robot: RobotModel) -> list[float]:
    """When each viewpoint is done, seconds from the start."""
    out, now = [], 0.0
    for leg in planned.legs_m[:-1]:
        now += leg / (SPEED_SHARE * robot.max_speed_mps) + STOP_S
        out.append(now)
    return out


def _skipped(why: dict[str, str] | Any, store: Store, face: FaceCoverage) -> bool:
    """Whether the face is left out because somebody wanted it so, or because nobody asked for it."""
    return all(why.get(p.bin_id, "skipped") == "skipped" for p in store.places_of(face.gondola_id))


def lines(coverage: Coverage, most: int = 8) -> Sequence[str]:
    """The report for people."""
    c = coverage
    share = 100 * c.covered / c.bins if c.bins else 0.0
    out = [f"{c.covered} of {c.bins} bins will be seen in full ({share:.1f} %) from {c.viewpoints} viewpoints"]
    for reason, bins in c.missing.items():
        shown = ", ".join(bins[:most]) + (f" and {len(bins) - most} more" if len(bins) > most else "")
        out.append(f"  {reason}: {len(bins)} bins: {shown}")
    out += [f"  gondola {g}: nobody can see anything of it; is its face in store.yaml turned round?" for g in c.hidden_faces]
    gap = f", at most {100 * c.tour_gap:.1f} % more than the best order" if c.tour_gap else ", the best order"
    out.append(f"way: {c.way_m:.0f} m, {c.between_faces_m:.0f} m of it between shelves{gap}")
    charges = f" with {c.charges} charges on the way" if c.charges else " without charging on the way"
    out.append(f"about {c.hours:.1f} h{charges} ({c.energy_wh:.0f} Wh)")
    out.append(
        f"driving past without stops: {c.rolling_speed_mps:.2f} m/s, about {c.rolling_hours:.1f} h (missions stop and shoot)"
    )
    if c.late_aisles:
        out.append(f"not within the hours: {', '.join(c.late_aisles)}")
    return out
