"""What a simulated caller says, and what it hears while it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def speech(path: str | None, flag: str = "--audio") -> npt.NDArray[np.int16]:
    """Read a WAV file as int16 at 8 kHz, or the packaged sentence.

    Raises UserError, which begins with the flag, for a file that is none or holds nothing.
    """
    from gateway.audio.files import convert, read_wav_or_asset
    from gateway.errors import AudioError, UserError

    try:
        pcm, rate = read_wav_or_asset(path, "speech.wav")
    except AudioError as error:
        raise UserError(f"{flag}: {error}") from None
    if not len(pcm):
        raise UserError(f"{flag}: {path}: there is no audio in it")
    return convert(pcm, rate, 8000)


def hold_audio(path: str | None = None) -> npt.NDArray[np.int16]:
    """Read the gateway's hold audio, the packaged one without a path, as int16 at 8 kHz. Raises UserError."""
    from gateway.audio.files import convert, read_wav_or_asset
    from gateway.errors import AudioError, UserError

    try:
        pcm, rate = read_wav_or_asset(path, "hold.wav")
    except AudioError as error:
        raise UserError(f"--hold-audio: {error}") from None
    return convert(pcm, rate, 8000)
