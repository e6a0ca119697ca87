"""EPCIS onto an MQTT topic, against a stand-in for paho-mqtt's client."""

from __future__ import annotations

import json
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fakes.epcis import KEY, document

from shelfscan.adapters.epcis_mqtt import MqttCarrier
from shelfscan.adapters.wms_epcis import EpcisWms
from shelfscan.errors import BadInput, WmsAuth, WmsTransient, WmsUnknown
from shelfscan.evaluation.epcis_check import problems
from shelfscan.wms.epcis import Places


class Broker:
    """Stands in for paho-mqtt's client: connects, acknowledges, or does not."""

    def __init__(self, *, down: bool = False, refuses: int = 0, silent: bool = False) -> None:
        self.messages: list[tuple[str, Any, int]] = []
        broker = self

        class Client:
            on_connect: Any = None

            def __init__(self, version: object) -> None:
                self.user: tuple[str, str] | None = None

            def username_pw_set(self, user: str, password: str) -> None:
                self.user = (user, password)

            def tls_set(self) -> None: ...

            def connect(self, host: str, port: int, keepalive: int) -> None:
                if down:
                    raise ConnectionRefusedError("refused")

            def loop_start(self) -> None:
                reason = SimpleNamespace(is_failure=bool(refuses), value=refuses)
                threading.Thread(target=lambda: self.on_connect(self, None, None, reason, None)).start()

            def publish(self, topic: str, payload: str, qos: int, retain: bool) -> Any:
                broker.messages.append((topic, json.loads(payload), qos))
                return SimpleNamespace(wait_for_publish=lambda timeout: None, is_published=lambda: not silent)

            def disconnect(self) -> None: ...

            def loop_stop(self) -> None: ...

        self.module = ModuleType("paho.mqtt.client")
        self.module.Client = Client  # type: ignore[attr-defined]
        self.module.CallbackAPIVersion = SimpleNamespace(VERSION2=2)  # type: ignore[attr-defined]


def published(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> EpcisWms:
    for name in ("paho", "paho.mqtt"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", broker.module)
    return EpcisWms(MqttCarrier("broker.test", 8883, "store/counts", user="u", password="p", wait_s=5), Places())


def test_a_broker_gets_one_message_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    client = published(monkeypatch, broker)
    client.submit(document(4, 0))
    ((topic, message, qos),) = broker.messages
    assert topic == "store/counts" and qos == 1 and problems(message) == [] and client.find(KEY) is None
    client.submit(document(4, 0))
    assert broker.messages[0] == broker.messages[1], "the same events, which the receiver recognises"
    assert client.health().ok


def test_a_broker_that_is_down_refuses_or_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for broker, error in (
        (Broker(down=True), WmsTransient),
        (Broker(refuses=134), WmsAuth),
        (Broker(refuses=136), WmsTransient),
        (Broker(silent=True), WmsUnknown),
    ):
        with pytest.raises(error):
            published(monkeypatch, broker).submit(document(4))


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(BadInput, match=r"shelfscan\[mqtt\]"):
        MqttCarrier("broker.test", 8883, "t")
    with pytest.raises(BadInput, match="topic"):
        MqttCarrier("broker.test", 8883, "a/#")
