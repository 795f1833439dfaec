"""`/v1/calls/{session_id}/recording`: the file, in ranges too, and pauses while it is written."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.responses import Response

from gateway.api.calls import find_record
from gateway.api.control import NO_SUCH_CALL, answer
from gateway.api.files import FileAnswer
from gateway.api.models import RecordingPart
from gateway.api.operation import Asked, Reply
from gateway.api.parts import Api
from gateway.api.problems import Problem, not_found
from gateway.call_recording.folder import finished_files
from gateway.sessions import control

MEDIA_TYPES = {".flac": "audio/flac", ".wav": "audio/wav"}


async def get_recording(api: Api, asked: Asked) -> Response | Problem:
    """Return a call's recording: stereo, the caller left and the bot right.

    It is there when the call has ended. What could not be put into one file is in further parts.
    """
    query: RecordingPart = asked.query
    session = asked.path["session_id"]
    record = await find_record(api, session)
    if record is None:
        return not_found(NO_SUCH_CALL)
    if not record.recording:
        if session in api.sessions:
            return Problem(409, "The recording is there when the call has ended.", "not_possible")
        return not_found("This call was not recorded, or its recording has been removed")
    files = await asyncio.to_thread(_files, api, record.recording)
    if query.part > len(files):
        return not_found("The file is not on this node, or has been removed" if not files else "There is no such part")
    return await FileAnswer.of(files[query.part - 1], MEDIA_TYPES, asked.headers)


def _files(api: Api, recording: str) -> list[Path]:
    """List the files of a recording. Only from where recordings are written: a path in a database is no permission."""
    path = Path(recording)
    folders = {Path(service.recordings).absolute() for service in api.node.services if service.recordings}
    if path.absolute().parent not in folders or path.suffix not in MEDIA_TYPES:
        return []
    return [each for each in finished_files(path) if each.suffix in MEDIA_TYPES and not each.is_symlink()]


async def pause(api: Api, asked: Asked) -> Reply | Problem:
    """Record silence from now on: a card number is being said."""
    session = asked.path["session_id"]
    return answer(session, await control.pause_recording(api.sessions, session, pause=True))


async def resume(api: Api, asked: Asked) -> Reply | Problem:
    """Record again what is said."""
    session = asked.path["session_id"]
    return answer(session, await control.pause_recording(api.sessions, session, pause=False))
