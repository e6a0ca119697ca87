"""MuJoCo's own ways, kept from a user's folders."""

from __future__ import annotations

import logging

import mujoco

_log = logging.getLogger("shelfscan.sim")


def warnings_to_log() -> None:
    """Send MuJoCo's warnings to Python's log; on its own it writes ``MUJOCO_LOG.TXT`` into the working directory."""
    mujoco.set_mju_user_warning(_log.warning)
