"""Rows of CSV files that are exchanged: where each stands, and what is wrong with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime, timezone

from shelfscan.errors import WmsError
from shelfscan.model.times import from_iso, ns_of


def rows_of(where: str, data: bytes, columns: Sequence[str], *, filled: bool = True) -> list[dict[str, str]]:
    """Rows with where they stand as ``@``; ``columns`` must be there, and have something in every row where ``filled``.

    Raises `WmsError` for a wrong file.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise WmsError(f"{where}: cannot be read: {e}") from e
    reader = csv.DictReader(io.StringIO(text))
    missing = [c for c in columns if c not in (reader.fieldnames or ())]
    if missing:
        raise WmsError(f"{where}: line 1: missing column {', '.join(missing)}")
    out = []
    for n, row in enumerate(reader, start=2):
        clean = {k: v or "" for k, v in row.items() if isinstance(k, str) and not isinstance(v, list)}
        empty = [c for c in columns if not clean.get(c)]
        if empty and filled:
            raise WmsError(f"{where}: line {n}: {', '.join(empty)} is empty")
        out.append({**clean, "@": f"{where}: line {n}"})
    return out


def number_of(row: dict[str, str], column: str, empty: str = "") -> float:
    """A number, or ``empty`` where there is nothing. Raises `WmsError`."""
    text = row.get(column, "") or empty
    try:
        return float(text)
    except ValueError:
        raise WmsError(f"{row['@']}: {column} is {text!r}; expected a number") from None


def stamp_of(row: dict[str, str], column: str) -> int:
    """UTC nanoseconds. Raises `WmsError`."""
    text = row[column]
    try:
        return ns_of(from_iso(text))
    except ValueError:
        raise WmsError(f"{row['@']}: {column} is {text!r}; expected an ISO-8601 time with its zone") from None


def iso(stamp_ns: int) -> str:
    """UTC, to the millisecond."""
    return datetime.fromtimestamp(stamp_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
