"""The recorder as the process it is: captures on the wire end up in the bag, also across a SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from fakes.captures import capture

from shelfscan.adapters.frames_cdr import encode_capture
from shelfscan.adapters.frames_mcap import BagFrameSource
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.paths import ROOT
from shelfscan.ports import Event
from shelfscan.ros.env import environment
from shelfscan.shm import remove_orphans, segments_of

DOMAIN = int(os.environ.get("SHELFSCAN_TEST_DOMAIN", "52"))

PUBLISH = """
import sys, time
import rclpy
from rclpy.serialization import deserialize_message
from shelfscan_msgs.msg import HeadFrame, MissionState
from fakes.captures import capture
from shelfscan.adapters.frames_cdr import encode_capture
from shelfscan.ros import qos

rclpy.init()
node = rclpy.create_node("camera", namespace="/shelfscan")
frames = node.create_publisher(HeadFrame, "frames", qos.frames(2))
state = node.create_publisher(MissionState, "mission", qos.latched())
state.publish(MissionState(site="here", mission_id="m", phase="driving"))
print("ready", flush=True)
for line in sys.stdin:
    for data in encode_capture(capture(int(line))):
        frames.publish(deserialize_message(data, HeadFrame))
    print("published", flush=True)
"""


def start(args: list[str]) -> subprocess.Popen[str]:
    env = environment(DOMAIN)
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *args], stdin=pipe, stdout=pipe, text=True, env=env)


def recorder(run_dir: Path) -> subprocess.Popen[str]:
    return start(["-m", "shelfscan.ros.recorder", "--ros-args", "-r", "__ns:=/shelfscan", "-p", f"run_dir:={run_dir}"])


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process, whatever it does, and take away the shared memory it leaves."""
    left = segments_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    remove_orphans(left)


class Camera:
    """A process that publishes captures when told."""

    def __init__(self) -> None:
        self.process = start(["-c", PUBLISH])
        assert self._said() == "ready"

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def take(self, n: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        assert self._said() == "published"


@pytest.fixture
def camera() -> Iterator[Camera]:
    made = Camera()
    yield made
    end(made.process)


def recorded(bag: Path) -> list[str]:
    try:
        return [b.capture_id for b in BagFrameSource(bag).frames()]
    except Exception:  # noqa: BLE001 - not yet made
        return []


def wait_for(bag: Path, captures: list[str], seconds: float = 40.0) -> list[str]:
    end = time.monotonic() + seconds
    while time.monotonic() < end and recorded(bag) != captures:
        time.sleep(0.3)
    return recorded(bag)


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_what_is_on_the_wire_is_in_the_bag_across_a_kill(camera: Camera, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", site="here")
    plan = {"mission_id": "m", "site": "here", "viewpoints": [], "unreachable_bins": []}
    ledger.append([Event("mission.started", "mission.started/m", 1, {"mission_id": "m", "plan": plan})])
    first = recorder(tmp_path)
    second: subprocess.Popen[str] | None = None
    try:
        camera.take(0)  # latched: it does not matter whether the recorder is there already
        assert wait_for(bag, ["V0-1"]) == ["V0-1"]
        end(first)
        camera.take(1)
        second = recorder(tmp_path)
        assert wait_for(bag, ["V0-1", "V1-1"]) == ["V0-1", "V1-1"]
        camera.take(2)
        assert wait_for(bag, ["V0-1", "V1-1", "V2-1"]) == ["V0-1", "V1-1", "V2-1"]
        ledger.append([Event("mission.ended", "mission.ended/m", 9, {"mission_id": "m", "phase": "done", "message": ""})])
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=20) == 0
    finally:
        for process in (first, second):
            if process is not None:
                end(process)
        ledger.close()
    source = BagFrameSource(bag)
    assert source.damages == (), "the killed recorder's file was mended"
    assert [e.kind for e in source.events] == ["mission.started", "mission.ended"], "also what happened last"
    assert (source.site, source.mission_id) == ("here", "m")
    # The bytes on the wire are the bytes in the bag.
    frames = list(source.messages("/shelfscan/frames"))
    assert [m.data for m in frames[:2]] == encode_capture(capture(0))
    assert len(frames) == 6, "latched captures are not recorded twice"
    # Each recorder hears the latched state; the first one's may have been on its way to the disk when it was killed.
    assert 1 <= len(list(source.messages("/shelfscan/mission"))) <= 2
