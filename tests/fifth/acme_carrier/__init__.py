"""A carrier that ships with no gateway: all that another package needs to bring.

Found by its entry point, `acme = "acme_carrier:PLUGIN"` in the group `gateway.carriers`.
"""

from __future__ import annotations

from acme_carrier.webhooks import AcmeCarrier, Config

from gateway.carriers import CarrierPlugin

PLUGIN = CarrierPlugin(
    carrier=AcmeCarrier,
    config=Config,
    env={"ACME_ACCOUNT": "account_id", "ACME_SECRET": "secret"},
    simulator="acme_carrier.simulator:SIMULATOR",
)
