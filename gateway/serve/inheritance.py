"""What one of several gateways is given by its parent, by environment variables."""

from __future__ import annotations

SOCKET_VARIABLE = "GATEWAY_LISTEN_FD"
"""The number of the inherited socket, for a gateway that is one of several."""
PARENT_VARIABLE = "GATEWAY_PARENT_FD"
"""The number of a pipe that is at its end when the parent has died: time to drain."""
