"""Times as text (ISO 8601) and as nanoseconds."""

from __future__ import annotations

from datetime import datetime, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def from_iso(text: str) -> datetime:
    """An aware time. Raises `ValueError` for what is no time, or has no zone."""
    # Python 3.10 does not read the "Z".
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if at.tzinfo is None:
        raise ValueError(f"{text!r}: expected a time with its zone")
    return at


def ns_of(at: datetime) -> int:
    """UTC nanoseconds of an aware time, exact to the microsecond."""
    since = at - _EPOCH
    return (since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds) * 1000
