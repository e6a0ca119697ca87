"""Wrong usage ends with exit 2 and a line that names what is wrong, never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shelfscan(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "shelfscan.cli.main", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["store", "build", "--nope"], "--nope"),
        (["frobnicate"], "frobnicate"),
        (["store", "build", "--size", "huge", "--seed", "1", "--out", "never"], "--size"),
        (["store", "check", "no/such/store"], "no/such/store"),
    ],
)
def test_wrong_usage(arguments: list[str], named: str) -> None:
    done = shelfscan(*arguments)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not Path("never").exists()


def test_help_is_no_error() -> None:
    done = shelfscan("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout
