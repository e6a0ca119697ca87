"""How a supervised process says that it works now.

The supervisor names a file in the environment; the process writes its id there once it is up. Without a supervisor
(a plain launch file, a shell) the variable is absent and saying so costs nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Environment variable with the path of the file to write.
READY_FILE = "SHELFSCAN_READY_FILE"


def announce_ready() -> None:
    """Tell the supervisor, if there is one, that this process is up and working. Safe to call again."""
    name = os.environ.get(READY_FILE)
    if not name:
        return
    scratch = Path(f"{name}.{os.getpid()}")
    try:
        scratch.write_text(str(os.getpid()), encoding="ascii")
        scratch.replace(name)
    except OSError:
        # The run folder has gone: whoever removed it no longer waits for anybody.
        scratch.unlink(missing_ok=True)


def is_ready(path: Path, pid: int) -> bool:
    """Whether the process ``pid`` has announced itself in ``path``."""
    try:
        return path.read_text(encoding="ascii").strip() == str(pid)
    except (OSError, UnicodeDecodeError):
        return False
