"""The list a person works through: one entry a cause, the most expected value first, and among equals as one walks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from shelfscan.model.stock import Finding
from shelfscan.model.store import BinPlace

#: Told of every bin of a bay, and put right in one go.
OF_A_BAY = ("stale_planogram",)


def to_work_through(findings: Iterable[Finding], places: Mapping[str, BinPlace]) -> list[Finding]:
    """Findings in the order to act on them, those of one cause as one.

    ``places`` in walking order (the layout's). Expected value is what is at stake times how sure it is; alarms come before
    what is only to be checked where nothing is at stake.
    """
    walk = {bin_id: n for n, bin_id in enumerate(places)}
    found: list[Finding] = []
    bays: dict[tuple[str, str], list[Finding]] = {}
    for f in findings:
        place = places.get(f.bin_id)
        if f.type in OF_A_BAY and place is not None:
            bays.setdefault((f.type, place.bay_id), []).append(f)
        else:
            found.append(f)
    for same in bays.values():
        first = min(same, key=lambda f: walk[f.bin_id])
        text = f"{first.suggestion} ({len(same)} places)" if len(same) > 1 else first.suggestion
        found.append(replace(first, confidence=max(f.confidence for f in same), suggestion=text))
    last = len(walk)
    return sorted(found, key=lambda f: (-round(f.value * f.confidence, 2), not f.alarm, walk.get(f.bin_id, last), f.type))
