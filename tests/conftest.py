"""Fixtures that more than one package's tests stand on, and what holds for the whole run."""

from __future__ import annotations

import gc

from tests.kit.logs import log_plainly

pytest_plugins = ("tests.kit.node",)


def pytest_configure() -> None:
    log_plainly()


def pytest_collection() -> None:
    gc.disable()  # all of it stays: there is nothing to be found


def pytest_collection_finish() -> None:
    """Keep the collected tests out of each full collection.

    They are 200 MB of objects, and to look through them took over a second on a busy machine: event loops stood still
    for so long in the middle of tests, and workers were "unreachable".
    """
    gc.collect()
    gc.freeze()
    gc.enable()
