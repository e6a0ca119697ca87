"""Shrinkage over nights: a difference that stays is one loss, not one a night."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shelfscan.wms.losses import Night, losses

FIRST = datetime(2030, 1, 1, 4, tzinfo=timezone.utc)


def row(books: float, seen: int, outcome: str = "held", spread: int = 0, **over: Any) -> dict[str, Any]:
    facts = {"location_code": "L1", "sku": "A", "name": "Tea", "scope": "shelf", "outcome": outcome, "on_hand": books}
    facts |= {"counted_low": max(0, seen - spread), "counted_high": seen + spread}
    return {**facts, "delta": seen - books, "value": 2.5 * abs(seen - books), **over}


def nights(*rows: dict[str, Any] | None) -> list[Night]:
    return [Night(FIRST + timedelta(days=n), [r] if r else []) for n, r in enumerate(rows)]


def test_a_difference_that_nobody_posts_is_one_loss() -> None:
    (x,) = losses(nights(row(10, 7), row(10, 7), row(10, 7)))
    assert (x.units, x.times, x.nights, x.value) == (3, 1, 3, 7.5)


def test_a_posted_loss_and_a_new_one_add_up() -> None:
    (x,) = losses(nights(row(10, 7, "posted"), None, row(7, 5)))
    assert (x.units, x.times, x.per_week, x.last_at[:10]) == (5, 2, 17.5, "2030-01-03")


def test_what_the_interval_explains_is_no_loss() -> None:
    assert losses(nights(row(10, 8, spread=2), row(10, 9, spread=1))) == []


def test_a_loss_that_turns_up_again_is_none() -> None:
    assert losses(nights(row(10, 7, "posted"), row(7, 10))) == []


def test_nights_without_a_count_say_nothing() -> None:
    (x,) = losses(nights(row(10, 7), row(10, 0, "recount", counted_low=None, counted_high=None), row(10, 7)))
    assert (x.units, x.nights) == (3, 2)
    assert losses(nights(row(10, 2, scope="site"))) == []
    assert losses(nights(row(10, 2, "ignored"))) == []


def test_the_most_valuable_comes_first_and_one_night_has_no_rate() -> None:
    other = row(50, 40, location_code="L2", sku="B", value=100.0)
    found = losses([Night(FIRST, [row(10, 7), other])])
    assert [(x.location_code, x.per_week) for x in found] == [("L2", None), ("L1", None)]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=8))
def test_true_thefts_are_added_up_whenever_counts_are_posted(steps: list[tuple[int, bool]]) -> None:
    """Exact counts: the loss is what was taken, whether and whenever the books were put right."""
    books = shelf = 100
    told: list[dict[str, Any] | None] = []
    for taken, post in steps:
        shelf -= taken
        told.append(row(books, shelf, "posted" if post else "held") if books != shelf else None)
        books = shelf if post else books
    found = losses(nights(*told))
    assert (found[0].units if found else 0) == (100 - shelf if 100 - shelf >= 2 else 0)
