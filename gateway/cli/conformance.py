"""Try what every carrier must keep on one: its serializer and its HTTP side against its own simulator.

For the author of a carrier in another package. Each breach is one sentence; without one, the carrier can be served.

Exit status: 0 = all was kept, 1 = something was not, 2 = called wrongly.
"""

from __future__ import annotations

import argparse
import textwrap

from gateway.cli.carriers import simulated_carrier

COLUMNS = 80
HELP = "try what every carrier must keep, on one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("carrier", type=simulated_carrier, metavar="CARRIER", help="its name, as in [carriers.NAME]")


def wrapped(sentence: str) -> str:
    """Break a sentence into lines of at most COLUMNS characters."""
    return textwrap.fill(sentence, COLUMNS, subsequent_indent="  ", break_on_hyphens=False)


def run(arguments: argparse.Namespace) -> int:
    from gateway.carriers import CARRIERS
    from gateway.conformance import RULES, breaches
    from gateway.simulator.carriers import simulator_of

    name = arguments.carrier
    found = 0
    for sentence in breaches(CARRIERS[name], simulator_of(name)):
        found += 1
        print(wrapped(f"{name}: {sentence}"), flush=True)
    print(f"{name}: {len(RULES)} rules tried, " + ("all kept" if not found else f"{found} breaches"))
    return 1 if found else 0
