"""The simulated robot's physics holds however it is sent about, and leaves no file behind."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from shelfscan.bootstrap import make_simulator
from shelfscan.bundle import load_bundle
from shelfscan.config import Config
from shelfscan.mission.plan import plan_mission
from shelfscan.paths import shared_file
from shelfscan.sim.engine import warnings_to_log
from shelfscan.sim.faults import Fault, Faults
from shelfscan.sim.simulator import DriveState


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_robot_sent_about_and_stopped_abruptly_never_jumps(seed: int) -> None:
    bundle = load_bundle(shared_file("maps", "demo"))
    simulator = make_simulator(bundle, Config(), start_ns=0)
    plan = plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id="m")
    rng = np.random.default_rng(seed)
    before = simulator.true_pose
    arrived = 0
    for viewpoint in list(plan.viewpoints) * 4:
        simulator.set_goal(viewpoint.pose)
        while simulator.drive_state is DriveState.DRIVING:
            simulator.step(0.02)
            here = simulator.true_pose
            assert math.hypot(here.x_m - before.x_m, here.y_m - before.y_m) < 0.03
            before = here
            if rng.random() < 0.01:
                simulator.cancel()
        if simulator.drive_state is DriveState.ARRIVED:
            arrived += 1
            assert math.hypot(before.x_m - viewpoint.pose.x_m, before.y_m - viewpoint.pose.y_m) < 0.05
    simulator.close()
    assert arrived > 0


def test_warnings_go_to_the_log_and_not_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>")
    warnings_to_log()
    data = mujoco.MjData(model)
    data.qvel[0] = math.nan
    with caplog.at_level(logging.WARNING):
        mujoco.mj_step(model, data)
    assert "unstable" in caplog.text
    assert not list(tmp_path.iterdir())


def test_faults_go_by_the_time_since_the_first_drive() -> None:
    bundle = load_bundle(shared_file("maps", "demo"))
    faults = Faults((Fault(kind="camera_silent", head="low", at_s=1.0, for_s=1.0),))
    simulator = make_simulator(bundle, Config(), start_ns=0, faults=faults)
    simulator.step(1.5)
    assert simulator.silent_heads == ()
    simulator.set_goal(bundle.robot.dock)
    simulator.step(0.5)
    assert simulator.silent_heads == ()
    simulator.step(1.0)
    assert simulator.silent_heads == ("low",)
    simulator.step(1.0)
    assert simulator.silent_heads == ()
    simulator.close()
