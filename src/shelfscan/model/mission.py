"""Where the robot looks from, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from shelfscan.model.geometry import Pose2D


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """A pose of the robot's base in ``map`` from which ``bay_ids`` of ``gondola_id`` are looked at.

    ``bin_ids``: the bins that it sees at least in part; empty in plans that do not say.
    """

    viewpoint_id: str
    gondola_id: str
    aisle_id: str
    pose: Pose2D
    bay_ids: tuple[str, ...]
    bin_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class MissionPlan:
    """Viewpoints in driving order. ``unreachable_bins`` cannot be seen in full from any of them; ``why`` says per such bin
    what stands against it, as one of `UnseenReason`'s words (plans that do not say have none)."""

    mission_id: str
    site: str
    viewpoints: tuple[Viewpoint, ...]
    unreachable_bins: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "why": dict(self.why)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> MissionPlan:
        """Inverse of `to_json`."""
        return MissionPlan(
            data["mission_id"],
            data["site"],
            tuple(viewpoint_of(v) for v in data["viewpoints"]),
            tuple(data["unreachable_bins"]),
            dict(data.get("why", {})),
        )


def viewpoint_of(v: Mapping[str, Any]) -> Viewpoint:
    """A viewpoint from plain JSON data."""
    pose, bays, bins = Pose2D(**v["pose"]), tuple(v["bay_ids"]), tuple(v.get("bin_ids", ()))
    return Viewpoint(**{**v, "pose": pose, "bay_ids": bays, "bin_ids": bins})


class MissionPhase(str, Enum):
    """States of the mission machine."""

    __str__ = str.__str__

    IDLE = "idle"
    UNDOCKING = "undocking"
    DRIVING = "driving"
    CAPTURING = "capturing"
    WAITING = "waiting"
    PAUSED = "paused"
    DOCKING = "docking"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Nothing more will happen without a new command."""
        return self in (MissionPhase.DONE, MissionPhase.CANCELLED, MissionPhase.FAILED)
