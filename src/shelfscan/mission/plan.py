"""Bays to viewpoints to a tour.

Per gondola face the fewest evenly spaced viewpoints are taken that see every coverable bin front in full, with nothing of
the map between; the faces are then ordered as an asymmetric travelling-salesman problem over the ways on the map (a face is
driven in one direction only, because the heads look to one side).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput
from shelfscan.mission.sight import Floor, KeepOut, without
from shelfscan.mission.tour import Tour, best_tour
from shelfscan.model.geometry import Array, Pose2D, pose2d_of
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.mission import MissionPlan, Viewpoint
from shelfscan.model.robot import RobotModel
from shelfscan.model.scan import COVERAGE_COLUMNS
from shelfscan.model.stock import UnseenReason
from shelfscan.model.store import Aisle, BinPlace, Gondola, Store
from shelfscan.model.viewing import base_on_face, front_points, seen_cells

#: Neighbouring views overlap so much that an item cut by one picture's border is whole in the next, and that a narrow
#: column is looked into squarely enough to see its back third between full neighbours.
MAX_SPACING_M = 0.5
MIN_SPACING_M = 0.3
#: The first and the last view are this far from the ends: a pose error of some centimetres must not cost the last bin.
END_M = 0.2
#: Where the preferred place is not free, these shifts along the face are tried, nearest first.
SHIFTS_M = (0.0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3)
#: Neighbours this far apart have something between them; is the way longer by this factor, it leads round it.
GAP_M, DETOUR = 0.9, 1.3


@dataclass(frozen=True)
class Planned:
    """A plan and what it was made of. ``legs_m``: to each viewpoint from the one before (the first from the dock), and home;
    ``tour``: over the faces alone."""

    plan: MissionPlan
    legs_m: tuple[float, ...]
    tour: Tour


def plan_mission(
    store: Store,
    robot: RobotModel,
    grid: OccupancyGrid,
    *,
    mission_id: str,
    aisles: Collection[str] = (),
    bins: Collection[str] = (),
) -> MissionPlan:
    """The plan alone, of a store without keep-outs; see `plan_in_full`."""
    return plan_in_full(store, robot, grid, mission_id=mission_id, aisles=aisles, bins=bins).plan


def plan_in_full(
    store: Store,
    robot: RobotModel,
    grid: OccupancyGrid,
    *,
    mission_id: str,
    aisles: Collection[str] = (),
    bins: Collection[str] = (),
    keep_outs: Sequence[KeepOut] = (),
    first: Collection[str] = (),
) -> Planned:
    """Plan a mission past every bay (or only the named aisles, or the faces' stretches that hold the named bins).

    Nothing is planned inside the ``keep_outs``; aisles named ``first`` are driven before all others. Raises `BadInput` when
    an aisle or bin is unknown or no viewpoint at all is free in the map.
    """
    known = {a.aisle_id for a in store.aisles}
    unknown = sorted((set(aisles) | set(first)) - known) + sorted(set(bins) - set(store.places))
    if unknown:
        raise BadInput([f"store {store.site}: no aisle or bin {u!r}" for u in unknown])
    wanted = set(bins)
    floor = Floor(without(grid, keep_outs), robot.footprint_radius_m)
    whole = Floor(grid, robot.footprint_radius_m) if keep_outs else floor
    routes: list[list[Viewpoint]] = []
    early: list[int] = []
    why: dict[str, str] = {}
    for aisle, gondola in store.gondolas():
        if aisles and aisle.aisle_id not in aisles:
            continue
        places = [p for p in store.places_of(gondola.gondola_id) if not wanted or p.bin_id in wanted]
        if not places:
            continue
        face = Face(gondola, places, robot, floor, whole)
        viewpoints = face.viewpoints(aisle)
        why |= face.why
        for route in _unbroken(viewpoints, floor):
            routes.append(route)
            if aisle.aisle_id in first:
                early.append(len(routes))
    if not routes:
        raise BadInput(f"store {store.site}: no viewpoint is free in the map; does map.yaml match store.yaml?")
    costs = floor.ways([robot.dock, *(r[-1].pose for r in routes)], [robot.dock, *(r[0].pose for r in routes)])
    tour = best_tour(costs, early)
    ordered = [v for i in tour.order for v in routes[i - 1]]
    stops, legs = (0, *tour.order, 0), []
    for a, b in pairwise(stops):
        legs.append(float(costs[a, b]))
        along = [v.pose for v in routes[b - 1]] if b else []
        legs += [math.hypot(q.x_m - p.x_m, q.y_m - p.y_m) for p, q in pairwise(along)]
    plan = MissionPlan(mission_id, store.site, tuple(ordered), tuple(why), why)
    return Planned(plan, tuple(legs), tour)


def _unbroken(viewpoints: Sequence[Viewpoint], floor: Floor) -> list[list[Viewpoint]]:
    """Parts of a face between which the robot has to go round something."""
    out: list[list[Viewpoint]] = []
    for v in viewpoints:
        if out:
            before = out[-1][-1].pose
            line = math.hypot(v.pose.x_m - before.x_m, v.pose.y_m - before.y_m)
            if line <= GAP_M or float(floor.ways([before], [v.pose])[0, 0]) <= DETOUR * line:
                out[-1].append(v)
                continue
        out.append([v])
    return out


class Face:
    """One face of shelving, and what can be seen of it from where."""

    def __init__(self, gondola: Gondola, places: Sequence[BinPlace], robot: RobotModel, floor: Floor, whole: Floor) -> None:
        self._gondola, self._places, self._robot = gondola, places, robot
        self._floor, self._whole = floor, whole
        self._T_map_face = gondola.face.matrix()
        self._fronts = np.stack([front_points(p) for p in places])
        self.why: dict[str, str] = {}

    def viewpoints(self, aisle: Aisle) -> list[Viewpoint]:
        """In driving order; afterwards ``why`` says of each bin that they do not see in full what is against it."""
        x0, x1 = min(p.x0_m for p in self._places), max(p.x1_m for p in self._places)
        dense = np.arange(x0, x1 + 1e-6, 0.1)
        everything = {p.bin_id for p in self._places}
        coverable: set[str] | None = None
        margin = min(END_M, (x1 - x0) / 2)
        best: list[tuple[float, float]] = []
        covered: set[str] = set()
        most = max(2, math.ceil((x1 - x0) / MIN_SPACING_M)) + 2
        for count in range(max(1, math.ceil((x1 - x0) / MAX_SPACING_M)), most):
            xs = np.linspace(x0 + margin, x1 - margin, count) if count > 1 else np.array([(x0 + x1) / 2])
            best = self.stations(xs, self._floor)
            covered = self._full(best, self._floor)
            if covered == everything:
                break
            if coverable is None:
                coverable = self._full(self.stations(dense, self._floor), self._floor)
            if coverable <= covered:
                break
        seen = [self.seen(x, s, self._floor) for x, s in best]
        viewpoints = []
        for n, ((x, standoff), cells) in enumerate(zip(best, seen, strict=True), start=1):
            there = [p for p, c in zip(self._places, cells, strict=True) if c.any()]
            bays, bins = tuple(sorted({p.bay_id for p in there})), tuple(p.bin_id for p in there)
            name = f"{self._gondola.gondola_id}-V{n:02d}"
            viewpoints.append(Viewpoint(name, self._gondola.gondola_id, aisle.aisle_id, self.pose(x, standoff), bays, bins))
        self.why = self._reasons(dense, [p for p in self._places if p.bin_id not in covered])
        return viewpoints

    def pose(self, x_m: float, standoff_m: float) -> Pose2D:
        """Where the robot stands when its cameras are at ``x_m`` along the face."""
        return pose2d_of(self._T_map_face @ base_on_face(self._robot, x_m, standoff_m))

    def along_m(self, pose: Pose2D) -> float:
        """Where along the face the cameras are: the inverse of `pose`."""
        T_face_base = np.linalg.inv(self._T_map_face) @ pose.matrix()
        return float(T_face_base[0, 3] - base_on_face(self._robot, 0.0, 0.0)[0, 3])

    def _reasons(self, dense: Array, missing: Sequence[BinPlace]) -> dict[str, str]:
        if not missing:
            return {}
        allowed = self._full(self.stations(dense, self._whole), self._whole) if self._whole is not self._floor else set()
        # Were the floor free and nothing in the way, what would the cameras see?
        ideal = self._full([(float(x), self._robot.standoff_m) for x in dense], None)
        stations = self.stations(dense, self._floor)
        unobstructed = self._full(stations, None)
        out = {}
        for p in missing:
            if p.bin_id in allowed:
                reason = UnseenReason.SKIPPED
            elif p.bin_id not in ideal:
                reason = UnseenReason.OUT_OF_VIEW
            elif p.bin_id in unobstructed:
                reason = UnseenReason.OCCLUDED
            else:
                reason = UnseenReason.BLOCKED
            out[p.bin_id] = str(reason)
        return out

    def stations(self, xs: Array, floor: Floor) -> list[tuple[float, float]]:
        """Free (x, standoff) near each wanted x; standoffs nearest the preferred one first."""
        robot = self._robot
        standoffs = sorted(
            {robot.standoff_m, *np.arange(robot.standoff_min_m, robot.standoff_max_m + 1e-9, 0.05).tolist()},
            key=lambda s: abs(s - robot.standoff_m),
        )
        tries = [(d, float(s)) for d in SHIFTS_M for s in standoffs]
        at = base_on_face(robot, 0.0, 0.0)[:2, 3] + np.array([[(float(x) + d, -s) for d, s in tries] for x in xs])
        T = self._T_map_face
        free = floor.free(
            T[0, 0] * at[..., 0] + T[0, 1] * at[..., 1] + T[0, 3], T[1, 0] * at[..., 0] + T[1, 1] * at[..., 1] + T[1, 3]
        )
        out: list[tuple[float, float]] = []
        for x, row in zip(xs, free, strict=True):
            if row.any():
                shift, standoff = tries[int(np.argmax(row))]
                station = (float(x) + shift, standoff)
                if station not in out:
                    out.append(station)
        return out

    def seen(self, x: float, standoff: float, floor: Floor | None) -> NDArray[np.bool_]:
        """Cells seen from one station, (bins, R, C); ``floor`` None: as if nothing stood on the map."""
        T_face_base = base_on_face(self._robot, x, standoff)
        seen = seen_cells(self._robot, T_face_base, self._places, self._fronts)
        near = np.nonzero(seen.any(axis=(1, 2)))[0]
        if floor is None or not len(near):
            return seen
        camera = np.mean([(T_face_base @ h.rgb.T_base_optical)[:2, 3] for h in self._robot.rig.heads], axis=0)
        edges = self._fronts[near, 0, :, 0]
        middles = (edges[:, :-1] + edges[:, 1:]) / 2
        clear = floor.clear(camera, middles.ravel(), self._T_map_face).reshape(len(near), 1, COVERAGE_COLUMNS)
        seen[near] &= clear
        return seen

    def _full(self, stations: Sequence[tuple[float, float]], floor: Floor | None) -> set[str]:
        """Bins whose whole front is seen from the stations together."""
        union = None
        for x, standoff in stations:
            seen = self.seen(x, standoff, floor)
            union = seen if union is None else union | seen
        if union is None:
            return set()
        return {p.bin_id for p, u in zip(self._places, union, strict=True) if u.all()}


def footprint_free(grid: OccupancyGrid, pose: Pose2D, radius_m: float) -> bool:
    """Whether a disc around the pose lies on known free cells only."""
    return bool(Floor(grid, radius_m).free(np.array(pose.x_m), np.array(pose.y_m)))
