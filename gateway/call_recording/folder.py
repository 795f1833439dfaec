"""The folder of a service's recordings: names, what is being written, and what a killed gateway has left.

<folder>/<session>.flac           a recording; also .wav
<folder>/<session>.2.flac         it goes on here: what could not be appended to the first one
<folder>/<session>.flac.part      of a running call (see `spool`); locked by the process that writes it
<folder>/<session>.2.flac.part    likewise: it goes on, and is appended to the first one when it is over
<folder>/<session>.flac.new       the file while it is being made of these

A `.part` is converted after those with lower numbers, and removed when its audio is in a file. A file's time of change
is the end of its audio: so a `.part` is recognized that a killed process has appended and not removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.call_recording.convert import convert
from gateway.call_recording.files import FORMATS, write_all
from gateway.errors import RecordingError

log = structlog.get_logger(__name__)

PART, NEW = ".part", ".new"
SUFFIXES = frozenset(f".{ending}" for ending in FORMATS)
MIN_FREE = 200 * 1024 * 1024
"""Bytes that are left to the disk's other users: no recording begins, or goes on, with less."""
MAX_PARTS = 100
"""Files of one session: it goes on in another with each node that takes it."""
MAX_MISSING = 8
"""Stop to look for files after this many missing numbers: those have been appended to earlier ones."""
BREATH = 0.001
"""Seconds between two steps of a recovery: calls may be running already."""


@dataclass(slots=True)
class OpenRecording:
    """A recording of a running call. path: its final name. descriptor: of its part, locked and open."""

    path: Path
    descriptor: int

    @property
    def part(self) -> Path:
        """What is being written."""
        return beside(self.path, PART)

    def write(self, data: bytes) -> None:
        """Append to the part. Raises OSError."""
        write_all(self.descriptor, data)

    @property
    def removed(self) -> bool:
        """True if someone, of another process maybe, has removed the part: this recording is not to be."""
        return os.fstat(self.descriptor).st_nlink == 0

    def lock(self) -> bool:
        """Be the one that writes the part. False: another process is, or has made it; then it is closed here.

        Raises OSError, and has closed it then, too.
        """
        ours = False
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = not self.removed
        finally:
            if not ours:
                os.close(self.descriptor)
        return ours

    def complete(self) -> Generator[None, None, bool]:
        """Make the file, a step each time. Returns whether there is one: of a call without audio there is none.

        What was recorded of the call before is in the same file, if that is here; `path` is then of that.
        The part is removed, but for an error. Raises OSError, RecordingError.
        """
        try:
            before = yield from _file_before(self.path)
            if before is not None:
                try:
                    return (yield from self._make(before, before))
                except RecordingError as error:
                    log.warning("a recording goes on in a further file", session=session_of(before), error=str(error))
            return (yield from self._make(self.path, None))
        except FileNotFoundError:
            if self.removed:
                return False
            raise
        finally:
            os.close(self.descriptor)

    def _make(self, target: Path, before: Path | None) -> Generator[None, None, bool]:
        new, part = beside(target, NEW), self.part
        try:
            new.unlink(missing_ok=True)
            spoken = yield from convert(part, new, target.suffix, before)
            if spoken and (before is None or new.stat().st_mtime_ns != before.stat().st_mtime_ns):
                new.rename(target)
            else:
                new.unlink()
            if self.removed:  # `remove` takes the parts first: after this look it finds the file
                target.unlink(missing_ok=True)
                return False
            part.unlink(missing_ok=True)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        self.path = target
        return spoken or before is not None

    def discard(self) -> None:
        """Remove what was written, instead of making a file of it. Raises OSError."""
        try:
            self.part.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)


def beside(path: Path, ending: str) -> Path:
    """Return the path with an ending behind its own."""
    return path.with_name(path.name + ending)


def create(folder: str, session: str, ending: str) -> OpenRecording:
    """Begin a recording, readable by its owner only. ending: "flac" or "wav". Raises OSError."""
    base = Path(folder).absolute()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if free_bytes(folder) < MIN_FREE:
        raise OSError(f"less than {MIN_FREE >> 20} MB are free")
    name = name_of(session)
    first = base / f"{name}.{ending}"
    number = max(map(_number_of, _names(first)), default=0)  # behind all: in this order they are put together
    while (number := number + 1) <= MAX_PARTS:
        path = _numbered(first, number)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(beside(path, PART), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            recording = OpenRecording(path, descriptor)
            if recording.lock():  # else another process that starts has just taken it for a dead one's
                os.fchmod(descriptor, 0o600)
                return recording
    raise OSError(f"there are {MAX_PARTS} recordings of this session already")


def reason(error: Exception) -> str:
    """Return what is wrong, for a log: without the path that an OSError's own text names."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def name_of(session: str) -> str:
    """Return what the names of a session's files begin with."""
    return re.sub(r"[^A-Za-z0-9_~-]", "_", session)[:120]


def free_bytes(folder: str) -> int:
    """Bytes that we may still write in this folder. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def recover(folder: str) -> Iterator[Path]:
    """Make files of what a process that is gone has left, up to its last write. Gives each.

    What a living process writes is locked.
    """
    try:
        names = [entry.name for entry in os.scandir(Path(folder).absolute()) if entry.name.endswith(PART)]
    except FileNotFoundError:  # nothing was recorded yet
        return
    except OSError as error:
        log.warning("a folder of recordings cannot be read", error=error.strerror)
        return
    left = [Path(folder).absolute() / name.removesuffix(PART) for name in names]
    for path in sorted(left, key=lambda path: (session_of(path), _number_of(path))):
        try:
            recording = _take_over(path)
            if recording is None:
                continue
            for _ in recording.complete():
                time.sleep(BREATH)
        except (OSError, RecordingError) as error:
            _left(path, error)
            continue
        if recording.path.exists():
            yield recording.path


def _take_over(path: Path) -> OpenRecording | None:
    """Open a recording that a dead process has left. None: a living one writes it, or has made it; or
    there is nothing in it, and it is removed. Raises OSError."""
    try:
        descriptor = os.open(beside(path, PART), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    recording = OpenRecording(path, descriptor)
    if not recording.lock():
        return None
    if os.fstat(descriptor).st_size == 0:  # it was killed, or the disk was full, before the first write
        recording.discard()
        return None
    return recording


def _left(path: Path, error: Exception) -> None:
    log.warning("an unfinished recording was left as it is", session=session_of(path), error=reason(error))


def _file_before(path: Path) -> Generator[None, None, Path | None]:
    """Find the file in which a recording goes on, a step each time: what a dead process left before it is made first.

    None: it is the first; or what was before is not made, as another process does that, or as it could not be.
    """
    number = _number_of(path)
    before = [one for one in _names(_numbered(path, 1)) if _number_of(one) < number]
    for one in before:
        try:
            recording = _take_over(one)
            if recording is not None:
                yield from recording.complete()
        except (OSError, RecordingError) as error:
            _left(one, error)
    if any(beside(one, PART).exists() for one in before):
        return None
    return next((one for one in reversed(before) if one.exists()), None)


def session_of(path: str | Path) -> str:
    """Return the session that a recording is of, by its name."""
    return re.sub(r"\.\d{1,3}$", "", Path(path).stem)


def first_file(path: Path) -> Path:
    """Return the recording's first file if it is here, else this one, in which it goes on."""
    first = path.with_name(session_of(path) + path.suffix)
    return first if first.exists() else path


def _number_of(path: Path) -> int:
    """Return which file of its recording this is."""
    found = re.search(r"\.(\d{1,3})$", path.stem)
    return int(found[1]) if found else 1


def _numbered(path: Path, number: int) -> Path:
    """Return the name of another file of the same recording."""
    return path.with_name(f"{session_of(path)}{'' if number == 1 else f'.{number}'}{path.suffix}")


def _names(path: Path) -> list[Path]:
    """Return the names of a recording's files, in order, as far as there are any, of whatever state."""
    found, missing = [], 0
    for number in range(1, MAX_PARTS + 1):
        one = _numbered(path, number)
        if one.exists() or beside(one, PART).exists():
            found.append(one)
            missing = 0
        elif (missing := missing + 1) > MAX_MISSING:
            break
    return found


def finished_files(path: str | Path) -> list[Path]:
    """Return the files of a recording that can be played, in order: the first, and those in which it goes on.

    path: of the first, as the call's record has it.
    """
    first = _number_of(Path(path))
    return [one for one in _names(Path(path)) if _number_of(one) >= first and one.exists()]


def remove(path: str | Path) -> int:
    """Remove a recording, with all its files, also those being written. Returns how many there were. Raises OSError."""
    names = _names(Path(path))
    count = sum(_unlink(beside(one, PART)) for one in names)  # first: see `OpenRecording.complete`
    return count + sum(_unlink(beside(one, NEW)) + _unlink(one) for one in names)


def _unlink(path: Path) -> int:
    """Remove a file. Returns how many there were: one or none. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return 1
    return 0


def _tell(path: Path, error: OSError) -> None:
    log.warning("a recording was not removed", session=session_of(path), error=error.strerror)


def remove_sessions(
    folders: Iterable[str], recordings: Mapping[str, str], on_error: Callable[[Path, OSError], None] = _tell
) -> int:
    """Remove all files of these sessions, of whatever state. Returns how many recordings there were.

    recordings: where each session's is by its record, "" if that does not say. Files are looked for there, too.
    """
    names, removed = {name_of(session) for session in recordings}, set()
    named = (str(Path(path).parent) for path in recordings.values() if path)
    for folder in sorted({*folders, *named} - {""}):
        try:
            found = [Path(entry.path) for entry in os.scandir(folder)]
        except FileNotFoundError:  # nothing was recorded yet, or not on this machine
            continue
        except OSError as error:
            on_error(Path(folder), error)
            continue
        for path in _of_sessions(found, names):
            try:
                removed |= {session_of(path.name.removesuffix(PART).removesuffix(NEW))} if _unlink(path) else set()
            except OSError as error:
                on_error(path, error)
    return len(removed)


def _of_sessions(found: Iterable[Path], names: Collection[str]) -> list[Path]:
    """Return all files that may be there of these sessions. The parts are first: see `OpenRecording.complete`."""
    parts, files = [], set()
    for path in found:
        whole = path.with_suffix("") if path.suffix in (PART, NEW) else path
        if whole.suffix in SUFFIXES and session_of(whole) in names:
            parts += [path] if path.suffix == PART else []
            files |= {one for each in (whole, _numbered(whole, 1)) for one in (each, beside(each, NEW))}
    return parts + sorted(files)
