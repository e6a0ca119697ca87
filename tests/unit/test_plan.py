"""Bays to viewpoints: what can be seen at all is planned to be seen in full, from places where the robot may stand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from shelfscan.errors import BadInput
from shelfscan.mission.plan import footprint_free, plan_mission
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.mission import MissionPlan
from shelfscan.model.robot import RobotModel
from shelfscan.model.store import Store
from shelfscan.model.viewing import seen_cells
from shelfscan.paths import default_robot_file
from shelfscan.robotfile import read_robot
from shelfscan.sim.layout import SIZES, make_layout
from shelfscan.sim.merchandise import merchandise
from shelfscan.sim.packaging import make_packs
from shelfscan.sim.reachability import reachable_bins
from shelfscan.sim.scene import Scene, Sensing


@cache
def made(size: str, seed: int) -> tuple[Store, RobotModel, OccupancyGrid, Scene]:
    """A simulated store as far as planning needs it: nothing is rendered."""
    layout = make_layout(size, seed)
    store, _ = merchandise(layout.store, make_packs(seed, SIZES[size].sku_limit, "store"), seed)
    robot = replace(read_robot(default_robot_file()), dock=layout.dock)
    return store, robot, layout.grid, Scene(seed, size, 0, {}, (), (), layout.boxes, layout.lights, Sensing())


def seen_in_full(plan: MissionPlan, store: Store, robot: RobotModel) -> set[str]:
    """Bins whose whole front is seen from the plan's poses, worked out from the poses in ``map``."""
    full: set[str] = set()
    for _, gondola in store.gondolas():
        places = store.places_of(gondola.gondola_id)
        T_face_map = inverse(gondola.face.matrix())
        union = np.zeros(seen_cells(robot, T_face_map, places).shape, bool)
        for v in plan.viewpoints:
            if v.gondola_id == gondola.gondola_id:
                union |= seen_cells(robot, T_face_map @ v.pose.matrix(), places)
        full |= {p.bin_id for p, cells in zip(places, union, strict=True) if cells.all()}
    return full


@pytest.mark.parametrize(("size", "seed"), [("tiny", 1), ("small", 1), ("small", 2)])
def test_every_reachable_bin_is_planned_to_be_seen_in_full(size: str, seed: int) -> None:
    store, robot, grid, scene = made(size, seed)
    plan = plan_mission(store, robot, grid, mission_id="m")
    reachable = {b for b, ok in reachable_bins(scene, store.places.values(), robot, grid).items() if ok}
    assert len(reachable) > 20
    assert not reachable & set(plan.unreachable_bins)
    assert seen_in_full(plan, store, robot) == set(store.places) - set(plan.unreachable_bins)
    assert plan == plan_mission(store, robot, grid, mission_id="m")


def test_viewpoints_are_places_to_stand_at_a_fair_distance() -> None:
    store, robot, grid, _ = made("small", 1)
    plan = plan_mission(store, robot, grid, mission_id="m")
    faces = {g.gondola_id: g for _, g in store.gondolas()}
    assert len({v.viewpoint_id for v in plan.viewpoints}) == len(plan.viewpoints)
    for v in plan.viewpoints:
        assert footprint_free(grid, v.pose, robot.footprint_radius_m)
        T_face_base = inverse(faces[v.gondola_id].face.matrix()) @ v.pose.matrix()
        for head in robot.rig.heads:
            standoff = -float(apply(T_face_base, head.rgb.T_base_optical[:3, 3])[1])
            assert robot.standoff_min_m - 0.02 <= standoff <= robot.standoff_max_m + 0.02
        assert set(v.bay_ids) <= {b.bay_id for b in faces[v.gondola_id].bays} and v.bay_ids


def test_a_blocked_stretch_costs_its_own_bins_only() -> None:
    store, robot, grid, _ = made("small", 1)
    cells = grid.cells.copy()
    face = store.aisles[0].gondolas[0]
    for x in np.arange(2.0, 4.0, 0.02):
        for y in np.arange(-0.85, 0.0, 0.02):  # pallets along one side; the other can still be seen
            px, py, _ = apply(face.face.matrix(), np.array([x, y, 0.0]))
            cells[grid.index_of(float(px), float(py))] = 100
    plan = plan_mission(store, robot, replace(grid, cells=cells), mission_id="m")
    lost = [store.places[b] for b in plan.unreachable_bins]
    assert lost and {p.gondola_id for p in lost} == {face.gondola_id}
    assert all(1.0 < (p.x0_m + p.x1_m) / 2 < 5.0 for p in lost)
    assert seen_in_full(plan, store, robot) >= set(store.places) - set(plan.unreachable_bins)
    # The pallets stand on some places and before others' shelves.
    assert set(plan.why) == set(plan.unreachable_bins) and set(plan.why.values()) == {"blocked", "occluded"}


def test_only_what_was_asked_for() -> None:
    store, robot, grid, _ = made("small", 1)
    wanted = next(iter(store.places))
    plan = plan_mission(store, robot, grid, mission_id="m", bins=[wanted])
    assert wanted in seen_in_full(plan, store, robot)
    assert len(plan.viewpoints) <= 2
    with pytest.raises(BadInput, match="no aisle or bin 'A99'"):
        plan_mission(store, robot, grid, mission_id="m", aisles=["A99"])
    with pytest.raises(BadInput, match="no viewpoint is free"):
        plan_mission(store, robot, replace(grid, cells=np.full_like(grid.cells, 100)), mission_id="m")
