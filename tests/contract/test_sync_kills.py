"""A sync killed with -9 at every step it makes, once before and once after it: every count takes effect once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import postgres

from shelfscan.adapters.ledger_place import LedgerPlace, find_ledger, keep_place
from shelfscan.adapters.wms_builtin import BuiltinWms
from shelfscan.evaluation.sync_campaign import MINUTE, SITE, T0, bin_state, small_bundle
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.stock import StockMap
from shelfscan.ports import OneWriter
from shelfscan.stock.project import iso_utc
from shelfscan.wms.outbox import REPORT
from shelfscan.wms.rules import ApprovalPolicy
from shelfscan.wms.sync import Retry, sync_run

ROWS = tuple(WmsLocation(f"L{i}", "shelf", f"b{i}", f"S{i}", 5, 0) for i in range(3))
BUNDLE = small_bundle(ROWS)
STEPS = ("append", "read", "find", "submit", "pull_stock", "writer")


class Mortal:
    """Ends this process with -9 around the ``at``-th step that is taken through any of them."""

    steps = 0

    def __init__(self, inner: Any, at: int, after: bool) -> None:
        self._inner, self._at, self._after = inner, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._deadly(found) if name in STEPS else found

    def _deadly(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*args: Any, **kwargs: Any) -> Any:
            n, Mortal.steps = Mortal.steps, Mortal.steps + 1
            if n == self._at and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = step(*args, **kwargs)
            if n == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return taken


class MortalWriter(Mortal):
    """Of a ledger that has one writer."""

    def writer(self, wms: str) -> Any:
        return self._deadly(self._inner.writer)(wms)


def life(run: Path, at: int, after: bool) -> None:
    """A process that syncs."""
    ledger = find_ledger(run, site=SITE)
    client = BuiltinWms.open(run / "wms.sqlite", ROWS, BUNDLE.catalogue, clock=lambda: T0 + 30 * MINUTE)
    bins = tuple(bin_state(f"b{i}", f"S{i}", units, T0) for i, units in enumerate((2, 5, 7)))
    stock_map = StockMap(SITE, "m1", iso_utc(T0 + 5 * MINUTE), bins)
    kept: Any = (MortalWriter if isinstance(ledger, OneWriter) else Mortal)(ledger, at, after)
    system: Any = Mortal(client, at, after)
    report = sync_run(
        stock_map,
        BUNDLE,
        kept,
        system,
        ApprovalPolicy(auto_post=True),
        mission_id="m1",
        now_ns=T0 + 30 * MINUTE,
        retry=Retry(attempts=1, wait_s=0, max_wait_s=0),
    )
    ledger.close()
    os._exit(0 if report.ok else 3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    with postgres.running() as found:
        yield found


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_every_step(
    kind: str, after: bool, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELFSCAN_LEDGER_PASSWORD", postgres.PASSWORD)
    server = request.getfixturevalue("cluster").database() if kind == "postgresql" else None
    fork, deaths = multiprocessing.get_context("fork"), 0
    for at in range(200):
        run = tmp_path / str(at)
        run.mkdir()
        if server is not None:
            keep_place(run, LedgerPlace.new(str(server), "env:SHELFSCAN_LEDGER_PASSWORD", "auto", None, 30.0))
        codes = []
        for death in (at, -1):
            process = fork.Process(target=life, args=(run, death, after))
            process.start()
            process.join(60)
            codes.append(process.exitcode)
        assert codes[0] in (0, -signal.SIGKILL) and codes[1] == 0, codes
        wms = BuiltinWms.open(run / "wms.sqlite", ROWS, BUNDLE.catalogue)
        assert {s.location_code: s.on_hand for s in wms.pull_stock()} == {"L0": 2, "L1": 5, "L2": 7}
        counted = sorted(m.location_code for m in wms.pull_movements(0) if m.kind == "count")
        assert counted == ["L0", "L2"], f"killed {'after' if after else 'before'} step {at}"
        ledger = find_ledger(run)
        assert ledger.read(kinds=(REPORT,))[-1].event.payload["report"]["state"] == "done"
        ledger.close()
        deaths += codes[0] != 0
        if codes[0] == 0:
            break
    assert deaths >= 15
