"""From a rule's own confidence to how often it is right: calibration tables, one a status and one a kind of finding, learned by
isotonic regression on nights whose truth is known (Zadrozny, Elkan 2002).

What the tables say is of the nights they were learned from; a site corrects them with its own recounts (`shifted`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from shelfscan.audit.match import BinMatch
from shelfscan.model.stock import BinState, BinStatus, Finding

Table = tuple[tuple[float, float], ...]
#: Of a kind of finding nothing was learned of, no more is claimed than this.
UNTRIED = 0.6


@dataclass(frozen=True)
class ConfidenceModel:
    """``tables``: by key, (raw, share right) with rising raw values; in between a straight line. Without tables nothing changes
    and every finding is an alarm. With them a finding is one from ``alarm_from`` on; what is less sure is something to check on
    the way."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    alarm_from: float = 0.95

    def right(self, key: str, raw: float, untried: float = 1.0) -> float:
        """The share of cases with this raw confidence that are right; without a table no more than ``untried``."""
        if not self.tables:
            return raw
        table = self.tables.get(key)
        if not table:
            return min(raw, untried)
        at = bisect_right([r for r, _ in table], raw)
        if at == 0 or at == len(table):
            return table[min(at, len(table) - 1)][1]
        (x0, y0), (x1, y1) = table[at - 1], table[at]
        return y0 + (y1 - y0) * (raw - x0) / (x1 - x0)

    def state(self, state: BinState, low_at_units: int, stale: bool) -> BinState:
        """A bin's state with its status' calibrated confidence; an UNSEEN one says nothing that could be wrong."""
        if not self.tables or state.status is BinStatus.UNSEEN:
            return state
        sure = self.right(status_key(state, stale), status_raw(state, low_at_units))
        return replace(state, confidence=round(sure, 3))

    def finding(self, finding: Finding, state: BinState, match: BinMatch, next_door: frozenset[str]) -> Finding:
        """A finding with its calibrated confidence, and whether it is an alarm. ``state`` is calibrated already."""
        if not self.tables:
            return finding
        if finding.type in ("low", "out_of_stock"):
            sure = state.confidence
        else:
            sure = self.right(finding_key(finding, match, next_door), finding.confidence, UNTRIED)
        return replace(finding, confidence=round(sure, 3), alarm=sure >= self.alarm_from)


def status_key(state: BinState, stale: bool) -> str:
    """The table of a bin's status."""
    return f"{'stale' if stale else 'status'}/{state.status}"


def status_raw(state: BinState, low_at_units: int) -> float:
    """What is known of a status before calibration: the rule's confidence, and the share of its belief that agrees."""
    if not state.units_pmf:
        return state.confidence
    mass = {BinStatus.OUT_OF_STOCK: 0.0, BinStatus.LOW: 0.0, BinStatus.OK: 0.0}
    for units, p in state.units_pmf:
        mass[BinStatus.OUT_OF_STOCK if units == 0 else BinStatus.LOW if units <= low_at_units else BinStatus.OK] += p
    return state.confidence * min(1.0, mass[state.status])


def finding_key(finding: Finding, match: BinMatch, next_door: frozenset[str]) -> str:
    """The table of a finding. A stranger that is planned next door is often a border seen a little off: it has its own."""
    if finding.type == "misplaced":
        strangers = {p.sku for p in match.placed if not p.planned}
        if strangers and strangers <= next_door:
            return "finding/misplaced next door"
    return f"finding/{finding.type}"


def shifted(model: ConfidenceModel, outcomes: Sequence[tuple[str, float, bool]], prior: float = 1.0) -> ConfidenceModel:
    """The model corrected by a site's recounts: (status key, confidence as published, right).

    Each status' odds are multiplied by one factor, the likeliest given the recounts and a normal prior of deviation ``prior``
    on its logarithm: few recounts change little, and a status nobody recounted keeps its table.
    """
    tables = dict(model.tables)
    for key in sorted({k for k, _, _ in outcomes}):
        told = [(min(max(p, 1e-3), 1 - 1e-3), ok) for k, p, ok in outcomes if k == key]
        shift = 0.0
        for _ in range(50):
            slope, curve = -shift / prior**2, -1 / prior**2
            for p, ok in told:
                q = 1 / (1 + math.exp(-(math.log(p / (1 - p)) + shift)))
                slope += ok - q
                curve -= q * (1 - q)
            shift -= slope / curve
        base = tables.get(key) or ((0.0, 0.001), (1.0, 0.999))
        tables[key] = tuple((r, _moved(p, shift)) for r, p in base)
    return ConfidenceModel(tables, model.alarm_from)


def _moved(p: float, shift: float) -> float:
    p = min(max(p, 1e-3), 1 - 1e-3)
    return round(1 / (1 + math.exp(-(math.log(p / (1 - p)) + shift))), 4)


IDENTITY = ConfidenceModel()
