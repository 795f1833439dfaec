"""How a flow is left before its end. They never leave `place_call`."""

from __future__ import annotations


class HungUp(Exception):
    """The caller hung up."""


class Refused(Exception):
    """The gateway did not take the call: "rejected" or "busy"."""


class Failed(Exception):
    """The carrier gave up, and why: its error number first, where it has one."""
