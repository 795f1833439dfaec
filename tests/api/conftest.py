from __future__ import annotations

import pytest

from tests.api.serving import api_of


@pytest.fixture
async def http(gateway):
    async with api_of(gateway.sessions) as client:
        yield client
