"""Run folders on disk, one after the other: what was scanned when, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shelfscan.errors import BadInput
from shelfscan.model.stock import StockMap
from shelfscan.model.times import from_iso
from shelfscan.runinfo import RunInfo, read_run_info


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder. ``ended``: it has a stock map and a report."""

    path: Path
    info: RunInfo
    ended: bool

    @property
    def began(self) -> datetime:
        """When it began (UTC)."""
        return from_iso(self.info.created_at)


def read_map(run_dir: Path) -> StockMap:
    """A run's stock map. Raises `BadInput` saying what is wrong with it."""
    path = run_dir / "stock_map.json"
    try:
        stock_map = StockMap.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; the run has not ended yet") from None
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise BadInput(f"{path}: cannot be read: {e}") from e
    except (KeyError, TypeError) as e:
        raise BadInput(f"{path}: not a stock map: {e}") from e
    seen: set[str] = set()
    twice = [b.bin_id for b in stock_map.bins if b.bin_id in seen or seen.add(b.bin_id)]  # type: ignore[func-returns-value]
    if twice:
        raise BadInput([f"{path}: bin {b} stands there twice" for b in twice])
    return stock_map


def runs_in(folder: Path, site: str = "") -> list[Run]:
    """Runs of a store (of all where ``site`` is empty) in a folder or just below it, the oldest first.

    Folders that are no runs are passed over. Raises `BadInput` when there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: not a folder; expected one that holds run folders")
    return sorted(_runs(folder, site), key=lambda r: (r.info.created_at, str(r.path)))


def _runs(folder: Path, site: str) -> Iterator[Run]:
    for path in (folder, *sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))):
        try:
            info = read_run_info(path)
            from_iso(info.created_at)
        except (BadInput, ValueError):
            continue
        if not site or info.site == site:
            yield Run(path, info, (path / "stock_map.json").is_file())
