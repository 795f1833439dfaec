"""Places one simulated call."""

from __future__ import annotations

from gateway.simulator.call import Call
from gateway.simulator.carriers import carrier_of, flow_of, load_signer
from gateway.simulator.http import Http
from gateway.simulator.plan import CallPlan
from gateway.simulator.recorder import Recorder
from gateway.simulator.report import CallReport


async def place_call(plan: CallPlan, *, recorder: Recorder | None = None) -> CallReport:
    """Place the call and stay until it is over, however it ends.

    What the gateway does wrong is in the report.

    Raises UserError for a plan that cannot be tried.
    """
    load_signer(plan)
    carrier = carrier_of(plan)
    if recorder:
        recorder.call(carrier.name, carrier.facts(), plan.public)
    async with Http(plan, carrier, recorder) as http:
        return await Call(plan, carrier, http, recorder).run(flow_of(plan))
