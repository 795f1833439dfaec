"""Run a worker host: keep bots warm in processes of their own, and register them with a gateway.

TARGET is path/bot.py or package.module:function. Without --gateway the bots listen on their own, for a gateway whose
settings name them under `workers`.

The gateway's key for worker hosts ([workers] keys) is read from GATEWAY_WORKER_KEY.
"""

from __future__ import annotations

import argparse

HELP = "run a worker host: warm bots for a gateway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="path/bot.py or package.module:function")
    parser.add_argument("--service-host", required=True, metavar="NAME", help="the service these bots answer for")
    parser.add_argument("--gateway", action="append", default=[], metavar="URL", help="gateway to register with")
    parser.add_argument("--warm", type=int, default=2, metavar="N", help="ready beyond those talking (%(default)s)")
    parser.add_argument("--max", type=int, default=20, metavar="N", help="sessions at once (%(default)s)")
    parser.add_argument("--listen", default="127.0.0.1", metavar="H", help="address workers listen on (%(default)s)")
    parser.add_argument("--advertise", metavar="H", help="address gateways reach them by (default: that of --listen)")
