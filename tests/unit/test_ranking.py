"""The list a person works through."""

from __future__ import annotations

from test_plan import made

from shelfscan.audit.ranking import to_work_through
from shelfscan.model.stock import Finding


def finding(bin_id: str, kind: str, value: float = 0.0, confidence: float = 0.9, alarm: bool = True) -> Finding:
    return Finding(f"{bin_id}/{kind}", bin_id, kind, "shelf", confidence, value, "do it", "", alarm)


def test_value_first_then_alarms_then_as_one_walks() -> None:
    store, _, _, _ = made("small", 1)
    a, b, c, *_ = store.places
    told = [
        finding(c, "turned"),
        finding(b, "turned", alarm=False),
        finding(a, "turned"),
        finding(c, "low", 2.0),
        finding(a, "out_of_stock", 2.0, 0.99),
    ]
    assert [f.finding_id for f in to_work_through(told, store.places)] == [
        f"{a}/out_of_stock",
        f"{c}/low",
        f"{a}/turned",
        f"{c}/turned",
        f"{b}/turned",
    ]


def test_a_planogram_out_of_date_is_one_entry_a_bay() -> None:
    store, _, _, _ = made("small", 1)
    bay = next(iter(store.places.values())).bay_id
    here = [p.bin_id for p in store.places.values() if p.bay_id == bay]
    other = next(p.bin_id for p in store.places.values() if p.bay_id != bay)
    told = to_work_through([finding(x, "stale_planogram") for x in [*reversed(here), other]], store.places)
    assert [f.bin_id for f in told] == [here[0], other]
    assert told[0].suggestion == f"do it ({len(here)} places)" and told[1].suggestion == "do it"
    assert to_work_through([finding("gone", "low")], store.places)[0].bin_id == "gone"
