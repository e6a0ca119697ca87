"""The way to an MQTT topic: one EPCIS document a message, quality of service 1, which the broker acknowledges.

A broker keeps nothing that could be looked up. So a message whose acknowledgement was lost is sent again, with the same events.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from shelfscan.errors import BadInput, WmsAuth, WmsTransient, WmsUnknown
from shelfscan.wms.port import Health

#: "Bad user name or password", "not authorised".
_NOT_LET_IN = (134, 135)


class MqttCarrier:
    """A `wms_epcis.Carrier` to a broker; ``mqtt`` is for tests. Raises `BadInput` when the MQTT client is not installed."""

    kind = "mqtt"

    def __init__(
        self,
        host: str,
        port: int,
        topic: str,
        *,
        user: str = "",
        password: str = "",
        tls: bool = True,
        wait_s: float = 30.0,
        mqtt: Any = None,
    ) -> None:
        if not topic or any(c in topic for c in "#+\0"):
            raise BadInput(f"wms.epcis.topic: {topic!r} is not a topic that can be published to")
        try:
            self._mqtt: Any = mqtt or importlib.import_module("paho.mqtt.client")
        except ImportError:
            raise BadInput("wms.epcis: MQTT needs paho-mqtt, the extra 'mqtt': pip install 'shelfscan[mqtt]'") from None
        self._host, self._port, self._topic, self._wait_s = host, port, topic, wait_s
        self._user, self._password, self._tls = user, password, tls
        self.address = f"mqtt{'s' if tls else ''}://{host}:{port}/{topic}"

    def lines_of(self, key: str) -> int | None:
        """None: a broker cannot be asked."""
        return None

    def send(self, key: str, document: dict[str, Any]) -> Mapping[str, str]:
        """See `Carrier.send`."""
        client = self._connected()
        try:
            message = client.publish(self._topic, json.dumps(document, separators=(",", ":")), qos=1, retain=False)
            try:
                message.wait_for_publish(self._wait_s)
                done = message.is_published()
            except (ValueError, RuntimeError) as e:
                raise WmsUnknown(f"{self.address}: {e}; the same events are sent again with the next sync") from e
            if not done:
                raise WmsUnknown(f"{self.address}: no acknowledgement after {self._wait_s:g} s; sent again with the next sync")
        finally:
            self._end(client)
        return {}

    def health(self) -> Health:
        """See `Carrier.health`."""
        try:
            self._end(self._connected())
        except (WmsTransient, WmsAuth) as e:
            return Health(False, str(e))
        return Health(True, f"{self.address}: connected")

    def _connected(self) -> Any:
        answered, said = threading.Event(), []

        def on_connect(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
            said.append(reason)
            answered.set()

        client = self._mqtt.Client(self._mqtt.CallbackAPIVersion.VERSION2)
        client.on_connect = on_connect
        if self._user:
            client.username_pw_set(self._user, self._password)
        if self._tls:
            client.tls_set()
        try:
            client.connect(self._host, self._port, keepalive=30)
        except OSError as e:
            raise WmsTransient(f"{self.address}: cannot be reached: {e}") from e
        client.loop_start()
        if not answered.wait(self._wait_s):
            self._end(client)
            raise WmsTransient(f"{self.address}: no answer to the connection after {self._wait_s:g} s")
        if said[0].is_failure:
            self._end(client)
            refused = WmsAuth if said[0].value in _NOT_LET_IN else WmsTransient
            raise refused(f"{self.address}: refused the connection: {said[0]}")
        return client

    @staticmethod
    def _end(client: Any) -> None:
        with suppress(OSError, ValueError):
            client.disconnect()
        client.loop_stop()
