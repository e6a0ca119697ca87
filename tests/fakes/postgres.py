"""A real PostgreSQL server for a test, made from nothing, restarted at will and ended after it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shelfscan.adapters._postgres import PostgresServer

PASSWORD = "not-In-A-Run-Folder-7"


class Cluster:
    """On 127.0.0.1 with a password, and a database for each test that asks for one."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = int(s.getsockname()[1])
        (folder / "password").write_text(PASSWORD)
        self._run("initdb", "-D", str(folder / "data"), "-U", "shelf", "-A", "scram-sha-256", "--pwfile", f"{folder}/password")
        self.start()

    def start(self) -> None:
        """Up, and ready."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c max_connections=40"
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-l", str(self._folder / "log"), "-w", "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        """Down; ``immediate`` is as if its power had failed."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", how, "-w", "stop")

    def server(self, database: str = "postgres") -> PostgresServer:
        """How it is reached."""
        return PostgresServer("shelf", "127.0.0.1", self.port, database, PASSWORD)

    def database(self) -> PostgresServer:
        """A new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return self.server(name)

    def sql(self, text: str, database: str = "postgres") -> list[list[object]]:
        """As somebody at a console."""
        db = self.server(database).connect()
        try:
            return list(db.run(text) or [])
        finally:
            db.close()

    def encrypt(self, certificate: Path, key: Path) -> None:
        """From the next connection on it shows this certificate to those who ask for an encrypted line."""
        for path, name in ((certificate, "server.crt"), (key, "server.key")):
            there = self._folder / "data" / name
            shutil.copyfile(path, there)
            there.chmod(0o600)
            if os.getuid() == 0:
                shutil.chown(there, "postgres")
        self.sql("ALTER SYSTEM SET ssl = on")
        self.sql("SELECT pg_reload_conf()")
        ends = time.monotonic() + 30
        while self._shown() != certificate.read_text() and time.monotonic() < ends:
            time.sleep(0.05)

    def _shown(self) -> str:
        """The certificate it shows, if any."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as line:
            line.sendall(struct.pack("!ii", 8, 80877103))
            if line.recv(1) != b"S":
                return ""
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(line) as encrypted:
                return ssl.DER_cert_to_PEM_cert(encrypted.getpeercert(binary_form=True) or b"")

    def _run(self, program: str, *args: str) -> None:
        # It refuses to run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        # Into a file: a server that stays would keep a pipe open.
        with (self._folder / "said").open("w") as said:
            command = [*user, str(self._programs / program), *args]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", timeout=60)
        assert done.returncode == 0, (self._folder / "said").read_text()


@contextmanager
def running() -> Iterator[Cluster]:
    """A server of its own; skips the test where PostgreSQL or its library is not there."""
    if importlib.util.find_spec("pg8000") is None:
        pytest.skip("no pg8000 here")
    found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)]
    initdb = next((f for f in found if f), None)
    if initdb is None:
        pytest.skip("no PostgreSQL here")
    # Not in pytest's folder: that is closed to the user that PostgreSQL runs as when this one is root.
    folder = Path(tempfile.mkdtemp(prefix="shelfscan-pg-"))
    if os.getuid() == 0:
        if subprocess.run(["id", "postgres"], capture_output=True).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres here")
        shutil.chown(folder, "postgres")
    cluster = None
    try:
        cluster = Cluster(folder, Path(initdb).resolve().parent)
        yield cluster
    finally:
        if cluster is not None and (folder / "data" / "postmaster.pid").exists():
            cluster.stop()
        shutil.rmtree(folder)
