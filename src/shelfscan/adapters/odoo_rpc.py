"""Odoo's two ways of being called: JSON-2 (Odoo 19 and later) and JSON-RPC (Odoo 17 and later)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx

from shelfscan.adapters.wms_http import HttpSystem
from shelfscan.errors import WmsAuth, WmsError, WmsRejected, WmsTransient, WmsUnknown

Api = Literal["json2", "jsonrpc"]
PAGE = 2000
_DENIED = ("AccessDenied", "AccessError")
_BUSINESS = ("UserError", "ValidationError", "MissingError", "ValueError", "KeyError", "TypeError", "AttributeError")
#: What Odoo says when a method that succeeded returned nothing: the change is committed.
_NOTHING = "cannot marshal None"


class OdooRpc:
    """Calls of models' methods as one user; errors in the port's terms. ``user`` is needed for JSON-RPC only."""

    def __init__(
        self,
        url: str,
        database: str,
        user: str,
        key: str,
        *,
        api: Api = "json2",
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}", "X-Odoo-Database": database} if api == "json2" else {}
        self._system = HttpSystem(url, timeout_s=timeout_s, headers=headers, transport=transport)
        self.url, self.database, self._user, self._key, self._api = self._system.url, database, user, key, api
        self._uid = 0
        self._version = 0
        self._number = itertools.count(1)

    def call(self, model: str, method: str, ids: Sequence[int] | None = None, *, changes: bool, **values: Any) -> Any:
        """What a method returns. Raises `WmsRejected` for what Odoo refuses, else see `HttpSystem.call`."""
        if self._api == "json2":
            body = {**values, **({} if ids is None else {"ids": list(ids)})}
            return self._system.call("POST", f"/json/2/{model}/{method}", changes=changes, json=body)
        if not self._uid:
            uid = self._json("common", "authenticate", [self.database, self._user, self._key, {}], False)
            if not uid or isinstance(uid, bool) or not isinstance(uid, int):
                raise WmsAuth(f"{self.url}: Odoo refused user {self._user!r} of database {self.database!r}")
            self._uid = uid
        args: list[Any] = [] if ids is None else [list(ids)]
        if "vals_list" in values:
            args.append(values.pop("vals_list"))  # by position: Odoo looks at the first argument
        return self._json("object", "execute_kw", [self.database, self._uid, self._key, model, method, args, values], changes)

    def read(self, model: str, domain: Sequence[Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Records by number; paged by number, so that what is added meanwhile shifts nothing."""
        out: list[dict[str, Any]] = []
        while True:
            wanted = [["id", ">", out[-1]["id"] if out else 0], *domain]
            page = self.call(
                model, "search_read", changes=False, domain=wanted, fields=["id", *fields], limit=PAGE, order="id asc"
            )
            if not isinstance(page, list) or any(not isinstance(r, dict) or "id" not in r for r in page):
                raise WmsTransient(f"{self.url}: {model}: an answer that is not Odoo's: {str(page)[:200]}")
            out += page
            if len(page) < PAGE:
                return out

    def create(self, model: str, values: Sequence[Mapping[str, Any]]) -> list[int]:
        """Make records, all or none; their numbers."""
        made = self.call(model, "create", changes=True, vals_list=[dict(v) for v in values])
        if not isinstance(made, list) or len(made) != len(values) or any(not isinstance(i, int) for i in made):
            raise WmsUnknown(f"{self.url}: {model}: an answer that is not Odoo's: {str(made)[:200]}")
        return made

    def change(self, model: str, method: str, ids: Sequence[int], **values: Any) -> None:
        """``write`` or ``unlink``, which say True when they are done."""
        said = self.call(model, method, ids, changes=True, **values)
        if said is not True:
            raise WmsUnknown(f"{self.url}: {model}.{method}: an answer that is not Odoo's: {str(said)[:200]}")

    def version(self) -> int:
        """Odoo's major version; JSON-2 says no more than that it is 19 or later."""
        if self._api == "json2":
            return 19
        if not self._version:
            said = self._json("common", "version", [], False)
            info = said.get("server_version_info") if isinstance(said, dict) else None
            if not isinstance(info, list) or not info:
                raise WmsTransient(f"{self.url}: an answer that is not Odoo's: {str(said)[:200]}")
            self._version = int(str(info[0]).removeprefix("saas~").split(".")[0])
        return self._version

    def _json(self, service: str, method: str, args: Sequence[Any], changes: bool) -> Any:
        params = {"service": service, "method": method, "args": list(args)}
        body = {"jsonrpc": "2.0", "id": next(self._number), "method": "call", "params": params}
        answer = self._system.call("POST", "/jsonrpc", changes=changes, json=body)
        unsure: type[WmsError] = WmsUnknown if changes else WmsTransient
        if not isinstance(answer, dict) or "jsonrpc" not in answer:
            raise unsure(f"{self.url}: an answer that is not Odoo's: {str(answer)[:200]}")
        error = answer.get("error")
        if error is None:
            return answer.get("result")  # Odoo leaves it out where a method returned nothing
        data = error.get("data") if isinstance(error, dict) else None
        data = data if isinstance(data, dict) else {}
        name, message = str(data.get("name", "")), str(data.get("message") or error)
        if _NOTHING in message:
            return None
        text = f"{self.url}: {'.'.join(str(a) for a in args[3:5]) or method}: {message[:300]}"
        if name.endswith(_DENIED):
            self._uid = 0
            raise WmsAuth(text)
        if name.endswith(_BUSINESS):
            raise WmsRejected(text)
        raise unsure(text)
