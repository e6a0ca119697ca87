"""A night of faults against a real Tryton server: a fault between client and server at every request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from shelfscan.adapters.wms_tryton import TrytonWms
from shelfscan.errors import BadInput
from shelfscan.evaluation.faulty_wms import FaultyTransport
from shelfscan.evaluation.sync_campaign import FaultNight
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.ports import Ledger
from shelfscan.wms.port import StockRow

LOCATIONS = 12


class TrytonTill(TrytonWms):
    """The same system as the till sees it, over a good line."""

    begin_ns = 0

    def post_movement(self, location_code: str, sku: str, delta: float) -> None:
        """Pieces come or go, by an inventory that is no count of ours."""
        codes, products = self.known()
        on_hand = next((r.on_hand for r in self.stock_of(location_code) if r.sku == sku), 0.0)
        self.set_stock({(location_code, sku): on_hand + delta}, f"till {time.time_ns()}", codes, products)

    def stock_of(self, location_code: str) -> list[StockRow]:
        """One location's stock."""
        return [r for r in self.pull_stock() if r.location_code == location_code]

    def ask(self, location_code: str, sku: str) -> list[str]:
        """A person asks for a count with a draft inventory; the task's name."""
        codes, products = self.known()
        line = {"product": products[sku]}
        values = {"location": codes[location_code], "company": self.rpc.company(), "lines": [["create", [line]]]}
        return [str(n) for n in self.rpc.call("model.stock.inventory.create", [values], changes=True)]

    def set_stock(
        self, wanted: dict[tuple[str, str], float], number: str, codes: dict[str, int], products: dict[str, int]
    ) -> None:
        """Make the stock what is wanted, all in one call."""
        values = [
            {
                "number": f"{number} {n}",
                "location": codes[code],
                "company": self.rpc.company(),
                "empty_quantity": "keep",
                "lines": [["create", [{"product": products[sku], "quantity": units}]]],
            }
            for n, ((code, sku), units) in enumerate(wanted.items())
        ]
        made = self.rpc.call("model.stock.inventory.create", values, changes=True)
        self.rpc.call("model.stock.inventory.confirm", made, changes=True)


@dataclass(frozen=True)
class TrytonServer:
    """Where a test server is: ``http://user:password@host:port/database``, with at least a dozen storage locations."""

    url: str
    database: str
    user: str
    password: str

    @staticmethod
    def of(address: str) -> TrytonServer:
        """From an address. Raises `BadInput`."""
        parts = urlsplit(address)
        database = parts.path.strip("/")
        if not parts.hostname or not database or not parts.username:
            raise BadInput("--address: expected http://user:password@host:port/database of a Tryton *test* server")
        port = f":{parts.port}" if parts.port else ""
        return TrytonServer(
            f"{parts.scheme}://{parts.hostname}{port}", database, unquote(parts.username), unquote(parts.password or "")
        )

    def client(self, rows: tuple[WmsLocation, ...], transport: FaultyTransport | None = None) -> TrytonTill:
        """A client of this server."""
        return TrytonTill(self.url, self.database, self.user, self.password, rows, transport=transport)

    def night(self, seed: int, ledger: Ledger) -> FaultNight:
        """A night whose stock is put into the server's first dozen bins and products."""
        till = self.client(())
        codes, products = till.known(fresh=True)
        names = [c for c in sorted(codes) if c.count("-") >= 2][-LOCATIONS:]
        skus = sorted(products)[:LOCATIONS]
        if len(names) < LOCATIONS or len(skus) < LOCATIONS:
            raise BadInput(f"{self.url}/{self.database}: needs {LOCATIONS} storage locations and products with codes")
        where = {f"L{i}": names[i] for i in range(LOCATIONS)}
        what = {f"S{i}": skus[i] for i in range(LOCATIONS)}
        made: list[tuple[WmsLocation, ...]] = []

        def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> _Renamed:
            real = tuple(WmsLocation(where[r.location_code], r.scope, r.bin_id, what[r.sku], r.on_hand, 0) for r in rows)
            made.append(real)
            seeded = self.client(real)
            codes, products = seeded.known(fresh=True)
            drafts = seeded.rpc.read("stock.inventory", [["state", "=", "draft"]], [])
            if drafts:  # what another night left open
                seeded.rpc.call("model.stock.inventory.cancel", [int(d["id"]) for d in drafts], changes=True)
            seeded.set_stock({(r.location_code, r.sku): r.on_hand for r in real}, f"seed {time.time_ns()}", codes, products)
            time.sleep(0.05)  # the night begins after its stock is there
            return _Renamed(seeded, where, what)

        def line(wms: _Renamed, rng: random.Random, p: float, meanwhile: Callable[[], None]) -> _Renamed:
            transport = FaultyTransport(rng, p / 3, meanwhile)  # a submit is some ten requests
            return _Renamed(self.client(made[0], transport), where, what, transport)

        return FaultNight(seed, build, ledger, line, wall=True)


class _Renamed:
    """A client whose locations and products have a night's names."""

    def __init__(
        self,
        client: TrytonTill,
        where: dict[str, str],
        what: dict[str, str],
        transport: FaultyTransport | None = None,
    ) -> None:
        self._client, self._transport = client, transport
        self._where, self._what = where, what
        self._codes = {v: k for k, v in where.items()}
        self._skus = {v: k for k, v in what.items()}

    @property
    def faults(self) -> int:
        """How often something went wrong on the line."""
        return self._transport.faults if self._transport else 0

    def deliver_late(self) -> None:
        """What was stuck on the line arrives after all."""
        if self._transport:
            self._transport.deliver_late()

    def post_movement(self, location_code: str, sku: str, delta: float) -> None:
        """See `TrytonTill`."""
        self._client.post_movement(self._where[location_code], self._what[sku], delta)

    def ask(self, location_code: str) -> list[str]:
        """See `TrytonTill`."""
        return self._client.ask(self._where[location_code], self._what[f"S{location_code[1:]}"])

    def __getattr__(self, name: str) -> object:
        inner = getattr(self._client, name)
        if name in ("pull_locations", "pull_stock", "pull_products", "pull_movements", "pull_tasks"):

            def pulled(*args: object) -> list[object]:
                out: list[object] = []
                for row in inner(*args):
                    code, sku = getattr(row, "location_code", None), getattr(row, "sku", None)
                    # What else the server keeps there is none of the night's business.
                    mine = (code is None or code in self._codes) and (sku is None or sku in self._skus)
                    if mine and (code is None or sku is None or self._codes[code][1:] == self._skus[sku][1:]):
                        change = {"location_code": self._codes.get(code or ""), "sku": self._skus.get(sku or "")}
                        out.append(replace(row, **{k: v for k, v in change.items() if v is not None}))
                return out

            return pulled
        if name == "submit":

            def submit(doc: object) -> object:
                lines = tuple(
                    replace(x, location_code=self._where[x.location_code], sku=self._what[x.sku])
                    for x in doc.lines  # type: ignore[attr-defined]
                )
                return inner(replace(doc, lines=lines))  # type: ignore[type-var]

            return submit
        return inner
