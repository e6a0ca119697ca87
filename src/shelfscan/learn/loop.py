"""What both trainings share: averaged weights, checkpoints, and what the machine can do."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shelfscan.errors import BadInput


def usable_threads() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bf16() -> bool:
    """Whether half precision pays: only where the processor multiplies it in hardware (elsewhere it is emulated)."""
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def groups(net: nn.Module, decay: float = 0.02) -> list[dict[str, Any]]:
    """Parameters for an optimiser: weights decay, biases and normalisation do not."""
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def average(ema: nn.Module, net: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the network's: ``keep`` of the old ones stays."""
    for a, b in zip(ema.state_dict().values(), net.state_dict().values(), strict=True):
        if a.dtype.is_floating_point:
            a.lerp_(b, 1 - keep)
        else:
            a.copy_(b)


def store(checkpoint: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill leaves the old or the new one."""
    part = checkpoint.with_suffix(".part")
    torch.save(state, part)
    part.replace(checkpoint)


def resume(checkpoint: Path, key: str) -> dict[str, Any] | None:
    """The checkpoint's state when it is of the same data, start and settings. Raises `BadInput` when it is no checkpoint."""
    if not checkpoint.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu")
        return state if state["key"] == key else None
    except Exception as e:  # torch raises whatever it meets in the file
        raise BadInput(f"{checkpoint}: not a checkpoint of this command: {str(e).splitlines()[0]}; use another --out") from e
