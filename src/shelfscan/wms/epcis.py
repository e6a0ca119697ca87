"""Counts as EPCIS 2.0 events: what was seen, where and when. Pure.

A line of a count document becomes an ``ObjectEvent`` that observes a quantity of one product class. Its ``eventID`` follows
from the document's key, so that a capture that is repeated is recognised. Fields of our own say which document it belongs to
and how sure it is, because EPCIS has none for that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from urllib.parse import quote, unquote
from uuid import NAMESPACE_URL, uuid5

from shelfscan.errors import BadInput, WmsRejected
from shelfscan.model.gtin import valid_gtin
from shelfscan.wms.document import CountDocument, CountLine

CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
#: Namespace of our own fields, ``shelfscan:…``.
EXTENSION = "https://shelfscan.dev/epcis/"
LINES, LINE, DOCUMENT, CONFIDENCE = (f"shelfscan:{name}" for name in ("lines", "line", "document", "confidence"))
READ_POINT = "urn:shelfscan:{site}:{location}"
BIZ_LOCATION = "urn:shelfscan:{site}"

_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+$")
_FIELD = re.compile(r"\{([^{}]*)\}")
_LINK = re.compile(r"^https?://[^/]+(?:/[^/]+)*?/414/([^/]*)(?:/254/([^/]*))?$")
_SGLN = re.compile(r"^urn:epc:id:sgln:(\d+)\.(\d*)\.(.+)$")
_EXTENSION_MOST = 20


@dataclass(frozen=True, slots=True)
class Places:
    """How places are called: templates with ``{site}`` and ``{location}``, for the place that was looked at and for the store.

    GS1's own forms are checked: Digital Link (``https://id.gs1.org/414/GLN/254/{location}``) and ``urn:epc:id:sgln:``.
    Raises `BadInput` for a template that cannot work.
    """

    read_point: str = READ_POINT
    biz_location: str = BIZ_LOCATION

    def __post_init__(self) -> None:
        problems = [
            f"wms.epcis.{name}: {problem}"
            for name, template, known in (
                ("read_point", self.read_point, ("site", "location")),
                ("biz_location", self.biz_location, ("site",)),
            )
            if (problem := _template_problem(template, known))
        ]
        if not problems and "{location}" not in self.read_point:
            problems = ["wms.epcis.read_point: {location} is missing; every place would be the same"]
        if problems:
            raise BadInput(problems)

    def of(self, site: str, location: str) -> tuple[str, str]:
        """Read point and business location of a place. Raises `WmsRejected` when it cannot be called so."""
        read_point, biz_location = _fill(self.read_point, site, location), _fill(self.biz_location, site, "")
        problem = uri_problem(read_point)
        if problem:
            raise WmsRejected(f"{location}: read point {problem}; wms.epcis.read_point has to fit the store's locations")
        return read_point, biz_location


def uri_problem(uri: str) -> str:
    """What is wrong with a place's name; empty when nothing is."""
    if not _URI.match(uri):
        return f"{uri!r} is not a URI"
    link, sgln = _LINK.match(uri), _SGLN.match(uri)
    if link:
        gln, extension = link[1], link[2]
        if len(gln) != 13 or not valid_gtin(gln):
            return f"{uri!r}: {gln!r} is not a GLN of 13 digits with a right check digit"
        if extension is not None and not 1 <= len(unquote(extension)) <= _EXTENSION_MOST:
            return f"{uri!r}: what follows 254 has 1 to {_EXTENSION_MOST} characters"
    if uri.startswith("urn:epc:id:sgln:") and (not sgln or len(sgln[1] + sgln[2]) != 12 or not 6 <= len(sgln[1]) <= 12):
        return f"{uri!r}: expected urn:epc:id:sgln:COMPANY.LOCATION.EXTENSION with 12 digits in the first two"
    return ""


def event_id(key: str, line_no: int) -> str:
    """The same line of the same document is the same event, however often it is sent."""
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'{EXTENSION}{key}/{line_no}')}"


def observation(
    identity: str,
    at: str,
    gtin14: str,
    quantity: int,
    place: tuple[str, str],
    *,
    kind: Literal["cycle_counting", "stock_taking"] = "cycle_counting",
    expected: float | None = None,
) -> dict[str, Any]:
    """One event; ``at`` ISO-8601 UTC. ``expected``: what the books said, where they are known; a difference is told."""
    event: dict[str, Any] = {
        "type": "ObjectEvent",
        "eventID": identity,
        "eventTime": at,
        "eventTimeZoneOffset": "+00:00",
        "action": "OBSERVE",
        "bizStep": kind,
    }
    if quantity > 0:  # where nothing was seen there is nothing that could be sellable
        event["disposition"] = "sellable_accessible"
    if expected is not None and expected != quantity:
        event["persistentDisposition"] = {"set": ["mismatch_quantity"]}
    event["readPoint"], event["bizLocation"] = {"id": place[0]}, {"id": place[1]}
    event["quantityList"] = [{"epcClass": f"https://id.gs1.org/01/{gtin14}", "quantity": quantity}]
    return event


def epcis_document(events: Sequence[dict[str, Any]], created: str, *, extended: bool = False) -> dict[str, Any]:
    """The envelope; ``extended``: the events have fields of our own."""
    return {
        "@context": [CONTEXT, {"shelfscan": EXTENSION}] if extended else [CONTEXT],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": created,
        "epcisBody": {"eventList": list(events)},
    }


def to_epcis(doc: CountDocument, places: Places) -> dict[str, Any]:
    """A count document as EPCIS. Raises `WmsRejected` naming every line that cannot be said."""
    problems, events = [], []
    for x in doc.lines:
        try:
            events.append(_event(doc, x, places))
        except WmsRejected as e:
            problems.append(f"line {x.line_no}: {e}")
    if problems:
        raise WmsRejected(f"count document {doc.doc_id}: {'; '.join(problems)}")
    return epcis_document(events, iso_ms(doc.created_ns), extended=True)


def _event(doc: CountDocument, x: CountLine, places: Places) -> dict[str, Any]:
    if len(x.gtin14) != 14 or not valid_gtin(x.gtin14):
        raise WmsRejected(f"{x.line_id}: {x.gtin14!r} is not a GTIN of 14 digits")
    event = observation(
        event_id(doc.doc_id, x.line_no),
        iso_ms(x.observed_to_ns),
        x.gtin14,
        x.qty,
        places.of(doc.site, x.location_code),
        kind=doc.kind,
        expected=x.expected_qty if x.expected_version else None,
    )
    return {**event, DOCUMENT: doc.doc_id, LINE: x.line_no, LINES: len(doc.lines), CONFIDENCE: round(x.confidence, 4)}


def iso_ms(stamp_ns: int) -> str:
    """ISO-8601 UTC with milliseconds."""
    at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=stamp_ns // 1_000_000)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fill(template: str, site: str, location: str) -> str:
    return template.replace("{site}", quote(site, safe="")).replace("{location}", quote(location, safe=""))


def _template_problem(template: str, known: Sequence[str]) -> str:
    unknown = [name for name in _FIELD.findall(template) if name not in known]
    if unknown:
        return f"{{{unknown[0]}}} is unknown; known: {', '.join(f'{{{k}}}' for k in known)}"
    return uri_problem(_fill(template, "store", "place"))
