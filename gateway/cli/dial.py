"""Place one call through a running gateway, and follow it to its end.

The gateway does the dialling: its [dialout] settings say which numbers may be called, and from which. The key is one of
its [api] keys, with the scopes calls:write and calls:read: --key, else $GATEWAY_API_KEY, else the first of the settings
of $GATEWAY_CONFIG. Ctrl-C asks the gateway to hang up; a second one leaves the call alone and ends this command.

  gateway dial +15550000101 --from +15550100 --carrier twilio --body '{"campaign": "spring"}'

Exit status: 0 = the call was answered, 1 = it was not, or could not be followed, 2 = called wrongly, or not allowed.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

from gateway.cli.arguments import gateway_url, whole
from gateway.errors import UserError

if TYPE_CHECKING:
    from gateway.cli.follow import Order

HELP = "place one call through a running gateway, and follow it to its end"
KEY_VARIABLE = "GATEWAY_API_KEY"
NEEDED = ("calls:write", "calls:read")


def number(text: str) -> str:
    """Read a telephone number as people write it, into E.164."""
    digits = re.sub(r"[\s().\-/]", "", text)
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", digits, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no telephone number: write it like +15550100001")
    return digits


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    import json

    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('is no JSON object: write it like \'{"campaign": "spring"}\'')
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", metavar="TO", type=number, help="the number to call, in E.164")
    parser.add_argument(
        "--from", dest="from_number", required=True, type=number, metavar="N", help="one of [dialout] callers"
    )
    parser.add_argument("--carrier", metavar="NAME", default="", help="needed where more than one is set up")
    parser.add_argument("--service-host", metavar="H", default="", help="the service whose bot talks")
    parser.add_argument("--body", type=json_object, metavar="JSON", help="what the bot gets as call.data.body")
    parser.add_argument(
        "--machine-detection", choices=("off", "detect", "message_end"), default="off", help="(default: %(default)s)"
    )
    parser.add_argument("--max-seconds", type=whole(1, 86400), metavar="S", help="the call's longest duration")
    parser.add_argument(
        "--url", type=gateway_url, default="http://127.0.0.1:8080", metavar="BASE", help="(default: %(default)s)"
    )
    parser.add_argument("--key", metavar="K", help=f"a key of its [api] keys (default: ${KEY_VARIABLE})")
    parser.add_argument("--config", metavar="FILE", help="settings to take the key from (default: $GATEWAY_CONFIG)")
    parser.add_argument("--json", action="store_true", help="print the call's record as JSON when it has ended")


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli.follow import follow

    return asyncio.run(follow(_order(arguments), as_json=arguments.json, out=sys.stdout, say=sys.stderr))


def _order(arguments: argparse.Namespace) -> Order:
    from gateway.cli.follow import Order

    wanted = {
        "to": arguments.to,
        "from": arguments.from_number,
        "carrier": arguments.carrier,
        "serviceHost": arguments.service_host,
        "body": arguments.body,
        "machine_detection": arguments.machine_detection,
        "max_call_seconds": arguments.max_seconds,
    }
    return Order(arguments.url, _key(arguments), {name: value for name, value in wanted.items() if value})


def _key(arguments: argparse.Namespace) -> str:
    """Return the key to ask with. Raises UserError."""
    import os

    from gateway.settings import load

    if key := arguments.key or os.environ.get(KEY_VARIABLE):
        return str(key)
    for each in load(arguments.config).api.api_keys():
        if each.scopes.issuperset(NEEDED):
            return each.secrets[0].get_secret_value()
    raise UserError(f"--key: is missing: give a key of the gateway's [api] keys, or set {KEY_VARIABLE}")
