"""shelfscan: the open software stack for robots that count a store's shelves at night."""

__version__ = "0.1.0"
