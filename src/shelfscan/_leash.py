"""Run as a script before a supervised program: ties its life to the supervisor's, then becomes the program.

``python _leash.py PARENT_PID program arguments…``. The kernel kills the program the moment its parent is gone, however
the parent ended; the setting outlives ``exec``. A script of its own because code between fork and exec in a process
with threads can deadlock. Must not import anything of the package: it is run with ``-I -S`` to start at once.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    try:
        os.execvp(argv[0], argv)
    except OSError as e:
        sys.exit(f"{argv[0]}: {e.strerror}")


if __name__ == "__main__":
    main()
