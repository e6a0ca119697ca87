"""Second looks: what somebody stood before is looked at from elsewhere, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from shelfscan.mission.plan import Face, plan_mission
from shelfscan.mission.second import MOST_SHARE, second_looks
from shelfscan.mission.sight import Floor
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.mission import MissionPlan, Viewpoint
from shelfscan.model.robot import RobotModel
from shelfscan.model.scan import BayScan, BinCoverage
from shelfscan.model.store import Store
from shelfscan.paths import default_robot_file
from shelfscan.perception.coverage import to_bits
from shelfscan.robotfile import read_robot
from shelfscan.sim.layout import SIZES, make_layout
from shelfscan.sim.merchandise import merchandise
from shelfscan.sim.packaging import make_packs


@dataclass(frozen=True)
class World:
    store: Store
    robot: RobotModel
    grid: OccupancyGrid


@pytest.fixture(scope="module")
def world() -> World:
    made = make_layout("small", 3)
    store, _ = merchandise(made.store, make_packs(3, SIZES["small"].sku_limit, "store"), 3)
    return World(store, replace(read_robot(default_robot_file()), dock=made.dock), made.grid)


@pytest.fixture(scope="module")
def plan(world: World) -> MissionPlan:
    return plan_mission(world.store, world.robot, world.grid, mission_id="m")


def faces(world: World) -> dict[str, Face]:
    floor = Floor(world.grid, world.robot.footprint_radius_m)
    return {
        g.gondola_id: Face(g, world.store.places_of(g.gondola_id), world.robot, floor, floor) for _, g in world.store.gondolas()
    }


def scan_of(world: World, face: Face, viewpoint: Viewpoint, hidden: frozenset[str] = frozenset()) -> BayScan:
    """What a viewpoint shows, but for bins that somebody stands before."""
    floor = Floor(world.grid, world.robot.footprint_radius_m)
    places = world.store.places_of(viewpoint.gondola_id)
    cells = face.seen(face.along_m(viewpoint.pose), world.robot.standoff_m, floor)
    coverage = tuple(
        BinCoverage(p.bin_id, 0 if p.bin_id in hidden else to_bits(c), to_bits(c) if p.bin_id in hidden else 0)
        for p, c in zip(places, cells, strict=True)
        if c.any()
    )
    vid = viewpoint.viewpoint_id
    return BayScan("m", vid, vid, 1, viewpoint.bay_ids, (), (), coverage)


def scans(world: World, plan: MissionPlan, hidden: frozenset[str] = frozenset()) -> list[BayScan]:
    of = faces(world)
    return [scan_of(world, of[v.gondola_id], v, hidden) for v in plan.viewpoints]


def test_a_tour_that_saw_everything_is_over(world: World, plan: MissionPlan) -> None:
    assert second_looks(plan, scans(world, plan), world.store, world.robot, world.grid) == ()
    # Nothing was scanned: that is what the tour's own tries are for.
    assert second_looks(plan, [], world.store, world.robot, world.grid) == ()


def test_hidden_bins_are_looked_at_from_elsewhere_and_seen_in_full(world: World, plan: MissionPlan) -> None:
    face_id = plan.viewpoints[4].gondola_id
    middle = sorted(world.store.places_of(face_id), key=lambda p: p.x0_m)[len(world.store.places_of(face_id)) // 2]
    hidden = frozenset(
        p.bin_id for p in world.store.places_of(face_id) if abs(p.x0_m - middle.x0_m) < 0.3 and p.bin_id not in plan.why
    )
    before = scans(world, plan, hidden)
    found = second_looks(plan, before, world.store, world.robot, world.grid)
    assert 1 <= len(found) <= max(2, round(MOST_SHARE * len(plan.viewpoints)))
    assert {v.gondola_id for v in found} == {face_id}
    of = faces(world)[face_id]
    xs = [of.along_m(v.pose) for v in plan.viewpoints if v.gondola_id == face_id]
    for v in found:
        x = of.along_m(v.pose)
        assert min(abs(x - a) for a in xs) >= 0.12
        # Its name lies beside its neighbour's, so that captures stay in order along the face.
        assert v.viewpoint_id[:-2] in {w.viewpoint_id for w in plan.viewpoints}
    after = {c.bin_id: 0 for s in before for c in s.coverage}
    for s in (*before, *(scan_of(world, of, v) for v in found)):
        for c in s.coverage:
            after[c.bin_id] |= c.seen
    assert all(after[b] == (1 << 128) - 1 for b in hidden)
    # Where the names of the plan's viewpoints and the second ones are all different, a map has both.
    assert len({v.viewpoint_id for v in (*plan.viewpoints, *found)}) == len(plan.viewpoints) + len(found)


def test_a_second_round_looks_from_new_places_under_new_names(world: World, plan: MissionPlan) -> None:
    hidden = frozenset(plan.viewpoints[4].bin_ids) - set(plan.why)
    before = scans(world, plan, hidden)
    first = second_looks(plan, before, world.store, world.robot, world.grid)
    of = faces(world)[first[0].gondola_id]
    extended = replace(plan, viewpoints=(*plan.viewpoints, *first))
    still = [*before, *(scan_of(world, of, v, hidden) for v in first)]
    again = second_looks(extended, still, world.store, world.robot, world.grid)
    assert again and not {v.viewpoint_id for v in again} & {v.viewpoint_id for v in extended.viewpoints}
    xs = [of.along_m(v.pose) for v in extended.viewpoints if v.gondola_id == again[0].gondola_id]
    assert all(min(abs(of.along_m(v.pose) - x) for x in xs) >= 0.12 for v in again)


def test_what_the_map_knows_of_where_captures_stood_counts_more_than_what_they_believed(
    world: World, plan: MissionPlan
) -> None:
    everything = scans(world, plan)
    full = {p.bin_id: (1 << 128) - 1 for p in world.store.places.values()}
    where = (plan, everything, world.store, world.robot, world.grid)
    assert second_looks(*where, seen=full) == ()
    # One cell is a pixel's rounding, a column of cells is none.
    middle = plan.viewpoints[4].bin_ids[0]
    assert second_looks(*where, seen={**full, middle: full[middle] >> 1}) == ()
    lost = second_looks(*where, seen={**full, middle: to_bits(np.arange(16)[None, :].repeat(8, 0) > 0)})
    assert lost and any(middle in v.bin_ids for v in lost)


def test_what_no_viewpoint_sees_in_full_is_no_reason(world: World, plan: MissionPlan) -> None:
    some = frozenset(plan.viewpoints[2].bin_ids)
    out = replace(plan, unreachable_bins=tuple(some), why=dict.fromkeys(some, "blocked"))
    assert second_looks(out, scans(world, plan, some), world.store, world.robot, world.grid) == ()


def test_a_store_full_of_people_is_not_driven_through_for_ever(world: World, plan: MissionPlan) -> None:
    everything = frozenset(p.bin_id for p in world.store.places.values())
    found = second_looks(plan, scans(world, plan, everything), world.store, world.robot, world.grid)
    assert len(found) == max(2, round(MOST_SHARE * len(plan.viewpoints)))


def test_where_the_cameras_are_is_the_inverse_of_where_the_robot_stands(world: World) -> None:
    for face in faces(world).values():
        for x in np.linspace(0.3, 4.0, 7):
            assert face.along_m(face.pose(float(x), 0.9)) == pytest.approx(x, abs=1e-6)
