"""The launch files start exactly the node table, with the parameters the nodes have."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import ros_launch

from shelfscan.ros.nodes import NAMESPACE, NODES, select

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
PATHS = {"store": "/data/store", "run_dir": "/data/2026", "config": "/data/night.yaml"}


Run = Callable[..., ros_launch.Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Launches a file of ``launch/`` with these arguments."""
    ros_launch.install(monkeypatch)

    def go(name: str, **arguments: str) -> ros_launch.Outcome:
        module = runpy.run_path(str(LAUNCH / name))
        return ros_launch.execute(module["generate_launch_description"](), arguments)

    yield go
    # It was made with the fakes: the next import is to find the real ones, or fail.
    sys.modules.pop("shelfscan.ros.launching", None)


def test_every_launch_file_is_tested() -> None:
    assert sorted(p.name for p in LAUNCH.iterdir() if p.suffix == ".py") == ["robot.launch.py", "simulator.launch.py"]


@pytest.mark.parametrize(("file", "simulator"), [("robot.launch.py", False), ("simulator.launch.py", True)])
def test_it_starts_the_node_table(run: Run, file: str, simulator: bool) -> None:
    outcome = run(file, **PATHS)
    specs = select(simulator=simulator)
    assert [s.executable for s in outcome.started] == [s.name for s in specs]
    for started, spec in zip(outcome.started, specs, strict=True):
        assert started.package == "shelfscan"
        assert started.namespace == NAMESPACE
        assert {k: started.parameters[k] for k in spec.parameters} == {k: PATHS[k] for k in spec.parameters}
        assert set(started.parameters) == set(spec.parameters + spec.optional_parameters)
        assert started.respawn


def test_robot_topics_can_be_renamed(run: Run) -> None:
    outcome = run("robot.launch.py", **PATHS, odom="/wheel/odom")
    assert all(s.remappings["/odom"] == "/wheel/odom" and s.remappings["/scan"] == "/scan" for s in outcome.started)


@pytest.mark.parametrize(("argument", "gone"), [("record", "recorder"), ("wms", "wms_bridge")])
def test_a_node_can_be_left_out(run: Run, argument: str, gone: str) -> None:
    outcome = run("simulator.launch.py", **PATHS, **{argument: "false"})
    assert [s.executable for s in outcome.started] == [n.name for n in NODES if n.name != gone]


@pytest.mark.parametrize("missing", ["store", "run_dir"])
def test_a_required_argument_is_asked_for(run: Run, missing: str) -> None:
    with pytest.raises(LookupError, match=missing):
        run("robot.launch.py", **{k: v for k, v in PATHS.items() if k != missing})


def test_a_misspelt_argument_is_refused(run: Run) -> None:
    with pytest.raises(LookupError, match="stroe"):
        run("robot.launch.py", **PATHS, stroe="/x")


def test_the_transport_profile_is_set_and_there(run: Run) -> None:
    assert Path(run("robot.launch.py", **PATHS).environment["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()


@pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="launch_ros is only where ROS 2 is installed")
@pytest.mark.parametrize("file", ["robot.launch.py", "simulator.launch.py"])
def test_the_real_launch_accepts_it(file: str) -> None:
    description = runpy.run_path(str(LAUNCH / file))["generate_launch_description"]()
    assert {"store", "run_dir", "config"} <= {a.name for a in description.get_launch_arguments()}
