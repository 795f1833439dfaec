"""What the benchmark's Pipecat bots say, at 8 kHz: three pieces of the recorded sentence."""

from __future__ import annotations

from pathlib import Path

from gateway.audio.files import read_wav

PAUSE = 0.6
"""Seconds between two."""
_SPEECH = read_wav(Path(__file__).parents[3] / "fixtures" / "speech.wav")[0]
SENTENCES = [_SPEECH[at : at + 8000] for at in range(4000, 4000 + 3 * 8000, 8000)]
