"""The other ways of EPCIS documents on a night of faults: a folder whose files the receiver takes away, and an MQTT broker.

Neither refuses an event, and a broker cannot be asked. So an event may arrive again, under the identity it had, and the
receiver knows it by that; what must not happen is the same here: another event for the same count, or none.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shelfscan.adapters.epcis_mqtt import MqttCarrier
from shelfscan.adapters.wms_epcis import Carrier, EpcisWms, FolderCarrier
from shelfscan.errors import WmsTransient
from shelfscan.evaluation.epcis_stub import EpcisRepository
from shelfscan.evaluation.faulty_wms import Killed
from shelfscan.wms.epcis import Places
from shelfscan.wms.port import Health


class _Client(EpcisWms):
    """A client of a carrier that fails, as `EpcisNight` handles one."""

    def __init__(self, carrier: Carrier, way: _Broker | _Folder) -> None:
        super().__init__(carrier, Places())
        self._way = way

    @property
    def faults(self) -> int:
        """How often something went wrong on the way."""
        return self._way.faults

    def deliver_late(self) -> None:
        """What was stuck arrives after all."""
        self._way.deliver_late()

    def collect(self) -> None:
        """The receiver takes in what lies there."""
        self._way.collect()

    def close(self) -> None:
        """What a night made goes."""
        self._way.close()


class _Folder:
    """A `Carrier` into a folder; the process dies around a write, the folder is away, and files are taken away."""

    kind = "folder"

    def __init__(self, repository: EpcisRepository, rng: random.Random, p_fault: float, meanwhile: Callable[[], None]) -> None:
        self._repository, self._rng, self._p, self._meanwhile = repository, rng, p_fault, meanwhile
        self.root = Path(tempfile.mkdtemp(prefix="shelfscan-epcis-"))
        self._inner, self.faults = FolderCarrier(self.root), 0
        # Of the process and not of the night: the lock of one writer goes by it.
        self.address = f"night-{os.getpid()}"

    def lines_of(self, key: str) -> int | None:
        """See `Carrier.lines_of`."""
        if self._rng.random() < self._p / 4:
            self.faults += 1
            raise self._rng.choice((WmsTransient("the folder is away"), Killed()))
        return self._inner.lines_of(key)

    def send(self, key: str, document: dict[str, Any]) -> Mapping[str, str]:
        """See `Carrier.send`."""
        for _ in range(3):
            self._meanwhile()
        what = self._rng.choice(("away", "kill before", "kill after", "taken")) if self._rng.random() < self._p else ""
        self.faults += bool(what)
        if what == "away":
            raise WmsTransient("the folder is away")
        if what == "kill before":
            raise Killed
        self._inner.send(key, document)
        if self._rng.random() < 0.3 or what == "taken":
            self.collect()
        if what in ("kill after", "taken"):
            raise Killed
        return {}

    def health(self) -> Health:
        """See `Carrier.health`."""
        return self._inner.health()

    def collect(self) -> None:
        """The receiver reads the files, and takes some of them away."""
        for path in sorted(self.root.glob("*.json")):
            self._repository.receive(json.loads(path.read_text(encoding="utf-8")))
            if self._rng.random() < 0.5:
                path.unlink()

    def deliver_late(self) -> None:
        """Nothing: a folder delays nothing."""

    def close(self) -> None:
        """The folder goes."""
        shutil.rmtree(self.root, ignore_errors=True)


class _Broker:
    """Stands in for paho-mqtt's module and for a broker: down, refusing, silent, delivering twice or late."""

    def __init__(self, repository: EpcisRepository, rng: random.Random, p_fault: float, meanwhile: Callable[[], None]) -> None:
        self._repository, self._rng, self._p, self._meanwhile = repository, rng, p_fault, meanwhile
        self.faults, self._late = 0, list[str]()
        self.CallbackAPIVersion = SimpleNamespace(VERSION2=2)

    def Client(self, version: object) -> Any:
        """A client, as paho-mqtt names it."""
        return _Paho(self)

    def drawn(self, share: float, *kinds: str) -> str:
        """What goes wrong now; mostly nothing."""
        what = self._rng.choice(kinds) if self._rng.random() < self._p / share else ""
        self.faults += bool(what)
        return what

    def publish(self, payload: str) -> bool:
        """Whether it is acknowledged."""
        for _ in range(3):
            self._meanwhile()
        if self._late and self._rng.random() < 0.3:
            self.deliver_late()
        match self.drawn(1, "lost", "unacknowledged", "doubled", "late", "late", "kill before", "kill after"):
            case "kill before":
                raise Killed
            case "lost":
                return False
            case "late":
                self._late.append(payload)
                return False
            case "doubled":
                self._deliver(payload)
            case "unacknowledged":
                self._deliver(payload)
                return False
            case "kill after":
                self._deliver(payload)
                raise Killed
        self._deliver(payload)
        return True

    def _deliver(self, payload: str) -> None:
        self._repository.receive(json.loads(payload))

    def deliver_late(self) -> None:
        """What was stuck arrives after all."""
        waiting, self._late = self._late, []
        for payload in waiting:
            self._deliver(payload)

    def collect(self) -> None:
        """Nothing: a message is taken in when it comes."""

    def close(self) -> None:
        """Nothing is left."""


class _Paho:
    """One connection, which says at once what it says."""

    on_connect: Any = None

    def __init__(self, broker: _Broker) -> None:
        self._broker = broker

    def connect(self, host: str, port: int, keepalive: int) -> None:
        """Raises `OSError`."""
        if self._broker.drawn(4, "down"):
            raise ConnectionRefusedError("refused")

    def loop_start(self) -> None:
        """Calls back, now and then with a refusal (136, "server unavailable")."""
        value = 136 if self._broker.drawn(8, "refused") else 0
        self.on_connect(self, None, None, SimpleNamespace(is_failure=bool(value), value=value), None)

    def publish(self, topic: str, payload: str, qos: int, retain: bool) -> Any:
        """A message and what becomes of it."""
        done = qos == 1 and not retain and self._broker.publish(payload)
        return SimpleNamespace(wait_for_publish=lambda timeout: None, is_published=lambda: done)

    def disconnect(self) -> None: ...

    def loop_stop(self) -> None: ...


def by_folder(books: Any, rng: random.Random, p_fault: float, meanwhile: Callable[[], None], log: bool) -> Any:
    """A client into a folder."""
    way = _Folder(books.repository, rng, p_fault, meanwhile)
    return _Client(way, way)


def by_mqtt(books: Any, rng: random.Random, p_fault: float, meanwhile: Callable[[], None], log: bool) -> Any:
    """A client of a broker."""
    broker = _Broker(books.repository, rng, p_fault, meanwhile)
    return _Client(MqttCarrier("broker.test", 1883, "store/counts", tls=False, mqtt=broker), broker)
