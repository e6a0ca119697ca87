"""A run folder's files, written so that a kill at any instant leaves either the old or the new one."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shelfscan.errors import BadInput


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


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Hold a run folder, made when absent, for this process alone; the kernel gives it back however the process ends.

    Raises `BadInput` when another process runs in it, or when it cannot be made.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise BadInput(f"{run_dir}: not usable as a run folder: {e.strerror}") from e
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"{run_dir}: another run is going on in this folder") from None
        yield
    finally:
        os.close(handle)
