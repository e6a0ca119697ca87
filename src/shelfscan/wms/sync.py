"""Brings counts to a warehouse system, through ports only: each line's effect happens once, whatever is killed when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import tenacity

from shelfscan.errors import WmsConflict, WmsError, WmsRateLimited, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.model.bundle import Bundle
from shelfscan.model.gtin import gtin14
from shelfscan.model.stock import StockMap
from shelfscan.ports import Event, Ledger, OneWriter
from shelfscan.wms import outbox
from shelfscan.wms.document import BATCH_LINES, CountDocument, CountLine, document_key, line_id
from shelfscan.wms.observe import observations
from shelfscan.wms.outbox import DocState, Entry
from shelfscan.wms.port import LineResult, LineStatus, Receipt, WmsClient
from shelfscan.wms.report import SyncLine, SyncReport, TaskAnswer
from shelfscan.wms.rules import (
    NS,
    ApprovalPolicy,
    Decision,
    Outcome,
    ReconcileLine,
    Span,
    WmsView,
    reconcile,
    unmapped,
)
from shelfscan.wms.signals import signals_of
from shelfscan.wms.tasks import CountTask, TaskSource, answers, ref_of

_OUTCOME = {
    Outcome.EQUAL: "equal",
    Outcome.POST: "pending",
    Outcome.HOLD: "held",
    Outcome.RECOUNT: "recount",
    Outcome.IGNORE: "ignored",
}
_RESULT: dict[LineResult, tuple[str, str]] = {
    "applied": ("posted", "posted"),
    "conflict": ("conflict", "stock moved while this was being posted: nothing was changed, count again"),
    "rejected": ("rejected", "the warehouse system refused it"),
}


#: Beyond so many halvings in a mission it is not a line that is refused but the bridge.
MOST_SPLITS = 64


@dataclass(frozen=True, slots=True)
class Retry:
    """How often one step is tried in one sync, and how long it waits between (seconds, growing, with jitter)."""

    attempts: int = 4
    wait_s: float = 0.5
    max_wait_s: float = 10.0


def sync_run(
    stock_map: StockMap,
    bundle: Bundle,
    ledger: Ledger,
    client: WmsClient,
    policy: ApprovalPolicy,
    *,
    mission_id: str,
    now_ns: int,
    dry_run: bool = False,
    retry: Retry | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> SyncReport:
    """Reconcile a mission's stock map with the warehouse system and post what may be posted.

    Safe to call again at any time, also after a kill: what was posted is never posted again, what is in doubt is
    looked up first. Trouble with the warehouse system ends in a report with state "degraded", not in an exception.
    With ``dry_run`` nothing is written anywhere. ``now_ns``: UTC; must not be older than the map.
    """
    job = _Sync(stock_map, bundle, ledger, client, policy, mission_id, now_ns, retry or Retry(), sleep)
    return job.run(dry_run)


def decide(ledger: Ledger, mission_id: str, wms: str, decision: Decision) -> None:
    """Put a person's decision about a line into the ledger; the next sync acts on it."""
    key = f"{outbox.DECISION}/{mission_id}/{wms}/{decision.line_id}/{decision.at_ns}/{decision.who}"
    payload = {
        "mission_id": mission_id,
        "wms": wms,
        "decision": {name: getattr(decision, name) for name in Decision.__dataclass_fields__},
    }
    ledger.append([Event(outbox.DECISION, key, decision.at_ns, payload)])


class _Sync:
    """One sync of one mission with one warehouse system."""

    def __init__(
        self,
        stock_map: StockMap,
        bundle: Bundle,
        ledger: Ledger,
        client: WmsClient,
        policy: ApprovalPolicy,
        mission_id: str,
        now_ns: int,
        retry: Retry,
        sleep: Callable[[float], None],
    ) -> None:
        self._map, self._bundle, self._ledger, self._client, self._policy = stock_map, bundle, ledger, client, policy
        self._mission, self._now, self._retry, self._sleep = mission_id, now_ns, retry, sleep
        self._capabilities = client.capabilities()
        self._wms = self._capabilities.name

    def run(self, dry_run: bool) -> SyncReport:
        """See `sync_run`."""
        lines: list[ReconcileLine] = []
        view: WmsView | None = None
        tasks: Sequence[CountTask] = ()
        answered: list[TaskAnswer] = []
        trouble = ""
        try:
            with ExitStack() as rights:
                if not dry_run:
                    if isinstance(self._ledger, OneWriter):
                        rights.enter_context(self._ledger.writer(self._wms))
                    rights.enter_context(self._client.writer())
                    self._deliver_all()
                if self._capabilities.keeps_stock:
                    view = self._patiently(self._pull)
                if isinstance(self._client, TaskSource):
                    tasks = self._patiently(self._client.pull_tasks)
                lines = self._lines(view)
                if not dry_run:
                    self._queue([x for x in lines if x.outcome is Outcome.POST and x.line_id not in self._taken()], tasks)
                    self._deliver_all()
                if tasks:
                    answered = self._answers(tasks, self._report(lines, view, "", dry_run).lines, view)
                    answered = answered if dry_run else self._close(answered)
        except WmsError as e:
            trouble = str(e) or type(e).__name__
        report = replace(self._report(lines, view, trouble, dry_run), tasks=tuple(answered))
        if not dry_run:
            self._remember(report)
        return report

    def _answers(self, tasks: Sequence[CountTask], lines: Sequence[SyncLine], view: WmsView | None) -> list[TaskAnswer]:
        """What the lines say to each task.

        What moves between the pulls of stock and of movements makes a line look as if it agreed, or not. No post comes of that,
        for the version is another; a task would be closed by it. So stock is asked for once more, and agreeing counts only
        where it stood still.
        """
        if view is None:
            return answers(tasks, lines, self._bundle.wms)
        agrees = {(x.location_code, x.sku) for x in lines if x.outcome == "equal"}
        moved: set[tuple[str, str]] = set()
        if any(t.covers(*pair) for t in tasks for pair in agrees):
            now = {(s.location_code, s.sku): s.version for s in self._patiently(self._client.pull_stock)}
            moved = {pair for pair in agrees if pair not in view.stock or now.get(pair) != view.stock[pair].version}
        stock = [pair for pair, row in view.stock.items() if row.on_hand]
        return answers(tasks, lines, self._bundle.wms, stock, moved)

    def _close(self, answered: Sequence[TaskAnswer]) -> list[TaskAnswer]:
        """Tell the system which of its tasks are done; told twice, after a kill, it changes nothing.

        What came of each: one that the system does not let us close stays open, and the others are told all the same.
        """
        client, out = self._client, []
        assert isinstance(client, TaskSource)
        for t in answered:
            if t.state == "closed":
                said = f"shelfscan {self._mission}: {t.text}"
                try:
                    self._patiently(lambda t=t, said=said: client.close_task(t.ref, said))  # type: ignore[misc]
                except (WmsConflict, WmsRejected) as e:
                    t = replace(t, state="open", text=f"not closed: {e} ({t.text})")
            out.append(t)
        return out

    # What the warehouse system says

    def _pull(self) -> WmsView:
        # Stock before movements: what moves in between then shows as a movement or as another version, never as neither.
        places, products, stock = self._client.pull_locations(), self._client.pull_products(), self._client.pull_stock()
        starts = [s.from_ns for s in self._spans().values()]
        since = min(starts, default=self._now - int(self._policy.max_age_h * 3600 * NS))
        movements = self._client.pull_movements(since - int(self._policy.movement_margin_s * NS))
        return WmsView.of(places, products, stock, movements)

    def _spans(self) -> Mapping[str, Span]:
        """When each bin was looked at first and last, from the scans themselves."""
        out: dict[str, Span] = {}
        for stored in self._ledger.read(kinds=("bay_scan",)):
            p = stored.event.payload
            if p.get("mission_id") != self._mission:
                continue
            stamp = int(p["stamp_ns"])
            for c in p["coverage"]:
                before = out.get(c["bin_id"], Span(stamp, stamp))
                out[c["bin_id"]] = Span(min(before.from_ns, stamp), max(before.to_ns, stamp))
        return out

    def _lines(self, view: WmsView | None) -> list[ReconcileLine]:
        """What may happen with each line; without a view, the system keeps no stock."""
        decisions = outbox.decisions(self._ledger.read(kinds=(outbox.DECISION,)), self._mission, self._wms)
        if view is None:
            args = (self._map, self._bundle.catalogue, self._policy)
            return observations(*args, now_ns=self._now, spans=self._spans(), decisions=decisions)
        return reconcile(
            self._map,
            self._bundle.wms,
            self._bundle.catalogue,
            view,
            self._policy,
            now_ns=self._now,
            spans=self._spans(),
            decisions=decisions,
        )

    # The outbox

    def _entries(self) -> dict[str, Entry]:
        return outbox.entries(self._ledger.read(kinds=outbox.KINDS), self._mission, self._wms)

    def _taken(self) -> set[str]:
        """Lines that have an answer already or are on their way: they must never go out a second time."""
        return {x.line_id for e in self._entries().values() if e.state not in outbox.GONE for x in e.doc.lines}

    def _queue(self, lines: Sequence[ReconcileLine], tasks: Sequence[CountTask]) -> None:
        number = len(self._entries())
        size = min(BATCH_LINES, self._capabilities.max_lines)
        groups: dict[str, list[ReconcileLine]] = {}
        for x in lines:
            groups.setdefault(ref_of(tasks, x.location_code, x.sku), []).append(x)
        batches = [(ref, part[i : i + size]) for ref, part in groups.items() for i in range(0, len(part), size)]
        events = []
        for n, (ref, batch) in enumerate(batches, start=number):
            events.append(self._pending(n, tuple(self._count_line(i, x) for i, x in enumerate(batch, start=1)), ref))
        if events:
            self._ledger.append(events)

    def _pending(self, number: int, body: tuple[CountLine, ...], task_ref: str) -> Event:
        site = self._bundle.store.site
        key = document_key(site, self._mission, self._wms, number, body)
        doc = CountDocument(key, site, self._mission, self._now, body, wms_task_ref=task_ref)
        return self._event(DocState.PENDING, key, 0, doc=doc.to_json())

    def _count_line(self, number: int, x: ReconcileLine) -> CountLine:
        assert x.counted is not None and (x.on_hand is not None or not self._capabilities.keeps_stock)
        return CountLine(
            line_no=number,
            location_code=x.location_code,
            sku=x.sku,
            gtin14=gtin14(self._bundle.catalogue[x.sku].gtin),
            qty=x.counted,
            observed_from_ns=x.observed.from_ns,
            observed_to_ns=x.observed.to_ns,
            expected_qty=x.on_hand or 0.0,
            expected_version=x.expected_version,
            confidence=x.confidence,
            zero_confirmed=x.counted == 0 and bool(x.approved_by),
            evidence=x.evidence[0] if x.evidence else "",
        )

    def _deliver_all(self) -> None:
        tried: set[str] = set()
        # A document that is refused as a whole leaves two that were not there before.
        while todo := [i for i, e in self._entries().items() if i not in tried and (not e.final or e.doubtful)]:
            for doc_id in todo:
                tried.add(doc_id)
                self._patiently(lambda doc_id=doc_id: self._deliver(doc_id))  # type: ignore[misc]

    def _deliver(self, doc_id: str) -> None:
        """One try. Every try starts by looking the key up: the answer to an earlier one may have been lost."""
        entry = self._entries()[doc_id]
        if entry.final and not entry.doubtful:
            return
        receipt = self._client.find(doc_id)
        if receipt is not None:
            self._settle(entry, receipt)
            return
        if entry.final:
            return
        age_h = (self._now - entry.doc.observed_from_ns) / NS / 3600
        if self._capabilities.keeps_stock and age_h > self._policy.max_age_h:
            self._append(DocState.HELD, entry, message=f"not sent: counted {age_h:.1f} h ago")
            return
        self._append(DocState.SENDING, entry)
        entry = replace(entry, attempts=entry.attempts + 1)
        try:
            receipt = self._client.submit(entry.doc)
        except (WmsConflict, WmsRejected) as e:
            if self._split(entry, str(e)):
                return
            receipt = _all(entry.doc, "conflict" if isinstance(e, WmsConflict) else "rejected", str(e))
        except WmsUnknown as e:
            self._append(DocState.UNKNOWN, entry, message=str(e))
            raise
        except WmsError as e:
            self._append(DocState.FAILED, entry, message=str(e))
            raise
        self._settle(entry, receipt)

    def _split(self, entry: Entry, why: str) -> bool:
        """Put a document's halves in its place, so that one bad line does not take the others with it.

        Never after a try of unknown outcome: that one may still arrive, and must not meet its own halves.
        """
        entries, lines = self._entries(), entry.doc.lines
        unsure, splits = entry.attempts - entry.failed > 1, sum(e.state is DocState.SPLIT for e in entries.values())
        if unsure or len(lines) < 2 or splits >= MOST_SPLITS:
            return False
        events = [self._event(DocState.SPLIT, entry.doc.doc_id, entry.attempts, message=why)]
        middle = (len(lines) + 1) // 2
        for n, part in enumerate((lines[:middle], lines[middle:]), start=len(entries)):
            body = tuple(replace(x, line_no=i) for i, x in enumerate(part, start=1))
            events.append(self._pending(n, body, entry.doc.wms_task_ref))
        self._ledger.append(events)
        return True

    def _settle(self, entry: Entry, receipt: Receipt) -> None:
        answered, sent = sorted(s.line_no for s in receipt.lines), [x.line_no for x in entry.doc.lines]
        if answered != sent:
            raise WmsError(f"count document {entry.doc.doc_id}: sent {len(sent)} lines, answered were {answered}")
        self._append(outbox.state_of(receipt), entry, receipt=receipt.to_json())

    def _append(self, state: DocState, entry: Entry, **facts: Any) -> None:
        self._ledger.append([self._event(state, entry.doc.doc_id, entry.attempts, **facts)])

    def _event(self, state: DocState, doc_id: str, attempt: int, **facts: Any) -> Event:
        kind = f"{outbox.PREFIX}{state}"
        payload = {"mission_id": self._mission, "wms": self._wms, "doc_id": doc_id, **facts}
        # A document is queued and settled once; it is tried as often as it takes.
        once = state is DocState.PENDING or state in outbox.FINAL
        return Event(kind, f"{kind}/{doc_id}" + ("" if once else f"/{attempt}"), self._now, payload)

    def _patiently(self, step: Callable[[], Any]) -> Any:
        r = self._retry
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((WmsTransient, WmsUnknown, WmsRateLimited)),
            stop=tenacity.stop_after_attempt(r.attempts),
            wait=tenacity.wait_random_exponential(multiplier=r.wait_s, max=r.max_wait_s),
            sleep=self._sleep,
            reraise=True,
        )(step)

    # The report

    def _report(self, lines: Sequence[ReconcileLine], view: WmsView | None, trouble: str, dry_run: bool) -> SyncReport:
        on_the_way: dict[str, tuple[Entry, CountLine]] = {}
        for e in self._entries().values():
            # A line goes into a second document only after the first was held; should that one have arrived after all,
            # it is the one that counts.
            applied = {i for i, s in e.results().items() if s.result == "applied"}
            for x in e.doc.lines if e.state not in outbox.GONE else ():
                if x.line_id not in on_the_way or x.line_id in applied:
                    on_the_way[x.line_id] = (e, x)
        out = []
        for line in lines:
            entry, sent = on_the_way.pop(line.line_id, (None, None))
            out.append(self._line(line) if entry is None or sent is None else self._sent_line(entry, sent, line))
        out += [self._sent_line(entry, sent, None) for entry, sent in on_the_way.values()]
        here, there = unmapped(self._bundle.wms, view, self._bundle.store.places) if view else ((), ())
        states = {b.bin_id: b for b in self._map.bins}
        told = signals_of(lines, view, states, self._bundle.planogram, self._bundle.catalogue) if view else []
        state = "degraded" if trouble else "done"
        report = SyncReport(self._mission, self._wms, state, "", dry_run, tuple(out), here, there, tuple(told))
        said = ", ".join(f"{n} {outcome}" for outcome, n in report.counts.items() if n) or "nothing compared"
        if trouble:
            said = f"{self._wms}: {trouble} ({said}; nothing is lost, sync again)"
        return replace(report, text=said)

    def _line(self, x: ReconcileLine) -> SyncLine:
        reason = f"{'would be' if x.outcome is Outcome.POST else ''} posted: {x.reason}".strip()
        return self._made(x, _OUTCOME[x.outcome], reason if x.outcome is Outcome.POST else x.reason)

    def _made(self, x: ReconcileLine, outcome: str, reason: str, doc_id: str = "") -> SyncLine:
        product = self._bundle.catalogue.get(x.sku)
        return SyncLine(
            location_code=x.location_code,
            sku=x.sku,
            name=product.name if product else "",
            scope=x.scope,
            bin_id=" ".join(x.bins),
            counted=x.counted,
            counted_low=x.counted_low,
            counted_high=x.counted_high,
            on_hand=x.on_hand,
            delta=x.delta,
            value=x.value,
            confidence=x.confidence,
            outcome=outcome,
            reason=reason,
            observed_at=_iso(x.observed.to_ns),
            approvable=x.approvable and outcome in ("held", "ignored"),
            doc_id=doc_id,
            evidence=x.evidence,
        )

    def _sent_line(self, entry: Entry, sent: CountLine, x: ReconcileLine | None) -> SyncLine:
        """A line with a document: its numbers are those that were sent."""
        status, known = entry.results().get(sent.line_id), self._capabilities.keeps_stock
        if status is not None:
            outcome, reason = _RESULT[status.result]
            reason = f"{reason}: {status.message}" if status.message else reason
        else:
            outcome, reason = "pending", f"not answered yet ({entry.message or entry.state}); goes on with the next sync"
        line = ReconcileLine(
            sent.location_code,
            sent.sku,
            "shelf",
            x.bins if x else tuple(r.bin_id for r in self._bundle.wms if line_id(r.location_code, r.sku) == sent.line_id),
            Outcome.POST,
            reason,
            counted=sent.qty,
            counted_low=x.counted_low if x else sent.qty,
            counted_high=x.counted_high if x else sent.qty,
            on_hand=sent.expected_qty if known else None,
            confidence=sent.confidence,
            value=round(abs(sent.qty - sent.expected_qty) * self._bundle.catalogue[sent.sku].price, 2)
            if known and sent.sku in self._bundle.catalogue
            else 0.0,
            observed=Span(sent.observed_from_ns, sent.observed_to_ns),
            evidence=x.evidence if x else (sent.evidence,) if sent.evidence else (),
        )
        return self._made(line, outcome, reason, entry.doc.doc_id)

    def _remember(self, report: SyncReport) -> None:
        """Every decision and its reason, in the ledger; a sync that finds nothing new adds nothing."""
        data = report.to_json(equal=False)
        before = outbox.reports(self._ledger.read(kinds=(outbox.REPORT,)), self._mission, self._wms)
        if before and before[-1] == json.loads(json.dumps(data)):
            return
        key = f"{outbox.REPORT}/{self._mission}/{self._wms}/{len(before)}/{self._now}"
        payload = {"mission_id": self._mission, "wms": self._wms, "report": data}
        self._ledger.append([Event(outbox.REPORT, key, self._now, payload)])


def _all(doc: CountDocument, result: LineResult, message: str) -> Receipt:
    """A document that was refused as a whole."""
    return Receipt(doc.doc_id, "", tuple(LineStatus(x.line_no, result, message) for x in doc.lines))


def _iso(stamp_ns: int) -> str:
    if stamp_ns <= 0:
        return ""
    return datetime.fromtimestamp(stamp_ns / NS, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
