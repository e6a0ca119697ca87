"""A night as a timeline, from its ledger: what the robot did when, and what went wrong."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shelfscan.mission.machine import KINDS
from shelfscan.ports import StoredEvent

#: What the time until an event was spent on.
SPENT = {
    "mission.undocked": "undocking",
    "viewpoint.reached": "driving",
    "viewpoint.captured": "capturing",
    "mission.recharged": "charging",
    "mission.continued": "paused",
    "mission.resumed": "nobody",
    "mission.ended": "going home",
}
FAILED = {"drive": "driving in vain", "capture": "capturing in vain", "scan": ""}
COLOURS = {
    "undocking": "#8a8f98",
    "driving": "#4c8dd6",
    "capturing": "#3a9d5d",
    "charging": "#d9a521",
    "paused": "#9b6fc4",
    "nobody": "#222222",
    "going home": "#8a8f98",
    "driving in vain": "#e0762f",
    "capturing in vain": "#c8323c",
}
#: Events that get a flag of their own.
FLAGS = {
    "mission.paused": "paused",
    "mission.cancelled": "cancelled",
    "mission.recharging": "battery low",
    "mission.time_up": "time is up",
    "mission.resumed": "killed, goes on",
    "mission.aisle_skipped": "aisle skipped",
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time spent on one thing; ``aisle_id`` where it was of a viewpoint. Nanoseconds of the ledger."""

    what: str
    aisle_id: str
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that happened."""

    text: str
    at_ns: int


@dataclass(frozen=True)
class Timeline:
    """One mission. ``aisles`` in the order in which they were first driven."""

    mission_id: str
    stretches: tuple[Stretch, ...]
    flags: tuple[Flag, ...]
    aisles: tuple[str, ...]
    ended: str


def timeline_of(events: Iterable[StoredEvent], mission_id: str) -> Timeline:
    """Fold a ledger; empty when it has no such mission."""
    aisle_of: dict[str, str] = {}
    stretches: list[Stretch] = []
    flags: list[Flag] = []
    ended = ""
    # The time up to an event was spent on what the event ends; a dead process ends nothing, until somebody resumes.
    last_ns: int | None = None
    failing: tuple[str, str, int] | None = None
    for stored in events:
        event, p = stored.event, stored.event.payload
        if event.kind not in KINDS or p.get("mission_id") != mission_id or event.kind in ("bay_scan", "scan.begun"):
            continue
        aisle = aisle_of.get(str(p.get("viewpoint_id", "")), "")
        if event.kind == "mission.started":
            aisle_of = {v["viewpoint_id"]: v["aisle_id"] for v in p["plan"]["viewpoints"]}
        if event.kind == "mission.extended":
            aisle_of |= {v["viewpoint_id"]: v["aisle_id"] for v in p["viewpoints"]}
        what = SPENT.get(event.kind, "")
        if event.kind == "viewpoint.failed":
            what = FAILED.get(str(p["what"]), "")
            why = f"{p['what']} {p['reason']}"
            if failing and failing[0] == why:
                # A blocked aisle fails place after place: one flag says it.
                failing = (why, failing[1], failing[2] + 1)
                flags[-1] = Flag(f"{failing[1]} and {failing[2] - 1} more: {why}", flags[-1].at_ns)
            else:
                failing = (why, str(p["viewpoint_id"]), 1)
                flags.append(Flag(f"{p['viewpoint_id']}: {why}", event.stamp_ns))
        else:
            failing = None
        if event.kind in FLAGS:
            flags.append(Flag(FLAGS[event.kind], event.stamp_ns))
        if event.kind == "mission.ended":
            ended = f"{p['phase']}: {p['message']}"
        if what and last_ns is not None and event.stamp_ns > last_ns:
            stretches.append(Stretch(what, aisle, last_ns, event.stamp_ns))
        last_ns = max(last_ns or 0, event.stamp_ns)
    aisles = tuple(dict.fromkeys(s.aisle_id for s in stretches if s.aisle_id))
    return Timeline(mission_id, tuple(stretches), tuple(flags), aisles, ended)


def svg(t: Timeline, width_px: int = 1200) -> str:
    """The timeline as a picture: one row an aisle, one for the rest, flags above, a legend below."""
    if not t.stretches:
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="40"><text x="8" y="24">nothing happened</text></svg>'
        )
    begin, end = t.stretches[0].begin_ns, max(s.end_ns for s in t.stretches)
    rows = [*t.aisles, ""]
    left, row_px = 90, 26
    flags = _flag_rows(t.flags, begin, end, width_px - left - 20)
    top = 34 + 15 * (max((r for _, r in flags), default=-1) + 1)
    height = top + row_px * len(rows) + 70
    scale = (width_px - left - 20) / max(1, end - begin)

    def x(ns: int) -> float:
        return left + (ns - begin) * scale

    title = f"{t.mission_id}: {t.ended or 'not ended'}"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width_px} {height}" width="{width_px}" height="{height}">',
        '<g font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width_px}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" font-size="14" font-weight="600">{html.escape(title)}</text>',
    ]
    for n, aisle in enumerate(rows):
        y = top + n * row_px
        out.append(f'<text x="8" y="{y + 16}">{html.escape(aisle or "elsewhere")}</text>')
        out.append(f'<rect x="{left}" y="{y + 2}" width="{width_px - left - 20}" height="{row_px - 6}" fill="#f2f3f5"/>')
    for s in t.stretches:
        y = top + rows.index(s.aisle_id) * row_px
        w = max(1.0, x(s.end_ns) - x(s.begin_ns))
        title = f"{s.what} {(s.end_ns - s.begin_ns) / 1e9:.0f} s"
        out.append(
            f'<rect x="{x(s.begin_ns):.1f}" y="{y + 2}" width="{w:.1f}" height="{row_px - 6}" fill="{COLOURS[s.what]}">'
            f"<title>{html.escape(title)}</title></rect>"
        )
    bottom = top + row_px * len(rows)
    for flag, row in flags:
        fx, fy = x(min(max(flag.at_ns, begin), end)), 34 + 15 * row
        out.append(f'<line x1="{fx:.1f}" x2="{fx:.1f}" y1="{fy - 2}" y2="{bottom}" stroke="#c8323c" stroke-width="0.7"/>')
        near_end = fx > width_px * 0.7
        anchor = ' text-anchor="end"' if near_end else ""
        text, place = html.escape(_short(flag.text)), f'x="{fx + (-3 if near_end else 3):.1f}" y="{fy + 8}"'
        out.append(f'<text {place} font-size="10" fill="#a01d28"{anchor}>{text}</text>')
    minutes = (end - begin) / 60e9
    step = next((m for m in (0.5, 1, 2, 5, 10, 15, 30, 60, 120) if minutes / m <= 12), 240)
    k = 0
    while k * step <= minutes:
        tx = x(begin + int(k * step * 60e9))
        out.append(f'<text x="{tx:.1f}" y="{bottom + 16}" fill="#555" text-anchor="middle">{k * step:g} min</text>')
        k += 1
    lx = left
    for what in dict.fromkeys(s.what for s in t.stretches):
        out.append(f'<rect x="{lx}" y="{bottom + 32}" width="12" height="12" fill="{COLOURS[what]}"/>')
        out.append(f'<text x="{lx + 17}" y="{bottom + 42}">{what}</text>')
        lx += 30 + 7 * len(what)
    return "\n".join([*out, "</g></svg>"]) + "\n"


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _flag_rows(flags: Sequence[Flag], begin: int, end: int, width_px: float, most: int = 24) -> list[tuple[Flag, int]]:
    """Flags with the row they are written in, so that texts do not lie on each other; the first ones where there are many."""
    out: list[tuple[Flag, int]] = []
    ends: list[float] = []
    for flag in sorted(flags, key=lambda f: f.at_ns)[:most]:
        at = (flag.at_ns - begin) / max(1, end - begin) * width_px
        length = 5.4 * len(_short(flag.text)) + 8
        a, b = (at - length, at) if at > width_px * 0.7 else (at, at + length)
        row = next((r for r, e in enumerate(ends) if e <= a), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = b
        out.append((flag, row))
    return out
