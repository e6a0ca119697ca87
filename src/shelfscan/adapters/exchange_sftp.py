"""Files exchanged over SFTP, by OpenSSH's own ``sftp`` as a process of its own, one connection an operation.

A file is put under a temporary name and then renamed. What can be in doubt after that is one thing only, whether the rename
took place. ``sftp`` prints each command of its batch before it carries it out. So a connection that ends before the rename was
printed has changed nothing that the other side looks at (`WmsTransient`), and one that ends after it may have (`WmsUnknown`).

Temporary names are never used twice: a server may still be at work for a connection that we know is lost, and its late rename
would then move a file that the next try has half written. What lost connections leave is removed by the next write of this
computer; removing a file that another still writes makes that one's rename fail, which is a try more and not half a file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shelfscan.adapters.secret import check_private
from shelfscan.errors import BadInput, WmsAuth, WmsError, WmsTransient, WmsUnknown

#: An operation that takes this many times the time limit of a silent line is ended: a server's disk may hang while it answers.
PATIENCE = 10
_HOST = re.compile(r"^[A-Za-z0-9_:][A-Za-z0-9._:-]*$")
_USER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._@+-]*$")
_PROMPT = "sftp> "


@dataclass(frozen=True)
class SftpPlace:
    """``sftp://user@host:port/path``; ``/~/path`` is below the user's own folder."""

    user: str
    host: str
    port: int
    path: str

    @staticmethod
    def of(address: str, what: str) -> SftpPlace:
        """From an address; ``what`` it is for. Raises `BadInput`, which shows no password."""
        expected = f"{what}: expected sftp://user@host:port/path"
        try:
            parts = urlsplit(address)
            port = parts.port or 22
        except ValueError:
            raise BadInput(f"{expected}; the port is wrong") from None
        if parts.password is not None:
            raise BadInput(f"{expected}, without a password: the server has to accept a key")
        user, host, path = unquote(parts.username or ""), parts.hostname or "", unquote(parts.path)
        if parts.scheme != "sftp" or parts.query or parts.fragment or not path:
            raise BadInput(f"{expected}, found {address!r}")
        if not _HOST.match(host) or not _USER.match(user):
            raise BadInput(f"{expected}: {user!r} at {host!r} is no user and host")
        if re.search(r'[\x00-\x1f\x7f"\\]', path):
            raise BadInput(f"{what}: {path!r}: a path with quotation marks, backslashes or control characters cannot be used")
        if path == "/~" or path.startswith("/~/"):
            path = path[3:] or "."
        return SftpPlace(user, host, port, path)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.path if self.path.startswith("/") else f"/~/{self.path}"
        return f"sftp://{self.user}@{host}:{self.port}{path.rstrip('/')}"


class SftpExchange:
    """An `Exchange` on an SFTP server. ``key``: a private key without a passphrase; ``known_hosts``: the server's public key.

    ``timeout_s``: how long the line may be silent. Nothing of the user's own SSH configuration or agent is used.
    """

    def __init__(
        self, place: SftpPlace, *, key: Path, known_hosts: Path, timeout_s: float = 30.0, program: str = "sftp"
    ) -> None:
        """Raises `BadInput` for files that are not there or that others may read, before anything is sent."""
        self._place, self._timeout_s = place, timeout_s
        self.address = str(place)
        found = shutil.which(program)
        if found is None:
            raise BadInput("wms.folder.remote: the program sftp is not installed (Debian and Ubuntu: openssh-client)")
        key, known_hosts = key.expanduser().absolute(), known_hosts.expanduser().absolute()
        check_private(key, "wms.folder.key")
        if not known_hosts.is_file():
            raise BadInput(f"wms.folder.known_hosts: {known_hosts}: no such file; {self._how_known()}")
        self._key, self._known_hosts = key, known_hosts
        every_s = max(1, round(timeout_s / 3))
        options = (
            *("BatchMode=yes", f"User={place.user}", "PreferredAuthentications=publickey"),
            *("IdentitiesOnly=yes", "IdentityAgent=none", "LogLevel=ERROR"),
            *(f"IdentityFile={_quoted(key, 'key')}", f"UserKnownHostsFile={_quoted(known_hosts, 'known_hosts')}"),
            *("GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", "UpdateHostKeys=no"),
            *(f"ConnectTimeout={max(1, round(timeout_s))}", f"ServerAliveInterval={every_s}", "ServerAliveCountMax=3"),
        )
        host = f"[{place.host}]" if ":" in place.host else place.host
        told = [x for o in options for x in ("-o", o)]
        # Every user of the computer can read a command line: it names files, and holds no secret.
        self._command = [found, "-F", "/dev/null", "-P", str(place.port), *told, "-b", "-", host]

    def where(self, folder: str, name: str) -> str:
        """See `Exchange.where`."""
        return f"{self.address}/{folder}/{name}"

    def read(self, folder: str, name: str) -> bytes | None:
        """See `Exchange.read`."""
        with tempfile.TemporaryDirectory(prefix="shelfscan-sftp-") as here:
            # `ls` says on stdout whether it is there; what `get` says of a file that is absent, it says of others too.
            done = self._run(Path(here), f'cd "{self._folder(folder)}"', f'-ls -1 "{name}"', f'get "{name}" down')
            if done.ok:
                return (Path(here) / "down").read_bytes()
        if not done.refused:
            raise self._lost(done)
        if not done.began("-ls"):
            raise WmsTransient(f"{self.address}/{folder}: no such folder, or it cannot be entered: {done.text}")
        if not done.output:
            return None
        raise WmsError(f"{self.where(folder, name)}: cannot be read: {done.text}")

    def names(self, folder: str, prefix: str) -> list[str]:
        """See `Exchange.names`."""
        with tempfile.TemporaryDirectory(prefix="shelfscan-sftp-") as here:
            # No pattern: where one finds nothing, sftp does not say if it was allowed to look. And no name: it is one.
            done = self._run(Path(here), f'cd "{self._place.path}"', f"cd {folder}", "ls -1")
        # A listing that was refused, or broke off, ends well and says so in passing.
        broken = not done.output or "readdir" in done.errors or "read directory" in done.errors
        if done.ok and not (done.errors.strip() and broken):
            return sorted(n for n in map(_plain, done.output) if n.startswith(prefix) and n.endswith(".csv"))
        if not done.refused and not done.ok:
            raise self._lost(done)
        if not done.began(f"cd {folder}"):
            raise WmsTransient(f"{self.address}: no such folder, or it cannot be entered: {done.text}")
        if not done.began("ls") and "No such file" in done.errors:
            return []
        denied = "Permission denied" in done.errors or "not a directory" in done.errors
        raise (WmsError if denied else WmsTransient)(f"{self.address}/{folder}: the folder cannot be read: {done.text}")

    def write(self, folder: str, name: str, data: bytes) -> None:
        """See `Exchange.write`."""
        mine = f".shelfscan-{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())}-"
        scratch = f"{mine}{uuid.uuid4().hex}.part"
        with tempfile.TemporaryDirectory(prefix="shelfscan-sftp-") as here:
            up = Path(here) / "up"
            up.write_bytes(data)
            up.chmod(0o644)  # as the file is here it will be there, and the system has to read it
            done = self._run(
                Path(here),
                f'cd "{self._folder(folder)}"',
                f'-rm "{mine}"*.part',
                f'put -f up "{scratch}"',
                f'rename "{scratch}" "{name}"',
            )
        if done.ok:
            return
        if done.refused:
            raise WmsTransient(f"{self.where(folder, name)}: cannot be written: {done.text}")
        if done.began("rename"):
            raise WmsUnknown(f"{self.where(folder, name)}: the connection was lost when it was put in its place: {done.text}")
        raise self._lost(done)

    def _folder(self, folder: str) -> str:
        return f"{self._place.path.rstrip('/')}/{folder}"

    def _run(self, here: Path, *batch: str) -> _Done:
        environment = {**os.environ, "LC_ALL": "C"}
        process = subprocess.Popen(
            self._command,
            cwd=here,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # sftp and the ssh it starts are ended together
        )
        try:
            output, errors = process.communicate("".join(f"{x}\n" for x in batch).encode(), timeout=self._timeout_s * PATIENCE)
        except subprocess.TimeoutExpired:
            _end(process)
            output, errors = process.communicate()
            errors += f"no end after {self._timeout_s * PATIENCE:g} s".encode()
        except BaseException:
            _end(process)
            process.communicate()
            raise
        return _Done(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))

    def _lost(self, done: _Done) -> WmsError:
        """What a connection that ended, or never came to be, says. The texts are OpenSSH's; it has no others to go by."""
        said = done.errors
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said or "REVOKED HOST KEY" in said:
            return WmsError(
                f"{self.address}: the server's host key is not the one in {self._known_hosts}: the server was set up anew, or "
                "this is another machine. Nothing was sent; ask who runs the server, and only then replace the key there"
            )
        if "Host key verification failed" in said:
            return WmsError(f"{self.address}: the server's host key is not in {self._known_hosts}; {self._how_known()}")
        if "Permission denied (" in said or "Too many authentication failures" in said:
            return WmsAuth(
                f"{self.address}: the server does not let {self._place.user} in with the key {self._key} "
                "(one with a passphrase cannot be used)"
            )
        return WmsTransient(f"{self.address}: {done.text}")

    def _how_known(self) -> str:
        at = f"-p {self._place.port} {self._place.host}"
        return f"put it there (ssh-keyscan {at}) once its fingerprint is the one that whoever runs the server tells you"


@dataclass(frozen=True)
class _Done:
    """What became of a batch."""

    code: int
    said: str
    errors: str

    @property
    def ok(self) -> bool:
        """Every command was carried out."""
        return self.code == 0

    @property
    def refused(self) -> bool:
        """The server said no to a command, which ends the batch; anything else means that the line is gone."""
        return self.code == 1

    def began(self, command: str) -> bool:
        """Whether a command may have been sent."""
        return any(f"{x} ".startswith(f"{_PROMPT}{command} ") for x in self.said.splitlines())

    @property
    def output(self) -> list[str]:
        """What commands printed."""
        return [x for x in self.said.splitlines() if x.strip() and not x.startswith(_PROMPT)]

    @property
    def text(self) -> str:
        """What went wrong, in one line. That there was nothing to clean up is nothing that went wrong."""
        lines = [x.strip() for x in self.errors.splitlines() if not x.startswith(("remote delete ", "Can't ls:"))]
        return "; ".join(x for x in lines if x)[:300] or f"sftp ended with {self.code}"


def _plain(name: str) -> str:
    """A name as `ls` prints it, which writes bytes that are no ASCII as octal numbers."""
    octal = re.sub(rb"\\(\\|[0-7]{3})", lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1], 8) & 255]), name.encode())
    return octal.decode(errors="replace")


def _quoted(path: Path, field: str) -> str:
    """A path as an option of ssh, which would replace some characters."""
    if re.search(r'["%$\\\x00-\x1f]', str(path)):
        raise BadInput(f'wms.folder.{field}: {str(path)!r}: a path with any of " % $ \\ cannot be used')
    return f'"{path}"'


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
