"""The file that is kept of a recording: stereo, 16 bit, FLAC or WAV."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from gateway.errors import RecordingError

CHANNELS = 2
FRAME_BYTES = 2 * CHANNELS
WAV_HEADER = 44
MAX_WAV = 0xFFFF_FFFF
"""Bytes: a WAV file has no larger number. Players read on to the end of the file."""


class AudioFile(Protocol):
    """Stereo, 16 bit."""

    def write(self, frames: bytes) -> None:
        """Append whole frames. Raises OSError when they cannot be written."""

    def close(self) -> None:
        """Write what is left and close the file. Raises OSError."""


class WavFile:
    """descriptor: of an empty file; it is closed with this."""

    def __init__(self, descriptor: int, rate: int) -> None:
        self._descriptor = descriptor
        self._size = 0
        data = struct.pack("<HHIIHH", 1, CHANNELS, rate, rate * FRAME_BYTES, FRAME_BYTES, 16)
        head = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<I", len(data)) + data + b"data" + bytes(4)
        write_all(descriptor, head)

    def write(self, frames: bytes) -> None:
        write_all(self._descriptor, frames)
        self._size += len(frames)

    def close(self) -> None:
        try:
            os.pwrite(self._descriptor, struct.pack("<I", min(MAX_WAV, self._size + WAV_HEADER - 8)), 4)
            os.pwrite(self._descriptor, struct.pack("<I", min(MAX_WAV, self._size)), WAV_HEADER - 4)
        finally:
            os.close(self._descriptor)


class FlacFile:
    """By libsndfile. descriptor: of an empty file; it is closed with this."""

    def __init__(self, descriptor: int, rate: int) -> None:
        import soundfile

        self._descriptor = descriptor
        self._failed: type[Exception] = soundfile.SoundFileRuntimeError
        # The fastest level: two per cent larger than the usual one, and a third cheaper, beside running calls.
        self._file: Any = soundfile.SoundFile(
            descriptor, "w", rate, CHANNELS, "PCM_16", format="FLAC", closefd=False, compression_level=0.0
        )

    def write(self, frames: bytes) -> None:
        try:
            self._file.buffer_write(frames, "int16")
        except self._failed as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        try:
            self._file.close()
        except self._failed as error:
            raise OSError(str(error)) from error
        finally:
            os.close(self._descriptor)


def read_blocks(path: Path, rate: int, frames: int) -> Iterator[bytes]:
    """Give a file's audio, so many frames each time.

    Raises OSError, and RecordingError for what is no recording at this rate.
    """
    import soundfile

    try:
        with path.open("rb") as opened, soundfile.SoundFile(opened) as source:
            if (source.samplerate, source.channels, source.subtype) != (rate, CHANNELS, "PCM_16"):
                raise RecordingError(f"{path.name} is no stereo file of {rate} Hz")
            while block := bytes(source.buffer_read(frames, "int16")):
                yield block
    except soundfile.SoundFileRuntimeError as error:
        why = getattr(error, "error_string", type(error).__name__)  # not its text, which names the path
        raise RecordingError(f"{path.name} cannot be read: {why}") from error


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


FORMATS: dict[str, Callable[[int, int], AudioFile]] = {"wav": WavFile, "flac": FlacFile}
"""By the ending of the file's name, which is the setting `recording_format`."""
