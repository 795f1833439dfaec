"""A process that delivers until it is killed: python -m tests.outbox.sending_node DATABASE_URL ENDPOINT."""

from __future__ import annotations

import asyncio
import sys

from gateway.outbox.endpoint import Endpoint
from gateway.outbox.outbox import Outbox
from gateway.records.database import open_engine
from tests.outbox.receiver import SECRET


async def main(url: str, endpoint: str) -> None:
    outbox = Outbox(open_engine(url), [Endpoint.of(endpoint, [SECRET])])
    outbox.start(lambda work, name: asyncio.create_task(work, name=name))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
