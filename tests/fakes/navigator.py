"""A navigator that keeps the port's rules: it blocks, never raises for a failed drive, and ends where it says."""

from __future__ import annotations

from collections.abc import Callable

from shelfscan.model.geometry import Pose2D
from shelfscan.ports import NavResult


class FakeNavigator:
    """Drives instantly wherever ``free(pose)`` says it may."""

    def __init__(self, free: Callable[[Pose2D], bool] = lambda pose: True) -> None:
        self._free = free
        self.pose = Pose2D(-1.0, 0.0, 0.0)
        self.docked = True
        self.visited: list[Pose2D] = []
        self.stops = 0

    def go_to(self, pose: Pose2D, timeout_s: float) -> NavResult:
        if timeout_s <= 0:
            return NavResult(False, self.pose, 9003, "timeout")
        if self.docked:
            return NavResult(False, self.pose, 9000, "still on the dock")
        if not self._free(pose):
            return NavResult(False, self.pose, 9000, "no path")
        self.pose = pose
        self.visited.append(pose)
        return NavResult(True, pose)

    def undock(self, timeout_s: float) -> NavResult:
        self.docked = False
        return NavResult(True, self.pose)

    def dock(self, timeout_s: float) -> NavResult:
        self.docked = True
        return NavResult(True, self.pose)

    def stop(self) -> None:
        self.stops += 1
