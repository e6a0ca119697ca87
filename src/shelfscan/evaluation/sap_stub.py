"""A stand-in for SAP Gateway: logins, CSRF tokens with their cookies, ETags, filters, pages and how errors are written.

It is an `httpx` transport, and a server on loopback: ``python -m shelfscan.evaluation.sap_stub STORE`` with a store bundle.
See `sap_models` for what it does with stock.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from http.server import HTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import httpx

from shelfscan.evaluation import stub_server
from shelfscan.evaluation.sap_models import ITEMS, SapError, SapSystem
from shelfscan.model.bundle import Bundle

USER, PASSWORD, CLIENT = "SHELFSCAN", "stub-password", "100"
ROOT = "/sap/opu/odata/sap/"
INVENTORY = "API_PHYSICAL_INVENTORY_DOC_SRV"
SERVICES = {
    "API_PRODUCT_SRV": ("A_Product", "A_ProductStorageLocation"),
    "API_MATERIAL_STOCK_SRV": ("A_MatlStkInAcctMod",),
    "API_MATERIAL_DOCUMENT_SRV": ("A_MaterialDocumentHeader", "A_MaterialDocumentItem"),
    INVENTORY: ("A_PhysInventoryDocHeader", "A_PhysInventoryDocItem"),
}
_COOKIE = f"SAP_SESSIONID_S4H_{CLIENT}"
_TOKEN = re.compile(r"\s*(\(|\)|and\b|or\b|(\w+)\s+(eq|ne|ge|le|gt|lt)\s+(datetime'[^']*'|'(?:[^']|'')*'|true|false))\s*")
Answer = tuple[int, dict[str, str], str]


class SapStub(httpx.BaseTransport):
    """One Gateway. ``page``: how many records it gives at once, whatever is asked for."""

    def __init__(self, system: SapSystem, page: int = 1000) -> None:
        self.system, self._page = system, page
        self._tokens: dict[str, str] = {}
        self._sessions = 0

    def expire(self) -> None:
        """All sessions end."""
        self._tokens.clear()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as SAP does; a request that fails changes nothing."""
        request.read()
        address = str(request.url)
        status, headers, text = self.answer(request.method, address, dict(request.headers), request.content)
        return httpx.Response(status, headers=headers, text=text, request=request)

    def answer(self, method: str, address: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """Status, head and text of one request; names in ``headers`` are small."""
        parts, kind = urlsplit(address), {"content-type": "application/json;charset=utf-8"}
        query = dict(parse_qsl(parts.query))
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if headers.get("authorization") != f"Basic {login}":
            return 401, {"content-type": "text/html"}, "<html>Logon failed</html>"
        if query.get("sap-client") != CLIENT:
            return 401, {"content-type": "text/html"}, "<html>Client not available</html>"
        service, _, rest = parts.path.removeprefix(ROOT).partition("/")
        try:
            if service not in SERVICES or not parts.path.startswith(ROOT):
                raise SapError("/IWFND/MED/170", f"No service found for namespace, name {service}", 404)
            wanted = headers.get("x-csrf-token", "")
            sent = re.search(rf"{_COOKIE}=(\w+)", headers.get("cookie", ""))
            session = sent[1] if sent else ""
            if method == "GET":
                if wanted.lower() == "fetch":
                    if session not in self._tokens:
                        self._sessions += 1
                        session = f"s{self._sessions}"
                        self._tokens[session] = f"token-{self._sessions}=="
                        kind["set-cookie"] = f"{_COOKIE}={session}; path=/; HttpOnly"
                    kind["x-csrf-token"] = self._tokens[session]
                if "json" not in headers.get("accept", "") and query.get("$format") != "json":
                    return 200, {**kind, "content-type": "application/atom+xml"}, "<feed/>"
                return 200, kind, json.dumps({"d": self._read(service, rest, query, parts.path)})
            if not session or self._tokens.get(session) != wanted:
                return 403, {"content-type": "text/plain", "x-csrf-token": "Required"}, "CSRF token validation failed"
            return self._change(method, service, unquote(rest), query, headers.get("if-match", ""), content, kind)
        except SapError as e:
            # The first message is often the least telling; a warning among the details is no error.
            details = [
                {"code": e.code, "message": str(e), "severity": "error"},
                {"code": "M7/130", "message": "Check the posting period", "severity": "warning"},
            ]
            inner = {"transactionid": "4F2A", "errordetails": details}
            error = {"code": e.code, "message": {"lang": "en", "value": str(e)}, "innererror": inner}
            return e.status, kind, json.dumps({"error": error})

    def _change(
        self, method: str, service: str, path: str, query: dict[str, str], etag: str, content: bytes, kind: dict[str, str]
    ) -> Answer:
        entity, _, key = path.partition("(")
        named = dict(re.findall(r"(\w+)='([^']*)'", key))
        n = named.get("PhysicalInventoryDocument", "")
        if service == INVENTORY:
            warning = {"code": "M7/131", "message": "Book quantity is old", "severity": "warning", "target": "", "details": []}
            try:
                body = json.loads(content) if content else {}
            except ValueError:
                raise SapError("/IWBEP/CM_MGW_RT/176", "The request body is no JSON") from None
            if (method, path) == ("POST", "A_PhysInventoryDocHeader"):
                made = self.system.create(body)
                return 201, kind, json.dumps({"d": self._shown("A_PhysInventoryDocHeader", made, ITEMS)})
            if (method, entity) == ("PATCH", "A_PhysInventoryDocItem"):
                self.system.count(n, body, etag)
                return 204, {"sap-message": json.dumps(warning)}, ""
            if (method, path) == ("POST", "PostDifferences"):
                year, n = (query.get(k, "").strip("'") for k in ("FiscalYear", "PhysicalInventoryDocument"))
                d = self.system.post(year, n)
                head = {**kind, "sap-message": json.dumps(warning)}
                return 200, head, json.dumps({"d": self._shown("A_PhysInventoryDocHeader", d, "")})
            if (method, entity) == ("DELETE", "A_PhysInventoryDocHeader"):
                self.system.delete(n, etag)
                return 204, {}, ""
        raise SapError("/IWFND/CM_MGW/096", f"Method '{method}' is not supported by {path}", 405)

    def _read(self, service: str, entity: str, query: dict[str, str], path: str) -> dict[str, Any]:
        if not entity:
            return {"EntitySets": list(SERVICES[service])}
        if entity not in SERVICES[service]:
            raise SapError("/IWFND/CM_MGW/008", f"Resource not found for segment '{entity}'", 404)
        rows = [r for r in self.system.table(entity) if _meets(r, query.get("$filter", ""))]
        for name in reversed([x for x in query.get("$orderby", "").split(",") if x]):
            rows.sort(key=lambda r: str(r[name.strip()]))
        first, token = int(query.get("$skip", 0)), int(query.get("$skiptoken", 0))
        wanted = rows[first : first + int(query.get("$top", 10**9))][token:]
        page = wanted[: self._page]
        out: dict[str, Any] = {"results": [self._shown(entity, r, query.get("$expand", "")) for r in page]}
        if len(wanted) > len(page):
            following = {**query, "$skiptoken": str(token + len(page))}
            out["__next"] = f"https://inside.example{path}?{urlencode(following)}"
        return out

    def _shown(self, entity: str, row: Mapping[str, Any], expand: str) -> dict[str, Any]:
        out = {k: v for k, v in row.items() if k[0].isupper()}
        out["__metadata"] = {"type": f"{entity}Type", **({"etag": row["etag"]} if "etag" in row else {})}
        if entity == "A_PhysInventoryDocHeader":
            items = [self._shown("A_PhysInventoryDocItem", i, "") for i in row[ITEMS]]
            out[ITEMS] = {"results": items} if expand == ITEMS else {"__deferred": {"uri": "…"}}
        if entity == "A_Product":
            out["to_Description"] = row["to_Description"] if expand == "to_Description" else {"__deferred": {"uri": "…"}}
        return out


def _meets(row: Mapping[str, Any], text: str) -> bool:
    """Whether a record meets a filter. Raises `SapError` for one that SAP would refuse."""
    if not text:
        return True
    said, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise SapError("/IWFND/CM_MGW_RT/004", f"Invalid filter: {text[at : at + 40]}")
        at = found.end()
        said.append(found[1] if not found[2] else str(_compare(row, found[2], found[3], found[4])))
    words = {"(": "(", ")": ")", "and": "and", "or": "or", "True": "True", "False": "False"}
    try:
        return bool(eval(" ".join(words[w] for w in said), {"__builtins__": {}}))  # only those words
    except SyntaxError:
        raise SapError("/IWFND/CM_MGW_RT/004", f"Invalid filter: {text[:40]}") from None


def _compare(row: Mapping[str, Any], name: str, operator: str, literal: str) -> bool:
    if name not in row:
        raise SapError("/IWFND/CM_MGW_RT/004", f"Property {name} is not known")
    have: Any = row[name]
    want: Any = literal == "true" if literal in ("true", "false") else literal.strip("'").replace("''", "'")
    if literal.startswith("datetime"):
        from datetime import datetime, timezone

        want = int(datetime.fromisoformat(literal[9:-1]).replace(tzinfo=timezone.utc).timestamp()) * 1000
        have = int(str(have)[6:-2])
    if type(have) is not type(want):
        raise SapError("/IWFND/CM_MGW_RT/004", f"Property {name} is of another type")
    order = (have > want) - (have < want)
    tests: dict[str, bool] = {
        "eq": order == 0,
        "ne": order != 0,
        "ge": order >= 0,
        "le": order <= 0,
        "gt": order > 0,
        "lt": order < 0,
    }
    return tests[operator]


def server(stub: SapStub, port: int = 0) -> HTTPServer:
    """The stand-in behind a socket of this computer. ``serve_forever`` runs it."""
    return stub_server.server(stub.answer, port)


def main() -> None:
    """Serve a store's stock until stopped."""

    def make(bundle: Bundle) -> stub_server.Answers:
        return SapStub(SapSystem(bundle.wms, bundle.catalogue)).answer

    stub_server.main(make, 8044, f"client: {CLIENT}  user: {USER}  password: {PASSWORD}  plant: 1010")


if __name__ == "__main__":
    main()
