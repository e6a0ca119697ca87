"""How long planning a store takes: ``python -m benchmarks.planning [--size large] [--seed 1]``. Nothing is rendered."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from itertools import groupby

from shelfscan.mission.coverage import coverage_of
from shelfscan.mission.plan import plan_in_full
from shelfscan.mission.sight import Floor
from shelfscan.mission.tour import best_tour
from shelfscan.paths import default_robot_file
from shelfscan.robotfile import read_robot
from shelfscan.sim.layout import SIZES, make_layout
from shelfscan.sim.merchandise import merchandise
from shelfscan.sim.packaging import make_packs


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="large")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prove", type=float, default=0.0, help="seconds to look for a shorter order of faces, or for a proof")
    args = parser.parse_args()
    layout = make_layout(args.size, args.seed)
    store, _ = merchandise(layout.store, make_packs(args.seed, SIZES[args.size].sku_limit, "store"), args.seed)
    robot = replace(read_robot(default_robot_file()), dock=layout.dock)
    began = time.perf_counter()
    planned = plan_in_full(store, robot, layout.grid, mission_id="m")
    seconds = time.perf_counter() - began
    c = coverage_of(planned, store, robot)
    proof = {}
    if args.prove:
        routes = [list(r) for _, r in groupby(planned.plan.viewpoints, key=lambda v: v.gondola_id)]
        floor = Floor(layout.grid, robot.footprint_radius_m)
        ends = [robot.dock, *(r[-1].pose for r in routes)], [robot.dock, *(r[0].pose for r in routes)]
        tour = best_tour(floor.ways(*ends), seconds=args.prove)
        proof = {"longer_search_m": round(tour.cost, 1), "none_is_shorter_than_m": round(tour.bound, 1)}
    print(
        json.dumps(
            {
                **proof,
                "seconds": round(seconds, 1),
                "bins": c.bins,
                "covered": c.covered,
                "faces": len(c.faces),
                "viewpoints": c.viewpoints,
                "between_faces_m": c.between_faces_m,
                "tour_gap_at_most": c.tour_gap,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
