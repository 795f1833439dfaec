"""What the tests of the four APIs look at alike."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from gateway.simulator.rest import PlacedCall, Plan, SimulatedCarriers
from tests.kit.waiting import until

from ..scripted_gateway import ScriptedGateway, Seen

TO, FROM = "+15550190001", "+15550100"
QUICK = Plan(rings=0.02)


def form(seen: Seen) -> dict[str, str]:
    """A request's fields: of its form, or of its query."""
    body = seen.body.decode() if seen.method == "POST" else urlsplit(seen.url).query
    return dict(parse_qsl(body, keep_blank_values=True))


def asked(gateway: ScriptedGateway, path: str) -> list[dict[str, str]]:
    """The fields of every request to this path, in order."""
    return [form(seen) for seen in gateway.requests if seen.path == path]


async def streaming(carriers: SimulatedCarriers) -> PlacedCall:
    """The call, once its caller is heard."""
    return await until(lambda: next((c for c in carriers.calls if c.report.frames_received), None))
