"""`python -m tests.bench [claim] [cold] [burn] [ramp] [media] [audio]`: those parts, or all, in about two minutes."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.audio import bench_audio
from tests.bench import burn, claim, cold, media_path, ramp

PARTS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "claim": claim.main,
    "cold": cold.main,
    "burn": burn.main,
    "ramp": ramp.main,
    "media": media_path.main,
}
AUDIO = "audio"


def main(asked: list[str]) -> int:
    unknown = set(asked) - {*PARTS, AUDIO}
    if unknown:
        print(f"{', '.join(sorted(unknown))}: not one of {', '.join((*PARTS, AUDIO))}", file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load average {load:.1f}")
    if load > 1:
        print("others are using this machine: delays will be theirs, too")
    began = time.monotonic()
    for name, part in PARTS.items():
        if not asked or name in asked:
            print(f"\n== {name}", flush=True)
            uvloop.run(part())
    if not asked or AUDIO in asked:
        print(f"\n== {AUDIO}", flush=True)
        bench_audio.main()
    print(f"\n{time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
