"""A recorded call: JSON lines with a WAV file beside them. `fixtures/README.md` describes the format.

    call.jsonl           one header, then each message with its offset in milliseconds
    call.wav             the audio that the carrier sent, as it was on the wire
    call.gateway.wav     the audio that the gateway sent, where it was kept

The base64 payloads stand in the WAV files, and the lines refer to them (`"payload":"@carrier:320+160"`): a recording
can be listened to, and is half as large. What is read back is, to the byte, what was on the wire.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from gateway.errors import RecordingError

VERSION = 1

MAX_LINE = 2 << 20  # a JSON-escaped message of the largest size that any socket of ours reads
MAX_MESSAGES = 500_000  # both directions of a call of 80 minutes
MAX_AUDIO = 128 << 20

Party = Literal["carrier", "gateway"]
Kind = Literal["request", "response", "open", "message", "close"]

_PAYLOAD = re.compile(r'("payload"\s*:\s*")([A-Za-z0-9+/]+={0,2})(")')
_REFERENCE = re.compile(r'("payload"\s*:\s*")@(carrier|gateway):(\d{1,9})\+(\d{1,9})(")')
_WAV_TAGS = {"L16": 1, "PCMA": 6, "PCMU": 7}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that crossed the wire, `ms` milliseconds after the first.

    request    method, url and form (or body) of a webhook, by the carrier
    response   its status and body, by the gateway
    open       a media stream was opened at url
    message    a WebSocket message: text, or data (binary)
    close      the stream was closed by `party` with `code`
    """

    ms: float
    kind: Kind
    party: Party
    text: str = ""
    data: bytes | None = None
    method: str = ""
    url: str = ""
    form: tuple[tuple[str, str], ...] = ()
    status: int = 0
    code: int = 0


@dataclass(slots=True)
class Recording:
    """A call as it was on the wire.

    carrier    "twilio", "telnyx", "plivo", "exotel"
    encoding   of the payloads: "PCMU", "PCMA" or "L16" (s16le)
    rate       samples a second
    call       facts, masked: call_id, stream_id, account_id, from, to, public_url (what the URLs begin with)
    what       a sentence for whoever finds the file
    """

    carrier: str
    encoding: str = "PCMU"
    rate: int = 8000
    call: dict[str, str] = field(default_factory=dict)
    what: str = ""
    truncated: bool = False
    entries: list[Entry] = field(default_factory=list)

    def write(self, path: str | Path, *, keep_gateway_audio: bool = True) -> None:
        """Write `path` (its name ends in .jsonl) and its WAV files, readable by their owner only (0600).

        Raises RecordingError for an encoding that no WAV file holds, OSError when a file cannot be written.
        """
        path = Path(path)
        if self.encoding not in _WAV_TAGS:
            raise RecordingError(f"{path}: encoding {self.encoding!r} is not one of {', '.join(_WAV_TAGS)}")
        audio: dict[str, bytearray] = {"carrier": bytearray(), "gateway": bytearray()}
        lines = [json.dumps(self._header(), ensure_ascii=False)]
        lines += [json.dumps(_to_json(entry, audio[entry.party]), ensure_ascii=False) for entry in self.entries]
        _write_private(path, "".join(line + "\n" for line in lines).encode())
        for party, data in audio.items():
            if data and (party == "carrier" or keep_gateway_audio):
                wav = _wav_header(self.encoding, self.rate, len(data)) + bytes(data) + b"\0" * (len(data) % 2)
                _write_private(_wav_path(path, cast(Party, party)), wav)

    def _header(self) -> dict[str, Any]:
        header: dict[str, Any] = {
            "recording": VERSION,
            "carrier": self.carrier,
            "encoding": self.encoding,
            "rate": self.rate,
            "call": self.call,
            "what": self.what,
        }
        return {**header, "truncated": True} if self.truncated else header

    @classmethod
    def read(cls, path: str | Path) -> Recording:
        """Read the recording at `path`.

        The gateway's audio may have been left out, and reads as silence of its length. The carrier's may not: a caller
        without a voice is another call. Raises RecordingError, which names the line, or the WAV file.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                return cls._parse(path, _lines(str(path), file))
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}") from error

    @classmethod
    def _parse(cls, path: Path, lines: Iterator[tuple[int, Any]]) -> Recording:
        name = str(path)
        number, header = next(lines, (1, None))
        if not isinstance(header, dict) or header.get("recording") != VERSION:
            raise RecordingError(f"{name}:{number}: not a recording of version {VERSION}")
        recording = cls(
            carrier=str(header.get("carrier", "")),
            encoding=str(header.get("encoding", "")),
            rate=_integer(header.get("rate")),
            call={str(key): str(value) for key, value in dict(header.get("call") or {}).items()},
            what=str(header.get("what", "")),
            truncated=bool(header.get("truncated")),
        )
        if recording.encoding not in _WAV_TAGS or not 8000 <= recording.rate <= 48000:
            raise RecordingError(f"{name}:{number}: encoding {recording.encoding!r} at {recording.rate} Hz")
        audio: dict[str, bytes | None] = {}
        for party in get_args(Party):
            wav = _wav_path(path, party)
            audio[party] = _wav_data(wav, recording.encoding, recording.rate) if wav.exists() else None
        silence = {"PCMU": b"\xff", "PCMA": b"\xd5", "L16": b"\0"}[recording.encoding]
        last = 0.0
        for number, line in lines:
            if len(recording.entries) >= MAX_MESSAGES:
                raise RecordingError(f"{name}:{number}: more than {MAX_MESSAGES} lines")
            try:
                entry = _from_json(line, audio, silence)
            except _NoAudio as missing:
                wav = _wav_path(path, missing.party)
                raise RecordingError(f"{name}:{number}: its audio is in {wav}, which is not there") from None
            except (KeyError, TypeError, ValueError) as error:
                raise RecordingError(f"{name}:{number}: {error or type(error).__name__}") from None
            if entry.ms < last:
                raise RecordingError(f"{name}:{number}: goes back in time, from {last} ms to {entry.ms} ms")
            last = entry.ms
            recording.entries.append(entry)
        return recording


def files_of(path: Path) -> list[Path]:
    """Return the files that a recording may consist of: what `Recording.write` has written."""
    return [path, *(_wav_path(path, party) for party in get_args(Party))]


# -------------------------------------------------------------------------------------------------------- masking


def mask_number(number: str) -> str:
    """A telephone number with all but its last two digits replaced by those of a fictional one; what is none, as it is.

    It remains a number of the same form (+, 0 or neither before the digits), so that a replay can be routed.
    """
    match = re.fullmatch(r"(\+|0|)\d{5,16}", number)
    if not match:
        return number
    fictional = "55501000" if match[1] == "0" else "155501000"
    return match[1] + fictional + number[-2:]


def mask_secrets(text: str) -> str:
    """`text` with long random words of URLs (tokens, session ids) and their like replaced by a word of their length."""
    return re.sub(r"(?<=[/=])[A-Za-z0-9_.~-]{20,}(?=[\s\"'<&?]|$)", lambda word: "x" * len(word[0]), text)


# Digits that a caller pressed, or that are sent for them, can be a PIN.
_DIGITS = re.compile(r'("(?:digit|dtmf)"\s*:\s*"|\bdigits="|<DTMF[^>]*>)([^"<]+)')
_DIGIT_FIELDS = ("Digits", "digits")
_E164 = re.compile(r"(\+|%2B)(\d{7,16})(?!\d)", re.IGNORECASE)
# Keys of carriers that sign nothing: in the query, or the last segment of a webhook's path.
_KEY = re.compile(r"([?&;]key=|/webhooks/[a-z]+/[a-z]+/)([^&?/\s\"'<]+)")


def mask(recording: Recording) -> Recording:
    """Return a copy with numbers, accounts, keys, tokens and digits masked."""
    words = {value: _mask_fact(key, value) for key, value in recording.call.items() if value}
    words = {value: masked for value, masked in words.items() if masked != value}
    return replace(
        recording,
        call={key: words.get(value, value) for key, value in recording.call.items()},
        entries=[_mask_entry(entry, words) for entry in recording.entries],
    )


def _mask_fact(key: str, value: str) -> str:
    if key in ("from", "to"):
        return mask_number(value)
    if key in ("account_id", "connection_id"):
        return value[:2] + re.sub(r"[0-9A-Za-z]", "0", value[2:])
    return value


def _mask_entry(entry: Entry, words: Mapping[str, str]) -> Entry:
    if entry.kind == "message" and '"payload"' in entry.text:
        return entry
    form = tuple(
        (name, "0" * len(value) if name in _DIGIT_FIELDS else _mask_text(value, words)) for name, value in entry.form
    )
    text = _DIGITS.sub(lambda match: match[1] + "0" * len(match[2]), _mask_text(entry.text, words))
    return replace(entry, form=form, text=mask_secrets(text), url=mask_secrets(_mask_text(entry.url, words)))


def _mask_text(text: str, words: Mapping[str, str]) -> str:
    for word, masked in words.items():
        text = text.replace(word, masked)
    text = _KEY.sub(lambda match: match[1] + "x" * len(match[2]), text)
    return _E164.sub(lambda match: match[1] + mask_number("+" + match[2])[1:], text)


# --------------------------------------------------------------------------------------------------------- lines


def _to_json(entry: Entry, audio: bytearray) -> dict[str, Any]:
    line: dict[str, Any] = {"ms": round(entry.ms, 3), "kind": entry.kind, "party": entry.party}
    if entry.text:
        text = entry.text
        line["text"] = _put_audio(text, entry.party, audio) if entry.kind == "message" else text
    if entry.data is not None:
        line["data"] = base64.b64encode(entry.data).decode()
    for key in ("method", "url", "status", "code"):
        if value := getattr(entry, key):
            line[key] = value
    if entry.form:
        line["form"] = [list(pair) for pair in entry.form]
    return line


def _from_json(line: Any, audio: Mapping[str, bytes | None], silence: bytes) -> Entry:
    if not isinstance(line, dict):
        raise ValueError("not a JSON object")
    kind, party, ms = line["kind"], line["party"], line["ms"]
    if kind not in get_args(Kind) or party not in get_args(Party):
        raise ValueError(f"kind {kind!r} of party {party!r}")
    if isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 <= ms < 1e9:
        raise ValueError(f"ms {ms!r}")
    data = line.get("data")
    return Entry(
        ms=float(ms),
        kind=kind,
        party=party,
        text=_get_audio(_string(line, "text"), audio, silence),
        data=None if data is None else base64.b64decode(str(data), validate=True),
        method=_string(line, "method"),
        url=_string(line, "url"),
        form=tuple((str(name), str(value)) for name, value in line.get("form") or ()),
        status=_integer(line.get("status", 0)),
        code=_integer(line.get("code", 0)),
    )


def _put_audio(text: str, party: str, audio: bytearray) -> str:
    """`text` with its payload moved to `audio`, where that can be undone to the byte."""

    def move(match: re.Match[str]) -> str:
        try:
            payload = base64.b64decode(match[2], validate=True)
        except (binascii.Error, ValueError):
            return match[0]
        if base64.b64encode(payload).decode() != match[2] or len(audio) + len(payload) > MAX_AUDIO:
            return match[0]
        at = len(audio)
        audio.extend(payload)
        return f"{match[1]}@{party}:{at}+{len(payload)}{match[3]}"

    return _PAYLOAD.sub(move, text)


class _NoAudio(Exception):
    """A line refers to a WAV file that is not there. party: whose."""

    def __init__(self, party: Party) -> None:
        super().__init__(party)
        self.party = party


def _get_audio(text: str, audio: Mapping[str, bytes | None], silence: bytes) -> str:
    def restore(match: re.Match[str]) -> str:
        source, at, size = audio[match[2]], int(match[3]), int(match[4])
        if source is None and match[2] == "carrier":
            raise _NoAudio("carrier")
        if source is None and size <= MAX_LINE:
            payload = silence * size
        elif source is not None and at + size <= len(source):
            payload = source[at : at + size]
        else:
            raise ValueError(f"the audio ends before {at + size} bytes")
        return match[1] + base64.b64encode(payload).decode() + match[5]

    return _REFERENCE.sub(restore, text)


def _lines(name: str, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    for number, raw in enumerate(_bounded(name, file), 1):
        if not raw.strip():
            continue
        try:
            yield number, json.loads(raw)
        except ValueError as error:
            raise RecordingError(f"{name}:{number}: not JSON: {error}") from None


def _bounded(name: str, file: Any) -> Iterator[bytes]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise RecordingError(f"{name}:{number}: a line longer than {MAX_LINE} bytes")
        yield line


def _string(line: dict[str, Any], key: str) -> str:
    value = line.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


# ------------------------------------------------------------------------------------------------------------ WAV
# The standard library's `wave` speaks PCM only. These files hold G.711 as it was on the wire (RFC 2361: 6 is A-law,
# 7 is μ-law), because decoding it would make one of its two zeros out of both.


def _wav_path(path: Path, party: Party) -> Path:
    return path.with_suffix(".wav" if party == "carrier" else ".gateway.wav")


def _wav_header(encoding: str, rate: int, size: int) -> bytes:
    width = 2 if encoding == "L16" else 1
    chunk = struct.pack("<HHIIHHH", _WAV_TAGS[encoding], 1, rate, rate * width, width, 8 * width, 0)
    # A fact chunk belongs to every format but PCM; players take it from both.
    fact = b"fact" + struct.pack("<II", 4, size // width)
    riff = 4 + 8 + len(chunk) + len(fact) + 8 + size + size % 2
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVE" + b"fmt " + struct.pack("<I", len(chunk)) + chunk
    return head + fact + b"data" + struct.pack("<I", size)


def _wav_data(path: Path, encoding: str, rate: int) -> bytes:
    if path.stat().st_size > MAX_AUDIO + 1024:
        raise RecordingError(f"{path}: larger than {MAX_AUDIO} bytes")
    raw = path.read_bytes()
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        raise RecordingError(f"{path}: not a WAV file")
    at = 12
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "little")
        if raw[at : at + 4] == b"fmt ":
            tag, channels, hertz = struct.unpack_from("<HHI", raw.ljust(at + 16, b"\0"), at + 8)
            if (tag, channels, hertz) != (_WAV_TAGS[encoding], 1, rate):
                raise RecordingError(f"{path}: not {encoding} at {rate} Hz, mono, as the recording says")
        if raw[at : at + 4] == b"data":
            return raw[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise RecordingError(f"{path}: a WAV file without data")


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
