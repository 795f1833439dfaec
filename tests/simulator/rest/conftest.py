from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.simulator.rest import SimulatedCarriers

from ..scripted_gateway import ScriptedGateway
from .calls import QUICK


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with ScriptedGateway() as gateway:
        yield gateway


@pytest.fixture
async def carriers() -> AsyncIterator[SimulatedCarriers]:
    async with SimulatedCarriers(plan=QUICK) as carriers:
        yield carriers
