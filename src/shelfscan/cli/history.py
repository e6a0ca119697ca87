"""``shelfscan history`` and ``shelfscan forecast``: what the nights together say."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from shelfscan.bootstrap import make_wms
from shelfscan.bundle import load_bundle
from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.config import load_config
from shelfscan.errors import BadInput, WmsError
from shelfscan.model.bundle import Bundle
from shelfscan.model.stock import BinState, BinStatus, StockMap
from shelfscan.model.times import from_iso
from shelfscan.runs import read_map, runs_in
from shelfscan.stock.forecast import days_of, learn, stock_out
from shelfscan.stock.history import (
    Belief,
    Moved,
    SuddenLoss,
    believe,
    courses,
    rates,
    sighting_of,
    sudden_losses,
)
from shelfscan.wms.port import Movement

Folder = Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that holds the nights' run folders.")]
StoreDir = Annotated[Path, typer.Option("--store", help="Store bundle.")]
AskWms = Annotated[bool, typer.Option("--wms", help="Ask the warehouse system for movements in between.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration; else the newest run's.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
#: Nights that are looked back at.
MOST_NIGHTS = 60
COUNTS = ("count", "inventory")


def history(
    folder: Folder,
    store: StoreDir,
    bin_id: Annotated[str, typer.Option("--bin", help="One bin: every look at it, and what is believed now.")] = "",
    wms: AskWms = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Findings over nights: what is new, still there, gone by itself; with --wms also what went without sale or move.

    With --bin, that bin's looks and what is believed now.
    """
    bundle, maps = _nights(folder, store)
    moved = _moved(bundle, maps, folder, config) if wms else {}
    if bin_id:
        if bin_id not in bundle.planogram:
            raise BadInput(f"--bin: the store has no bin {bin_id!r}")
        _bin(bundle, maps, moved, bin_id, as_json)
        return
    _findings(bundle, maps, sudden_losses(maps, moved), as_json)


def _findings(bundle: Bundle, maps: Sequence[StockMap], lost: Sequence[SuddenLoss], as_json: bool) -> None:
    found = courses(maps)
    newest = maps[-1]
    told = {f.finding_id: f for m in maps for f in m.findings}
    rows = []
    for finding_id, c in found.items():
        state = "gone" if c.gone_at else "new" if c.since == newest.created_at else "still there"
        f = told[finding_id]
        row = {
            "finding_id": finding_id,
            "type": f.type,
            "bin_id": f.bin_id,
            "state": state,
            "since": c.since,
            "nights": c.nights,
        }
        rows.append({**row, "gone_at": c.gone_at, "value": f.value, "confidence": f.confidence, "alarm": f.alarm})
    order = {"still there": 0, "new": 1, "gone": 2}
    rows.sort(key=lambda r: (order[str(r["state"])], -float(r["value"]) * float(r["confidence"]), str(r["finding_id"])))  # type: ignore[arg-type]
    if as_json:
        gone = [{**asdict(x), "value": round(x.units * bundle.catalogue[x.sku].price, 2)} for x in lost]
        print_json({"nights": len(maps), "findings": rows, "sudden_losses": gone})
        return
    table = Table("finding", "state", "since", "nights", "value")
    for r in rows[:60]:
        table.add_row(str(r["finding_id"]), str(r["state"]), str(r["since"])[:16], str(r["nights"]), f"{r['value']:.2f}")
    out.print(table)
    counted = {s: sum(r["state"] == s for r in rows) for s in order}
    said = ", ".join(f"{n} {s}" for s, n in counted.items())
    out.print(
        f"{len(maps)} nights: {said}{'; the first 60 are shown' if len(rows) > 60 else ''}", highlight=False, soft_wrap=True
    )
    for x in lost[:20]:
        text = f"{x.bin_id}: {x.units} {x.sku} gone at least, without sale or move: {x.before:g} at {x.since[:16]},"
        out.print(f"{text} {-x.booked:g} booked out, {x.after:g} at {x.at[:16]}", highlight=False, markup=False, soft_wrap=True)
    if len(lost) > 20:
        out.print(f"{len(lost) - 20} more sudden losses: --json", highlight=False, soft_wrap=True)


def _bin(bundle: Bundle, maps: Sequence[StockMap], moved: Mapping[str, Sequence[Moved]], bin_id: str, as_json: bool) -> None:
    # A bin may hold more than planned.
    capacity = max(
        [bundle.planogram[bin_id].capacity_units, *(b.units_high for m in maps for b in m.bins if b.bin_id == bin_id)]
    )
    looks = [sighting_of(b, m.mission_id, capacity, m.created_at) for m in maps for b in m.bins if b.bin_id == bin_id]
    known = moved.get(bin_id, ())
    rate = 0.0 if known else rates(maps, moved).get(bin_id, 0.0)
    now = max(datetime.now(timezone.utc), max((s.at for s in looks), default=datetime.now(timezone.utc)))
    belief = believe(looks, known, capacity, rate, now)
    nights = [
        {
            "at": s.at.isoformat(timespec="seconds"),
            "mission_id": s.mission_id,
            "status": str(s.status),
            "units": s.units if s.pmf is not None else None,
            "confidence": s.confidence,
            "reason": s.reason,
        }
        for s in sorted(looks, key=lambda s: s.at)
    ]
    now_ = _said(belief, now)
    if as_json:
        print_json(
            {"bin_id": bin_id, "sku": bundle.planogram[bin_id].sku, "nights": nights, "now": now_, "sold_a_day": round(rate, 3)}
        )
        return
    table = Table("when", "mission", "status", "units", "confidence")
    for n in nights:
        units = "" if n["units"] is None else f"{n['units']:g}"
        table.add_row(
            str(n["at"])[:16],
            str(n["mission_id"]),
            str(n["status"]) + (f" ({n['reason']})" if n["reason"] else ""),
            units,
            f"{n['confidence']:.2f}",
        )
    out.print(table)
    age = f"last seen {now_['age_h']:.0f} h ago" if now_["age_h"] is not None else "never seen"
    said = f"{now_['units']:.1f} units, {now_['units_low']} to {now_['units_high']}; {age}"
    out.print(f"{bin_id} ({bundle.planogram[bin_id].sku}): believed now {said}", highlight=False, soft_wrap=True)


def _said(belief: Belief, now: datetime) -> dict[str, Any]:
    low, high = belief.interval()
    age = (now - belief.seen_at).total_seconds() / 3600 if belief.seen_at is not None else None
    return {
        "units": round(belief.units, 2),
        "units_low": low,
        "units_high": high,
        "age_h": age and round(age, 2),
        "looks": belief.looks,
    }


def forecast(
    folder: Folder,
    store: StoreDir,
    wms: AskWms = False,
    config: ConfigFile = None,
    opening: Annotated[str, typer.Option(help="Opening hours, from-to, full hours of the store's day.")] = "8-20",
    utc_offset_h: Annotated[float, typer.Option(min=-14, max=14, help="The store's clock against UTC.")] = 0.0,
    as_json: AsJson = False,
    csv_out: Annotated[Path | None, typer.Option("--csv", help="Write the table as CSV.")] = None,
) -> None:
    """When will shelves run empty? Per SKU the rate it sells at and the hour of stock-out with its 10 % and 90 % hours."""
    hours = _hours(opening)
    bundle, maps = _nights(folder, store)
    if len(maps) < 2:
        raise BadInput(f"{folder}: one night; demand is what changes between nights, so expected two at least")
    moved = _moved(bundle, maps, folder, config) if wms else {}
    zone = timezone(timedelta(hours=utc_offset_h))
    now = max(from_iso(maps[-1].created_at), datetime.now(timezone.utc)).astimezone(zone)
    series = days_of(maps, moved, zone)
    demand = learn(series, now.date() + timedelta(days=1))
    usual = rates(maps, moved)
    rows: list[dict[str, Any]] = []
    states: dict[str, list[tuple[StockMap, BinState]]] = {}
    for m in maps:
        for state in m.bins:
            states.setdefault(state.bin_id, []).append((m, state))
    of_sku: dict[str, list[str]] = {}
    for bin_id, line in bundle.planogram.items():
        of_sku.setdefault(line.sku, []).append(bin_id)
    with progress("forecasting") as report:
        for k, (sku, bins) in enumerate(sorted(of_sku.items())):
            report(f"{k} of {len(of_sku)} products", k / len(of_sku))
            if sku not in demand:
                continue
            units, unseen = np.array([1.0]), False
            for b in bins:
                full = bundle.planogram[b].capacity_units
                capacity = max([full, *(state.units_high for _, state in states.get(b, ()))])
                looks = [sighting_of(state, m.mission_id, capacity, m.created_at) for m, state in states.get(b, ())]
                belief = believe(looks, moved.get(b, ()), capacity, 0.0 if b in moved else usual.get(b, 0.0), now)
                units = np.convolve(units, belief.pmf)
                unseen = unseen or not states.get(b) or states[b][-1][1].status is BinStatus.UNSEEN
            when = stock_out(units, demand[sku], now, hours)
            times = {
                n: t.isoformat(timespec="hours") if t else ""
                for n, t in (("early", when.early), ("likely", when.likely), ("late", when.late))
            }
            mean = float(units @ np.arange(len(units)))
            rows.append(
                {"sku": sku, "units": round(mean, 1), "sold_a_day": round(demand[sku].rate, 2), **times, "unseen": bool(unseen)}
            )
    rows.sort(key=lambda r: (r["likely"] or "9", r["sku"]))
    if csv_out is not None:
        with csv_out.open("w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, ["sku", "units", "sold_a_day", "early", "likely", "late", "unseen"])
            writer.writeheader()
            writer.writerows(rows)
    if as_json:
        print_json({"site": bundle.store.site, "nights": len(maps), "now": now.isoformat(timespec="seconds"), "products": rows})
        return
    table = Table("product", "units", "a day", "empty, 10 %", "likely", "90 %")
    for r in rows[:40]:
        table.add_row(
            r["sku"], f"{r['units']:g}", f"{r['sold_a_day']:g}", r["early"], r["likely"] or "later than 14 days", r["late"]
        )
    out.print(table)
    if len(rows) > 40:
        out.print(f"the first 40 of {len(rows)}; all: --csv FILE", highlight=False, soft_wrap=True)


def _hours(text: str) -> tuple[int, int]:
    begin, _, end = text.partition("-")
    if not (begin.isdigit() and end.isdigit() and 0 <= int(begin) < int(end) <= 24):
        raise BadInput(f"--opening {text!r}: expected full hours such as 8-20")
    return int(begin), int(end)


def _nights(folder: Path, store: Path) -> tuple[Bundle, list[StockMap]]:
    bundle = load_bundle(store)
    runs = [r for r in runs_in(folder, bundle.store.site) if r.ended][-MOST_NIGHTS:]
    maps: list[StockMap] = []
    for run in runs:
        try:
            maps.append(read_map(run.path))
        except BadInput as e:
            # A night whose map is broken is a night missing: said, and the rest is used.
            err.print(f"shelfscan: {'; '.join(e.problems)}; left out", highlight=False, markup=False, soft_wrap=True)
    if not maps:
        raise BadInput(f"{folder}: no finished run of store {bundle.store.site!r}")
    backwards = [m.mission_id for a, m in pairwise(maps) if m.created_at < a.created_at]
    if backwards:
        err.print(
            f"shelfscan: the clock was set back before {', '.join(backwards)}: nights go by their own times",
            highlight=False,
            soft_wrap=True,
        )
    return bundle, sorted(maps, key=lambda m: m.created_at)


def _moved(bundle: Bundle, maps: Sequence[StockMap], folder: Path, config: Path | None) -> dict[str, list[Moved]]:
    """Movements the warehouse system knows of, by bin; counts are none."""
    newest = [r for r in runs_in(folder, bundle.store.site) if r.ended][-1].path
    kept = newest / "config.yaml"
    settings = load_config(config or (kept if kept.is_file() else None))
    client = make_wms(bundle, newest, settings)
    if client is None:
        raise BadInput("--wms: this store has no warehouse system (wms.name is none)")
    since = from_iso(maps[0].created_at) - timedelta(days=1)
    try:
        rows: Sequence[Movement] = client.pull_movements(int(since.timestamp() * 1e9))
    except WmsError as e:
        raise BadInput(f"--wms: {e}") from e
    bins = {(w.location_code, w.sku): w.bin_id for w in bundle.wms if w.scope == "shelf"}
    out_: dict[str, list[Moved]] = {b: [] for b in bins.values()}
    for m in rows:
        bin_id = bins.get((m.location_code, m.sku))
        if bin_id is not None and m.kind not in COUNTS and not m.reference:
            out_[bin_id].append(Moved(datetime.fromtimestamp(m.moved_at_ns / 1e9, timezone.utc), m.delta))
    return out_
