"""The other side of `adapters.epcis_http`: a repository that keeps the rules of EPCIS 2.0, its traps included.

A capture is accepted before it is done (202 and a job); a document that breaks a rule fails as a whole; an event that is there
already is refused, unless it says the same; a query it does not know is an error. ``lazy``: how many requests later a job is
done, and ``lag`` how many later a query shows a new event. ``limit``: events of one capture. ``deaf``: it answers queries it
does not know with just any events. ``strict``: it refuses an event that it has, even one that says the same.
``log``: it keeps what it is sent as often as it is sent, and leaves it to its readers to know an event again.

It is an `httpx` transport, and a server on loopback: ``python -m shelfscan.evaluation.epcis_stub``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from http.server import HTTPServer
from typing import Any
from urllib.parse import parse_qs

import httpx

from shelfscan.evaluation import stub_server
from shelfscan.evaluation.epcis_check import problems

TOKEN = "stub-token"


class EpcisRepository(httpx.BaseTransport):
    """In memory. ``events`` by identity; ``captures``: how many were accepted; ``kept``: how often each event was taken in;
    ``again``: how often one that was there already came once more."""

    def __init__(
        self,
        *,
        lazy: int = 0,
        limit: int = 100,
        deaf: bool = False,
        proceeds: bool = False,
        lag: int = 0,
        strict: bool = False,
        log: bool = False,
    ) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.kept: Counter[str] = Counter()
        self.captures, self.again = 0, 0
        self.lazy, self.limit, self.deaf, self.proceeds = lazy, limit, deaf, proceeds
        self.lag, self.strict, self.log = lag, strict, log
        #: Identities, and read points, that are refused whatever an event says.
        self.refuses: set[str] = set()
        self.unknown_places: set[str] = set()
        #: Events that no query shows yet, and for how many requests more.
        self._hidden: dict[str, int] = {}
        self._jobs: dict[str, list[Any]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return httpx.Response(401, json={"title": "who are you?"})
        self._go_on()
        path = request.url.path
        if request.method == "POST" and path == "/capture":
            return self._capture(json.loads(request.content), request.headers)
        if request.method == "GET" and path.startswith("/capture/"):
            return self._job(path.removeprefix("/capture/"))
        if request.method == "GET" and path == "/events":
            return self._events(request.url.query.decode())
        return httpx.Response(404, json={"title": f"no {request.method} {path}"})

    def _capture(self, document: Any, headers: httpx.Headers) -> httpx.Response:
        if headers.get("gs1-capture-error-behaviour") != "rollback":
            return httpx.Response(400, json={"title": "GS1-Capture-Error-Behaviour: expected rollback"})
        wrong = problems(document)
        if wrong:
            return httpx.Response(400, json={"type": "epcisException:ValidationException", "title": "; ".join(wrong)})
        events = document["epcisBody"]["eventList"]
        if len(events) > self.limit:
            return httpx.Response(413, json={"title": f"more than {self.limit} events"})
        self.captures += 1
        job = f"job-{self.captures}"
        self._jobs[job] = [self.lazy, events, None]
        if not self.lazy:
            self._do(job)
        return httpx.Response(202, headers={"location": f"/capture/{job}"})

    def _job(self, job: str) -> httpx.Response:
        if job not in self._jobs:
            return httpx.Response(404, json={"title": "no such job"})
        errors = self._jobs[job][2]
        done = {"captureID": job, "createdAt": "2030-01-01T00:00:00Z", "captureErrorBehaviour": "rollback"}
        return httpx.Response(200, json={**done, "running": errors is None, "success": errors == [], "errors": errors or []})

    def _go_on(self) -> None:
        """It works on while it is asked for anything."""
        self._hidden = {i: left - 1 for i, left in self._hidden.items() if left > 0}
        for job, state in self._jobs.items():
            state[0] -= 1
            if state[2] is None and state[0] <= 0:
                self._do(job)

    def finish(self) -> None:
        """Every job that is still waiting is done."""
        for job, state in self._jobs.items():
            if state[2] is None:
                self._do(job)

    def keep(self, event: dict[str, Any]) -> None:
        """Somebody else's event is captured."""
        assert event["eventID"] not in self.events
        self._take(event, 0)

    def receive(self, document: Any) -> None:
        """A document comes by another way, where nobody can be answered. Raises `ValueError` when it is no EPCIS 2.0."""
        wrong = problems(document)
        if wrong:
            raise ValueError("; ".join(wrong))
        for e in document["epcisBody"]["eventList"]:
            if self.events.get(e["eventID"], e) != e:
                raise ValueError(f"another event has the eventID {e['eventID']}")
            self._take(e, 0)

    def _do(self, job: str) -> None:
        state, bad = self._jobs[job], []
        for e in state[1]:
            known = self.events.get(e["eventID"])
            if e["eventID"] in self.refuses or e["readPoint"]["id"] in self.unknown_places:
                bad.append((e, "unknown location"))
            elif known is not None and (known != e or self.strict):
                bad.append((e, "an event with this eventID is there already"))
        if not bad or self.proceeds:
            out = {e["eventID"] for e, _ in bad}
            for e in state[1]:
                if e["eventID"] not in out:
                    self._take(e, self.lag)
        state[2] = [{"title": f"{e['eventID']}: {why}"} for e, why in bad]

    def _take(self, event: dict[str, Any], lag: int) -> None:
        identity = event["eventID"]
        self.again += identity in self.events
        if identity not in self.events or self.log:
            self.kept[identity] += 1
        if identity not in self.events and lag:
            self._hidden[identity] = lag
        self.events[identity] = event

    def _events(self, query: str) -> httpx.Response:
        asked = parse_qs(query)
        unknown = sorted(set(asked) - {"EQ_eventID", "perPage"})
        if (unknown or len(query) > 1900) and not self.deaf:
            return httpx.Response(400, json={"type": "epcisException:QueryParameterException", "title": str(unknown)})
        wanted = asked.get("EQ_eventID", [""])[0].split("|")
        found = (
            list(self.events.values())
            if self.deaf
            else [self.events[i] for i in wanted if i in self.events and i not in self._hidden]
        )
        page = found[: int(asked.get("perPage", ["30"])[0])]
        body = {"queryResults": {"queryName": "SimpleEventQuery", "resultsBody": {"eventList": page}}}
        return httpx.Response(200, json={"type": "EPCISQueryDocument", "schemaVersion": "2.0", "epcisBody": body})


def server(repository: EpcisRepository, port: int = 0) -> HTTPServer:
    """The stand-in behind a socket of this computer. ``serve_forever`` runs it."""
    return stub_server.server(_answers(repository), port)


def _answers(repository: EpcisRepository) -> stub_server.Answers:
    def answers(method: str, address: str, headers: Mapping[str, str], content: bytes) -> stub_server.Answer:
        asked = httpx.Request(method, f"http://localhost{address}", headers=dict(headers), content=content)
        said = repository.handle_request(asked)
        return said.status_code, {**stub_server.JSON, **{k: v for k, v in said.headers.items() if k == "location"}}, said.text

    return answers


if __name__ == "__main__":
    stub_server.serve(_answers(EpcisRepository()), 8046, f"token: {TOKEN}")
