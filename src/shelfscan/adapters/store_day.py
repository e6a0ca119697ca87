"""Days of a store: which one it is there now, and when one begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, tzinfo

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StoreDays:
    """Days in a time zone; without one, in this computer's. ``clock``: UTC nanoseconds."""

    zone: tzinfo | None = None
    clock: Callable[[], int] = time.time_ns

    def today(self) -> date:
        """The store's day."""
        return datetime.fromtimestamp(self.clock() // NS, self.zone).date()

    def begin_ns(self, day: date) -> int:
        """UTC nanoseconds of a day's midnight, or of the leap over it where clocks are put forward at midnight."""
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp()) * NS
