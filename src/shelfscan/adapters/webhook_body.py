"""A count document in the words of somebody else's service: two text files with ``$names``, for the document and for a line.

Plain `string.Template`: names are replaced and nothing is computed. What is put in is written as the file's format wants it, so
that no value can break out of its place: whole JSON values in ``.json`` (no quotes around a name), escaped text in ``.xml``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from shelfscan.errors import BadInput
from shelfscan.wms.document import CountDocument, CountLine
from shelfscan.wms.epcis import iso_ms

#: What a template may not leave out: without a version the service could not tell that stock has moved since.
_NEEDED = {"document": ("doc_id", "lines"), "line": ("line_no", "sku", "location_code", "qty", "expected_version")}
_SAMPLE = CountDocument(
    "0b1e6a0e",
    'a "store" & <more>',
    "m",
    1,
    (
        CountLine(1, "L\\1", "A$1", "", 5, 1, 1, 7.0, "v'1", 1.0),
        CountLine(2, "L2", "B", "", 0, 1, 1, 7.5, "", 0.5, zero_confirmed=True),
    ),
)


@dataclass(frozen=True)
class Body:
    """How a document is written. Made by `load_body`."""

    document: Template
    line: Template
    content_type: str

    def render(self, doc: CountDocument) -> bytes:
        """The request's content; the same document always gives the same."""
        xml = self.content_type == "application/xml"
        say: Callable[[Any], str] = _xml if xml else json.dumps
        lines = ("\n" if xml else ",\n").join(self.line.substitute(_said(_of_line(x), say)) for x in doc.lines)
        return self.document.substitute(_said(_of_document(doc), say), lines=lines).encode()


def load_body(document: Path, line: Path) -> Body:
    """Read and try both templates. Raises `BadInput` naming file and line of everything that is wrong."""
    kinds = {document.suffix.lower(), line.suffix.lower()}
    if kinds not in ({".json"}, {".xml"}):
        raise BadInput(f"wms.webhook.template: {document}, {line}: expected two .json or two .xml files")
    first = _SAMPLE.lines[0]
    known = {"document": {*_of_document(_SAMPLE), "lines"}, "line": set(_of_line(first))}
    texts, problems = {}, []
    for part, path in (("document", document), ("line", line)):
        try:
            texts[part] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            problems.append(f"{path}: cannot be read: {getattr(e, 'strerror', None) or 'not text'}")
            continue
        problems += _problems(path, texts[part], known[part], _NEEDED[part])
    if problems:
        raise BadInput(problems)
    xml = kinds == {".xml"}
    body = Body(Template(texts["document"]), Template(texts["line"]), "application/xml" if xml else "application/json")
    made = body.render(_SAMPLE)
    try:
        ElementTree.fromstring(made) if xml else json.loads(made)
    except (ElementTree.ParseError, ValueError) as e:
        raise BadInput(f"{document}, {line}: do not make {'XML' if xml else 'JSON'} together: {e}") from None
    return body


def _problems(path: Path, text: str, known: set[str], needed: tuple[str, ...]) -> list[str]:
    found, out = set(), []
    for m in Template.pattern.finditer(text):
        where = f"{path}: line {text.count(chr(10), 0, m.start()) + 1}"
        name = m.group("named") or m.group("braced")
        if m.group("invalid") is not None:
            out.append(f"{where}: a $ without a name; write $$ for a $")
        elif name is not None and name not in known:
            out.append(f"{where}: unknown ${name}; known: {', '.join(sorted(known))}")
        found.add(name)
    return out + [f"{path}: ${n} is missing" for n in needed if n not in found]


def _of_document(doc: CountDocument) -> dict[str, Any]:
    return {
        "doc_id": doc.doc_id,
        "digest": doc.digest,
        "site": doc.site,
        "mission_id": doc.mission_id,
        "kind": doc.kind,
        "created_at": iso_ms(doc.created_ns),
        "line_count": len(doc.lines),
    }


def _of_line(x: CountLine) -> dict[str, Any]:
    names = ("line_no", "location_code", "sku", "gtin14", "qty", "uom", "zero_confirmed", "lot", "serial", "confidence")
    told = {name: getattr(x, name) for name in (*names, "expected_qty", "expected_version")}
    return {**told, "observed_from": iso_ms(x.observed_from_ns), "observed_to": iso_ms(x.observed_to_ns)}


def _said(values: Mapping[str, Any], say: Callable[[Any], str]) -> dict[str, str]:
    return {name: say(value) for name, value in values.items()}


def _xml(value: Any) -> str:
    """Escaped for text and for attributes in either kind of quotes."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quoteattr(text, {'"': "&quot;", "'": "&apos;"})[1:-1]
