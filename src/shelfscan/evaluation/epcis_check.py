"""Whether a document is EPCIS 2.0: what GS1's JSON schema and vocabulary (CBV 2.0) ask of object events, and a little more.

Knows nothing of how ours are written. Stricter than the schema where the standard's text is: our events need an identity and a
bin to stand in, and pieces have no unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

BIZ_STEPS = frozenset(
    """accepting arriving assembling collecting commissioning consigning creating_class_instance cycle_counting
    decommissioning departing destroying disassembling dispensing encoding entering_exiting holding inspecting
    installing killing loading other packing picking receiving removing repackaging repairing replacing reserving
    retail_selling sampling sensor_reporting shipping staging_outbound stock_taking stocking storing transporting
    unloading unpacking void_shipping""".split()
)
DISPOSITIONS = frozenset(
    """active available completeness_inferred completeness_verified conformant container_closed container_open damaged
    destroyed dispensed disposed encoded expired in_progress in_transit inactive mismatch_class mismatch_instance
    mismatch_quantity needs_replacement no_pedigree_match non_conformant non_sellable_other partially_dispensed
    recalled reserved retail_sold returned sellable_accessible sellable_not_accessible stolen unavailable unknown""".split()
)
_EVENT = frozenset(
    """@context type eventID eventTime eventTimeZoneOffset recordTime errorDeclaration certificationInfo action epcList
    quantityList bizStep disposition persistentDisposition readPoint bizLocation bizTransactionList sourceList
    destinationList sensorElementList ilmd""".split()
)
_DOCUMENT = frozenset(
    "@context id type schemaVersion creationDate instanceIdentifier sender receiver epcisHeader epcisBody".split()
)
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$")
_OFFSET = re.compile(r"^([+]|[-])((0[0-9]|1[0-3]):([0-5][0-9])|14:00)$")
_URI = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:([A-Za-z0-9._~:/?#@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})+$")
_CLASS = re.compile(
    r"^(https?://[^/]+(/[^/]+)*/01/(\d{14})(/10/[^/]+)?|urn:epc:idpat:sgtin:\d+\.\d+\.\*|urn:epc:class:lgtin:.+)$"
)
_STANDARD = "https://ref.gs1.org/standards/epcis/2.0"


def problems(document: Any) -> list[str]:
    """Everything that is wrong, each with where it stands; empty when it is EPCIS 2.0."""
    if not isinstance(document, dict):
        return ["not an object"]
    return list(_document(document))


def _document(d: dict[str, Any]) -> Iterator[str]:
    yield from (f"unknown field {k}" for k in d if k not in _DOCUMENT)
    if d.get("type") != "EPCISDocument":
        yield f"type is {d.get('type')!r}"
    if d.get("schemaVersion") != "2.0":
        yield f"schemaVersion is {d.get('schemaVersion')!r}"
    yield from _time(d.get("creationDate"), "creationDate")
    context = d.get("@context")
    parts = context if isinstance(context, list) else [context]
    if not any(isinstance(c, str) and c.startswith(_STANDARD) for c in parts):
        yield "@context lacks the standard's"
    prefixes = {k for c in parts if isinstance(c, dict) for k, v in c.items() if isinstance(v, str) and _URI.match(v)}
    body = d.get("epcisBody")
    events = body.get("eventList") if isinstance(body, dict) else None
    if not isinstance(events, list) or not events or set(body or ()) != {"eventList"}:
        yield "epcisBody is no list of events"
        return
    seen: set[str] = set()
    for n, event in enumerate(events):
        where = f"event {n}"
        if not isinstance(event, dict):
            yield f"{where}: not an object"
            continue
        yield from (f"{where}: {p}" for p in _event(event, prefixes))
        identity = str(event.get("eventID"))
        if identity in seen:
            yield f"{where}: eventID {identity} a second time"
        seen.add(identity)


def _event(e: Mapping[str, Any], prefixes: set[str]) -> Iterator[str]:
    for k in e:
        if k not in _EVENT and (k.partition(":")[0] not in prefixes or not k.partition(":")[2]):
            yield f"unknown field {k} (no such field, and no context names its prefix)"
    if e.get("type") != "ObjectEvent":
        yield f"type is {e.get('type')!r}"
    if e.get("action") not in ("OBSERVE", "ADD", "DELETE"):
        yield f"action is {e.get('action')!r}"
    if "ilmd" in e and e.get("action") != "ADD":
        yield "ilmd belongs to ADD"
    yield from _time(e.get("eventTime"), "eventTime")
    if not isinstance(e.get("eventTimeZoneOffset"), str) or not _OFFSET.match(e["eventTimeZoneOffset"]):
        yield f"eventTimeZoneOffset is {e.get('eventTimeZoneOffset')!r}"
    yield from _uri(e.get("eventID"), "eventID")
    yield from _term(e.get("bizStep", "other"), BIZ_STEPS, "bizStep")
    if "disposition" in e:
        yield from _term(e["disposition"], DISPOSITIONS, "disposition")
    yield from _persistent(e.get("persistentDisposition", {}))
    for name in ("readPoint", "bizLocation"):
        place = e.get(name)
        yield from _uri(place.get("id") if isinstance(place, dict) else place, name)
    if not isinstance(e.get("quantityList"), list) or not e["quantityList"]:
        yield "quantityList is empty"
        return
    for q in e["quantityList"]:
        yield from _quantity(q)


def _persistent(given: Any) -> Iterator[str]:
    if not isinstance(given, dict) or not given.keys() <= {"set", "unset"}:
        yield f"persistentDisposition is {given!r}"
        return
    for terms in given.values():
        for term in terms if isinstance(terms, list) else [terms]:
            yield from _term(term, DISPOSITIONS, "persistentDisposition")


def _quantity(q: Any) -> Iterator[str]:
    if not isinstance(q, dict) or not {"epcClass", "quantity"} <= q.keys() <= {"epcClass", "quantity", "uom"}:
        yield f"quantity element {q!r}"
        return
    amount, named = q["quantity"], _CLASS.match(str(q["epcClass"]))
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < float("inf"):
        yield f"quantity is {amount!r}"
    if "uom" in q:
        yield "uom with pieces"
    if not named:
        yield f"epcClass is {q['epcClass']!r}"
    elif named[3] and sum(int(c) * (3 if i % 2 == 0 else 1) for i, c in enumerate(named[3])) % 10:
        yield f"epcClass {q['epcClass']!r} has a wrong check digit"


def _time(text: Any, name: str) -> Iterator[str]:
    try:
        good = isinstance(text, str) and bool(_TIME.match(text)) and bool(datetime.fromisoformat(text[:19]))
    except ValueError:
        good = False
    if not good:
        yield f"{name} is {text!r}; expected a date and time with its offset"


def _uri(text: Any, name: str) -> Iterator[str]:
    if not isinstance(text, str) or not _URI.match(text):
        yield f"{name} is {text!r}; expected a URI"


def _term(text: Any, known: frozenset[str], name: str) -> Iterator[str]:
    """A word of the vocabulary, or somebody's own URI that does not pretend to be of it."""
    if text in known:
        return
    own = isinstance(text, str) and bool(_URI.match(text)) and "cbv" not in text.lower()
    if not own:
        yield f"{name} is {text!r}, which is not in the vocabulary"
