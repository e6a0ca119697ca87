"""Counts that a system asks for on a night of faults, and whether those were answered that could be, and no others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shelfscan.errors import WmsTransient, WmsUnknown
from shelfscan.evaluation.faulty_wms import FaultyLine, Killed
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.stock import BinState, BinStatus
from shelfscan.wms.port import StockRow
from shelfscan.wms.report import SyncReport
from shelfscan.wms.tasks import ANSWERED, MOVED, CountTask


class Asked:
    """Asks for a count of about every third location. A system without a way to ask it (``ask``) asks for none.

    A task that the system itself says cannot be answered (``problem``) stays open, and is closed by nobody. What a system takes
    away by itself (``dropped``) is no answer.
    """

    def __init__(self, wms: Any, rows: Sequence[WmsLocation], seed: int) -> None:
        rng = random.Random(f"asked {seed}")  # its own: what else happens in a night stays as it was
        ask = getattr(wms, "ask", None)
        codes = [c for c in dict.fromkeys(r.location_code for r in rows) if rng.random() < 0.35] if ask else []
        self._wms = wms
        self._code_of = {ref: code for code in codes for ref in ask(code)} if ask else {}

    def check(self, report: SyncReport, bins: Mapping[str, BinState], first: Mapping[str, StockRow]) -> Counter[str]:
        """``misanswered``: closed by what was not counted, or open although its count stands in the system.

        ``first``: what there was when the shelves were looked at, which is what a count agrees with or not.
        """
        found: Counter[str] = Counter(asked=len(self._code_of), answered=0, misanswered=0)
        counted, said = {x.location_code: x for x in report.lines}, {t.ref: t.text for t in report.tasks}
        tasks = list(self._wms.pull_tasks()) if self._code_of else []
        left, never = {t.ref for t in tasks}, {t.ref for t in tasks if t.problem}
        for ref, code in self._code_of.items():
            line, closed = counted[code], ref not in left
            if closed and getattr(self._wms, "dropped", lambda ref: False)(ref):
                continue  # the system took it away by itself
            seen = bins[code].status is not BinStatus.UNSEEN and line.scope == "shelf"
            answers = ref not in never and seen and (line.outcome == "posted" or bins[code].units == first[code].on_hand)
            found["answered"] += closed
            if closed:
                found["misanswered"] += not answers
            else:
                # The last look at a line may have been disturbed by a sale; then another sync is due.
                found["misanswered"] += answers and line.outcome in ANSWERED and MOVED not in said.get(ref, "")
        return found


class FaultyTaskLine(FaultyLine):
    """A line to a system that asks for counts. What happens to its tasks is drawn apart from what happens to counts."""

    def __init__(self, inner: Any, rng: random.Random, p_fault: float, meanwhile: Any) -> None:
        super().__init__(inner, rng, p_fault, meanwhile)
        # Seeded by where the night's own numbers are, without drawing one of them.
        self._tasks, self._own = inner, random.Random(f"tasks {rng.getstate()[1][:4]}")

    def pull_tasks(self) -> Sequence[CountTask]:
        """As the system's."""
        if self._own.random() < self._p / 3:
            self.faults += 1
            raise self._own.choice((WmsTransient("503"), Killed()))
        return list(self._tasks.pull_tasks())

    def close_task(self, ref: str, text: str) -> None:
        """As the system's, or not, or twice."""
        if self._own.random() >= self._p:
            return self._tasks.close_task(ref, text)  # type: ignore[no-any-return]
        self.faults += 1
        what = self._own.choice(("refused", "lost request", "lost answer", "doubled", "kill before", "kill after"))
        if what == "refused":
            raise WmsTransient("503")
        if what in ("lost answer", "doubled", "kill after"):
            self._tasks.close_task(ref, text)
        if what.startswith("lost"):
            raise WmsUnknown("timeout")
        if what.startswith("kill"):
            raise Killed
        return self._tasks.close_task(ref, text)  # type: ignore[no-any-return]


def faulty_line(inner: Any, rng: random.Random, p_fault: float, meanwhile: Any) -> FaultyLine:
    """A line to ``inner``, with its tasks where staff can ask it for counts."""
    made = FaultyTaskLine if hasattr(inner, "ask") else FaultyLine
    return made(inner, rng, p_fault, meanwhile)
