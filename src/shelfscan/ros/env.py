"""What a ROS process needs in its environment, and a domain id that no other run on this machine uses.

This module imports no ROS: it is what a command line calls before anything that does.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from shelfscan.paths import shared_file

#: Low numbers are what people type by hand; 101 is the last one whose ports stay below Linux' ephemeral range.
FIRST_DOMAIN, LAST_DOMAIN = 60, 101
#: RTPS 2.3, 9.6.1.1: unicast discovery port of participant p in domain d is 7400 + 250 d + 10 + 2 p.
_PORT_BASE, _DOMAIN_GAIN, _UNICAST_OFFSET = 7400, 250, 10

_leases: dict[int, TextIO] = {}


def environment(domain_id: int | None = None) -> dict[str, str]:
    """A copy of this process's environment with all that ROS needs here; hand it to child processes.

    Values already set win, except that discovery never leaves the machine. ``domain_id`` None keeps the one set,
    or 0. Raises `BadInput` when the Fast DDS profile is not to be found.

    The ROS wheels' ``.pth`` file restarts Python once to set ``LD_LIBRARY_PATH`` and marks that in
    ``_ROS_WHEELS_BOOTSTRAP_COMPLETE``. Children that run this same interpreter inherit both, which is right and
    saves the restart; a child of *another* virtual environment must get neither, or it loads these libraries.
    """
    env = dict(os.environ)
    # ROS_LOCALHOST_ONLY is the older switch; it leaks multicast to the network card and overrides the range.
    env.pop("ROS_LOCALHOST_ONLY", None)
    env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    env.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(shared_file("config", "fastdds.xml")))
    env.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    env.setdefault("MUJOCO_GL", "egl")
    if domain_id is not None:
        env["ROS_DOMAIN_ID"] = str(domain_id)
    else:
        env.setdefault("ROS_DOMAIN_ID", "0")
    return env


def prepare(domain_id: int | None = None) -> dict[str, str]:
    """Set `environment` in this process (before ``rclpy.init``) and return it for its children."""
    env = environment(domain_id)
    os.environ.pop("ROS_LOCALHOST_ONLY", None)
    os.environ.update(env)
    return env


def free_domain(first: int = FIRST_DOMAIN, last: int = LAST_DOMAIN) -> int:
    """A domain id of ``first..last`` that nobody on this machine uses; it is this process's until it ends.

    A lock file keeps other callers of this function away, also before the first participant exists; a look at the
    domain's discovery ports keeps away from everybody else. Raises `RuntimeError` when all are in use.
    """
    folder = Path(tempfile.gettempdir()) / f"shelfscan-domains-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    candidates = list(range(first, last + 1))
    # A domain just left may still be announced by a killed process, so do not always start with the same one.
    random.shuffle(candidates)
    for domain_id in candidates:
        if domain_id in _leases:
            continue
        # Never deleted: a lock on a deleted file would let a second process lock its successor.
        lease = (folder / str(domain_id)).open("w")
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lease.close()
            continue
        if _ports_free(domain_id):
            _leases[domain_id] = lease
            return domain_id
        lease.close()
    raise RuntimeError(f"every ROS domain id of {first}..{last} is in use on this machine")


def release_domain(domain_id: int) -> None:
    """Let others have a domain id of `free_domain` before this process ends."""
    lease = _leases.pop(domain_id, None)
    if lease is not None:
        lease.close()


def _ports_free(domain_id: int) -> bool:
    """Whether the discovery ports of the first participants are unused."""
    base = _PORT_BASE + _DOMAIN_GAIN * domain_id + _UNICAST_OFFSET
    for participant in range(4):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.bind(("", base + 2 * participant))
            except OSError:
                return False
    return True
