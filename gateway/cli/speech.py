"""What a simulated caller says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def speech(path: str | None) -> npt.NDArray[np.int16]:
    """A WAV file as int16 at 8 kHz, or the packaged sentence. Raises UserError for a file that is none."""
    from importlib.resources import as_file, files

    from gateway.audio.files import convert, read_wav
    from gateway.errors import AudioError, UserError

    try:
        if path is not None:
            pcm, rate = read_wav(path)
        else:
            with as_file(files("gateway") / "assets" / "speech.wav") as packaged:
                pcm, rate = read_wav(packaged)
    except (AudioError, OSError) as error:
        raise UserError(f"--audio: {error}") from None
    return convert(pcm, rate, 8000)
