"""What the nights of faults against stand-ins behind HTTP share: the line between client and server, and the client on it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TypeVar

import httpx

from shelfscan.evaluation.faulty_wms import FaultyTransport

Line = TypeVar("Line", bound=FaultyTransport)


def night_url(system: str) -> str:
    """A stand-in's address. A name of its own for each process: the lock of one writer goes by it."""
    return f"http://{system}-{os.getpid()}.test"


class NightLine(FaultyTransport, ABC):
    """The shared faults, some of them more often, and answers that are JSON and nonsense; what fails is weighed."""

    KINDS = (*FaultyTransport.KINDS, "doubled", "late", "late", "nonsense before", "nonsense after")
    #: How often something may be sold just before a request that changes something.
    SALES = 3

    @abstractmethod
    def weigh(self, request: httpx.Request) -> tuple[float, int]:
        """By how much less a request fails than the night says, and how often something may be sold just before it.

        Were each of a sync's many requests as likely to fail, hardly one sync would get to its end.
        """

    def disturb(self, request: httpx.Request) -> None:
        """What else may happen on the server just before a request."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, or let something happen to it."""
        whole = self._p
        less, sales = self.weigh(request)
        for _ in range(sales):
            self._meanwhile()
        self.disturb(request)
        self._p = whole / less
        try:
            return super().handle_request(request)
        finally:
            self._p = whole


class OnALine:
    """A client behind a line that fails, as `FaultNight` handles one."""

    transport: FaultyTransport

    def runs_over(self, line: Line) -> Line:
        """Keep the line in mind."""
        self.transport = line
        return line

    @property
    def faults(self) -> int:
        """How often something went wrong on the line."""
        return self.transport.faults

    def deliver_late(self) -> None:
        """What was stuck on the line arrives after all."""
        self.transport.deliver_late()
