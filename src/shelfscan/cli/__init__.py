"""The command line."""

import shelfscan._threads  # noqa: F401 - before anything imports numpy
