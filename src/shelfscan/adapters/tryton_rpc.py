"""Tryton's JSON-RPC: sessions that end, and business errors that come in a 200."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import httpx

from shelfscan.adapters.wms_http import HttpSystem
from shelfscan.errors import WmsAuth, WmsConflict, WmsError, WmsRejected, WmsUnknown

PAGE = 1000
_BUSINESS = ("UserError", "UserWarning", "ValidationError", "AccessError")


class TrytonRpc:
    """Calls of one user in one database. ``context``: the user's preferences, once logged in."""

    def __init__(
        self,
        url: str,
        database: str,
        user: str,
        password: str,
        *,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._system = HttpSystem(url, timeout_s=timeout_s, transport=transport)
        self.url, self.database, self._user, self._password = self._system.url, database, user, password
        self._session = ""
        self.context: dict[str, Any] = {}
        self._number = itertools.count(1)

    def company(self) -> Any:
        """The company the user works for."""
        if not self._session:
            self._login()
        return self.context.get("company")

    def version(self) -> str:
        """The server's, which needs no login."""
        answer = self._system.call("POST", "/rpc/", changes=False, json=self._body("common.server.version"))
        return str(answer.get("result", answer) if isinstance(answer, dict) else answer)

    def rights(self, models: Sequence[str]) -> dict[str, bool]:
        """Which of these models the user may read."""
        found = self.call("model.ir.model.access.get_access", list(models), changes=False)
        try:
            # None: nobody restricts it.
            return {m: found[m]["read"] is None or bool(found[m]["read"]) for m in models}
        except (KeyError, TypeError) as e:
            raise WmsError(f"rights of {self._user!r}: an answer that is not Tryton's: {str(found)[:200]}") from e

    def read(self, model: str, domain: Sequence[Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Records by number."""
        out: list[dict[str, Any]] = []
        while True:
            page = self.call(
                f"model.{model}.search_read", list(domain), len(out), PAGE, [["id", "ASC"]], ["id", *fields], changes=False
            )
            out += page
            if len(page) < PAGE:
                return out

    def call(self, method: str, *params: Any, changes: bool, context: Mapping[str, Any] | None = None) -> Any:
        """What a method returns; ``context``: beside the user's own. See `HttpSystem.call` for what it raises."""
        if not self._session:
            self._login()
        body = self._body(method, *params, {**self.context, **(context or {})})
        headers = {"Authorization": f"Session {self._session}"}
        try:
            answer = self._system.call("POST", f"/{self.database}/rpc/", changes=changes, json=body, headers=headers)
        except WmsAuth:
            self._session = ""  # expired: the next call logs in again
            raise
        return self._result(method, answer, changes)

    def _login(self) -> None:
        body = self._body("common.db.login", self._user, {"password": self._password}, "en")
        answer = self._system.call("POST", f"/{self.database}/rpc/", changes=False, json=body)
        result = self._result("login", answer, False)
        if not isinstance(result, list) or len(result) < 2:
            raise WmsAuth(f"{self.url}: Tryton refused user {self._user!r}")
        self._session = base64.b64encode(f"{self._user}:{result[0]}:{result[1]}".encode()).decode()
        self.context = self.call("model.res.user.get_preferences", True, changes=False)

    def _body(self, method: str, *params: Any) -> dict[str, Any]:
        return {"id": next(self._number), "method": method, "params": list(params)}

    def _result(self, method: str, answer: Any, changes: bool) -> Any:
        if isinstance(answer, dict) and "error" in answer:
            error = answer["error"]
            kind = str(error[0]) if isinstance(error, list) and error else str(error)
            text = f"{method}: {' '.join(str(part) for part in error if part) if isinstance(error, list) else error}"
            if kind.startswith(("NotLogged", "LoginException", "401", "403")):
                self._session = ""
                raise WmsAuth(text)
            if "Concurrency" in kind:
                raise WmsConflict(text)
            if kind in _BUSINESS or "UserError" in kind:
                raise WmsRejected(text)
            raise WmsUnknown(text) if changes else WmsError(text)
        if not isinstance(answer, dict) or "result" not in answer:
            raise (WmsUnknown if changes else WmsError)(f"{method}: an answer that is not Tryton's: {str(answer)[:200]}")
        return answer["result"]


def written(at: datetime, seconds: float) -> dict[str, Any]:
    """Tryton's way of writing a time (UTC)."""
    t = datetime.fromtimestamp(at.timestamp() + seconds, timezone.utc)
    parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return {"__class__": "datetime", **{p: getattr(t, p) for p in parts}}


def ns_of(value: Any) -> int:
    """UTC nanoseconds of a time as Tryton writes it; 0 for none."""
    if isinstance(value, dict):
        parts = [int(value.get(p, 0)) for p in ("year", "month", "day", "hour", "minute", "second", "microsecond")]
        year, month, day, hour, minute, second, micro = parts
        at = datetime(year, month, day, hour, minute, second, micro, tzinfo=timezone.utc)
        return int(at.timestamp()) * 1_000_000_000 + micro * 1000
    return 0
