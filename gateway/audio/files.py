"""Whole files: WAV in and out, and any rate to any other at soxr's best, where time does not matter."""

from __future__ import annotations

import wave
from importlib.resources import as_file, files
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gateway.audio.g711 import Pcm
from gateway.errors import AudioError


def convert(pcm: Pcm, source_rate: int, target_rate: int) -> Pcm:
    """All of `pcm` (int16, mono) at another rate, without delay: round(n · target / source) samples.

    In floats, because soxr dithers int16, and silence must stay silent.
    """
    import soxr

    if source_rate == target_rate:
        return pcm
    y = soxr.resample(pcm.astype(np.float32), source_rate, target_rate, quality="VHQ")
    out: Pcm = np.rint(y).clip(-32768, 32767).astype(np.int16)
    return out


def read_wav(file: str | Path | BinaryIO) -> tuple[Pcm, int]:
    """The samples of a mono 16-bit WAV file, and their rate in Hz.

    Raises AudioError for what is not there, cannot be read, or is something else.
    """
    try:
        with wave.open(_openable(file), "rb") as wav:
            channels, width, rate = wav.getnchannels(), wav.getsampwidth(), wav.getframerate()
            data = wav.readframes(wav.getnframes())
    except OSError as error:
        raise AudioError(f"{_name(file)}: {error.strerror or error}") from error
    except (wave.Error, EOFError, RuntimeError) as error:  # the last: a chunk longer than its file
        raise AudioError(f"{_name(file)}: not a PCM WAV file ({str(error) or 'too short'})") from error
    if channels != 1 or width != 2 or rate < 1:
        raise AudioError(
            f"{_name(file)}: {channels} channel(s) of {8 * width} bit at {rate} Hz; it must be mono of 16 bit"
            " (ffmpeg -i IN -ac 1 -c:a pcm_s16le OUT.wav)"
        )
    return np.frombuffer(data[: len(data) & ~1], "<i2").astype(np.int16), rate


def read_wav_or_asset(path: str | None, asset: str) -> tuple[Pcm, int]:
    """The samples of this WAV file, of the gateway's own one of this name without a path, and their rate in Hz.

    Raises AudioError.
    """
    if path is not None:
        return read_wav(path)
    with as_file(files("gateway") / "assets" / asset) as packaged:
        return read_wav(packaged)


def write_wav(file: str | Path | BinaryIO, pcm: Pcm, rate: int) -> None:
    """Write mono 16-bit samples as a WAV file. Raises OSError where the file cannot be written."""
    with wave.open(_openable(file), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(pcm.astype("<i2", copy=False).tobytes())


def _openable(file: str | Path | BinaryIO) -> str | BinaryIO:
    return str(file) if isinstance(file, Path) else file


def _name(file: str | Path | BinaryIO) -> str:
    return str(file) if isinstance(file, str | Path) else "audio"
