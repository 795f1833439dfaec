"""A bot that computes for two seconds beside another's call: does that call lose a frame, or time?"""

from __future__ import annotations

import asyncio

from gateway.simulator import CallPlan, CallReport, place_call
from tests.bench import rig

TALK = 4.0
BURNER, OTHER = "+15550100199", "+15550100001"


async def main() -> None:
    service = rig.service("burn", str(rig.BOTS / "burn.py"), warm=4, most=8, default=True)
    with rig.gateway(service) as gateway:
        await place_call(_plan(gateway.url, OTHER, 0.5))  # everybody has been imported
        alone = await place_call(_plan(gateway.url, OTHER))
        beside, burning = await asyncio.gather(
            place_call(_plan(gateway.url, OTHER)), place_call(_plan(gateway.url, BURNER))
        )
    print(f"alone                     {_row(alone)}")
    print(f"beside one that burns 2 s {_row(beside)}  (wanted: 0 lost)")
    print(f"the one that burns        {_row(burning)}")


def _plan(url: str, number: str, talk: float = TALK) -> CallPlan:
    return CallPlan(
        carrier="twilio", base_url=url, audio=rig.SPEECH[: int(talk * 8000)], from_number=number, linger=4.0
    )


def _row(report: CallReport) -> str:
    return f"{report.lost_frames} of {report.frames_sent} frames lost; echo {rig.p50_p99(report.echo_delays_ms())} ms"
