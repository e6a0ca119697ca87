"""A run folder's files, written so that a kill at any instant leaves either the old or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file in one step; its folder is made when absent. Durable once this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_evidence(run_dir: Path, evidence: Mapping[str, bytes]) -> None:
    """Pictures by their name below ``evidence/``. Written before the scan that names them is acknowledged."""
    for name, data in evidence.items():
        path = run_dir / "evidence" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name holds the capture's id, so a picture is only ever written with the same bytes: no fsync needed.
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_bytes(data)
        os.replace(scratch, path)
