"""What several commands' flags may hold: all that is out of range is refused by its flag, before anything is done."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import urlsplit

MOST_SECONDS = 1e6
"""Eleven days: no call lasts longer, and a timer that far ahead is still exact to the millisecond."""
MOST_PORT = 65535
WEBHOOKS = "/webhooks"


class Parser(argparse.ArgumentParser):
    """Refuses in one line that names the flag. argparse would print the usage of all flags above it."""

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}; see {self.prog} --help\n")


class Version(argparse.Action):
    """Says which version of the package is installed, and ends the process."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """End the process with status 0."""
        from importlib.metadata import version

        print(f"gateway {version('carrier-stream-gateway')}")
        parser.exit()


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Make the type of a whole number from least to most."""
    limits = f"above {least - 1}" if most is None else f"from {least} to {most}"

    def convert(text: str) -> int:
        digits = text.removeprefix("-")
        value = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {limits}")
        return value

    return convert


def positive(text: str) -> float:
    """Read a number above 0: of seconds, or of calls in a second."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < MOST_SECONDS:  # nan is not, either
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and below {MOST_SECONDS:.0f}")
    return value


def gateway_url(text: str) -> str:
    """Read the URL under which a gateway has its webhooks: http or https, with a path where a proxy adds one."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        _ = parts.port  # it is read only when it is asked for
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL: write it like http://127.0.0.1:8080") from None
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// or https://: http://{url}, say")
    if scheme.lower() not in ("http", "https"):
        raise argparse.ArgumentTypeError(f"{text!r} begins with {scheme}://: a gateway's URL has http:// or https://")
    if (
        not parts.hostname
        or not url.isprintable()
        or " " in url
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is no gateway's URL: write it like http://127.0.0.1:8080")
    if WEBHOOKS in parts.path:
        base = url.partition(WEBHOOKS)[0]
        raise argparse.ArgumentTypeError(f"{text!r} is a webhook: name the gateway alone, {base}")
    return url.rstrip("/")
