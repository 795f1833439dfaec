"""Tells silence from sound, in PCM as bytes. Without NumPy: a worker that only listens does not import it."""

from __future__ import annotations

from array import array

QUIET_PEAK = 64
"""Samples up to this are an idle line's, -54 dBFS: eight of G.711's smallest steps. The softest speech is ten times
louder."""


def is_quiet(pcm: bytes) -> bool:
    """Return whether nothing is to be heard in this. pcm: int16, native byte order, whole samples."""
    samples = array("h", pcm)
    return not samples or (max(samples) <= QUIET_PEAK and min(samples) >= -QUIET_PEAK)
