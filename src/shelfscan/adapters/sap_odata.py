"""SAP Gateway's OData version 2: sessions and CSRF tokens, ETags, pages, and how it writes errors, dates and decimals.

A change needs a token and the cookie of the session it was given in. When the session ends, SAP says so with 403 and
``x-csrf-token: Required``; nothing was done then, so the change is sent once more with a new token.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from shelfscan.adapters.wms_http import HttpSystem
from shelfscan.errors import WmsAuth, WmsRejected, WmsTransient, WmsUnknown

ROOT = "/sap/opu/odata/sap"
PAGE = 5000
#: What is read here and not in `HttpSystem`: their text or their head says what it was.
_OURS = (400, 403, 404, 405, 409, 412, 423, 428, 501)
#: Only what another user holds for a moment; a material that is locked for good stays refused. SAP is asked in English.
_LOCKED = re.compile(r"\blocked by\b|being processed by", re.IGNORECASE)
_DATE = re.compile(r"^/Date\((-?\d+)(?:[+-]\d+)?\)/$")
_TIME = re.compile(r"^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?$")
NS = 1_000_000_000


class SapRefused(WmsRejected):
    """SAP refused one request and did nothing. ``code``: as in ``M7/021``; ``status``: of the answer."""

    def __init__(self, text: str, code: str = "", status: int = 400) -> None:
        super().__init__(text)
        self.code, self.status = code, status

    @property
    def stale(self) -> bool:
        """Somebody changed the record since it was read."""
        return self.status in (409, 412, 428)

    @property
    def locked(self) -> bool:
        """Another user has it open; later it may do."""
        return self.status == 423 or bool(_LOCKED.search(str(self)))


class Record(dict[str, Any]):
    """A record, also inside another; to ask for what it has not got is an answer that cannot be used."""

    def __missing__(self, name: str) -> Any:
        raise WmsTransient(f"SAP: a record without {name}; is the service another version?")

    @staticmethod
    def of(value: Any) -> Any:
        """The same with every object a record."""
        if isinstance(value, dict):
            return Record({k: Record.of(v) for k, v in value.items()})
        return [Record.of(v) for v in value] if isinstance(value, list) else value


class SapOData:
    """One SAP client (Mandant) as one user. ``token``: a bearer token instead of user and password."""

    def __init__(
        self,
        url: str,
        client: str,
        user: str,
        password: str,
        *,
        token: str = "",
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        # Without Accept the answer is Atom, in XML.
        headers = {"Authorization": f"Bearer {token}" if token else f"Basic {basic}", "Accept": "application/json"}
        self._http = HttpSystem(url, timeout_s=timeout_s, headers=headers, transport=transport)
        self._params = {"sap-client": client, "sap-language": "EN"}
        self.url, self.client = self._http.url, client
        self._csrf = ""

    def rows(
        self, service: str, entity: str, order: str, *, where: str = "", select: str = "", expand: str = ""
    ) -> list[dict[str, Any]]:
        """Every record that meets ``where``, once; ``order`` is its key.

        Goods move while pages are read, so records shift: what was read twice is dropped, and only a request that had an end
        of its own, whole and not full, is the last one.
        """
        said = {"$filter": where, "$select": select, "$expand": expand, "$orderby": order, "$top": str(PAGE)}
        params = {k: v for k, v in said.items() if v}
        out: dict[tuple[str, ...], dict[str, Any]] = {}
        read = 0
        while True:
            page, more = self._page(f"{ROOT}/{service}/{entity}", {**params, "$skip": str(read)})
            whole = not more and len(page) < PAGE
            while True:
                out.update({tuple(str(r[k]) for k in order.split(",")): r for r in page})
                read += len(page)
                if not more:
                    break
                # A proxy may have another name outside than inside: only what follows the host counts.
                following = urlsplit(more)
                page, more = self._page(following.path, dict(parse_qsl(following.query)))
            if whole:
                return list(out.values())

    def _page(self, path: str, params: Mapping[str, str]) -> tuple[list[dict[str, Any]], str]:
        """Some records, and where SAP says that others are."""
        answer = self._http.call("GET", path, changes=False, params={**params, **self._params})
        found = answer.get("d") if isinstance(answer, dict) else None
        page = found.get("results") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(page, list) or any(not isinstance(r, dict) for r in page):
            raise WmsTransient(f"{self.url}: {path}: an answer that is not SAP's: {str(answer)[:200]}")
        return Record.of(page), str(found.get("__next") or "")

    def change(
        self,
        method: str,
        service: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        etag: str = "",
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Change something. What came of it is for the caller to read: warnings hide in the head of a success.

        Raises `SapRefused` where nothing was done, else see `HttpSystem.call`.
        """
        for fresh in (False, True):
            if fresh or not self._csrf:
                self._fetch_token(service)
            headers = {"X-CSRF-Token": self._csrf, **({"If-Match": etag} if etag else {})}
            response = self._http.send(
                method,
                f"{ROOT}/{service}/{path}",
                changes=True,
                passes=_OURS,
                params={**(params or {}), **self._params},
                headers=headers,
                json=dict(body) if body is not None else None,
            )
            if response.status_code != 403 or response.headers.get("x-csrf-token", "").lower() != "required":
                break
            self._csrf = ""
        if response.status_code == 403:
            raise WmsAuth(f"{self.url}: {path.split('(')[0]}: 403: SAP refused the user, or the session over and over")
        if response.status_code >= 400:
            raise refusal(response, path)
        if response.status_code != 204:
            _check(response, f"{self.url}: {path}")

    def ping(self, service: str) -> None:
        """Whether the service answers this user at all."""
        self._fetch_token(service)

    def _fetch_token(self, service: str) -> None:
        response = self._http.send(
            "GET", f"{ROOT}/{service}/", changes=False, params=self._params, headers={"X-CSRF-Token": "Fetch"}
        )
        self._csrf = response.headers.get("x-csrf-token", "")
        if not self._csrf or self._csrf.lower() == "required":
            self._csrf = ""
            raise WmsTransient(f"{self.url}: {service}: SAP gave no CSRF token; is the address that of its Gateway?")


def _check(response: httpx.Response, where: str) -> None:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or "d" not in answer:
        raise WmsUnknown(f"{where}: an answer that is not SAP's: {response.text[:200]}")


def refusal(response: httpx.Response, path: str) -> SapRefused:
    """SAP's error with its details, the first of which often only says that there are others."""
    try:
        error = response.json()["error"]
        text = str(error["message"]["value"])
        inner = error.get("innererror") or {}
        details = [str(d["message"]) for d in inner.get("errordetails") or [] if d.get("severity", "error") == "error"]
        text = "; ".join(dict.fromkeys([text, *details]))
        return SapRefused(text[:300], str(error.get("code", "")), response.status_code)
    except (ValueError, KeyError, TypeError, AttributeError):
        short = response.text[:200].replace("\n", " ")
        return SapRefused(f"{path.split('(')[0]}: {response.status_code}: {short}", "", response.status_code)


def quoted(text: str) -> str:
    """A text in a filter or a key; an apostrophe is doubled."""
    return "'" + text.replace("'", "''") + "'"


def equals(**fields: str) -> str:
    """A filter for records with these texts."""
    return " and ".join(f"{k} eq {quoted(v)}" for k, v in fields.items())


def any_of(terms: Collection[str]) -> str:
    """A filter for records that meet one of these."""
    return "(" + " or ".join(f"({t})" for t in terms) + ")"


def chunks(names: Sequence[str], size: int = 20) -> list[list[str]]:
    """Pieces that fit into an address."""
    return [list(names[i : i + size]) for i in range(0, len(names), size)]


def number(value: Any) -> float:
    """Decimals are texts. Raises `WmsTransient` for one that is none."""
    try:
        return float(str(value or 0))
    except ValueError:
        raise WmsTransient(f"SAP: {value!r} is no quantity") from None


def day_of(value: Any) -> date:
    """The day of ``/Date(ms)/``. Raises `WmsTransient`."""
    found = _DATE.match(str(value))
    if not found:
        raise WmsTransient(f"SAP: {value!r} is no date")
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=int(found[1]))).date()


def stamp_of(day: Any, time: Any, zone: tzinfo) -> int:
    """UTC nanoseconds of a day and a ``PT13H05M07S`` in SAP's own time zone: the end of that second, and of the two hours
    that a clock shows twice the later one, so that nothing looks older than it is.
    """
    found = _TIME.match(str(time))
    if not found:
        raise WmsTransient(f"SAP: {time!r} is no time of day")
    d, (h, m, s) = day_of(day), (int(x or 0) for x in found.groups())
    local = datetime(d.year, d.month, d.day, min(h, 23), m, s, tzinfo=zone, fold=1)
    return int(local.timestamp()) * NS + NS - 1


def filter_day(day: date) -> str:
    """A day in a filter."""
    return f"datetime'{day.isoformat()}T00:00:00'"
