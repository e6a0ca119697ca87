"""Shared-memory files that Fast DDS leaves behind when its process is killed, 32 MiB a process.

Each segment has a lock file that its owner keeps locked (flock) while it lives. So a segment is only removed when two
things hold: it was seen in the hands of one of our processes, and nobody holds its lock now.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from pathlib import Path

SHM = Path("/dev/shm")
_PORT = "_port"
_LOCK = re.compile(r"^/dev/shm/(fast(?:dds|rtps)_\w+)_[es]l(?: \(deleted\))?$")


def segments_of(pid: int) -> frozenset[str]:
    """Names of the segments and ports whose lock file a living process has open; empty when it is gone."""
    found = set()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    match = _LOCK.match(os.readlink(entry.path))
                except OSError:
                    continue
                if match:
                    found.add(match.group(1))
    except OSError:
        return frozenset()
    return frozenset(found)


def remove_orphans(names: Iterable[str], *, ports: bool = True) -> list[str]:
    """Remove those of the named segments whose owner is dead; returns their names.

    ``ports`` False leaves ports alone: while peers live they may still send through one, and its next owner repairs it.
    """
    return [name for name in sorted(set(names)) if (ports or _PORT not in name) and _remove(name)]


def _remove(name: str) -> bool:
    lock = SHM / f"{name}_el"
    files = (SHM / name, SHM / f"sem.{name}_mutex", SHM / f"{name}_sl", lock)
    if _PORT in name and not lock.exists() and not (SHM / f"{name}_sl").exists():
        # Nobody listens there: a peer made it anew while it still sent to somebody dead.
        there = (SHM / name).exists()
        for file in files:
            file.unlink(missing_ok=True)
        return there
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # While this lock is held nobody can take the segment over; a process that tries makes new files instead.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for file in files:
            file.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
