"""Media messages of silence, as the carrier itself would send them: for bots that read the carrier's own wire.

Each is the last message that came, with silence for its audio and its `timestamp` moved on, as bots tell time by that.
Its numbers stay: the carrier has numbered nothing more, and will go on from there.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import Any

import orjson

from serializers.base import MediaFormat
from serializers.lost_media import silent_byte

MIN_RATE = 8000
"""Hz. No carrier is below it, and what is named as less is no rate."""
MAX_MESSAGE = 16 * 1024
"""Bytes of a message that is repeated: half a second of the widest audio. One message must not become many large ones.
"""
SHORTEST, LONGEST = 0.02, 0.5
"""Seconds of one message of silence, however short or long the last one was."""
MAX_TIMESTAMP = 2**53
"""Milliseconds or nanoseconds: JSON's numbers go as far. What is greater is no time."""
MAX_DIGITS = 16


class SilentMedia:
    """The silent messages that follow one message of media. seconds: the length of each."""

    def __init__(self, fields: dict[str, Any], size: int, media: MediaFormat) -> None:
        width = media.bytes_per_sample
        rate = media.sample_rate * width
        samples = min(max(size, int(rate * SHORTEST)), int(rate * LONGEST)) // width
        self._fields = fields
        self._media = fields["media"]
        self._media["payload"] = b2a_base64(silent_byte(media.encoding) * (samples * width), newline=False).decode()
        self.seconds = samples / media.sample_rate

    @classmethod
    def like(cls, message: bytes, media: MediaFormat) -> SilentMedia | None:
        """Read a message of media in this format. None if it is not one, or too large; never raises."""
        if len(message) > MAX_MESSAGE or media.sample_rate < MIN_RATE:
            return None
        try:
            fields = orjson.loads(message)
            size = len(a2b_base64(fields["media"]["payload"]))
        except (ValueError, TypeError, KeyError):
            return None
        return cls(fields, size, media)

    def next(self) -> str:
        """Write the next message."""
        timestamp, later = self._media.get("timestamp"), round(self.seconds * 1000)
        if type(timestamp) is int and abs(timestamp) < MAX_TIMESTAMP:
            self._media["timestamp"] = timestamp + later
        elif type(timestamp) is str and len(timestamp) <= MAX_DIGITS and timestamp.isdecimal():
            self._media["timestamp"] = str(int(timestamp) + later)
        return orjson.dumps(self._fields).decode()
