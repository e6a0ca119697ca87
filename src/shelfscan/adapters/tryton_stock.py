"""What Tryton says about locations, products, stock and moves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from shelfscan.adapters.tryton_rpc import TrytonRpc
from shelfscan.errors import WmsTransient

ROUNDS = 3
#: On hand and version of what never moved.
NOTHING = (0.0, "0")


class TrytonStock:
    """Reads one database."""

    def __init__(self, rpc: TrytonRpc) -> None:
        self._rpc = rpc
        self._ids: tuple[dict[str, int], dict[str, int]] | None = None
        self._reads_periods: bool | None = None

    def known(self, fresh: bool = False) -> tuple[dict[str, int], dict[str, int]]:
        """Ids of storage locations by code, and of products by code."""
        if self._ids is None or fresh:
            places = self._rpc.read("stock.location", [["type", "=", "storage"], ["code", "!=", None]], ["code"])
            products = self._rpc.read("product.product", [["code", "!=", None]], ["code"])
            self._ids = (
                {str(r["code"]): int(r["id"]) for r in places if r["code"]},
                {str(r["code"]): int(r["id"]) for r in products if r["code"]},
            )
        return self._ids

    def stock(self, pairs: Collection[tuple[str, str]] | None = None) -> dict[tuple[str, str], tuple[float, str]]:
        """What is on hand and its version.

        Tryton lets nothing move on a day of a closed period and keeps what there was at its end; only later moves are added up.
        """
        for _ in range(ROUNDS):
            period, day = self._period()
            stock = self._cached(period, pairs) if period else {}
            after = [["effective_date", ">", day]] if period else []
            for move_id, pair, delta, _ in self.moves(after, pairs):  # by number
                stock[pair] = (stock.get(pair, NOTHING)[0] + delta, str(move_id))
            if self._period() == (period, day):  # else its cache may have been taken away under our hands
                return stock
        raise WmsTransient("Tryton: stock periods are opened and closed just now")

    def _period(self) -> tuple[int, Any]:
        """The last closed period and its day; 0 for none, or where this user may not read them."""
        if self._reads_periods is None:
            # Asked, and not told from a refusal: that comes in the user's language, and looks like any other.
            rights = self._rpc.rights(("stock.period", "stock.period.cache"))
            self._reads_periods = all(rights.values())
        if not self._reads_periods:
            return 0, None
        where = [["state", "=", "closed"], ["company", "=", self._rpc.company()]]
        found = self._rpc.read("stock.period", where, ["date"])
        last = max(found, key=lambda r: (r["date"]["year"], r["date"]["month"], r["date"]["day"], r["id"]), default=None)
        return (int(last["id"]), last["date"]) if last else (0, None)

    def _cached(self, period: int, pairs: Collection[tuple[str, str]] | None) -> dict[tuple[str, str], tuple[float, str]]:
        codes, products = self.known()
        names, skus = {v: k for k, v in codes.items()}, {v: k for k, v in products.items()}
        where: list[Any] = [["period", "=", period]]
        if pairs is not None:
            where += [["location", "in", [codes[c] for c, _ in pairs if c in codes]]]
            where += [["product", "in", [products[s] for _, s in pairs if s in products]]]
        else:
            where += [["location", "in", list(names)]]
        rows = self._rpc.read("stock.period.cache", where, ["location", "product", "internal_quantity"])
        found = {(names[r["location"]], skus.get(r["product"], "")): float(r["internal_quantity"] or 0) for r in rows}
        return {pair: (units, f"p{period}") for pair, units in found.items() if pair[1] and (pairs is None or pair in pairs)}

    def moves(
        self, domain: Sequence[Any], pairs: Iterable[tuple[str, str]] | None = None
    ) -> Iterable[tuple[int, tuple[str, str], float, dict[str, Any]]]:
        """Done moves as (number, (location, product), pieces more, the row), by number; twice where both ends are ours."""
        codes, products = self.known()
        chosen = set(pairs) if pairs is not None else None
        names = {v: k for k, v in codes.items() if chosen is None or any(c == k for c, _ in chosen)}
        skus = {v: k for k, v in products.items() if chosen is None or any(s == k for _, s in chosen)}
        if not names or not skus:
            return
        at = ["OR", [["from_location", "in", list(names)]], [["to_location", "in", list(names)]]]
        wanted = [["state", "=", "done"], at, *domain]
        if chosen is not None:
            wanted.append(["product", "in", list(skus)])
        fields = ["product", "internal_quantity", "from_location", "to_location", "write_date", "create_date", "origin"]
        for row in self._rpc.read("stock.move", wanted, fields):
            for side, sign in (("from_location", -1.0), ("to_location", 1.0)):
                pair = (names.get(row[side], ""), skus.get(row["product"], ""))
                if all(pair) and (chosen is None or pair in chosen):
                    yield int(row["id"]), pair, sign * float(row["internal_quantity"]), row

    def references(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Numbers of the inventories that moves come from, by the move's origin."""
        origins = {str(r["origin"]) for r in rows if str(r["origin"] or "").startswith("stock.inventory.line,")}
        ids = sorted(int(o.partition(",")[2]) for o in origins)
        if not ids:
            return {}
        lines = self._rpc.read("stock.inventory.line", [["id", "in", ids]], ["inventory"])
        wanted = sorted({int(r["inventory"]) for r in lines})
        numbers = {
            int(r["id"]): str(r["number"] or "") for r in self._rpc.read("stock.inventory", [["id", "in", wanted]], ["number"])
        }
        return {f"stock.inventory.line,{r['id']}": numbers.get(int(r["inventory"]), "") for r in lines}
