"""A real Tryton server for a test, made from nothing and ended after it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shelfscan.paths import ROOT


@contextmanager
def running(*, postgresql: bool = False) -> Iterator[str]:
    """The server's address; skips the test where PostgreSQL is wanted and cannot be had."""
    # Not in pytest's folder: that is closed to the user that PostgreSQL runs as when this one is root.
    folder = Path(tempfile.mkdtemp(prefix="shelfscan-tryton-"))
    folder.chmod(0o755)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    script = ROOT / "scripts" / "tryton_server.sh"
    options = ["--postgresql"] if postgresql else []
    try:
        # Into a file: a server that was left running would keep a pipe open.
        with (folder / "said").open("w") as said:
            command = [script, *options, folder, str(port), ROOT / "maps" / "demo"]
            done = subprocess.run(command, stdout=said, stderr=said, timeout=600)
        text = (folder / "said").read_text().strip()
        if done.returncode == 77:
            pytest.skip(text)
        logs = "\n".join(p.read_text()[-2000:] for p in sorted(folder.glob("*.log")))
        assert done.returncode == 0, f"the test server did not start: {text}\n{logs}"
        yield text.splitlines()[-1]
    finally:
        subprocess.run([script, "--stop", folder], check=True, timeout=60)
        shutil.rmtree(folder)
