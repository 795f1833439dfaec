"""One carrier and one call of its simulator, for a rule to be tried on."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from urllib.parse import urlsplit

import numpy as np

from gateway.carriers import CarrierPlugin
from gateway.carriers.base import Carrier, HttpRequest
from gateway.simulator.account import Account
from gateway.simulator.call import Simulator
from gateway.simulator.carrier import Request, SimulatedCarrier, StreamSpec, Wire
from gateway.simulator.http import encoded_body
from gateway.simulator.plan import CallPlan
from serializers.base import Event, Serializer, Start

PUBLIC_URL = "https://voice.example.com"
STREAM_URL = "wss://voice.example.com/ws/conformance/token"
FROM, TO = "+12025550143", "+12025550100"


class Sample:
    """What a rule may use.

    plugin: the carrier. side: one call of its simulator. wire: a stream of that call. dice: the same numbers each time.
    """

    def __init__(self, plugin: CarrierPlugin, simulator: Simulator) -> None:
        self.plugin = plugin
        self.simulator = simulator
        self.account = simulator.carrier.account_type.generate()
        self.side = self.call()
        self.wire: Wire = self.side.open_stream(self.spec)
        self.dice = random.Random(20260701)  # noqa: S311 - reproducible, and no secret

    def call(self, query: Mapping[str, str] | None = None, account: Account | None = None) -> SimulatedCarrier:
        """Another call. query: what the flow's author wrote into the voice URL."""
        plan = CallPlan(
            carrier=self.plugin.name,
            base_url=PUBLIC_URL,
            audio=np.zeros(160, np.int16),
            credentials={self.plugin.name: account or self.account},
            from_number=FROM,
            to_number=TO,
            query=query or {},
        )
        return self.simulator.carrier(plan)

    @property
    def spec(self) -> StreamSpec:
        """What the carrier was asked to stream."""
        return StreamSpec(STREAM_URL, dict(self.side.static_attributes), {})

    # The wire.

    def serializer(self) -> Serializer:
        """A serializer of a stream that has not begun."""
        return self.plugin.carrier.serializer()

    def started(self) -> Serializer:
        """Make a serializer that has had the handshake.

        Raises ValueError if it did not understand that.
        """
        serializer = self.serializer()
        self.handshake(serializer)
        if serializer.started is None:
            raise ValueError("its start was not understood")
        return serializer

    def handshake(self, serializer: Serializer) -> list[Event]:
        """The events of the greeting and of `start`."""
        said = [self.wire.connected(), self.wire.start()]
        return [event for message in said if message for event in serializer.decode(message)]

    def frame(self, serializer: Serializer) -> bytes:
        """Audio of a length that the carrier plays, and that is not silence."""
        start = serializer.started
        assert isinstance(start, Start)
        size = max(serializer.wire.chunk_min, start.outbound.sample_rate * start.outbound.bytes_per_sample // 50)
        return self.dice.randbytes(size)

    def media(self, payload: bytes) -> bytes:
        """The caller's next media message."""
        return self.wire.media(20, base64.b64encode(payload))

    # Webhooks.

    def carrier(self, *, dev: bool = False) -> Carrier:
        """The HTTP side with the account that the simulator has; without any in --dev."""
        if dev:
            return self.plugin.carrier(None, public_url=PUBLIC_URL, dev=True)
        config = self.plugin.config.model_validate(self.account.settings())
        return self.plugin.carrier(config, public_url=PUBLIC_URL)

    def voice(self, side: SimulatedCarrier | None = None) -> HttpRequest:
        """The signed request of a call that rings."""
        side = side or self.side
        return self.sent(side.instructions(side.voice_url, "POST", answered=False), side)

    def sent(self, request: Request, side: SimulatedCarrier | None = None) -> HttpRequest:
        """A simulated request as the gateway gets it."""
        body, kind = encoded_body(request)
        headers = {name.lower(): value for name, value in (side or self.side).headers(request, body).items()}
        if kind:
            headers["content-type"] = kind
        url = urlsplit(request.full_url)
        return HttpRequest(request.method, url.path, url.query, headers, body)
