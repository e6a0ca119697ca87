"""A real SSH server on loopback with its own keys and configuration, and a line to it that breaks where a test says."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from shelfscan.adapters.exchange_sftp import SftpExchange, SftpPlace


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def make_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", path], check=True)
    return path


class Sshd:
    """Lets this user in with one key. ``options``: of its SFTP server. Skips the test where there is no sshd."""

    def __init__(self, folder: Path, *, options: str = "") -> None:
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("sftp") is None:
            pytest.skip("no sshd and sftp here (Debian and Ubuntu: openssh-server)")
        if os.geteuid() == 0:
            # As the package's own service does; it stays, because every sshd of this computer needs it.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.key, self._host_key = make_key(folder / "key"), make_key(folder / "host")
        self.known_hosts = folder / "known_hosts"
        self.know(self.port)
        self._log = folder / "sshd.log"
        config = folder / "sshd.conf"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self._host_key}\nAuthorizedKeysFile {self.key}.pub\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nMaxStartups 100\n"
            f"Subsystem sftp internal-sftp {options}\n"
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([program, "-D", "-e", "-f", config], stderr=log)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        pytest.skip(f"sshd does not start here: {self._log.read_text()[-300:]}")

    def know(self, port: int, key: Path | None = None) -> None:
        """Put the server's key at a port among the known ones."""
        kind, public = (key or self._host_key).with_suffix(".pub").read_text().split()[:2]
        with self.known_hosts.open("a") as f:
            f.write(f"[127.0.0.1]:{port} {kind} {public}\n")

    def exchange(self, root: Path | str, port: int = 0, *, timeout_s: float = 10.0) -> SftpExchange:
        place = SftpPlace(getpass.getuser(), "127.0.0.1", port or self.port, str(root))
        return SftpExchange(place, key=self.key, known_hosts=self.known_hosts, timeout_s=timeout_s)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class Wire:
    """A TCP line to a server that breaks after so many bytes to it (the third of a connection is: ``breaks_at = 3``).

    ``how``: ``request``: what comes after is lost, and both sides see the end; ``answer``: the server gets everything, and
    nothing comes back any more; ``late``: the client sees the end, and the server gets the rest when `deliver_late` is called.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.breaks_at: int | None = None
        self.how = "request"
        self.sent = 0
        self._late: list[tuple[socket.socket, bytes]] = []
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [client, server]
            self.sent = 0
            broken = threading.Event()
            threading.Thread(target=self._up, args=(client, server, broken, self.breaks_at, self.how), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, broken), daemon=True).start()

    def _up(
        self, client: socket.socket, server: socket.socket, broken: threading.Event, breaks_at: int | None, how: str
    ) -> None:
        passed = 0
        while data := _receive(client):
            left = len(data) if breaks_at is None else breaks_at - passed
            if left >= len(data) and not broken.is_set():
                passed += len(data)
                self.sent = passed
                _send(server, data)
                continue
            broken.set()
            if how == "late":
                self._late.append((server, data[max(0, left) :]))
                _send(server, data[: max(0, left)])
                _close(client)
                return
            _send(server, data if how == "answer" else data[: max(0, left)])
            if how == "answer":
                time.sleep(0.3)  # the server does what it was told
            break
        _close(client)
        _close(server)

    def _down(self, client: socket.socket, server: socket.socket, broken: threading.Event) -> None:
        while data := _receive(server):
            if not broken.is_set():
                _send(client, data)
        _close(client)

    def deliver_late(self) -> None:
        """What was stuck on the line arrives after all, and then the line is gone for the server too."""
        for server, data in self._late:
            _send(server, data)
            time.sleep(0.3)
            _close(server)
        self._late.clear()

    def close(self) -> None:
        for s in (self._listener, *self._sockets):
            _close(s)


def _receive(s: socket.socket) -> bytes:
    try:
        return s.recv(65536)
    except OSError:
        return b""


def _send(s: socket.socket, data: bytes) -> None:
    try:
        s.sendall(data)
    except OSError:
        pass


def _close(s: socket.socket) -> None:
    try:
        s.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    s.close()
