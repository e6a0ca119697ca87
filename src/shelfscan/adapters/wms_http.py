"""What every warehouse system behind HTTP shares: a call that answers, or raises the `WmsError` that tells what may be done."""

from __future__ import annotations

import fcntl
import hashlib
import os
import ssl
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from shelfscan.errors import WmsAuth, WmsError, WmsRateLimited, WmsRejected, WmsTransient, WmsUnknown


class HttpSystem:
    """Calls with TLS verified, time limits, and errors in the port's terms. ``transport`` is for tests."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(timeout=timeout_s, headers=dict(headers or {}), transport=transport, follow_redirects=False)

    def call(self, method: str, path: str, *, changes: bool, **request: Any) -> Any:
        """Send one request and return its JSON; ``changes``: it may have had an effect when no usable answer comes.

        Raises `WmsTransient` where nothing can have happened, `WmsUnknown` where something may have, `WmsAuth`,
        `WmsRateLimited`, `WmsRejected`.
        """
        response = self.send(method, path, changes=changes, **request)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            text = _short(response)
            unsure = WmsUnknown if changes else WmsTransient
            raise unsure(f"{self._where(path)}: {response.status_code}: the answer is no JSON: {text}") from None

    def send(self, method: str, path: str, *, changes: bool, passes: Collection[int] = (), **request: Any) -> httpx.Response:
        """As `call`, and the answer as it came, for where its headers count. ``path``: below the address, or a whole
        address, which has to be the same server's: it gets the same secrets. ``passes``: statuses the caller reads itself.
        """
        where = self._where(path)
        unsure: type[WmsError] = WmsUnknown if changes else WmsTransient
        try:
            response = self._http.request(method, where, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as e:
            if isinstance(e.__cause__, ssl.SSLError) or "certificate" in str(e).lower():
                raise WmsError(f"{where}: its TLS certificate is not trusted: {e}") from e
            raise WmsTransient(f"{where}: cannot be reached: {e}") from e
        except httpx.HTTPError as e:
            raise unsure(f"{where}: no answer: {type(e).__name__}: {e}") from e
        code, text = response.status_code, _short(response)
        if code in passes:
            return response
        if code in (401, 403):
            raise WmsAuth(f"{where}: {code}: the key or password is wrong or has expired")
        if code == 429:
            raise WmsRateLimited(f"{where}: 429: too many calls")
        if code >= 500:
            raise unsure(f"{where}: {code}: {text}")
        if code >= 400:
            raise WmsRejected(f"{where}: {code}: {text}")
        if code >= 300:
            raise WmsError(f"{where}: {code}: redirects to {response.headers.get('location', '?')}; is the address right?")
        return response

    def _where(self, path: str) -> str:
        return path if path.startswith(("http://", "https://")) else f"{self.url}{path}"

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()


def _short(response: httpx.Response) -> str:
    return response.text[:300].replace("\n", " ")


@contextmanager
def local_writer(system: str, busy_s: float = 5.0) -> Iterator[None]:
    """The right to write to a system that has no lock of its own: one process of this computer at a time.

    A lock on a file that is there as long as somebody writes; the kernel drops it when its holder dies.
    """
    name = hashlib.sha256(system.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"shelfscan-wms-{name}.lock"
    ends = time.monotonic() + busy_s
    while True:
        try:
            handle = path.open("a")
        except OSError as e:
            raise WmsTransient(f"{path}: cannot be written: {e.strerror}") from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it took the file away: then this is a lock on nothing.
            if path.exists() and os.fstat(handle.fileno()).st_ino == path.stat().st_ino:
                break
        except OSError:
            if time.monotonic() >= ends:
                handle.close()
                raise WmsTransient(f"{system}: another process is posting counts") from None
            time.sleep(0.1)
        handle.close()
    with handle:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
