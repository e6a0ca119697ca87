"""Bays to viewpoints to a tour.

Per gondola face the fewest evenly spaced viewpoints are taken that see every coverable bin front in full; the
faces are then ordered as an asymmetric travelling-salesman problem (a face is driven in one direction only,
because the heads look to one side).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import networkx as nx
import numpy as np

from shelfscan.errors import BadInput
from shelfscan.model.geometry import Pose2D, pose2d_of
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.mission import MissionPlan, Viewpoint
from shelfscan.model.robot import RobotModel
from shelfscan.model.store import Aisle, BinPlace, Gondola, Store
from shelfscan.model.viewing import base_on_face, seen_cells

#: Neighbouring views overlap so much that an item cut by one picture's border is whole in the next, and that a narrow
#: column is looked into squarely enough to see its back third between full neighbours.
MAX_SPACING_M = 0.5
MIN_SPACING_M = 0.3
#: The first and the last view are this far from the ends: a pose error of some centimetres must not cost the last bin.
END_M = 0.2
#: Where the preferred place is not free, these shifts along the face are tried, nearest first.
SHIFTS_M = (0.0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3)


def plan_mission(
    store: Store,
    robot: RobotModel,
    grid: OccupancyGrid,
    *,
    mission_id: str,
    aisles: Collection[str] = (),
    bins: Collection[str] = (),
) -> MissionPlan:
    """Plan a mission past every bay (or only the named aisles, or the faces' stretches that hold the named bins).

    Raises `BadInput` when an aisle or bin is unknown or no viewpoint at all is free in the map.
    """
    unknown = sorted(set(aisles) - {a.aisle_id for a in store.aisles}) + sorted(set(bins) - set(store.places))
    if unknown:
        raise BadInput([f"store {store.site}: no aisle or bin {u!r}" for u in unknown])
    wanted = set(bins)
    routes: list[list[Viewpoint]] = []
    unseen: list[str] = []
    for aisle, gondola in store.gondolas():
        if aisles and aisle.aisle_id not in aisles:
            continue
        places = [p for p in store.places_of(gondola.gondola_id) if not wanted or p.bin_id in wanted]
        if not places:
            continue
        viewpoints, missing = _face(aisle, gondola, places, robot, grid)
        unseen += missing
        if viewpoints:
            routes.append(viewpoints)
    if not routes:
        raise BadInput(f"store {store.site}: no viewpoint is free in the map; does map.yaml match store.yaml?")
    ordered = [v for i in _order(routes, robot.dock) for v in routes[i]]
    return MissionPlan(mission_id, store.site, tuple(ordered), tuple(unseen))


def _face(
    aisle: Aisle, gondola: Gondola, places: Sequence[BinPlace], robot: RobotModel, grid: OccupancyGrid
) -> tuple[list[Viewpoint], list[str]]:
    """Viewpoints of one face in driving order, and the bins they cannot see in full."""
    x0, x1 = min(p.x0_m for p in places), max(p.x1_m for p in places)
    dense = list(np.arange(x0, x1 + 1e-6, 0.1))
    coverable = _full(_stations(dense, gondola, robot, grid), places, robot)
    margin = min(END_M, (x1 - x0) / 2)
    best: list[tuple[float, float]] = []
    for count in range(max(1, math.ceil((x1 - x0) / MAX_SPACING_M)), max(2, math.ceil((x1 - x0) / MIN_SPACING_M)) + 2):
        xs = np.linspace(x0 + margin, x1 - margin, count) if count > 1 else np.array([(x0 + x1) / 2])
        best = _stations(xs, gondola, robot, grid)
        if coverable <= _full(best, places, robot):
            break
    covered = _full(best, places, robot)
    viewpoints = []
    for n, (x, standoff) in enumerate(best, start=1):
        T_map_base = gondola.face.matrix() @ base_on_face(robot, x, standoff)
        seen = seen_cells(robot, base_on_face(robot, x, standoff), places)
        there = [p for p, s in zip(places, seen, strict=True) if s.any()]
        bays, bins = tuple(sorted({p.bay_id for p in there})), tuple(p.bin_id for p in there)
        name = f"{gondola.gondola_id}-V{n:02d}"
        viewpoints.append(Viewpoint(name, gondola.gondola_id, aisle.aisle_id, pose2d_of(T_map_base), bays, bins))
    return viewpoints, [p.bin_id for p in places if p.bin_id not in covered]


def _stations(
    xs: Sequence[float] | np.ndarray, gondola: Gondola, robot: RobotModel, grid: OccupancyGrid
) -> list[tuple[float, float]]:
    """Free (x, standoff) near each wanted x; standoffs nearest the preferred one first."""
    standoffs = sorted(
        {robot.standoff_m, *np.arange(robot.standoff_min_m, robot.standoff_max_m + 1e-9, 0.05).tolist()},
        key=lambda s: abs(s - robot.standoff_m),
    )
    out: list[tuple[float, float]] = []
    for x in xs:
        for shift, standoff in ((d, s) for d in SHIFTS_M for s in standoffs):
            T_map_base = gondola.face.matrix() @ base_on_face(robot, float(x) + shift, standoff)
            station = (float(x) + shift, float(standoff))
            if footprint_free(grid, pose2d_of(T_map_base), robot.footprint_radius_m):
                if station not in out:
                    out.append(station)
                break
    return out


def _full(stations: Sequence[tuple[float, float]], places: Sequence[BinPlace], robot: RobotModel) -> set[str]:
    """Bins whose whole front is seen from the stations together."""
    if not stations:
        return set()
    union = None
    for x, standoff in stations:
        seen = seen_cells(robot, base_on_face(robot, x, standoff), places)
        union = seen if union is None else union | seen
    assert union is not None
    return {p.bin_id for p, u in zip(places, union, strict=True) if u.all()}


def footprint_free(grid: OccupancyGrid, pose: Pose2D, radius_m: float) -> bool:
    """Whether a disc around the pose lies on known free cells only."""
    rings = [(0.0, 1), (radius_m / 2, 8), (radius_m, 16)]
    return all(
        grid.is_free(pose.x_m + r * math.cos(2 * math.pi * k / n), pose.y_m + r * math.sin(2 * math.pi * k / n))
        for r, n in rings
        for k in range(n)
    )


def _order(routes: Sequence[Sequence[Viewpoint]], dock: Pose2D) -> list[int]:
    """Order of the faces that keeps the driving between them short, from the dock and back."""
    if len(routes) == 1:
        return [0]
    entries = [dock, *(r[0].pose for r in routes)]
    exits = [dock, *(r[-1].pose for r in routes)]
    graph = nx.DiGraph()
    for i, a in enumerate(exits):
        for j, b in enumerate(entries):
            if i != j:
                graph.add_edge(i, j, weight=abs(a.x_m - b.x_m) + abs(a.y_m - b.y_m))
    cycle = nx.approximation.greedy_tsp(graph, source=0)
    if len(routes) > 2:
        cycle = nx.approximation.simulated_annealing_tsp(graph, cycle, source=0, seed=0)
    return [n - 1 for n in cycle[1:-1]]
