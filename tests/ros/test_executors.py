"""Which of rclpy's executors a node gets: the events executor where it hears much and rclpy has one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

from shelfscan.paths import ROOT
from shelfscan.ros.env import environment

DOMAIN = int(os.environ.get("SHELFSCAN_TEST_DOMAIN", "52"))
ASK = """
import sys
for gone in sys.argv[1:]:
    sys.modules[gone] = None
import rclpy
from shelfscan.ros.lifecycle import ShelfscanNode, _executor
rclpy.init()
for much in (True, False):
    node = ShelfscanNode("node", hears_much=much)
    executor = _executor(node)
    executor.add_node(node)
    executor.spin_once(timeout_sec=0.1)
    print(type(executor).__name__)
    executor.shutdown(timeout_sec=1.0)
    node.destroy_node()
rclpy.shutdown()
"""


@pytest.mark.parametrize("gone", ["rclpy.experimental.events_executor", "rclpy.experimental"])
def test_a_rclpy_without_it_has_the_usual_one(gone: str) -> None:
    assert said(gone) == ["MultiThreadedExecutor", "MultiThreadedExecutor"]


def test_who_hears_much_has_the_events_executor() -> None:
    pytest.importorskip("rclpy.experimental.events_executor")
    assert said() == ["EventsExecutor", "MultiThreadedExecutor"]


def said(*gone: str) -> list[str]:
    env = environment(DOMAIN) | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", ASK, *gone], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
