"""Orders from the command line to a mission that runs in the real graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from live_runs import check_complete, environment, scan

pytestmark = [pytest.mark.ros, pytest.mark.timeout(280)]


def missions(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shelfscan.cli.main", "missions", *args]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=90, check=False)


def test_pause_and_resume_reach_a_live_mission_and_a_second_run_of_its_folder_is_refused(tmp_path: Path) -> None:
    with scan(tmp_path / "run", 47, config="tags: {reader: none}\n") as run:
        run.wait_for("a viewpoint", lambda: run.events("viewpoint.reached"))
        done = missions("pause", str(run.run_dir))
        assert done.returncode == 0 and "paused" in done.stdout, done.stderr
        run.wait_for("the pause", lambda: run.events("mission.paused"))
        shown = missions("list", str(tmp_path))
        assert shown.returncode == 0 and "paused" in shown.stdout, shown.stdout
        assert missions("resume", str(run.run_dir)).returncode == 0
        run.wait_for("going on", lambda: run.events("mission.continued"))
        assert run.finish() == 0, run.said()
    check_complete(tmp_path / "run")
    late = missions("cancel", str(tmp_path / "run"))
    assert late.returncode == 2 and "no run over ROS is going on" in late.stderr
