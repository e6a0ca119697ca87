"""The way to an EPCIS 2.0 repository behind HTTP: captures, their jobs, and events looked up by identity."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from shelfscan.adapters.wms_http import HttpSystem
from shelfscan.errors import WmsError, WmsRejected, WmsUnknown
from shelfscan.wms.epcis import LINES, event_id
from shelfscan.wms.port import Health

#: Identities asked for at once: fewer than a page (30), and below the 2000 characters an address may have.
_AT_ONCE = 20
_MOST_LINES = 250
_HEADERS = {"GS1-EPCIS-Version": "2.0.0", "GS1-CBV-Version": "2.0.0"}
#: Refusals that say nothing of the document: the address or the settings are wrong.
_NOT_THE_DOCUMENT = (404, 405, 406, 415)


class HttpCarrier:
    """A `wms_epcis.Carrier` to a repository. ``token``: bearer, or empty; ``wait_s``: for a capture job to end."""

    kind = "http"

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        wait_s: float = 30.0,
        poll_s: float = 0.5,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {**_HEADERS, **({"Authorization": f"Bearer {token}"} if token else {})}
        self._http = HttpSystem(url, timeout_s=timeout_s, headers=headers, transport=transport)
        self.address = self._http.url
        self._wait_s, self._poll_s, self._sleep = wait_s, poll_s, sleep

    def lines_of(self, key: str) -> int | None:
        """See `Carrier.lines_of`: the first event says how many there are, and all have to be there."""
        first = self._events([event_id(key, 1)])
        if not first:
            return None
        lines = next(iter(first.values())).get(LINES)
        if isinstance(lines, bool) or not isinstance(lines, int) or not 1 <= lines <= _MOST_LINES:
            raise WmsError(f"{self.address}: event {event_id(key, 1)} came back without {LINES}; are extensions kept?")
        ids = [event_id(key, n) for n in range(1, lines + 1)]
        return lines if len(self._events(ids)) == lines else None

    def send(self, key: str, document: dict[str, Any]) -> Mapping[str, str]:
        """See `Carrier.send`. Events that are there already, of a capture that was cut off, are not sent again."""
        events = document["epcisBody"]["eventList"]
        there = self._events([e["eventID"] for e in events])
        return self._bring(document, [e for e in events if e["eventID"] not in there])

    def _bring(self, document: dict[str, Any], events: list[dict[str, Any]]) -> dict[str, str]:
        """Capture events; the reasons of those that are refused each by itself.

        One bad event takes its capture with it, so a refused one goes out again in halves. Each event keeps its identity, so
        whatever an earlier try yet does, no half of it can be there twice.
        """
        why = self._capture({**document, "epcisBody": {"eventList": events}}) if events else ""
        if not why:
            return {}
        # What a repository keeps of a capture that failed is for it to say.
        there = self._events([e["eventID"] for e in events])
        left = [e for e in events if e["eventID"] not in there]
        if len(left) < 2 and len(events) < 2:
            return {e["eventID"]: why for e in left}
        middle = (len(left) + 1) // 2
        return self._bring(document, left[:middle]) | self._bring(document, left[middle:])

    def health(self) -> Health:
        """See `Carrier.health`."""
        began = time.monotonic()
        try:
            self._events([event_id("health", 1)])
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"{self.address}: answers in {time.monotonic() - began:.1f} s")

    def _capture(self, document: dict[str, Any]) -> str:
        """Send, and wait for the job's end; why it failed, or nothing."""
        headers = {"GS1-Capture-Error-Behaviour": "rollback"}
        try:
            response = self._http.send("POST", "/capture", changes=True, passes=(409,), json=document, headers=headers)
        except WmsRejected as e:
            self._of_the_document(e)
            return str(e)
        if response.status_code == 409:
            # Somebody is in the way, and it may be an earlier try of ours: each event has an identity that nobody else's has.
            raise WmsUnknown(f"{self.address}: 409: {response.text[:200]}; looked up with the next try")
        where = response.headers.get("location", "")
        job = httpx.URL(f"{self.address}/capture").join(where)
        if not where or _origin(job) != _origin(httpx.URL(self.address)):
            raise WmsUnknown(f"{self.address}: took the capture, names no job of its own ({where or 'no Location'}); looked up")
        waited = 0.0
        while True:
            state = self._job(str(job))
            if state["running"] is False:
                if state["success"] is True:
                    return ""
                return f"capture refused: {str(state.get('errors') or 'no reason given')[:300]}"
            if waited >= self._wait_s:
                raise WmsUnknown(f"{job}: still at work after {self._wait_s:g} s; looked up with the next sync")
            self._sleep(self._poll_s)
            waited += self._poll_s

    def _job(self, job: str) -> dict[str, Any]:
        """A job's state. Whatever goes wrong here, the capture was accepted and may take effect."""
        try:
            state = self._http.call("GET", job, changes=True)
        except WmsError as e:
            raise WmsUnknown(f"the capture was accepted, but its job cannot be asked for: {e}") from e
        if not isinstance(state, dict) or not all(isinstance(state.get(k), bool) for k in ("running", "success")):
            raise WmsUnknown(f"{job}: not the state of a capture job: {str(state)[:120]}")
        return state

    def _events(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of the events that the repository has, by identity."""
        out: dict[str, dict[str, Any]] = {}
        for i in range(0, len(ids), _AT_ONCE):
            asked = ids[i : i + _AT_ONCE]
            query = {"EQ_eventID": "|".join(asked), "perPage": str(_AT_ONCE)}
            try:
                answer = self._http.call("GET", "/events", changes=False, params=query)
            except WmsRejected as e:
                self._of_the_document(e)
                raise WmsError(str(e)) from e
            try:
                found = answer["epcisBody"]["queryResults"]["resultsBody"]["eventList"]
                known = {str(e["eventID"]): e for e in found}
            except (KeyError, TypeError) as e:
                raise WmsError(f"{self.address}/events: not an EPCISQueryDocument: {str(answer)[:120]}") from e
            if not known.keys() <= set(asked):
                # One that does not know the parameter answers just any events, and what we sent might be on a later page.
                raise WmsError(f"{self.address}/events: answers events that were not asked for; does it know EQ_eventID?")
            out |= known
        return out

    @staticmethod
    def _of_the_document(e: WmsRejected) -> None:
        """Raises `WmsError` when a refusal is not about what was sent: that must not end the document."""
        if any(f": {code}: " in str(e) for code in _NOT_THE_DOCUMENT):
            raise WmsError(f"{e}; is wms.epcis.url right?") from e


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
