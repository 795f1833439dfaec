"""What recording costs: `python -m tests.bench.recorded [--calls N] [--format flac]`.

Two gateways of this checkout carry the same calls in the same windows, one of them recording all of its calls. Measured
is the CPU time of the whole process, with the thread that writes; and that of the event loop alone, which is what
callers wait for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile

import uvloop

from tests.bench.media_path import HERE, Failed, loop_cpu, measure, process_cpu


async def main(calls: int = 20, windows: int = 40, ending: str = "flac") -> None:
    for what, clock in (("process", process_cpu), ("event loop", loop_cpu)):
        with tempfile.TemporaryDirectory(prefix="gw-recordings-") as folder:
            services = (f'recordings = "{folder}"\nrecording_format = "{ending}"\n', "")
            with_it, without = await measure([HERE, HERE], calls, windows, services, clock)
        ratios = sorted(a / b for a, b in zip(with_it.cpu, without.cpu, strict=True))
        low, middle, high = ratios[len(ratios) // 10], statistics.median(ratios), ratios[-len(ratios) // 10]
        print(
            f"{what}, {calls} calls, {ending}: {statistics.median(with_it.cpu):.1f} µs a frame,"
            f" {statistics.median(without.cpu):.1f} without; ratio {middle:.3f} ({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recorded", description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--format", choices=["flac", "wav"], default="flac")
    asked = parser.parse_args()
    try:
        uvloop.run(main(asked.calls, asked.windows, asked.format))
    except Failed as error:
        sys.exit(f"nothing is measured: {error}")
