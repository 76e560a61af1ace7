"""`python -P -m cogvideox_server.child PARENT COMMAND…`: becomes the command, and ends when that parent does.

The parent-death signal survives exec, so that programs which are not ours, Redis for one, leave no orphan either.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A terminal's Ctrl-C is for the supervisor; it tells its children in its own order.
    os.setpgid(0, 0)
    # It may have died before. Its number is given: 1 may be a foster parent, or a container's `up`.
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # an argument list, no shell


if __name__ == "__main__":
    main()
