"""Runs over ROS in which something outside fails: cameras that fall silent, a warehouse system that is down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live_runs import STORE, environment, scan

from shelfscan.adapters.wms_builtin import BuiltinWms
from shelfscan.bundle import load_bundle
from shelfscan.ros.env import environment as ros_environment

pytestmark = [pytest.mark.ros, pytest.mark.timeout(280)]

QUICK = "tags: {reader: none}\n"
#: One try a viewpoint, so that a camera that comes back helps the next viewpoint only.
ONE_TRY = QUICK + "mission: {max_captures: 1}\n"
#: Cameras are silent for 9 s of wall time from the first drive on (the clock runs 10 times faster): the first viewpoint
#: is reached before, and the last of three after, since the capture node waits 5 s for pictures at each one.
SILENT = "- {kind: camera_silent, for_s: 90}\n"
#: Notes each diagnostic above OK and each state of the sync, as any monitoring would hear them.
LISTENER = """
import json, sys, time
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from shelfscan_msgs.msg import SyncState
rclpy.init()
node = rclpy.create_node("listener")
def diagnostics(m):
    for s in m.status:
        level = s.level[0] if isinstance(s.level, bytes) else s.level
        if level:
            print(json.dumps([s.name, level, s.message]), flush=True)
latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
node.create_subscription(DiagnosticArray, "/diagnostics", diagnostics, 10)
def sync(m):
    print(json.dumps(["sync", m.state, m.text]), flush=True)
node.create_subscription(SyncState, "/shelfscan/sync", sync, latched)
end = time.monotonic() + 250
while time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.2)
"""


@contextmanager
def listening(domain_id: int, notes: Path) -> Iterator[None]:
    """A listener in a process of its own, writing what it hears to ``notes``."""
    env = {**ros_environment(domain_id), "PYTHONPATH": environment()["PYTHONPATH"]}
    with notes.open("w") as f:
        process = subprocess.Popen([sys.executable, "-c", LISTENER], env=env, stdout=f, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=20.0)


def heard(notes: Path) -> list[list[Any]]:
    return [json.loads(line) for line in notes.read_text().splitlines()]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shelfscan.cli.main", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.long
def test_silent_cameras_cost_their_viewpoints_and_say_so(tmp_path: Path) -> None:
    faults = tmp_path / "faults.yaml"
    faults.write_text(SILENT)
    run_dir, notes = tmp_path / "run", tmp_path / "heard"
    with listening(61, notes), scan(run_dir, 61, "--faults", str(faults), config=ONE_TRY) as run:
        assert run.finish() == 0, run.said()
    report = json.loads((run_dir / "report.json").read_text())
    mission = report["mission"]
    failed = run.events("viewpoint.failed")
    assert 0 < mission["scanned"] < mission["viewpoints"] and mission["phase"] == "done"
    assert len(failed) == mission["viewpoints"] - mission["scanned"]
    assert all(f"{e.payload['viewpoint_id']}: capture sensor: no /low/left/image_raw" in mission["message"] for e in failed)
    # The diagnostic names the topics; the capture node is fine again afterwards.
    errors = [m for name, level, m in heard(notes) if name == "shelfscan/capture" and level == 2]
    assert errors and "/low/left/image_raw" in errors[0] and "for 5.0 s" in errors[0], heard(notes)
    # What was not looked at is unseen because of the sensor, and never empty.
    bins = json.loads((run_dir / "stock_map.json").read_text())["bins"]
    unseen = [b for b in bins if b["status"] == "UNSEEN"]
    assert unseen and {b["reason"] for b in unseen} == {"sensor"}
    assert all(b["status"] != "OUT_OF_STOCK" and b["units_high"] > 0 for b in unseen)
    assert report["summary"]["unseen"] == {"sensor": len(unseen)}
    assert f"{len(unseen)} not seen (sensor {len(unseen)})" in run.said()
    assert report["sync"]["counts"]["recount"] >= len(unseen)
    assert "Traceback" not in run.said()


@pytest.mark.long
def test_no_camera_at_all_is_a_failed_run_and_later_goes_on(tmp_path: Path) -> None:
    faults = tmp_path / "faults.yaml"
    faults.write_text("- {kind: camera_silent, head: high}\n")
    with scan(tmp_path / "run", 62, "--faults", str(faults), config=ONE_TRY) as run:
        assert run.finish() == 1, run.said()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["mission"]["phase"] == "failed" and "/high/left/image_raw" in report["mission"]["message"]
    assert "/low/" not in report["mission"]["message"]
    assert report["summary"]["unseen"] == {"sensor": report["summary"]["bins"]}
    with scan(tmp_path / "run", 62, "--resume") as run:
        assert run.finish() == 0, run.said()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["mission"]["scanned"] == report["mission"]["viewpoints"] and report["summary"]["unseen"] == {}


@pytest.mark.long
def test_a_warehouse_system_that_is_down_loses_nothing(tmp_path: Path) -> None:
    wms, run_dir, notes = tmp_path / "wms.sqlite", tmp_path / "run", tmp_path / "heard"
    wms.write_bytes(b"not a database, for now" * 50)
    # A map so confident that everything may post: what is posted twice would show.
    approval = "auto_post: true, min_confidence: 0, max_delta_units: 1000, max_delta_value: 100000, max_interval_units: 1000"
    config = f"wms: {{path: {wms}, approval: {{{approval}}}}}\n"
    with listening(63, notes), scan(run_dir, 63, config=QUICK + config) as run:
        assert run.finish() == 0, run.said()
    report = json.loads((run_dir / "report.json").read_text())
    assert report["mission"]["phase"] == "done" and report["sync"]["state"] == "degraded"
    assert "not synced" in run.said() and f"shelfscan sync {run_dir}" in run.said()
    assert any(x[:2] == ["sync", "degraded"] for x in heard(notes)), heard(notes)
    assert any(name == "shelfscan/wms_bridge" and level == 1 for name, level, _ in heard(notes)), heard(notes)
    assert wms.read_bytes() == b"not a database, for now" * 50

    again = command("sync", run_dir, "--json")
    assert again.returncode == 1 and json.loads(again.stdout)["state"] == "degraded"
    assert len(again.stderr.strip().splitlines()) == 1 and str(wms) in again.stderr

    # What it said to do: the broken file was never this system's, so begin anew.
    wms.unlink()
    wms.with_name(f"{wms.name}.lock").unlink()
    done = command("sync", run_dir, "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert first["state"] == "done" and first["counts"]["posted"] > 0
    stock = stock_of(wms)
    assert json.loads(command("sync", run_dir, "--json").stdout)["counts"] == first["counts"]
    assert stock_of(wms) == stock


def stock_of(path: Path) -> list[tuple[str, str, float, str]]:
    """On-hand and version of every place; a count that took effect again would have another version."""
    bundle = load_bundle(STORE)
    client = BuiltinWms.open(path, bundle.wms, bundle.catalogue)
    return [(r.location_code, r.sku, r.on_hand, r.version) for r in client.pull_stock()]
