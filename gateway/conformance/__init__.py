"""What every carrier must keep, tried on one: `gateway conformance CARRIER`.

The carrier's simulator says what the carrier sends and understands; it is written from the carrier's documents and
shares no code with its serializer and HTTP side, so that a misreading on either side shows. Each breach is a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.carriers import CarrierPlugin
from gateway.conformance.rest import REST_RULES
from gateway.conformance.sample import Sample
from gateway.conformance.webhooks import WEBHOOK_RULES
from gateway.conformance.wire import WIRE_RULES
from gateway.simulator.call import Simulator

Rule = Callable[[Sample], Iterator[str]]
RULES: tuple[Rule, ...] = (*WIRE_RULES, *WEBHOOK_RULES, *REST_RULES)

MAX_BREACHES = 5
"""Sentences about one rule: the sixth says no more than the first."""


def breaches(plugin: CarrierPlugin, simulator: Simulator) -> Iterator[str]:
    """Try all rules on a carrier.

    A sentence for each breach, none for a carrier that keeps them.
    """
    for rule in RULES:
        told = 0
        try:
            for sentence in rule(Sample(plugin, simulator)):
                told += 1
                if told <= MAX_BREACHES:
                    yield sentence
        except Exception as error:  # whatever a carrier's code raises, it is a breach of the rule that was tried
            yield f"{rule.__name__.replace('_', ' ')}: {type(error).__name__} was raised: {error}"
