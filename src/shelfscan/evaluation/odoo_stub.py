"""A stand-in for an Odoo server: JSON-2 as in Odoo 19, JSON-RPC as in 17, and how both report what went wrong, or did not.

It is an `httpx` transport, and a server on loopback: ``python -m shelfscan.evaluation.odoo_stub STORE`` with a store bundle.
See `odoo_models` for what it does with stock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import HTTPServer
from typing import Any

import httpx

from shelfscan.evaluation import stub_server
from shelfscan.evaluation.odoo_models import OdooDatabase, OdooError
from shelfscan.model.bundle import Bundle

KEY, USER, DATABASE = "stub-key", "shelfscan", "stub"


class OdooStub(httpx.BaseTransport):
    """One server. ``major``: before 19 there is JSON-RPC only, and packages have another name."""

    def __init__(self, database: OdooDatabase, major: int = 19) -> None:
        self._database, self._major = database, major

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as Odoo does; a call that fails changes nothing."""
        request.read()
        status, answer = self.answer(request.url.path, request.headers.get("authorization", ""), request.content)
        return httpx.Response(status, json=answer, request=request)

    def answer(self, path: str, authorization: str, content: bytes) -> tuple[int, Any]:
        """Status and JSON of one POST."""
        try:
            body = json.loads(content or b"{}")
        except ValueError:
            return 400, {"name": "werkzeug.exceptions.BadRequest", "message": "no JSON"}
        if path == "/jsonrpc":
            return 200, {"jsonrpc": "2.0", "id": body.get("id"), **self._jsonrpc(body.get("params", {}))}
        parts = path.strip("/").split("/")
        try:
            if len(parts) != 4 or parts[:2] != ["json", "2"] or self._major < 19:
                raise OdooError(404, "werkzeug.exceptions.NotFound", "Did you mean POST /json/2/<model>/<method>?")
            if authorization != f"Bearer {KEY}":
                raise OdooError(401, "werkzeug.exceptions.Unauthorized", "Invalid apikey")
            context, ids = body.pop("context", {}), body.pop("ids", [])
            return 200, self._database.transaction(parts[2], parts[3], ids, body, context)
        except OdooError as e:
            return e.status, {"name": e.name, "message": str(e), "arguments": [str(e)], "context": {}}

    def _jsonrpc(self, params: Mapping[str, Any]) -> dict[str, Any]:
        service, method, args = params.get("service"), params.get("method"), list(params.get("args", []))
        if (service, method) == ("common", "version"):
            return {
                "result": {"server_version": f"{self._major}.0", "server_version_info": [self._major, 0, 0, "final", 0, ""]}
            }
        if (service, method) == ("common", "authenticate"):
            return {"result": 2 if args[:3] == [DATABASE, USER, KEY] else False}
        try:
            if args[:3] != [DATABASE, 2, KEY]:
                raise OdooError(200, "odoo.exceptions.AccessDenied", "Access Denied")
            model, name, positional, keywords = str(args[3]), str(args[4]), list(args[5]), dict(args[6])
            context = keywords.pop("context", {})
            if name == "create":
                keywords["vals_list"] = positional.pop(0)
            ids = positional.pop(0) if positional else []
            if model == ("stock.package" if self._major < 19 else "stock.quant.package"):
                raise OdooError(200, "builtins.KeyError", model)
            result = self._database.transaction(
                model.replace("stock.quant.package", "stock.package"), name, ids, keywords, context
            )
        except OdooError as e:
            data = {"name": e.name, "message": str(e), "arguments": [str(e)], "debug": "Traceback ..."}
            return {"error": {"code": 200, "message": "Odoo Server Error", "data": data}}
        if result is None:
            # The change is committed, and then its answer cannot be written.
            text = "cannot marshal None unless allow_none is enabled"
            return {
                "error": {"code": 200, "message": "Odoo Server Error", "data": {"name": "builtins.TypeError", "message": text}}
            }
        return {"result": result}


def server(stub: OdooStub, port: int = 0) -> HTTPServer:
    """The stand-in behind a socket of this computer. ``serve_forever`` runs it."""
    return stub_server.server(_answers(stub), port)


def _answers(stub: OdooStub) -> stub_server.Answers:
    def answers(method: str, address: str, headers: Mapping[str, str], content: bytes) -> stub_server.Answer:
        if method != "POST":
            return 405, stub_server.JSON, json.dumps({"name": "werkzeug.exceptions.MethodNotAllowed", "message": method})
        status, said = stub.answer(address, headers.get("authorization", ""), content)
        return status, stub_server.JSON, json.dumps(said)

    return answers


def main() -> None:
    """Serve a store's stock until stopped."""

    def make(bundle: Bundle) -> stub_server.Answers:
        return _answers(OdooStub(OdooDatabase(bundle.wms, bundle.catalogue)))

    stub_server.main(make, 8069, f"database: {DATABASE}  user: {USER}  key: {KEY}")


if __name__ == "__main__":
    main()
