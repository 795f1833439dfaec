"""Keep what this process knows from the other processes of its user: the bots that it starts are such."""

from __future__ import annotations

import ctypes
import os
import sys

INSPECTABLE_VARIABLE = "GATEWAY_INSPECTABLE"
"""Environment variable: any value leaves our processes open to the debuggers and profilers of their user."""

PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """Deny /proc/<pid>/environ, mem and fd of this process to all but root, on Linux (prctl(2), PR_SET_DUMPABLE).

    A gateway's environment holds the carriers' tokens, its memory all keys; a bot of the same user could read both. An
    executed program is open again: bots, which hold no keys but their own, stay so.
    """
    if sys.platform == "linux" and not os.environ.get(INSPECTABLE_VARIABLE):
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
