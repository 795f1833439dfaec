"""Names the threads of this process by what started them: a thread prevents forking."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

TASKS = Path("/proc/self/task")


def threads() -> int:
    """Count the threads of this process, those of C libraries included."""
    return len(list(TASKS.iterdir())) if TASKS.exists() else threading.active_count()


class ThreadWatch:
    """Notes while modules are imported which of them starts a thread that Python does not know of.

    As a finder that finds nothing: each import of a module that is new asks it first. A thread that has come since the
    last time is of the module that was asked for then.
    """

    def __init__(self) -> None:
        self._count = threads()
        self._python = threading.active_count()
        self._importing = ""
        self._of: list[str] = []
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Note what the last import has started. Finds nothing."""
        self._note()
        self._importing = name

    def stop(self) -> list[str]:
        """Look no more. Returns a name for each thread that there is beside this one."""
        self._note()
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        known = [
            f'the thread "{thread.name}"' for thread in threading.enumerate() if thread is not threading.main_thread()
        ]
        unknown = max(0, threads() - 1 - len(known))
        named = [f"a thread that {module} starts" for module in self._of[:unknown]]
        unnamed = unknown - len(named)
        return known + named + ([f"{unnamed} thread{'s' * (unnamed > 1)}"] if unnamed else [])

    def _note(self) -> None:
        count, python = threads(), threading.active_count()
        new = (count - self._count) - (python - self._python)
        if new > 0 and self._importing:
            self._of += [self._importing] * new
        self._count, self._python = count, python
