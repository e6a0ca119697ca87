"""Every error shelfscan raises on purpose.

::

    ShelfscanError
    ├── BadInput            the user's file, option or value is wrong     (CLI exit 2)
    │   └── MissingModel    a model file is absent or not what it claims  (CLI exit 2)
    ├── BackendError        a network can't be run the way that was asked for: driver, library, GPU memory, engine
    ├── SensorError         no fresh, synchronised frame could be had
    ├── NavigationError     the robot could not get where it was sent
    ├── LedgerError         the ledger refused or lost a write
    └── WmsError            the warehouse system said no, or said nothing
        ├── WmsAuth         bad or expired credentials
        ├── WmsRateLimited  try again later
        ├── WmsTransient    nothing was applied, try again
        ├── WmsUnknown      sent, outcome unsure: look the key up before anything else
        ├── WmsConflict     stock moved since the observation
        └── WmsRejected     a line is wrong and will stay wrong
"""

from __future__ import annotations

from collections.abc import Iterable


class ShelfscanError(Exception):
    """Base of all errors raised on purpose; its text is fit to be shown to a user."""


class BadInput(ShelfscanError):
    """Input that cannot be used. ``problems`` lists every fault found, one line each."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class MissingModel(BadInput):
    """A model file is absent, unreadable, or its shapes are not those its card states."""


class BackendError(ShelfscanError):
    """A network cannot be run on the backend asked for: its text says what is missing or failed, and what to do."""


class SensorError(ShelfscanError):
    """No usable frame: absent, stale, not synchronised, or not decodable."""


class NavigationError(ShelfscanError):
    """The navigation stack refused, failed or never answered."""


class LedgerError(ShelfscanError):
    """The ledger could not acknowledge a write, or holds another store's events."""


class WmsError(ShelfscanError):
    """Base of what a warehouse system may answer."""


class WmsAuth(WmsError):
    """Bad or expired credentials."""


class WmsRateLimited(WmsError):
    """Too many calls; try again later."""


class WmsTransient(WmsError):
    """Nothing was applied; trying again is safe."""


class WmsUnknown(WmsError):
    """The request was sent and its outcome is not known; look the key up before retrying."""


class WmsConflict(WmsError):
    """Stock moved since the observation; the count was not applied."""


class WmsRejected(WmsError):
    """The document or a line of it is wrong and stays wrong however often it is sent."""
