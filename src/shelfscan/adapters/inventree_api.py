"""InvenTree's REST interface: the token, pages, and how it writes errors.

Lists come in pages by offset, in an order that changes with the stock itself, so a record can slip from one page to another
while they are read. A list is believed only when it has as many different records as it says, from its first page to its last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from shelfscan.adapters.wms_http import HttpSystem
from shelfscan.errors import WmsAuth, WmsRejected, WmsTransient, WmsUnknown

PAGE = 2000
READINGS = 5
#: What is read here and not in `HttpSystem`: the body says which record or right it was.
_OURS = (400, 403, 404, 405)


class InvenTreeRefused(WmsRejected):
    """InvenTree refused one request and did nothing; the text is its own."""


class Record(dict[str, Any]):
    """A record; to ask for what it has not got is an answer that cannot be used."""

    def __missing__(self, name: str) -> Any:
        raise WmsTransient(f"InvenTree: a record without {name}; is it version 1 or later?")


class InvenTreeApi:
    """One InvenTree server as one user."""

    def __init__(
        self, url: str, token: str, *, timeout_s: float = 60.0, transport: httpx.BaseTransport | None = None, page: int = PAGE
    ) -> None:
        headers = {"Authorization": f"Token {token}", "Accept": "application/json"}
        self._system = HttpSystem(url, timeout_s=timeout_s, headers=headers, transport=transport)
        self.url, self._page = self._system.url, page

    def rows(self, path: str, *, until: Callable[[Record], bool] | None = None, **params: Any) -> list[Record]:
        """All records of a list; with ``until``, those up to the first one it is true for, which stays out.

        ``until`` is for lists that begin with the newest record, where what is added while they are read does no harm.
        Raises `InvenTreeRefused`, `WmsTransient` when the list changed at every reading.
        """
        for _ in range(READINGS):
            found = self._read(path, until, params)
            if found is not None:
                return found
        raise WmsTransient(f"{self.url}{path}: the list changed whenever it was read")

    def _read(self, path: str, until: Callable[[Record], bool] | None, params: Mapping[str, Any]) -> list[Record] | None:
        out: dict[int, Record] = {}
        offset, total = 0, -1
        while True:
            body = self._ask("GET", path, changes=False, params={**params, "limit": self._page, "offset": offset})
            if (
                not isinstance(body, dict)
                or not isinstance(body.get("results"), list)
                or not isinstance(body.get("count"), int)
            ):
                raise WmsTransient(f"{self.url}{path}: an answer that is not InvenTree's: {str(body)[:200]}")
            count, page = body["count"], [Record(r) for r in body["results"]]
            if total >= 0 and (count < total or (count > total and until is None)):
                return None
            total = count
            for row in page:
                if until is not None and until(row):
                    return list(out.values())
                out[int(row["pk"])] = row
            offset += len(page)
            if not page or offset >= count:
                return list(out.values()) if len(out) == count or (until is not None and page) else None

    def change(self, path: str, body: Mapping[str, Any]) -> Any:
        """What InvenTree answers to a change. Raises `InvenTreeRefused` when it did nothing, else see `HttpSystem.call`."""
        return self._ask("POST", path, changes=True, json=dict(body))

    def create(self, path: str, body: Mapping[str, Any]) -> int:
        """Make one record; its number. Some versions answer with a list of one."""
        said = self.change(path, body)
        made = said[0] if isinstance(said, list) and len(said) == 1 else said
        if not isinstance(made, dict) or not isinstance(made.get("pk"), int):
            raise WmsUnknown(f"{self.url}{path}: an answer that is not InvenTree's: {str(said)[:200]}")
        return int(made["pk"])

    def about(self) -> str:
        """Name and version of the server, and of its interface. Raises `WmsTransient` for something else."""
        said = self._ask("GET", "/api/", changes=False)
        if not isinstance(said, dict) or said.get("server") != "InvenTree":
            raise WmsTransient(f"{self.url}/api/: an answer that is not InvenTree's: {str(said)[:200]}")
        return f"InvenTree {said.get('version')} (interface {said.get('apiVersion')})"

    def _ask(self, method: str, path: str, *, changes: bool, **request: Any) -> Any:
        response = self._system.send(method, path, changes=changes, passes=_OURS, **request)
        unsure = WmsUnknown if changes else WmsTransient
        try:
            said = response.json()
        except ValueError:
            text = response.text[:200].replace("\n", " ")
            raise unsure(f"{self.url}{path}: {response.status_code}: the answer is no JSON: {text}") from None
        if response.status_code == 403:
            raise WmsAuth(f"{self.url}{path}: 403: {_told(said)}; the user lacks a role's right, or the token is not its own")
        if response.status_code >= 400:
            raise InvenTreeRefused(f"{self.url}{path}: {response.status_code}: {_told(said)}")
        return said


def _told(said: Any) -> str:
    """An error's texts; they hang in the shape of the request, with empty places for what was right."""
    if isinstance(said, dict):
        parts = [f"{k}: {t}" if k not in ("detail", "non_field_errors") else t for k, v in said.items() if (t := _told(v))]
        return "; ".join(parts)[:300]
    if isinstance(said, list):
        return "; ".join(t for v in said if (t := _told(v)))[:300]
    return str(said)
