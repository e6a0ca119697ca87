"""``kill -9`` of random processes in the real ROS graph, at random instants: does every night still end whole?

``python -m benchmarks.kills --store STORE --out OUT --runs 5 --kills 10 --seed 1``: each run is a ``shelfscan run`` over ROS in
which so many processes are killed, one after the other: nodes, which the supervisor starts again, and now and then the command
itself with all its nodes, which is then run again with ``--resume``. STORE must be simulated: its truth tells what was lost.

A night is whole when every viewpoint was scanned and every reachable bin counted, but for a bin in a hundred (`OPEN`) that was
looked at and left open because something hides it: that is doubt, and nights without kills have it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.errors import LedgerError
from shelfscan.model.stock import UnseenReason

NODES = ("sim", "capture", "perception", "stock", "mission", "wms_bridge")
#: Seconds between two kills: the supervisor gives up a node that dies five times in a minute.
PAUSE_S = (2.0, 8.0)
RUN_S = 900.0
#: Share of the bins that may be left open.
OPEN = 0.01


def events(run_dir: Path, *kinds: str) -> list[Any]:
    """What the ledger holds by now."""
    try:
        ledger = SqliteLedger(run_dir / "ledger.sqlite")
    except LedgerError:
        return []
    try:
        return [s.event for s in ledger.read(kinds=kinds)]
    finally:
        ledger.close()


def node_pid(parent: int, name: str) -> int:
    """A node of this very run; 0 when it is not there."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text().rsplit(")", 1)[1].split()
            command = (path / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if int(stat[1]) == parent and f"shelfscan.ros.{name}".encode() in command:
            return int(path.name)
    return 0


def one_run(store: Path, run_dir: Path, kills: int, rng: random.Random, speed: float) -> dict[str, Any]:
    """One night with so many kills; what became of it."""
    settings = run_dir.parent / f"{run_dir.name}.yaml"
    settings.write_text(f"ros: {{record: false}}\nsim: {{real_time_factor: {speed}}}\ntags: {{reader: none}}\n")
    command = [sys.executable, "-m", "shelfscan.cli.main", "run", "--store", str(store), "--out", str(run_dir)]
    began, killed = time.monotonic(), []
    log = (run_dir.parent / f"{run_dir.name}.txt").open("w")

    def start(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, "--config", str(settings), *more], stdout=log, stderr=log)

    process = start()
    next_kill = time.monotonic() + 8.0
    while time.monotonic() - began < RUN_S:
        if process.poll() is not None:
            break
        if len(killed) < kills and time.monotonic() >= next_kill and events(run_dir, "mission.started"):
            name = rng.choice([*NODES, "the command"])
            if name == "the command" and run_dir.joinpath("run.json").is_file():
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                time.sleep(1.0)
                process = start("--resume")
                killed.append(name)
            else:
                pid = node_pid(process.pid, name)
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(name)
            next_kill = time.monotonic() + rng.uniform(*PAUSE_S)
        time.sleep(0.1)
    code = process.poll()
    if code is None:
        process.kill()
    log.close()
    captured: dict[str, int] = {}
    for e in events(run_dir, "viewpoint.captured"):
        captured[e.payload["viewpoint_id"]] = captured.get(e.payload["viewpoint_id"], 0) + 1
    scans = [e.payload["capture_id"] for e in events(run_dir, "bay_scan")]
    out: dict[str, Any] = {
        "kills": killed,
        "exit": code,
        "resumed": len(events(run_dir, "mission.resumed")),
        "viewpoints_taken_again": sum(n - 1 for n in captured.values()),
        "scans_twice": len(scans) - len(set(scans)),
        "seconds": round(time.monotonic() - began, 1),
    }
    if code == 0:
        report = json.loads((run_dir / "report.json").read_text())
        done = subprocess.run(
            [sys.executable, "-m", "shelfscan.cli.main", "score", str(run_dir), "--truth", str(store / "truth"), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        score = json.loads(done.stdout)
        out |= {
            "phase": report["mission"]["phase"],
            "scanned": report["mission"]["scanned"],
            "viewpoints": report["mission"]["viewpoints"],
            "bins_counted": score["bins_counted"],
            "bins_reachable": score["bins_reachable"],
            "bins_left_open": left_open(run_dir),
            "double_counts": score["duplicates"],
            "sync": report["sync"]["state"] if report["sync"] else "none",
        }
    return out


def left_open(run_dir: Path) -> int:
    """Bins that were looked at, and are not counted because something hides them."""
    bins = json.loads((run_dir / "stock_map.json").read_text())["bins"]
    return sum(b["status"] == "UNSEEN" and b["reason"] == UnseenReason.OCCLUDED for b in bins)


def is_whole(run: dict[str, Any]) -> bool:
    """Whether a night that ended lost nothing."""
    if run["exit"] != 0 or run["scanned"] != run["viewpoints"]:
        return False
    counted, reachable = run["bins_counted"], run["bins_reachable"]
    return bool(counted >= (1 - OPEN) * reachable and counted + run["bins_left_open"] >= reachable)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=4.0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)
    runs = []
    for n in range(args.runs):
        runs.append(one_run(args.store, args.out / f"kills-{n}", args.kills, rng, args.speed))
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    whole = [r for r in runs if is_whole(r)]
    summary = {
        "runs": len(runs),
        "kills": sum(len(r["kills"]) for r in runs),
        "whole": len(whole),
        "double_counts": sum(r.get("double_counts", 0) + r["scans_twice"] for r in runs),
        "taken_again_per_kill": round(
            sum(r["viewpoints_taken_again"] for r in runs) / max(1, sum(len(r["kills"]) for r in runs)), 2
        ),
        "each": runs,
    }
    print(json.dumps(summary, indent=2))
    sys.exit(0 if len(whole) == len(runs) else 1)


if __name__ == "__main__":
    main()
