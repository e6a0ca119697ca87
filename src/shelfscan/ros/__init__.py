"""ROS 2 nodes: convert, queue, work, publish."""

import shelfscan._threads  # noqa: F401 - before anything imports numpy
