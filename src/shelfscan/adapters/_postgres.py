"""A connection to a PostgreSQL server by pg8000: where it is, how it is opened, and what its errors mean."""

from __future__ import annotations

import importlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from shelfscan.errors import BadInput, LedgerError

Tls = Literal["auto", "on", "off"]

#: What is used of PostgreSQL came with 14.
LEAST_SERVER = 14
#: Until a server takes a connection, and until it answers a statement; silence beyond is a lost line.
CONNECT_S, ANSWER_S = 5.0, 20.0
#: The server lets a client go that the network lost: its locks must not outlive it for hours.
SESSION = {
    "lock_timeout": "15s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
#: What goes by by itself: the line (08), a shut-down or a start (57P0x), connections (53300), locks and deadlocks, a failover.
_PASSING = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "55P03", "40001", "40P01", "25006")
_WRONG_LOGIN = ("28P01", "28000")


class LineLost(Exception):
    """The server is not there, or what it was asked came to no answer; trying again may help."""


@dataclass(frozen=True)
class PostgresServer:
    """``postgresql://user@host:port/database``, or ``postgresql://user@/database?host=/folder/of/its/socket``."""

    user: str
    host: str
    port: int
    database: str
    password: str = field(default="", repr=False)
    tls: Tls = "auto"
    ca: Path | None = None

    @staticmethod
    def of(
        address: str, what: str = "ledger.url", *, password: str = "", tls: Tls = "auto", ca: Path | None = None
    ) -> PostgresServer:
        """From an address; ``what`` it is for. Raises `BadInput`, which shows no password."""
        expected = f"{what}: expected postgresql://user@host:port/database"
        try:
            parts = urlsplit(address)
            port = parts.port or 5432
            options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
        except ValueError:
            raise BadInput(f"{expected}; the port or what is behind the question mark is wrong") from None
        if parts.password is not None or "password" in options:
            raise BadInput(f"{expected}, without a password: ledger.password names the place it is kept in")
        user, database = unquote(parts.username or ""), unquote(parts.path).strip("/")
        host = parts.hostname or options.get("host", "")
        known = parts.scheme in ("postgresql", "postgres") and set(options) <= {"host"} and not parts.fragment
        if not known or not user or not database or not host:
            raise BadInput(f"{expected}, found {address!r}")
        return PostgresServer(user, host, port, database, password, tls, ca)

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return f"postgresql://{self.user}@/{self.database}?host={self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{self.user}@{host}:{self.port}/{self.database}"

    def connect(self) -> Any:
        """A `pg8000.native.Connection` that commits each statement, durably.

        Raises `LineLost` when the server is not there, `LedgerError` when it says no, `BadInput` for a missing library.
        """
        try:
            native: Any = importlib.import_module("pg8000.native")
        except ImportError:
            raise BadInput("ledger.url: the library for PostgreSQL is missing; pip install 'shelfscan[postgres]'") from None
        try:
            line = self._socket()
        except OSError as e:
            raise LineLost(f"no server there: {e.strerror or e}") from e
        try:
            db = native.Connection(
                self.user,
                host=self.host,
                database=self.database,
                password=self.password or None,
                sock=line,
                ssl_context=self._ssl(),
                application_name="shelfscan",
                startup_params=dict(SESSION),
            )
            self._greet(db)
        except BaseException as e:
            line.close()
            if isinstance(e, Exception) and not isinstance(e, LedgerError | BadInput):
                raise self.meaning(e) from e
            raise
        return db

    def meaning(self, e: Exception) -> Exception:
        """What an exception of the library says: `LineLost` or `LedgerError`."""
        if isinstance(e, LineLost | LedgerError | BadInput):
            return e
        said = e.args[0] if e.args and isinstance(e.args[0], dict) else None
        if said is None:
            if isinstance(e, ssl.SSLCertVerificationError):
                by = f"those of {self.ca}" if self.ca else "the certificates this computer trusts"
                why = f"the server's certificate is refused, checked with {by}: {e.verify_message.rstrip('.')}"
                return LedgerError(f"{self}: {why}. Nothing was sent (ledger.ca)")
            if isinstance(e, ssl.SSLError) or "Server refuses SSL" in str(e):
                return LedgerError(f"{self}: no encrypted line: {e} (ledger.tls, ledger.ca)")
            # Whatever the library stumbled over when the line broke; the server itself said nothing.
            return LineLost(f"the line broke: {e or type(e).__name__}")
        code, text = str(said.get("C", "")), str(said.get("M", ""))
        if code.startswith(_PASSING):
            return LineLost(text)
        if code in _WRONG_LOGIN:
            return LedgerError(f"{self}: the server does not let us in: {text} (ledger.url, ledger.password)")
        if code == "3D000":
            return LedgerError(f"{self}: {text}; make it: createdb {self.database}")
        if code == "42501":
            return LedgerError(f"{self}: {text}: the user needs the right to make a schema in the database, or to write to it")
        return LedgerError(f"{self}: {text or e}")

    @property
    def _near(self) -> bool:
        """On this computer: nobody can listen in."""
        if self.host.startswith("/") or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def _socket(self) -> socket.socket:
        if self.host.startswith("/"):
            line = socket.socket(socket.AF_UNIX)
            try:
                line.settimeout(ANSWER_S)
                line.connect(f"{self.host}/.s.PGSQL.{self.port}")
            except BaseException:
                line.close()
                raise
            return line
        line = socket.create_connection((self.host, self.port), CONNECT_S)
        line.settimeout(ANSWER_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def _ssl(self) -> ssl.SSLContext | bool:
        if self.tls == "off" or (self.tls == "auto" and self._near):
            return False
        try:
            return ssl.create_default_context(cafile=self.ca.expanduser() if self.ca else None)
        except (OSError, ssl.SSLError) as e:
            raise BadInput(f"ledger.ca: {self.ca}: no certificates can be read there: {e}") from e

    def _greet(self, db: Any) -> None:
        row = db.run("SELECT current_setting('server_version_num'), current_setting('synchronous_commit')")[0]
        version = int(row[0])
        if version < LEAST_SERVER * 10_000:
            raise LedgerError(f"{self}: is PostgreSQL {version // 10_000}; {LEAST_SERVER} or newer is needed")
        if row[1] in ("off", "local"):
            # Acknowledged is on the disk, whatever the server's default.
            db.run("SET synchronous_commit = on")
