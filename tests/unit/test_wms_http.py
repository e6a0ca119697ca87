"""What an answer from a warehouse system means, and where secrets may come from."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from shelfscan.adapters.secret import read_secret
from shelfscan.adapters.wms_http import HttpSystem, local_writer
from shelfscan.errors import BadInput, WmsAuth, WmsError, WmsRateLimited, WmsRejected, WmsTransient, WmsUnknown


def answering(answer: httpx.Response | Exception) -> HttpSystem:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return HttpSystem("http://wms.test", transport=httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("answer", "reading", "changing"),
    [
        (httpx.ConnectError("refused"), WmsTransient, WmsTransient),
        (httpx.ReadTimeout("slow"), WmsTransient, WmsUnknown),
        (httpx.RemoteProtocolError("cut"), WmsTransient, WmsUnknown),
        (httpx.Response(500, text="boom"), WmsTransient, WmsUnknown),
        (httpx.Response(200, text="<html>log in</html>"), WmsTransient, WmsUnknown),
        (httpx.Response(401), WmsAuth, WmsAuth),
        (httpx.Response(403), WmsAuth, WmsAuth),
        (httpx.Response(429), WmsRateLimited, WmsRateLimited),
        (httpx.Response(422, text="no such field"), WmsRejected, WmsRejected),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), WmsError, WmsError),
    ],
)
def test_an_answer_says_what_may_be_done_next(
    answer: httpx.Response | Exception, reading: type[WmsError], changing: type[WmsError]
) -> None:
    for changes, kind in ((False, reading), (True, changing)):
        with pytest.raises(kind) as e:
            answering(answer).call("POST", "/x", changes=changes)
        assert type(e.value) is kind
        assert "http://wms.test/x" in str(e.value)


def test_a_certificate_that_is_not_trusted_is_no_passing_trouble() -> None:
    with pytest.raises(WmsError, match="certificate") as e:
        answering(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")).call(
            "GET", "/", changes=False
        )
    assert type(e.value) is WmsError


def test_one_writer_on_a_computer() -> None:
    with local_writer("test system a", 0.1):
        with pytest.raises(WmsTransient, match="another process"), local_writer("test system a", 0.1):
            pass
        with local_writer("test system b", 0.1):
            pass
    with local_writer("test system a", 0.1):
        pass


def test_secrets_come_from_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELFSCAN_TEST_SECRET", "s3cret")
    assert read_secret("env:SHELFSCAN_TEST_SECRET", "x") == "s3cret"
    path = tmp_path / "key"
    path.write_text("from-file\n")
    path.chmod(0o600)
    assert read_secret(f"file:{path}", "x") == "from-file"
    path.chmod(0o644)
    with pytest.raises(BadInput, match="mode 644") as e:
        read_secret(f"file:{path}", "wms.tryton.password")
    assert "from-file" not in str(e.value) and "wms.tryton.password" in str(e.value)
    for source, word in (
        ("env:SHELFSCAN_NOT_SET", "is not set"),
        (f"file:{tmp_path / 'none'}", "cannot be read"),
        ("hunter2", "never the secret itself"),
    ):
        with pytest.raises(BadInput, match=word):
            read_secret(source, "x")


def test_secrets_from_a_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the library: the sandbox of a test has no keyring of its own."""
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(BadInput, match="pip install"):
        read_secret("keyring:shop/robot", "wms.odoo.key")

    class Locked(Exception):
        pass

    def get_password(service: str, user: str) -> str | None:
        if service == "locked":
            raise Locked("the collection is locked")
        return {"shop/robot": "s3cret"}.get(f"{service}/{user}")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=get_password))
    monkeypatch.setitem(sys.modules, "keyring.errors", SimpleNamespace(KeyringError=Locked))
    assert read_secret("keyring:shop/robot", "wms.odoo.key") == "s3cret"
    with pytest.raises(BadInput, match="no such entry"):
        read_secret("keyring:shop/nobody", "wms.odoo.key")
    with pytest.raises(BadInput, match="is locked"):
        read_secret("keyring:locked/robot", "wms.odoo.key")
