"""A whole run over ROS on the demo store: complete, latched for late comers, and none the worse for kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_runs import STORE, check_complete, environment, scan

from shelfscan.ros.env import environment as ros_environment
from shelfscan.ros.nodes import node
from shelfscan.supervisor import Child, Supervisor

pytestmark = [pytest.mark.ros, pytest.mark.timeout(280)]

#: Reading tags takes most of a scan's time and matters to none of the kills.
QUICK = "tags: {reader: none}\n"
#: Subscribes as a program of its own, which started after everything was published.
LATE_COMER = """
import json, sys, time
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from shelfscan_msgs.msg import StockMap, SyncState
from shelfscan_msgs.srv import GetBin, GetStock
rclpy.init()
node = rclpy.create_node("late_comer")
latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
got = {}
node.create_subscription(StockMap, "/shelfscan/stock_map", lambda m: got.update(map=m), latched)
node.create_subscription(SyncState, "/shelfscan/sync", lambda m: got.update(sync=m), latched)
end = time.monotonic() + 20
while time.monotonic() < end and len(got) < 2:
    rclpy.spin_once(node, timeout_sec=0.2)

def ask(kind, name, **fields):
    client = node.create_client(kind, name)
    assert client.wait_for_service(timeout_sec=10)
    future = client.call_async(kind.Request(**fields))
    rclpy.spin_until_future_complete(node, future, timeout_sec=10)
    return future.result()

m = got["map"]
first = m.bins[0]
known, unknown = ask(GetBin, "/shelfscan/get_bin", bin_id=first.bin_id), ask(GetBin, "/shelfscan/get_bin", bin_id="nowhere")
stock, absent = ask(GetStock, "/shelfscan/get_stock", sku=first.sku), ask(GetStock, "/shelfscan/get_stock", sku="nothing")
print(json.dumps({
    "mission_id": m.mission_id,
    "sync": got["sync"].state,
    "bins": {b.bin_id: [b.sku, b.status, b.facings, b.units] for b in m.bins},
    "known": [known.found, known.bin.bin_id, known.bin.units], "unknown": [unknown.found, unknown.message],
    "stock": [stock.found, stock.units], "absent": [absent.found, absent.message],
}))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a whole run."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with scan(run_dir, 43, "--mission-id", "whole") as run:
        assert run.finish() == 0, run.said()
    return run_dir


def test_a_whole_run_counts_every_reachable_bin_and_syncs(finished: Path) -> None:
    report = check_complete(finished)
    assert report["mode"] == "ros" and report["mission"]["interruptions"] == 0
    assert report["timings"]["restarts"] == {}
    assert report["sync"]["state"] == "done" and report["sync"]["mission_id"] == "whole"
    for name in (
        "stock_map.json",
        "observations.csv",
        "exceptions.csv",
        "stock_map.geojson",
        "counts.epcis.json",
        "report.html",
    ):
        assert (finished / name).stat().st_size > 0, name
    bins = json.loads((finished / "stock_map.json").read_text())["bins"]
    pictures = [e for b in bins for e in b["evidence"]]
    assert pictures and all((finished / e).is_file() for e in pictures)


def test_a_late_comer_gets_the_latched_map_and_answers(finished: Path) -> None:
    env = {**ros_environment(44), **{k: v for k, v in environment().items() if k == "PYTHONPATH"}}
    values = {"store": str(STORE), "run_dir": str(finished), "config": str(finished / "config.yaml")}
    children = [Child(n, tuple(node(n).command(values))) for n in ("stock", "wms_bridge")]
    with Supervisor(children, env=env, log_dir=finished / "logs") as nodes:
        assert nodes.wait_ready(60.0), nodes.failure
        time.sleep(3.0)  # everything has been published before the late comer starts
        done = subprocess.run([sys.executable, "-c", LATE_COMER], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout.splitlines()[-1])
    kept = json.loads((finished / "stock_map.json").read_text())["bins"]
    assert (got["mission_id"], got["sync"]) == ("whole", "done")
    assert got["bins"] == {b["bin_id"]: [b["sku"], b["status"], b["facings"], b["units"]] for b in kept}
    first = kept[0]
    assert got["known"] == [True, first["bin_id"], first["units"]]
    assert got["unknown"][0] is False and "nowhere" in got["unknown"][1]
    assert got["stock"] == [True, sum(b["units"] for b in kept if b["sku"] == first["sku"])]
    assert got["absent"][0] is False and "nothing" in got["absent"][1]


def test_killed_perception_and_mission_lose_nothing(tmp_path: Path) -> None:
    with scan(tmp_path / "run", 45, config=QUICK) as run:
        run.wait_for("a scan in the making", lambda: run.events("scan.begun"))
        perception = run.kill_node("perception")
        run.wait_for("perception again", lambda: run.node_pid("perception") not in (0, perception), 30.0)
        run.wait_for("a scan", lambda: run.events("bay_scan"))
        run.kill_node("mission")
        assert run.finish() == 0, run.said()
    report = check_complete(tmp_path / "run")
    assert report["timings"]["restarts"] == {"mission": 1, "perception": 1}
    assert report["mission"]["interruptions"] == 1
    assert len(run.events("scan.begun")) > len(run.events("bay_scan"))  # one was begun twice
    resumed = run.events("mission.resumed")
    assert [e.payload["by_itself"] for e in resumed] == [True]


def test_a_killed_command_leaves_no_process_and_is_resumed(tmp_path: Path) -> None:
    names = ("sim", "capture", "mission", "perception", "stock", "wms_bridge")
    with scan(tmp_path / "run", 46, config=QUICK) as run:
        run.wait_for("a scan in the making", lambda: run.events("scan.begun"))
        pids = [run.node_pid(n) for n in names]
        assert all(pids)
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "shelfscan.cli.main",
                "run",
                "--store",
                str(STORE),
                "--out",
                str(tmp_path / "run"),
                "--resume",
            ],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 2 and "another run is going on in this folder" in second.stderr
        run.process.kill()
        run.process.wait()
        end = time.monotonic() + 10.0
        while any(_runs(p) for p in pids) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(_runs(p) for p in pids)
    with scan(tmp_path / "run", 46, "--resume") as run:
        assert run.finish() == 0, run.said()
    report = check_complete(tmp_path / "run")
    assert report["mission"]["interruptions"] >= 1
    assert len(run.events("mission.started")) == 1


@pytest.mark.long
def test_an_interrupted_run_can_be_resumed(tmp_path: Path) -> None:
    with scan(tmp_path / "run", 47, config=QUICK) as run:
        run.wait_for("the mission", lambda: run.events("mission.started"))
        run.process.send_signal(signal.SIGINT)
        assert run.finish(30.0) == 130, run.said()
        assert not run.events("mission.ended", "viewpoint.failed")
        assert not any(run.node_pid(n) for n in ("sim", "mission", "perception"))
    # Nothing of a run that was stopped cleanly is left in shared memory: its domain's ports are gone.
    base = 7400 + 250 * 47
    assert not [
        p for p in os.listdir("/dev/shm") if p.startswith("fastdds_port") and base <= int(p[12:].split("_")[0]) < base + 250
    ]
    with scan(tmp_path / "run", 47, "--resume") as run:
        assert run.finish() == 0, run.said()
    check_complete(tmp_path / "run")


def _runs(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
