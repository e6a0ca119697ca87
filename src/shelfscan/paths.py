"""Where the project's own files are, in a checkout or an installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shelfscan.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def shared_file(folder: str, name: str) -> Path:
    """A file of ``config/``, ``models/`` or ``maps/``. Raises `BadInput` saying where it was looked for.

    ``SHELFSCAN_HOME`` comes first, then the checkout, then what a ROS or pip installation put under ``share``.
    """
    homes = [ROOT, Path(sys.prefix) / "share" / "shelfscan"]
    if os.environ.get("SHELFSCAN_HOME"):
        homes.insert(0, Path(os.environ["SHELFSCAN_HOME"]))
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            homes.append(Path(prefix) / "share" / "shelfscan")
    for home in homes:
        if (home / folder / name).exists():
            return home / folder / name
    raise BadInput(f"{folder}/{name}: not found in {', '.join(str(h) for h in homes)}; set SHELFSCAN_HOME to the checkout")


def default_robot_file() -> Path:
    """``config/robot.yaml``."""
    return shared_file("config", "robot.yaml")
