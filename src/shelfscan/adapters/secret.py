"""Passwords and keys from where they belong: an environment variable, a keyring, or a file that only its owner can read."""

from __future__ import annotations

import importlib
import os
import stat
from pathlib import Path
from typing import Any

from shelfscan.errors import BadInput


def read_secret(source: str, what: str) -> str:
    """The secret that ``source`` names: ``env:NAME`` or ``file:PATH``; ``what`` it is for.

    Raises `BadInput` that says what is missing and never what was read. A file that others may read is refused.
    """
    kind, _, name = source.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name, "")
        if not value:
            raise BadInput(f"{what}: environment variable {name} is not set")
        return value
    if kind == "file" and name:
        return _from_file(Path(name).expanduser(), what)
    if kind == "keyring" and "/" in name:
        service, _, user = name.partition("/")
        return _from_keyring(service, user, what)
    raise BadInput(f"{what}: {source!r}: expected env:NAME, file:PATH or keyring:SERVICE/USER, never the secret itself")


def _from_keyring(service: str, user: str, what: str) -> str:
    try:
        keyring: Any = importlib.import_module("keyring")
        errors: Any = importlib.import_module("keyring.errors")
    except ImportError:
        raise BadInput(f"{what}: keyring:{service}/{user}: the library is missing; pip install 'shelfscan[keyring]'") from None
    try:
        value = keyring.get_password(service, user)
    except (errors.KeyringError, OSError) as e:
        raise BadInput(f"{what}: keyring:{service}/{user}: cannot be opened: {e or type(e).__name__}") from None
    if not value:
        raise BadInput(f"{what}: keyring:{service}/{user}: the keyring has no such entry; 'keyring set {service} {user}'")
    return str(value)


def check_private(path: Path, what: str) -> None:
    """A file that only its owner can read; for secrets that another program reads. Raises `BadInput`."""
    _private_text(path, what)


def _from_file(path: Path, what: str) -> str:
    text = _private_text(path, what)
    if not text:
        raise BadInput(f"{what}: {path}: is empty")
    return text


def _private_text(path: Path, what: str) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{what}: {path}: cannot be read: {getattr(e, 'strerror', None) or 'not text'}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise BadInput(f"{what}: {path}: others may read it (mode {stat.S_IMODE(mode):o}); expected 600")
    return text
