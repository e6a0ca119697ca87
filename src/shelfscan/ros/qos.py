"""Quality of service by what a topic is for."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

#: Captures kept for a subscriber that comes (back) late.
CAPTURES_KEPT = 4


def sensor(depth: int = 10) -> QoSProfile:
    """Sensor data: the newest counts, a lost one is not sent again."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def stream(depth: int = 50) -> QoSProfile:
    """Events: every one counts while somebody listens."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def latched(depth: int = 1) -> QoSProfile:
    """Maps and states: whoever comes late gets the last ``depth``."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def frames(heads: int) -> QoSProfile:
    """Captures on their way to perception and recorder; one that was restarted gets those still in flight.

    Twice the room of `CAPTURES_KEPT` captures: heads of a capture are separate messages.
    """
    return latched(2 * heads * CAPTURES_KEPT)
