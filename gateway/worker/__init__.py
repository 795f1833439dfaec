"""Voice bots: the public API. `gateway.worker.Call` and its events; all else in this package is machinery."""

from gateway.worker.api import Audio, Call, Dtmf, Mark, Status

__all__ = ["Audio", "Call", "Dtmf", "Mark", "Status"]
