"""Puts pictures of one instant together, whichever order they arrive in. No ROS in here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOLERANCE_S = 0.02
KEPT = 8


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message and the stamp it carries."""

    stamp_ns: int
    message: Any


class FrameSync:
    """Collects one message a channel, all stamped within ``tolerance_s`` of each other. Safe from several threads."""

    def __init__(self, channels: Sequence[Hashable], tolerance_s: float = TOLERANCE_S) -> None:
        self._tolerance_ns = int(tolerance_s * 1e9)
        self._kept: dict[Hashable, deque[Arrived]] = {c: deque(maxlen=KEPT) for c in channels}
        self._changed = threading.Condition()

    def add(self, channel: Hashable, stamp_ns: int, message: Any) -> None:
        """A message has come. Raises `KeyError` for a channel that is not awaited."""
        with self._changed:
            self._kept[channel].append(Arrived(stamp_ns, message))
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget what has come so far."""
        with self._changed:
            for kept in self._kept.values():
                kept.clear()

    def missing(self, since_ns: int) -> list[Hashable]:
        """Channels without any message stamped at or after a time."""
        with self._changed:
            return [c for c, kept in self._kept.items() if not any(a.stamp_ns >= since_ns for a in kept)]

    def wait(self, since_ns: int, timeout_s: float) -> Mapping[Hashable, Arrived] | None:
        """The first complete set stamped at or after ``since_ns``, or None when there is none in time; blocks."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = self._match(since_ns)
                left = end - time.monotonic()
                if found is not None or left <= 0:
                    return found
                self._changed.wait(left)

    def _match(self, since_ns: int) -> Mapping[Hashable, Arrived] | None:
        reference = next(iter(self._kept.values()))
        for first in reference:
            if first.stamp_ns < since_ns:
                continue
            chosen = {}
            for channel, kept in self._kept.items():
                fresh = [a for a in kept if a.stamp_ns >= since_ns]
                if not fresh:
                    return None
                chosen[channel] = min(fresh, key=lambda a: abs(a.stamp_ns - first.stamp_ns))
            stamps = [a.stamp_ns for a in chosen.values()]
            if max(stamps) - min(stamps) <= self._tolerance_ns:
                return chosen
        return None
