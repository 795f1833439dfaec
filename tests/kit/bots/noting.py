"""What a bot of the tests notes down: one line of JSON for each thing, in the file beside the bot."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from gateway.worker import Call


class Notes:
    """bot: the bot's `__file__`. Each line is one write, so that the workers of one bot do not mix theirs."""

    def __init__(self, bot: str) -> None:
        self._path = Path(bot).with_suffix(".jsonl")

    def __call__(self, call: Call, what: str, **more: Any) -> None:
        said = {"call": call.data.call_id, "pid": os.getpid(), "what": what, "at": time.monotonic(), **more}
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{json.dumps(said)}\n".encode())
        os.close(handle)
