"""Rendered captures with people in them: no face and no body stays readable, and what they hide is unseen, never empty."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from fakes.people_store import PEOPLE, Witness, people_store

from shelfscan.bootstrap import make_privacy, make_simulator
from shelfscan.bundle import load_bundle
from shelfscan.cli.direct import run_direct
from shelfscan.config import Config, load_config
from shelfscan.mission.plan import plan_mission
from shelfscan.sim.simulator import SimNavigator

#: Of a body's pixels so many may stay: a line of its outline, too thin to tell anything of anybody. Of a head: none.
OUTLINE = 0.002


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people_store(tmp_path_factory.mktemp("people"))


@pytest.mark.timeout(120)
def test_nobody_stays_readable_in_any_picture_of_a_tour(store: Path) -> None:
    bundle, config = load_bundle(store), Config()
    privacy = make_privacy(bundle.store, config)
    assert privacy is not None
    simulator, witness = make_simulator(bundle, config, start_ns=0), Witness(store)
    shown: Counter[str] = Counter()
    try:
        plan = plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id="m")
        for viewpoint in plan.viewpoints:
            assert SimNavigator(simulator).go_to(viewpoint.pose, 120.0).ok
            capture = privacy.apply(simulator.capture("m", viewpoint.viewpoint_id))
            for frame in capture.frames:
                for (camera, role), (pixels, left) in witness.readable(simulator.true_pose.matrix(), frame).items():
                    where = f"{viewpoint.viewpoint_id} {frame.head.name}/{camera}: {left} of {pixels} pixels of a {role}"
                    assert left <= (OUTLINE * pixels if role == "body" else 0), where
                    shown[role] += pixels > 1000
    finally:
        witness.close()
        simulator.close()
    assert shown["head"] >= 3 and shown["body"] >= 12, "the test must have seen people"


@pytest.mark.timeout(120)
def test_what_somebody_hides_is_unseen_and_never_empty(tmp_path: Path) -> None:
    store = people_store(tmp_path, PEOPLE[:1])
    outcome = run_direct(load_bundle(store), load_config(None, {"tags.reader": "none"}), tmp_path / "run", mission_id="m")
    assert outcome.ok
    truth = [row.split(",") for row in (store / "truth" / "bins.csv").read_text().splitlines()[1:]]
    empty = {row[0] for row in truth if row[2] == "OUT_OF_STOCK"}
    bins = json.loads((tmp_path / "run" / "stock_map.json").read_text())["bins"]
    assert {b["bin_id"] for b in bins if b["status"] == "OUT_OF_STOCK"} <= empty
    hidden = [b for b in bins if b["status"] == "UNSEEN"]
    assert hidden and {b["reason"] for b in hidden} == {"occluded"}
    assert len(hidden) < len(bins), "somebody hides what is behind them, not the whole shelf"
    assert outcome.report["timings"]["privacy_s"]["n"] > 0
