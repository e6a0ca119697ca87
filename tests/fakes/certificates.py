"""Certificates for a test: an authority of one's own, and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Signs certificates for hosts. ``ca``: its own, for those who trust it. Skips the test where there is no openssl."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl here")
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.ca, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *("req", "-x509", "-subj", "/CN=Test authority", "-days", "2", *_new(self._key), "-out", self.ca),
            *("-addext", "keyUsage=critical,keyCertSign"),
        )

    def sign(self, name: str, host: str, days: int = 1) -> tuple[Path, Path]:
        """Certificate and key of a host such as ``DNS:db.example`` or ``IP:127.0.0.1``; ``days`` below 0: out of date."""
        made, key, asked, extra = (self._folder / f"{name}.{x}" for x in ("pem", "key", "csr", "ext"))
        extra.write_text(f"subjectAltName={host}\n")
        _openssl("req", "-subj", f"/CN={name}", *_new(key), "-out", asked)
        signed = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", days)
        _openssl("x509", "-req", "-in", asked, *signed, "-extfile", extra, "-out", made)
        return made, key


def _new(key: Path) -> tuple[object, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key)


def _openssl(*args: object) -> None:
    done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
