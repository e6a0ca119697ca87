"""A stand-in for InvenTree's interface: tokens, rights, filters, pages by offset and how errors are written.

It is an `httpx` transport, and a server on loopback: ``python -m shelfscan.evaluation.inventree_stub STORE`` with a store
bundle. See `inventree_models` for what it does with stock.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from http.server import HTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from shelfscan.evaluation import stub_server
from shelfscan.evaluation.inventree_models import InvenTreeError, InvenTreeSystem, Row
from shelfscan.model.bundle import Bundle

USER, PASSWORD, TOKEN = "shelfscan", "stub-password", "inv-0000stub"
#: The rights of a role that may do what the bridge does.
RIGHTS = frozenset({"stock.view", "stock.add", "stock.change", "part.view", "stock_location.view"})
ADJUST = ("count", "add", "remove")
_NEEDS = {"/api/part/": "part", "/api/stock/location/": "stock_location", "/api/stock/": "stock", "/api/stock/track/": "stock"}
Answer = tuple[int, str]


class InvenTreeStub(httpx.BaseTransport):
    """One server. ``rights``: of the token's user; ``listed``: a made record comes in a list of one, as newer versions do."""

    def __init__(self, system: InvenTreeSystem, rights: frozenset[str] = RIGHTS, *, listed: bool = True) -> None:
        self.system, self.rights, self._listed = system, rights, listed
        #: Called after every page of a list: what somebody else does just then.
        self.meanwhile: Callable[[str], None] = lambda path: None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as InvenTree does; a request that fails changes nothing."""
        request.read()
        status, text = self.answer(request.method, str(request.url), dict(request.headers), request.content)
        return httpx.Response(status, headers={"content-type": "application/json"}, text=text, request=request)

    def answer(self, method: str, address: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """Status and text of one request; names in ``headers`` are small."""
        parts = urlsplit(address)
        path, query, given = parts.path, dict(parse_qsl(parts.query)), headers.get("authorization", "")
        try:
            if path == "/api/user/token/" and method == "GET":
                if given != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
                    raise InvenTreeError({"detail": "Invalid username/password."}, 401)
                return 200, json.dumps({"token": TOKEN, "name": "stub", "expiry": "2031-01-01"})
            if path == "/api/" and method == "GET":
                return 200, json.dumps({"server": "InvenTree", "version": "1.2.0", "apiVersion": 400, "instance": "stub"})
            if given != f"Token {TOKEN}":
                raise InvenTreeError({"detail": "Invalid token."}, 401)
            if method == "GET":
                return 200, json.dumps(self._list(path, query))
            if method != "POST":
                raise InvenTreeError({"detail": f'Method "{method}" not allowed.'}, 405)
            try:
                body = json.loads(content)
            except ValueError:
                raise InvenTreeError({"detail": "JSON parse error"}) from None
            return 201, json.dumps(self._change(path, body))
        except InvenTreeError as e:
            return e.status, json.dumps(e.body)

    def _may(self, right: str) -> None:
        if right not in self.rights:
            raise InvenTreeError({"detail": "You do not have permission to perform this action."}, 403)

    def _change(self, path: str, body: Row) -> Any:
        s, notes = self.system, str(body.get("notes") or "")
        if len(notes) > 512:
            raise InvenTreeError({"notes": ["Ensure this field has no more than 512 characters."]})
        if path == "/api/stock/":
            self._may("stock.add")
            return self._made(body)
        self._may("stock.change")
        what = path.removeprefix("/api/stock/").strip("/")
        if what in ADJUST:
            s.adjust(what, body.get("items"), notes)
        elif what == "change_status":
            s.change_status(body.get("items"), body.get("status", 10), str(body.get("note") or ""))
        elif what == "merge":
            s.merge(body.get("items"), body.get("location"), notes, body.get("allow_mismatched_status") is True)
        else:
            raise InvenTreeError({"detail": "Not found."}, 404)
        return body

    def _made(self, body: Row) -> Any:
        s = self.system
        if body.get("quantity") is None:
            raise InvenTreeError({"quantity": ["Quantity is required"]})
        if body.get("part") not in s.parts:
            raise InvenTreeError({"part": ["Valid part must be supplied"]})
        if body.get("location") not in s.locations or s.locations[body["location"]]["structural"]:
            raise InvenTreeError({"location": ["Stock items cannot be located into structural stock locations!"]})
        if len(str(body.get("batch") or "")) > 100:
            raise InvenTreeError({"batch": ["Ensure this field has no more than 100 characters."]})
        facts = {k: body[k] for k in ("batch", "status", "delete_on_deplete") if k in body}
        made = self._shown(s.items[s.make(body["part"], body["location"], float(body["quantity"]), **facts)])
        return [made] if self._listed else made

    def _shown(self, row: Row) -> Row:
        return {**row, "tracking_items": sum(t["item"] == row["pk"] for t in self.system.track.values())}

    def _list(self, path: str, query: dict[str, str]) -> Any:
        if path not in _NEEDS:
            raise InvenTreeError({"detail": "Not found."}, 404)
        self._may(f"{_NEEDS[path]}.view")
        s = self.system
        rows: list[Row]
        if path == "/api/part/":
            rows = list(s.parts.values())
        elif path == "/api/stock/location/":
            rows = list(s.locations.values())
        elif path == "/api/stock/":
            rows = self._items(query)
        else:
            rows = self._track(query)
        # Without a limit everything comes, as a bare list.
        if "limit" not in query:
            return rows
        limit, offset = int(query["limit"]), int(query.get("offset", 0))
        page, more = rows[offset : offset + limit], offset + limit < len(rows)
        following = f"http://inside.example{path}?{urlencode({**query, 'offset': str(offset + limit)})}" if more else None
        body = {"count": len(rows), "next": following, "previous": None, "results": page}
        self.meanwhile(path)
        return body

    def _items(self, query: dict[str, str]) -> list[Row]:
        s = self.system
        rows = list(s.items.values())
        if "location" in query:
            places = {int(query["location"])}
            # Sub-locations come along unless they are told not to.
            while query.get("cascade", "true").lower() in ("true", "1"):
                below = {p for p, x in s.locations.items() if x["parent"] in places} - places
                if not below:
                    break
                places |= below
            rows = [r for r in rows if r["location"] in places]
        if "part" in query:
            part = int(query["part"])
            variants = query.get("include_variants", "true").lower() in ("true", "1")
            rows = [r for r in rows if r["part"] == part or (variants and s.parts[r["part"]]["variant_of"] == part)]
        if "status" in query:
            rows = [r for r in rows if int(query["status"]) in (r["status"], r["status_custom_key"])]
        rows.sort(key=lambda r: (s.parts[r["part"]]["name"], r["quantity"], r["location"] or 0))
        return [self._shown(r) for r in rows]

    def _track(self, query: dict[str, str]) -> list[Row]:
        s = self.system
        rows = list(s.track.values())
        if "item" in query:
            if int(query["item"]) not in s.items:
                raise InvenTreeError({"item": ["Select a valid choice. That choice is not one of the available choices."]})
            rows = [t for t in rows if t["item"] == int(query["item"])]
        for word in query.get("search", "").split():
            rows = [t for t in rows if word.lower() in t["notes"].lower()]
        rows = sorted(rows, key=lambda t: (t["at_ns"], t["pk"]), reverse=query.get("ordering", "-date") == "-date")
        shown = [{k: v for k, v in t.items() if k != "at_ns"} for t in rows]
        if query.get("item_detail") == "true":
            shown = [{**t, "item_detail": self._shown(s.items[t["item"]])} for t in shown]
        return shown


def server(stub: InvenTreeStub, port: int = 0) -> HTTPServer:
    """The stand-in behind a socket of this computer. ``serve_forever`` runs it."""
    return stub_server.server(_answers(stub), port)


def _answers(stub: InvenTreeStub) -> stub_server.Answers:
    def answers(method: str, address: str, headers: Mapping[str, str], content: bytes) -> stub_server.Answer:
        status, text = stub.answer(method, address, headers, content)
        return status, stub_server.JSON, text

    return answers


def main() -> None:
    """Serve a store's stock until stopped."""

    def make(bundle: Bundle) -> stub_server.Answers:
        return _answers(InvenTreeStub(InvenTreeSystem(bundle.wms, bundle.catalogue)))

    stub_server.main(make, 8045, f"user: {USER}  password: {PASSWORD}  token: {TOKEN}")


if __name__ == "__main__":
    main()
