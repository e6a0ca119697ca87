"""The order of faces: as short as brute force finds it, early ones first, and what keep-outs and walls do to a plan."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from datetime import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan import made, seen_in_full

from shelfscan.bundle import read_map
from shelfscan.errors import BadInput
from shelfscan.mission.coverage import coverage_of, lines, rolling_speed_mps
from shelfscan.mission.plan import plan_in_full
from shelfscan.mission.sight import Floor, KeepOut, without
from shelfscan.mission.tour import best_tour, long_search, tour_cost
from shelfscan.model.geometry import Pose2D, apply
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store

MAPS = Path(os.environ.get("SHELFSCAN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "maps"


def costs_of(n: int, seed: int) -> np.ndarray:
    """Ways between places, longer in one direction than in the other."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 30, (n, 2))
    return np.linalg.norm(places[:, None] - places[None], axis=-1) + rng.uniform(0, 5, (n, n))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 7), seed=st.integers(0, 10**6), early=st.integers(0, 3))
def test_the_tour_is_the_best_there_is(n: int, seed: int, early: int) -> None:
    costs = costs_of(n, seed)
    first = list(range(1, min(n, early + 1)))
    tour = best_tour(costs, first)
    assert sorted(tour.order) == list(range(1, n))
    assert set(tour.order[: len(first)]) == set(first)
    allowed = (o for o in itertools.permutations(range(1, n)) if set(o[: len(first)]) == set(first))
    best = min(tour_cost(costs, o) for o in allowed)
    assert tour.cost == pytest.approx(tour_cost(costs, tour.order)) == pytest.approx(best, rel=0.003)
    assert tour.bound <= tour.cost + 1e-6


def test_without_time_to_prove_anything_the_tour_is_still_good() -> None:
    costs = costs_of(25, 3)
    hurried, best = best_tour(costs, seconds=0.0), best_tour(costs)
    assert best.bound >= 0.99 * best.cost
    assert hurried.cost <= 1.05 * best.cost
    early = best_tour(costs, [5, 6, 7], seconds=0.0)
    assert set(early.order[:3]) == {5, 6, 7}


@pytest.mark.parametrize("seed", range(3))
def test_tours_of_stores_are_as_short_as_a_long_search_finds(seed: int) -> None:
    store, robot, grid, _ = made("medium", seed)
    floor = Floor(grid, robot.footprint_radius_m)
    ends = [g.face.matrix() for _, g in store.gondolas()]
    poses = [
        (Pose2D(*apply(T, np.array([0.2, -0.95, 0]))[:2], 0), Pose2D(*apply(T, np.array([11.8, -0.95, 0]))[:2], 0))
        for T in ends
    ]
    costs = floor.ways([robot.dock, *(b for _, b in poses)], [robot.dock, *(a for a, _ in poses)])
    assert best_tour(costs).cost <= 1.05 * long_search(costs, seed)


def test_nothing_is_planned_in_a_keep_out_and_its_bins_are_said_to_be_left_out() -> None:
    store, robot, grid, _ = made("small", 1)
    zone = KeepOut("pallets", ((2.0, -1.0), (4.0, -1.0), (4.0, 1.0), (2.0, 1.0)))
    planned = plan_in_full(store, robot, grid, mission_id="m", keep_outs=[zone])
    plan = planned.plan
    assert plan.viewpoints and not any(1.75 < v.pose.x_m < 4.25 for v in plan.viewpoints)
    assert plan.why and set(plan.why.values()) == {"skipped"}
    assert seen_in_full(plan, store, robot) >= set(store.places) - set(plan.why)
    coverage = coverage_of(planned, store, robot, hours=0.01)
    assert coverage.covered == len(store.places) - len(plan.why)
    assert coverage.late_aisles == ("A01",) and not coverage.hidden_faces
    assert any("skipped" in line for line in lines(coverage))
    with pytest.raises(BadInput, match="keep-out 'line'"):
        without(grid, [KeepOut("line", ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0)))])
    with pytest.raises(BadInput, match="no aisle or bin 'A77'"):
        plan_in_full(store, robot, grid, mission_id="m", first=["A77"])


@pytest.mark.parametrize(
    ("begins", "hours", "holds"),
    [(time(20), 1, False), (time(20), 2, True), (time(22), 1, True), (time(2), 1, False), (time(23, 50), 1, True)],
)
def test_a_keep_out_holds_at_its_hours(begins: time, hours: float, holds: bool) -> None:
    zone = KeepOut("bakery", ((0, 0), (1, 0), (1, 1)), (time(21, 30), time(0, 30)))
    assert zone.holds(begins, hours) is holds
    assert replace(zone, between=None).holds(begins, hours)


def test_first_aisles_come_first_and_legs_add_up() -> None:
    store, robot, grid, _ = made("medium", 1)
    planned = plan_in_full(store, robot, grid, mission_id="m", first=["A03"])
    seen = list(dict.fromkeys(v.aisle_id for v in planned.plan.viewpoints))
    assert seen[0] == "A03" and set(seen) == {"A01", "A02", "A03", "A04"}
    assert len(planned.legs_m) == len(planned.plan.viewpoints) + 1
    plain = plan_in_full(store, robot, grid, mission_id="m")
    assert sum(plain.legs_m) <= sum(planned.legs_m) + 1e-6


def test_a_wall_between_hides_and_a_face_turned_round_is_named() -> None:
    store, robot, grid, _ = made("small", 1)
    face = store.aisles[0].gondolas[0]
    cells = grid.cells.copy()
    for x in np.arange(2.0, 2.1, 0.02):  # a thin board that stands out into the aisle, where the robot still passes it
        for y in np.arange(-0.45, -0.2, 0.02):
            px, py, _ = apply(face.face.matrix(), np.array([x, y, 0.0]))
            cells[grid.index_of(float(px), float(py))] = 100
    plan = plan_in_full(store, robot, replace(grid, cells=cells), mission_id="m").plan
    assert set(plan.why.values()) <= {"occluded", "blocked"}
    into_the_wall = replace(face, face=replace(face.face, yaw_rad=face.face.yaw_rad + np.pi))
    turned = replace(store, aisles=(replace(store.aisles[0], gondolas=(into_the_wall, *store.aisles[0].gondolas[1:])),))
    coverage = coverage_of(plan_in_full(turned, robot, grid, mission_id="m"), turned, robot)
    assert coverage.hidden_faces == (face.gondola_id,)
    assert any("turned round" in line for line in lines(coverage))


def test_the_speed_past_the_shelves_is_what_blur_and_overlap_allow() -> None:
    _, robot, _, _ = made("small", 1)
    slow, quick = rolling_speed_mps(robot, 0.01, 1.0, 30.0), rolling_speed_mps(robot, 0.0005, 1.0, 30.0)
    focal = max(h.rgb.intrinsics.fx_px for h in robot.rig.heads)
    assert slow == pytest.approx(robot.standoff_min_m / (focal * 0.01))
    assert quick == robot.max_speed_mps
    assert rolling_speed_mps(robot, 0.0005, 1.0, 0.5) == pytest.approx(0.25)


def drawn(grid: OccupancyGrid, x: float, y: float, yaw: float, length: float) -> Store:
    """A store of one gondola face somewhere on a real map."""
    bins = tuple(Bin(f"b{k}", 0.2 * k, 0.2) for k in range(5))
    bays = tuple(
        Bay(
            f"B{n}",
            n * 1.0,
            1.0,
            (Shelf(f"B{n}-S1", 0.5, 0.35, 0.4, tuple(replace(b, bin_id=f"B{n}-{b.bin_id}") for b in bins)),),
        )
        for n in range(int(length))
    )
    gondola = Gondola("G1", Pose2D(x, y, yaw), 0.5, 1.8, bays)
    return Store("real", (Aisle("A1", (gondola,)),))


@pytest.mark.skipif(not MAPS.is_dir(), reason="needs the shared maps")
def test_it_plans_on_the_maps_of_real_robots() -> None:
    _, robot, _, _ = made("small", 1)
    planned = 0
    for path in sorted(MAPS.glob("*/*.yaml")) + sorted(MAPS.glob("*/*/*.yaml")):
        if "keepout" in path.name:
            continue
        try:
            grid = read_map(path)
        except BadInput:
            continue
        floor = Floor(grid, robot.footprint_radius_m + 0.3)
        rows, cols = grid.cells.shape
        x = grid.origin_m[0] + np.arange(0, cols * grid.resolution_m, 0.25)
        y = grid.origin_m[1] + np.arange(0, rows * grid.resolution_m, 0.25)
        gx, gy = np.meshgrid(x, y)
        # Somewhere in the open: the face is drawn to the left of three metres of free floor.
        free = np.stack([floor.free(gx + d, gy) for d in np.arange(0, 3.1, 0.5)]).all(0)
        if not free.any():
            continue
        r, c = np.argwhere(free)[len(np.argwhere(free)) // 2]
        dock = replace(robot, dock=Pose2D(float(gx[r, c]), float(gy[r, c]), 0.0))
        store = drawn(grid, float(gx[r, c]), float(gy[r, c]) + 0.95, 0.0, 3)
        made_ = plan_in_full(store, dock, grid, mission_id="m")
        assert made_.plan.viewpoints
        assert coverage_of(made_, store, dock).covered > 0, path
        planned += 1
    assert planned >= 2
