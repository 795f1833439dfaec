"""Tells silence from sound, in PCM as bytes. Without NumPy: a worker that only listens does not import it."""

from __future__ import annotations

from array import array

QUIET_PEAK = 64
"""Samples up to this are an idle line's, -54 dBFS: eight of μ-law's smallest steps, four of A-law's. Speech that can be
understood peaks ten times higher; its pauses do not, and its soft onset may not."""


def is_quiet(pcm: bytes) -> bool:
    """Return whether nothing is to be heard in this. pcm: int16 as on the link, whole samples: its little
    endian is read as the machine's own."""
    samples = array("h", pcm)
    return not samples or (max(samples) <= QUIET_PEAK and min(samples) >= -QUIET_PEAK)
