"""Run a worker host: keep bots warm in processes of their own, and register them with a gateway.

TARGET is path/bot.py or package.module:function. The first SIGINT or SIGTERM drains: the running calls end first.

The gateway's key for worker hosts ([workers] keys) is read from GATEWAY_WORKER_KEY.
"""

from __future__ import annotations

import argparse

from gateway.cli.arguments import whole

HELP = "run a worker host: warm bots for a gateway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="path/bot.py or package.module:function")
    parser.add_argument(
        "--python", default="", metavar="P", help="interpreter of the bot's own environment, which has the gateway too"
    )
    parser.add_argument("--service-host", required=True, metavar="NAME", help="the service these bots answer for")
    parser.add_argument("--gateway", action="append", default=[], metavar="URL", help="gateway to register with")
    parser.add_argument(
        "--warm", type=whole(0), default=2, metavar="N", help="ready beyond those talking (%(default)s)"
    )
    parser.add_argument("--max", type=whole(1), default=20, metavar="N", help="sessions at once (%(default)s)")
    parser.add_argument("--listen", default="127.0.0.1", metavar="H", help="address workers listen on (%(default)s)")
    parser.add_argument("--advertise", metavar="H", help="address gateways reach them by (default: that of --listen)")


def run(arguments: argparse.Namespace) -> int:
    import asyncio
    import os
    import signal

    from gateway.secrecy import hide_memory

    hide_memory()

    from gateway.errors import UserError
    from gateway.worker.host import run_host
    from gateway.worker.logs import log_to_stderr
    from gateway.worker.options import HostOptions

    if arguments.warm > arguments.max:
        raise UserError(f"--warm: {arguments.warm} is more than --max, {arguments.max}: no host keeps that many")
    options = HostOptions(
        target=arguments.target,
        python=arguments.python,
        service_host=arguments.service_host,
        gateways=tuple(arguments.gateway) or ("ws://127.0.0.1:8080",),
        key=os.environ.pop("GATEWAY_WORKER_KEY", ""),
        warm=arguments.warm,
        max=arguments.max,
        listen=arguments.listen,
        advertise=arguments.advertise or "",
    )

    async def host() -> None:
        drain = asyncio.Event()
        serving = asyncio.create_task(run_host(options, drain))
        await asyncio.sleep(0)  # run_host ignores signals; at a terminal, Ctrl-C is the person's wish to end it
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, drain.set)
        await serving

    log_to_stderr()
    asyncio.run(host())
    return 0
