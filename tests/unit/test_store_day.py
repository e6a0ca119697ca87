"""A store's day around midnight, wherever the robot's computer thinks it is."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from shelfscan.adapters.store_day import StoreDays


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        ("Europe/Berlin", "2030-06-01T21:59:59+00:00", date(2030, 6, 1)),
        ("Europe/Berlin", "2030-06-01T22:00:00+00:00", date(2030, 6, 2)),
        ("America/Los_Angeles", "2030-06-02T06:59:59+00:00", date(2030, 6, 1)),
        ("Pacific/Kiritimati", "2030-06-01T10:00:00+00:00", date(2030, 6, 2)),
    ],
)
def test_today_is_the_stores(zone: str, at: str, day: date) -> None:
    days = StoreDays(ZoneInfo(zone), lambda: ns(at))
    assert days.today() == day
    assert days.begin_ns(day) <= ns(at) < days.begin_ns(day + timedelta(days=1))


@pytest.mark.parametrize(
    ("zone", "day", "begin"),
    [
        ("Europe/Berlin", date(2030, 1, 1), "2029-12-31T23:00:00+00:00"),
        ("Europe/Berlin", date(2030, 7, 1), "2030-06-30T22:00:00+00:00"),
        ("America/Los_Angeles", date(2030, 1, 1), "2030-01-01T08:00:00+00:00"),
        # Clocks went from 24:00 to 1:00: the day began with the leap.
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00:00+00:00"),
    ],
)
def test_a_day_begins_at_the_stores_midnight(zone: str, day: date, begin: str) -> None:
    assert StoreDays(ZoneInfo(zone)).begin_ns(day) == ns(begin)


def test_without_a_zone_it_is_the_computers(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        days = StoreDays(clock=lambda: ns("2030-01-01T15:00:00+00:00"))
        assert days.today() == date(2030, 1, 2) and days.begin_ns(date(2030, 1, 2)) == days.clock()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert StoreDays(timezone.utc, days.clock).today() == date(2030, 1, 1)
