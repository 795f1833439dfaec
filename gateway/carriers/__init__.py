"""The carriers' HTTP side: verify, parse, answer.

`CARRIERS` is the table of all of them.

Importing this package imports neither a carrier's file nor its SDK: those are slow, and `gateway --help` has no use for
them.
"""

from __future__ import annotations

from gateway.carriers.plugin import CARRIERS, CarrierPlugin

__all__ = ["CARRIERS", "CarrierPlugin"]
