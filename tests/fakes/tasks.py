"""Systems of every kind, and how their staff ask them for counts."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from fakes.night import HOUR, T0, bundle, state, stock_map
from shelfscan.adapters.wms_builtin import BuiltinWms
from shelfscan.evaluation.folder_stub import FolderSystem, FolderTill
from shelfscan.evaluation.inventree_night import InvenTreeTill
from shelfscan.evaluation.odoo_night import OdooTill
from shelfscan.evaluation.sap_models import ITEMS
from shelfscan.evaluation.sap_night import SapTill
from shelfscan.evaluation.tryton_night import TrytonServer
from shelfscan.evaluation.webhook_stub import WebhookService, WebhookTill
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.stock import BinStatus
from shelfscan.ports import Ledger
from shelfscan.stock.project import iso_utc
from shelfscan.wms.report import SyncReport
from shelfscan.wms.rules import ApprovalPolicy
from shelfscan.wms.sync import sync_run

ROWS = (
    WmsLocation("L1", "shelf", "b1", "A", 7, 4),
    WmsLocation("L2", "shelf", "b2", "B", 3, 0),
    WmsLocation("L3", "site", "b3", "C", 9, 5),
    WmsLocation("L4", "shelf", "b4", "D", 2, 0),
    WmsLocation("L4", "shelf", "b5", "E", 2, 0),
)
#: What a run counts: one differs, one agrees, the site is a lower bound, of the last two one differs.
COUNTED = {"b1": 5, "b2": 3, "b3": 2, "b4": 2, "b5": 1}
#: Of those that need no server. The last closes none.
KINDS = ("builtin", "webhook", "odoo-json2", "odoo-jsonrpc", "folder", "folder-sftp", "inventree", "sap")


class Asks:
    """A system of one kind with the stock of `ROWS`; ``row``: names of locations and products as this system has them."""

    def __init__(self, kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
        self.kind, self.number, self.rows = kind.partition("-")[0], 0, ROWS
        self.names: dict[str, str] = {}
        self.wall = self.kind == "tryton"
        catalogue = bundle(ROWS).catalogue
        if self.kind == "builtin":
            self.client: Any = BuiltinWms.open(folder / "wms.sqlite", ROWS, catalogue, clock=self.now)
        elif self.kind == "webhook":
            self.service = WebhookService(ROWS, catalogue, self.now)
            self.client = WebhookTill(self.service, ROWS)
        elif self.kind == "odoo":
            self.client = OdooTill.of(ROWS, catalogue, self.now, "jsonrpc" if kind.endswith("jsonrpc") else "json2")
        elif self.kind == "inventree":
            self.client = InvenTreeTill.of(ROWS, catalogue, self.now)
        elif self.kind == "sap":
            self.client = SapTill.of(ROWS, catalogue, self.now)
        elif self.kind == "folder":
            system = FolderSystem(folder / "wms", ROWS, catalogue, self.now)
            files = request.getfixturevalue("sshd").exchange(system.root) if kind == "folder-sftp" else None
            self.client = FolderTill(system, ROWS, files=files)
        else:
            self._tryton(TrytonServer.of(request.getfixturevalue("tryton")))

    def _tryton(self, server: TrytonServer) -> None:
        codes, products = server.client(()).known(fresh=True)
        places, skus = [c for c in sorted(codes) if "-" in c], sorted(products)
        self.names = {f"L{n}": places[n] for n in range(1, 5)} | {s: skus[n] for n, s in enumerate("ABCDE")}
        self.rows = tuple(replace(r, location_code=self.name(r.location_code), sku=self.name(r.sku), backroom=0) for r in ROWS)
        self.client = server.client(self.rows)
        drafts = self.client.rpc.read("stock.inventory", [["state", "=", "draft"]], [])
        if drafts:
            self.client.rpc.call("model.stock.inventory.cancel", [int(d["id"]) for d in drafts], changes=True)
        there = {(s.location_code, s.sku): 0.0 for s in self.client.pull_stock() if s.location_code in places[1:5]}
        wanted = {**there, **{(r.location_code, r.sku): float(r.on_hand) for r in self.rows}}
        self.client.set_stock(wanted, f"seed {time.time_ns()}", codes, products)
        time.sleep(0.1)

    @property
    def closes(self) -> bool:
        """Whether counts of ours close tasks of this kind."""
        return self.kind != "sap"

    def name(self, plain: str) -> str:
        """What this system calls it."""
        return self.names.get(plain, plain)

    def plain(self, name: str) -> str:
        """The other way."""
        return next((k for k, v in self.names.items() if v == name), name)

    def now(self) -> int:
        """The system's time."""
        return time.time_ns() if self.wall else T0 + HOUR

    def ask(self, location: str, *skus: str) -> list[str]:
        """Ask for a count of products, or of all that is kept there; the tasks' names."""
        self.number += 1
        n, kept = self.number, [r.sku for r in ROWS if r.location_code == location]
        if self.kind == "tryton":
            return [self._draft(location, skus)]
        if self.kind == "odoo":
            day = date.today().isoformat()
            return [f"{self.client.odoo.request_count(location, s, day)}@{day}" for s in skus or kept]
        if self.kind == "inventree":
            return list(self.client.ask(location, *skus))
        if self.kind == "sap":
            body = {"Plant": "1010", "StorageLocation": location, "PhysInventoryPlannedCountDate": "2030-01-01T00:00:00"}
            made = [self.client.system.create({**body, ITEMS: [{"Material": s}]}) for s in skus or kept]
            return [f"{d['n']}/2030" for d in made]
        out = []
        for s in skus or ("",):
            if self.kind == "builtin":
                out.append(str(self.client.post_task(location, s, note="please")))
            elif self.kind == "webhook":
                out.append(f"T/{n}{s}")
                self.service.tasks[out[-1]] = {"place": {"code": location}, "sku": s, "note": "please"}
            else:
                out.append(f"T-{n}{s}")
                self.drop(f"tasks-{n}{s}.csv", f"ref,location_code,sku,note\n{out[-1]},{location},{s},please\n")
        return out

    def drop(self, name: str, text: str) -> None:
        """A file of the system's."""
        path = self.client.system.root / "in" / name
        path.with_suffix(".part").write_text(text)
        path.with_suffix(".part").rename(path)

    def _draft(self, location: str, skus: tuple[str, ...]) -> str:
        codes, products = self.client.known(fresh=True)
        values: dict[str, Any] = {"location": codes[self.name(location)], "company": self.client.rpc.company()}
        if skus:
            values["lines"] = [["create", [{"product": products[self.name(s)]} for s in skus]]]
        (made,) = self.client.rpc.call("model.stock.inventory.create", [values], changes=True)
        time.sleep(0.05)
        return str(made)

    def open(self) -> list[str]:
        """Names of the open tasks."""
        return [t.ref for t in self.client.pull_tasks()]

    def stock(self) -> dict[tuple[str, str], float]:
        """What is there of these tests, by location and product."""
        mine = {(r.location_code, r.sku) for r in ROWS}
        found = {(self.plain(s.location_code), self.plain(s.sku)): s.on_hand for s in self.client.pull_stock()}
        return {pair: units for pair, units in found.items() if pair in mine}

    def counts(self) -> int:
        """Movements of counts of ours on the locations of these tests."""
        mine = {self.name(f"L{n}") for n in range(1, 5)}
        return sum(m.kind == "count" and m.location_code in mine for m in self.client.pull_movements(0))

    def sync(
        self,
        ledger: Ledger,
        *,
        auto: bool = True,
        rows: tuple[WmsLocation, ...] | None = None,
        unseen: tuple[str, ...] = (),
        mission: str = "m1",
        at: int | None = None,
        **options: Any,
    ) -> SyncReport:
        """What a night says to the tasks."""
        at = at or (self.now() if self.wall else T0)
        rows = self.rows if rows is None else rows
        facts: dict[str, Any] = {"observed_at": iso_utc(at)}
        hidden: dict[str, Any] = {"status": BinStatus.UNSEEN, "reason": "occluded"}
        bins = [state(r.bin_id, r.sku, COUNTED[r.bin_id], **facts, **(hidden if r.bin_id in unseen else {})) for r in self.rows]
        policy = ApprovalPolicy(auto_post=auto, **({"movement_margin_s": 0.0} if self.wall else {}))
        taken = replace(stock_map(*bins, mission_id=mission), created_at=iso_utc(at))
        options = {"now_ns": self.now(), "sleep": lambda s: None, **options}
        return sync_run(taken, bundle(rows), ledger, self.client, policy, mission_id=mission, **options)
