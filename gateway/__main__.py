"""The `gateway` command. Each command is a module of `gateway.cli`; heavy imports wait until it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from gateway.cli import COMMANDS
from gateway.cli.arguments import Parser, Version
from gateway.errors import BindError, UserError

DESCRIPTION = """\
A self-hosted telephony gateway: carriers' webhooks and media streams in, warm voice bots behind.

  gateway demo                      the whole of it on this machine: four carriers call an echo bot
  gateway serve --dev               a gateway to try things with, on loopback, unsigned calls welcome
  gateway serve --config FILE       a gateway for carriers
"""


def parser() -> argparse.ArgumentParser:
    """The command line of all commands."""
    top = Parser(prog="gateway", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action=Version, nargs=0, help="say which version this is, and end")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 = as asked, 1 = ran and fell short, 2 = called wrongly."""
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"gateway {arguments.command}: {line}", file=sys.stderr)  # noqa: T201 - the user's own terminal
        return 1 if isinstance(error, BindError) else 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
