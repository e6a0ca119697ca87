"""What is said of embedder weights that a site trained: the manifest's entry and the card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shelfscan.adapters.model_store import HELD_OUT
from shelfscan.learn.embedder import INPUT, LICENCE, EmbedOutcome
from shelfscan.learn.packs import PackSet


def entry_of(done: EmbedOutcome, data: PackSet, source: Path, command: str, made: str) -> dict[str, Any]:
    """What the site's manifest says of the new weights."""
    return {
        "licence": LICENCE,
        "input": INPUT,
        "data": f"{data.train} pictures of {len(data.packs)} SKUs of {source.name}; {data.held_out} more held out",
        "data_sha256": data.fingerprint,
        "command": command,
        "made": made,
        "parent": done.init_sha256,
        "metrics": {
            HELD_OUT: {
                "command": command,
                "date": made[:10],
                "data": f"{data.held_out} held-out pictures",
                "values": {"new": done.new.to_json(), "replaced": done.used.to_json(), "shipped": done.shipped.to_json()},
            }
        },
    }


def card_of(done: EmbedOutcome, entry: Mapping[str, Any], forced: bool) -> str:
    """The card, Markdown."""
    rows = "\n".join(
        f"| {name} | {q.top1:.3f} | {q.named:.3f} | {q.drawn_top1:.3f} |"
        for name, q in (("shipped", done.shipped), ("used before", done.used), ("these", done.new))
    )
    stopped = ", stopped early" if done.stopped_early else ""
    note = ""
    if forced and done.against:
        note = f"\n**Put into use by `--force`** although: {'; '.join(done.against)}.\n"
    return f"""# Embedder, trained on a site's own products

Made {entry["made"]} by `{entry["command"]}` from the weights {done.init_sha256[:12]}: {done.steps} steps in
{done.seconds / 60:.1f} minutes{stopped}. Licence: {entry["licence"]}.

**Trained on** {entry["data"]}, and on drawn packages that stand in no store.
{note}
**Measured** with up to five of a SKU's training pictures as references and its held-out pictures as queries; drawn packages
with one reference:

| weights | top-1 | right and not unknown | top-1 of drawn packages |
|---|---|---|---|
{rows}

Which step's weights were taken was chosen on these pictures, so the last row flatters a little.
"""
