"""A second look at what a tour did not show in full: other places to look from, when it is done.

Of a bin that was hidden for a person (or for what was taken for one) the same place would often show the same again: whoever
it is may stand there still, and a false find comes back. From some centimetres further along the shelf it looks different. And
a robot that turned out to stand ten centimetres from where it thought did not see a shelf's end at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shelfscan.mission.plan import Face
from shelfscan.mission.sight import Floor, KeepOut, without
from shelfscan.mission.tour import best_tour
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.mission import MissionPlan, Viewpoint
from shelfscan.model.robot import RobotModel
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS, IN_FULL, BayScan
from shelfscan.model.store import BinPlace, Store

#: How far beside the places that were looked from, and at least.
BESIDE_M = (0.25, -0.25, 0.4, -0.4)
APART_M = 0.12
#: What is in a picture's middle is looked at best: a cell counts half so far beside the camera.
MIDDLE_M = 0.3
#: A look is worth the way when it completes a bin, or shows so much of a bin's front that is missing.
WORTH = 0.1
#: No more second looks than this share of the tour, and a few.
MOST_SHARE, MOST_FEW = 0.1, 2


def second_looks(
    plan: MissionPlan,
    scans: Sequence[BayScan],
    store: Store,
    robot: RobotModel,
    grid: OccupancyGrid,
    keep_outs: Sequence[KeepOut] = (),
    seen: Mapping[str, int] | None = None,
) -> tuple[Viewpoint, ...]:
    """Viewpoints that show what the scans of a tour's viewpoints did not, in driving order from the last one.

    Only of bins that the plan would have seen in full. ``scans``: of the mission; those of viewpoints that were given up are
    missing, and second looks do not stand in for them. ``seen``: cells of each bin that were seen, where that is known better
    than from the captures alone.
    """
    if seen is None:
        seen = _seen_by(scans)
    done = {s.viewpoint_id for s in scans}
    floor = Floor(without(grid, keep_outs), robot.footprint_radius_m)
    left = max(MOST_FEW, round(MOST_SHARE * len(plan.viewpoints)))
    routes: list[list[Viewpoint]] = []
    names = {v.viewpoint_id for v in plan.viewpoints}
    for _, gondola in store.gondolas():
        looked = [v for v in plan.viewpoints if v.gondola_id == gondola.gondola_id and v.viewpoint_id in done]
        planned = {b for v in looked for b in v.bin_ids} - set(plan.unreachable_bins)
        places = [p for p in store.places_of(gondola.gondola_id) if p.bin_id in planned]
        missing = np.array([_missing(seen.get(p.bin_id, 0)) for p in places])
        if not looked or not missing.any():
            continue
        face = Face(gondola, places, robot, floor, floor)
        route = _route(face, places, missing, looked, floor, names)[:left]
        left -= len(route)
        if route:
            routes.append(route)
    if not routes or not plan.viewpoints:
        return ()
    here = plan.viewpoints[-1].pose
    costs = floor.ways([here, *(r[-1].pose for r in routes)], [robot.dock, *(r[0].pose for r in routes)])
    return tuple(v for i in best_tour(costs).order for v in routes[i - 1])


def _seen_by(scans: Sequence[BayScan]) -> dict[str, int]:
    seen: dict[str, int] = {}
    for scan in scans:
        for c in scan.coverage:
            seen[c.bin_id] = seen.get(c.bin_id, 0) | c.seen
    return seen


def _missing(bits: int) -> NDArray[np.bool_]:
    """Cells (R, C) of a bin's front that a mask does not hold; none of a bin that counts as seen in full."""
    if bits.bit_count() >= IN_FULL * COVERAGE_ROWS * COVERAGE_COLUMNS:
        bits = -1
    cells = [not bits >> n & 1 for n in range(COVERAGE_ROWS * COVERAGE_COLUMNS)]
    return np.array(cells).reshape(COVERAGE_ROWS, COVERAGE_COLUMNS)


def _route(
    face: Face,
    places: Sequence[BinPlace],
    missing: NDArray[np.bool_],
    looked: Sequence[Viewpoint],
    floor: Floor,
    names: Collection[str],
) -> list[Viewpoint]:
    """Second looks at one face, in driving order: greedily the one that shows most of what is missing yet. ``names``: those
    that the plan's viewpoints have."""
    at = [face.along_m(v.pose) for v in looked]
    stations = face.stations(np.array([x + d for x in at for d in BESIDE_M]), floor)
    stations = [(x, s) for x, s in dict.fromkeys(stations) if min(abs(x - a) for a in at) >= APART_M]
    middles = np.array([(p.x0_m + p.x1_m) / 2 for p in places])
    shows = [face.seen(x, s, floor) for x, s in stations]
    worth = [1 / (1 + ((middles - x) / MIDDLE_M) ** 2)[:, None, None] for x, _ in stations]
    missing = missing.copy()
    chosen: list[int] = []
    while len(chosen) < len(stations):
        gains = [float(((missing & s) * w).sum()) for s, w in zip(shows, worth, strict=True)]
        best = int(np.argmax(gains))
        completed = missing.any(axis=(1, 2)) & ~(missing & ~shows[best]).any(axis=(1, 2))
        if not completed.any() and (missing & shows[best]).sum() < WORTH * COVERAGE_ROWS * COVERAGE_COLUMNS:
            break
        chosen.append(best)
        missing &= ~shows[best]
    out: list[Viewpoint] = []
    for n in sorted(chosen, key=lambda n: stations[n][0]):
        x, standoff = stations[n]
        there = [p for p, s in zip(places, shows[n], strict=True) if s.any()]
        bays, bins = tuple(sorted({p.bay_id for p in there})), tuple(p.bin_id for p in there)
        # Named so that it comes beside its neighbour on the face.
        near = min(looked, key=lambda v: (abs(face.along_m(v.pose) - x), v.viewpoint_id))
        name = _free(f"{near.viewpoint_id}-", {*names, *(v.viewpoint_id for v in out)})
        out.append(Viewpoint(name, near.gondola_id, near.aisle_id, face.pose(x, standoff), bays, bins))
    # Faces are driven in the order in which they were planned.
    return out if at[0] <= at[-1] else out[::-1]


def _free(stem: str, taken: set[str]) -> str:
    return next(name for name in (f"{stem}{letter}" for letter in "abcdefghij") if name not in taken)
