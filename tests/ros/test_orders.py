"""What a person orders of a running mission over ROS services, and what comes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live_runs import environment, scan

from shelfscan.ros.env import environment as ros_environment

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

DOMAIN = 70
#: A person's terminal as a program of its own: a service's name a line in, its answer and the newest mission state out.
TERMINAL = """
import json, sys, threading, time
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from shelfscan_msgs.msg import Finding, MissionState
from std_srvs.srv import Trigger
rclpy.init()
node = rclpy.create_node("terminal")
latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
many = QoSProfile(depth=500, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
phase, findings = [""], []
node.create_subscription(MissionState, "/shelfscan/mission", lambda m: phase.__setitem__(0, m.phase), latched)
node.create_subscription(Finding, "/shelfscan/findings", lambda m: findings.append(m.finding_id), many)
clients = {n: node.create_client(Trigger, "/shelfscan/" + n) for n in ("pause", "resume", "cancel")}
def spin():
    try:
        rclpy.spin(node)
    except ExternalShutdownException:
        pass
spinning = threading.Thread(target=spin, daemon=True)
spinning.start()
for line in sys.stdin:
    name, said = line.strip(), {}
    if name in clients:
        assert clients[name].wait_for_service(timeout_sec=60), name
        future = clients[name].call_async(Trigger.Request())
        end = time.monotonic() + 15
        while not future.done() and time.monotonic() < end:
            time.sleep(0.01)
        said = {"ok": future.result().success, "message": future.result().message}
    print(json.dumps({**said, "phase": phase[0], "findings": findings}), flush=True)
rclpy.shutdown()
spinning.join(10)
node.destroy_node()
"""


class Terminal:
    """Orders, one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, name: str) -> dict[str, Any]:
        """Call a service, or any other word to only look."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def wait_for_phase(self, phase: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Look until the mission is in a phase."""
        end = time.monotonic() + timeout_s
        while (seen := self.say("look"))["phase"] != phase:
            assert time.monotonic() < end, f"still {seen['phase']}"
            time.sleep(0.1)
        return seen


@contextmanager
def terminal() -> Iterator[Terminal]:
    env = {**ros_environment(DOMAIN), "PYTHONPATH": environment()["PYTHONPATH"]}
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Terminal(process)
    finally:
        # Without more orders it leaves ROS by itself and takes its shared memory with it.
        try:
            process.communicate(timeout=20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def test_a_mission_pauses_goes_on_and_is_cancelled_as_ordered(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    options = ("--mission-id", "orders")
    with terminal() as person, scan(run_dir, DOMAIN, *options, config="tags: {reader: none}\n") as run:
        run.wait_for("the mission's start", lambda: run.events("mission.started"))
        paused = person.say("pause")
        assert paused["ok"], paused
        person.wait_for_phase("paused")
        stood = len(run.events("viewpoint.reached"))
        time.sleep(2.0)
        assert len(run.events("viewpoint.reached")) == stood, "it drove on"

        goes_on = person.say("resume")
        assert goes_on["ok"], goes_on
        run.wait_for("the next viewpoint", lambda: len(run.events("viewpoint.reached")) > stood)
        cancelled = person.say("cancel")
        assert cancelled["ok"], cancelled
        found = person.wait_for_phase("cancelled", 60.0)["findings"]
        assert len(found) == len(set(found)), "a finding was told twice"
        assert run.finish() == 1, run.said()
    kinds = [e.kind for e in run.events("mission.paused", "mission.continued", "mission.cancelled", "mission.ended")]
    assert kinds == ["mission.paused", "mission.continued", "mission.cancelled", "mission.ended"]
    report = json.loads((run_dir / "report.json").read_text())
    assert report["mission"]["phase"] == "cancelled"
    assert report["mission"]["scanned"] < report["mission"]["viewpoints"]
    # Where the robot did not get to is not empty.
    bins = json.loads((run_dir / "stock_map.json").read_text())["bins"]
    unseen = [b for b in bins if b["status"] == "UNSEEN"]
    assert unseen and {b["reason"] for b in unseen} <= {"skipped", "out_of_view"}
