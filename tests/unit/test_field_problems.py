"""What is said of a wrong field: all that helps, and no secret that somebody wrote where its place belongs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from shelfscan.config import load_config
from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems

SECRET = 8_765_309


@pytest.mark.parametrize(
    "field",
    [
        *("ledger.password", "wms.tryton.password", "wms.odoo.key", "wms.sap.token", "wms.inventree.token"),
        *("wms.webhook.token", "wms.epcis.password", "wms.folder.remote", "ledger.url"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(field: str) -> None:
    with pytest.raises(BadInput) as e:
        load_config(None, {field: SECRET})
    assert str(SECRET) not in str(e.value) and f"{field}: Input should be a valid string" in str(e.value)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(BadInput, match=r"ledger\.url: without a password: ledger.password names the place") as e:
        load_config(None, {"ledger.url": f"postgresql://u:{SECRET}@h/d"})
    assert str(SECRET) not in str(e.value)


def test_another_field_shows_what_was_found_whatever_the_message_says(tmp_path: Path) -> None:
    class Login(BaseModel):
        user: str
        password: str

        @model_validator(mode="before")
        @classmethod
        def _both(cls, value: object) -> object:
            raise ValueError("a password needs a user")

    with pytest.raises(ValidationError) as e:
        Login.model_validate({"user": "anna", "password": str(SECRET), "m": [{"api_key": SECRET}]})
    (said,) = field_problems("file", e.value, Login)
    assert said.startswith("file: document: a password needs a user (found {'user': 'anna', 'password': '…', 'm': [{")
    assert str(SECRET) not in said
    with pytest.raises(BadInput, match=r"wms\.tryton\.timeout_s: .*\(found -1\)"):
        load_config(None, {"wms.tryton.timeout_s": -1})
