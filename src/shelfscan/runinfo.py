"""What a run folder is a run of: written first, read by everything that opens the folder later."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from shelfscan.errors import BadInput
from shelfscan.runfolder import write_atomic


@dataclass(frozen=True, slots=True)
class RunInfo:
    """``store`` is the bundle's absolute path; ``mode`` is "ros", "direct" or "replay"; ``created_at`` ISO-8601 UTC."""

    store: str
    mission_id: str
    site: str
    mode: str
    created_at: str


def write_run_info(run_dir: Path, info: RunInfo) -> None:
    """Write ``run.json``."""
    write_atomic(run_dir / "run.json", (json.dumps(asdict(info), indent=2) + "\n").encode())


def read_run_info(run_dir: Path) -> RunInfo:
    """Read ``run.json``. Raises `BadInput` naming what is wrong."""
    path = run_dir / "run.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = "no run.json" if run_dir.is_dir() else "a file" if run_dir.exists() else "there is none"
        raise BadInput(f"{run_dir}: not a run folder ({what})") from None
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise BadInput(f"{path}: not JSON: {e}") from e
    names = set(RunInfo.__dataclass_fields__)
    if not isinstance(data, dict) or not names <= set(data) or not all(isinstance(data[n], str) for n in names):
        raise BadInput(f"{path}: expected an object with the texts {', '.join(sorted(names))}")
    return RunInfo(**{n: data[n] for n in names})
