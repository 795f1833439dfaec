"""From what was written while the call ran to the file that is kept."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

from gateway.audio.format import AudioFormat
from gateway.call_recording.files import FORMATS, FRAME_BYTES, AudioFile, read_blocks
from gateway.call_recording.spool import Entry, unpack
from gateway.call_recording.tracks import CallTracks
from gateway.errors import RecordingError, UnsupportedCodec

BATCH = 1.0
"""Seconds of the call that are put together in one step: half a millisecond or two of work. A long silence is written a
block of its tracks each step, which takes no longer."""
READ_AHEAD = 1 << 18
FRAME = 0.02
"""Seconds that the last frame of a killed process is taken to last."""
MAX_SILENCE = 600.0
"""Seconds that stand for the time between two parts of a call, at most: ten minutes."""
Filled: TypeAlias = tuple[bool, float]
"""Whether anything was said or heard, and the seconds that it took."""


def convert(spool: Path, target: Path, ending: str, before: Path | None = None) -> Generator[None, None, bool]:
    """Make a recording of a spool, a step each time. Returns whether there is anything in it.

    target: must not be there; it is as if last changed when the recording ended, by the wall clock. ending: ".flac" or
    ".wav". before: what the target begins with, then silence for the time between.
    Raises OSError, and RecordingError for a spool that is none, or that cannot go on behind the one before.
    """
    with spool.open("rb", READ_AHEAD) as source:
        entries = unpack(source)
        kind, began, _, data = next(entries, ("end", 0.0, 0.0, b""))
        digits, _, clock = data.partition(b" ")
        if kind != "begin" or not digits.isdigit():
            raise RecordingError(f"{spool.name} is no recording of ours")
        entries, rate = _rate(entries, int(digits))
        wall = _wall_clock(clock)
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        file = FORMATS[ending.removeprefix(".")](descriptor, rate)
        try:
            if before is not None:
                yield from _copy_earlier_file(before, file, rate, wall)
            spoken, seconds = yield from _write_tracks(file, CallTracks(rate, began), entries, began)
        finally:
            file.close()
    ended = wall + seconds if wall else spool.stat().st_mtime
    os.utime(target, (ended, ended))
    return spoken


def _rate(entries: Iterator[Entry], most: int) -> tuple[Iterator[Entry], int]:
    """Return the entries, and the rate of the file that is made of them, Hz: that of the stream, or the most.

    A telephone's 8 kHz take half the time and the space of 16, and nothing is lost. What an older gateway has written
    is the caller's PCM at the highest rate.
    """
    first = list(islice(entries, 2))
    formats = [read_format(data) for kind, _, _, data in first if kind in ("caller_format", "format")]
    named = [kind for kind, *_ in first] == ["caller_format", "format"]
    return chain(first, entries), min(most, max(audio.sample_rate for audio in formats)) if named else most


def _wall_clock(text: bytes) -> float:
    """Return when a spool began, unix seconds. 0: it does not say, as an older gateway has written it."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _copy_earlier_file(before: Path, file: AudioFile, rate: int, wall: float) -> Generator[None, None, None]:
    """Write what an earlier file holds, and silence from its end until the wall clock says so."""
    for frames in read_blocks(before, rate, round(BATCH * rate)):
        file.write(frames)
        yield
    silence = round(min(max(0.0, wall - before.stat().st_mtime), MAX_SILENCE) * rate)
    while silence > 0:
        file.write(bytes(min(silence, rate) * FRAME_BYTES))
        silence -= rate
        yield


def _write_tracks(
    file: AudioFile, tracks: CallTracks, entries: Iterator[Entry], began: float
) -> Generator[None, None, Filled]:
    batch: list[Entry] = []
    last = taken = began
    ended = spoken = False
    for entry in entries:
        last = max(last, entry[1])
        ended = entry[0] == "end"
        spoken = spoken or entry[0] in ("caller", "bot")
        if last - taken > BATCH:  # before it is placed: behind a long silence there would be no room for it
            _place_batch(tracks, batch)
            batch, taken = [], last
            yield from _write_blocks(file, tracks.take(last))
        batch.append(entry)
    _place_batch(tracks, batch)
    end = last if ended else last + FRAME
    yield from _write_blocks(file, tracks.finish(end))
    return spoken, end - began


def _write_blocks(file: AudioFile, blocks: Iterator[bytes]) -> Generator[None, None, None]:
    """Write what is final, a step each time: behind a pause of an hour it is an hour."""
    for block in blocks:
        file.write(block)
        yield


def _place_batch(tracks: CallTracks, batch: list[Entry]) -> None:
    """Place entries on the tracks: a moment of nothing but audio, the usual case, in one go."""
    caller = [(start, data) for kind, _, start, data in batch if kind == "caller"]
    bot = [(start, data) for kind, _, start, data in batch if kind == "bot"]
    if len(caller) + len(bot) == len(batch):
        tracks.caller(caller)
        tracks.bot(bot)
        return
    for kind, _, start, data in batch:
        match kind:
            case "caller":
                tracks.caller([(start, data)])
            case "bot":
                tracks.bot([(start, data)])
            case "caller_format":
                tracks.caller_format(read_format(data))
            case "format":
                tracks.format(read_format(data))
            case "cut":
                tracks.cut(start)
            case "silence":
                tracks.silence(start)


def write_format(audio: AudioFormat) -> bytes:
    """Write a format as an entry's data."""
    return f"{audio.encoding} {audio.sample_rate}".encode()


def read_format(data: bytes) -> AudioFormat:
    """Read what `write_format` has written. Raises RecordingError."""
    encoding, _, rate = data.decode(errors="replace").partition(" ")
    try:
        return AudioFormat.of(encoding, int(rate) if rate.isdecimal() else 0)
    except UnsupportedCodec as error:
        raise RecordingError(str(error)) from None
