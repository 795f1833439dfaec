"""Four carriers in miniature: sign the webhook with the official SDK, obey the answer, speak the stream's wire.

Written from the carriers' documentation, apart from the gateway's own simulator: two readings of one page seldom
make the same mistake.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import numpy as np
import websockets
from lxml import etree
from nacl.signing import SigningKey
from plivo.utils.signature_v3 import construct_get_url, construct_post_url, get_signature_v3
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect

from tests.acceptance.program import EXOTEL_SECRET, PLIVO_ID, PLIVO_TOKEN, TELNYX_SEED, TWILIO_SID, TWILIO_TOKEN
from tests.kit.waiting import PATIENCE, SECONDS, until

FORM = {"content-type": "application/x-www-form-urlencoded"}
HOLD_PEAK = 4000
"""The packaged hold audio stays below -20 dBFS, which is 3,277; tones of callers and bots reach 8,000."""
BLOCKS = 200
"""A second: so finely is it told what is loud, in pieces of two periods of the lowest tone."""
_numbers = itertools.count(1)


def ulaw_of(samples: np.ndarray) -> bytes:
    """G.711 μ-law, straight from the standard's segments: code of each 16-bit sample."""
    magnitude = np.minimum(np.abs(samples.astype(np.int32)), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    sign = np.where(samples < 0, 0x80, 0)
    return bytes((~(sign | exponent << 4 | mantissa) & 0xFF).astype(np.uint8))


def ulaw_values(data: bytes) -> np.ndarray:
    code = ~np.frombuffer(data, np.uint8).astype(np.int32) & 0xFF
    value = (((code & 15) << 3) + 132 << ((code >> 4) & 7)) - 132
    return np.where(code & 0x80, -value, value)


def alaw_of(samples: np.ndarray) -> bytes:
    """G.711 A-law of 16-bit samples, by nearest of the 256 decoded values."""
    table = alaw_values(bytes(range(256)))
    order = np.argsort(table, kind="stable")
    near = np.searchsorted(table[order], samples).clip(1, 255)
    left, right = table[order][near - 1], table[order][near]
    return bytes(order[np.where(np.abs(samples - left) <= np.abs(right - samples), near - 1, near)].astype(np.uint8))


def alaw_values(data: bytes) -> np.ndarray:
    code = np.frombuffer(data, np.uint8).astype(np.int32) ^ 0x55
    exponent = (code >> 4) & 7
    value = ((code & 15) << 4) + 8
    value = np.where(exponent > 0, (value + 256) << np.maximum(exponent - 1, 0), value)
    return np.where(code & 0x80, value, -value)


@dataclass(frozen=True)
class Codec:
    """What one media payload is made of."""

    name: str
    rate: int

    @property
    def width(self) -> int:
        return 2 if self.name == "l16" else 1

    def encode(self, samples: np.ndarray) -> bytes:
        if self.name == "l16":
            return samples.astype("<i2").tobytes()
        return ulaw_of(samples) if self.name == "ulaw" else alaw_of(samples)

    def decode(self, data: bytes) -> np.ndarray:
        if self.name == "l16":
            return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int32)
        return ulaw_values(data) if self.name == "ulaw" else alaw_values(data)

    def tone(self, seconds: float, hertz: float = 440, amplitude: float = 8000) -> bytes:
        at = np.arange(round(seconds * self.rate)) / self.rate
        return self.encode((amplitude * np.sin(2 * np.pi * hertz * at)).astype(np.int32))


ULAW = Codec("ulaw", 8000)
ALAW = Codec("alaw", 8000)
L16_8K = Codec("l16", 8000)
L16_16K = Codec("l16", 16000)


@dataclass(frozen=True)
class Call:
    """One call as its carrier knows it. ``sender`` and ``to`` in the carrier's own form of a number."""

    id: str
    sender: str
    to: str
    account: str


@dataclass(frozen=True)
class Answer:
    """What a webhook was answered: the document, and what a carrier finds in it."""

    response: httpx.Response
    stream: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    resume: str = ""

    @property
    def xml(self) -> etree._Element:
        return read_xml(self.response)


def read_xml(response: httpx.Response) -> etree._Element:
    assert response.headers["content-type"].split(";")[0] in ("text/xml", "application/xml"), response.headers
    root = etree.fromstring(response.content, etree.XMLParser(resolve_entities=False, no_network=True))
    assert root.tag == "Response"
    return root


_TLS = ssl.create_default_context()  # made once: it takes longer than a webhook


def http() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=PATIENCE, verify=_TLS)


class Carrier:
    """What the four have in common; a subclass is one carrier. Instances hold a gateway's base URL."""

    name = ""
    chunk = 0.02  # seconds of audio in one message
    codec = ULAW
    start_is_first = False

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")

    # -- the HTTP side

    def new_call(self, sender: str = "+15550100002", to: str = "+15550100004") -> Call:
        raise NotImplementedError

    def fields(self, call: Call) -> dict[str, str]:
        """The form of a webhook that says: this call rings."""
        raise NotImplementedError

    def headers(self, url: str, form: dict[str, str]) -> dict[str, str]:
        """What signs a POST of ``form`` to ``url``."""
        raise NotImplementedError

    async def post(self, url: str, form: dict[str, str]) -> httpx.Response:
        async with http() as client:
            headers = self.headers(url, form) | FORM
            return await client.post(url, content=urlencode(form).encode(), headers=headers)

    async def voice(self, call: Call, query: str = "", **more: str) -> Answer:
        url = f"{self.base}/webhooks/{self.name}/voice" + (f"?{query}" if query else "")
        return self.obey(await self.post(url, self.fields(call) | more))

    async def status(self, call: Call, **more: str) -> httpx.Response:
        """The call is over."""
        ended = {"CallStatus": "completed", "CallbackSource": "call-progress-events", "Event": "Hangup"}
        return await self.post(f"{self.base}/webhooks/{self.name}/status", self.fields(call) | ended | more)

    async def resume(self, answer: Answer, call: Call, **more: str) -> Answer:
        """Where the answer sends us when its stream has ended."""
        return self.obey(await self.post(answer.resume, self.fields(call) | {"CallStatus": "in-progress"} | more))

    def obey(self, response: httpx.Response) -> Answer:
        if response.status_code != 200:
            return Answer(response)
        root = read_xml(response)
        stream = root.find("Connect/Stream")
        redirect = root.findtext("Redirect") or ""
        if stream is None:
            return Answer(response, resume=redirect.strip())
        named = {one.get("name", ""): one.get("value", "") for one in stream.findall("Parameter")}
        return Answer(response, stream.get("url", ""), named, redirect.strip())

    # -- the stream

    def upgrade_headers(self, url: str) -> dict[str, str]:
        return {}

    def upgrade_url(self, answer: Answer) -> str:
        return answer.stream

    def connected(self) -> dict[str, Any] | None:
        return {"event": "connected", "version": "1.0.0"}

    def start(self, call: Call, stream: str, parameters: dict[str, str]) -> dict[str, Any]:
        raise NotImplementedError

    def media(self, stream: str, number: int, payload: bytes) -> dict[str, Any]:
        raise NotImplementedError

    def dtmf(self, stream: str, digit: str) -> dict[str, Any]:
        raise NotImplementedError

    def mark_echo(self, stream: str, name: str) -> dict[str, Any]:
        return {"event": "mark", "streamSid": stream, "sequenceNumber": "9", "mark": {"name": name}}

    def cleared_echoes(self, stream: str, names: Iterable[str]) -> list[dict[str, Any]]:
        """What follows a clear: Twilio and Telnyx send the marks back that were still queued."""
        return [self.mark_echo(stream, name) for name in names]

    def stop(self, call: Call, stream: str) -> dict[str, Any] | None:
        raise NotImplementedError

    def new_stream(self) -> str:
        return str(uuid.uuid4())

    @asynccontextmanager
    async def phone(self, call: Call, answer: Answer, codec: Codec | None = None) -> AsyncIterator[Phone]:
        """The stream of an answer, its handshake done; its socket is closed at the end."""
        url = self.upgrade_url(answer)
        async with self.open(url, codec) as phone:
            await phone.shake(call, answer.parameters)
            yield phone

    @asynccontextmanager
    async def open(self, url: str, codec: Codec | None = None, **options: Any) -> AsyncIterator[Phone]:
        headers = options.pop("additional_headers", None)
        headers = self.upgrade_headers(url) if headers is None else headers
        async with connect(
            url,
            additional_headers=headers,
            open_timeout=PATIENCE,
            close_timeout=2,
            max_size=None,
            compression=None,
            **options,
        ) as socket:
            phone = Phone(self, socket, codec or self.codec)
            try:
                yield phone
            finally:
                await phone.finish()


class Twilio(Carrier):
    name = "twilio"

    def new_call(self, sender: str = "+15550100002", to: str = "+15550100004") -> Call:
        return Call("CA" + uuid.uuid4().hex, sender, to, TWILIO_SID)

    def fields(self, call: Call) -> dict[str, str]:
        return {
            "CallSid": call.id, "AccountSid": call.account, "From": call.sender, "To": call.to, "Caller": call.sender,
            "Called": call.to, "CallStatus": "ringing", "Direction": "inbound", "ApiVersion": "2010-04-01",
            "FromCity": "",
        }  # fmt: skip

    def headers(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return {"X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, form)}

    def upgrade_headers(self, url: str) -> dict[str, str]:
        return {"x-twilio-signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, {})}

    def new_stream(self) -> str:
        return "MZ" + uuid.uuid4().hex

    def connected(self) -> dict[str, Any]:
        return {"event": "connected", "protocol": "Call", "version": "1.0.0"}

    def start(self, call: Call, stream: str, parameters: dict[str, str]) -> dict[str, Any]:
        return {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": call.account,
                "streamSid": stream,
                "callSid": call.id,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": parameters,
            },
            "streamSid": stream,
        }

    def media(self, stream: str, number: int, payload: bytes) -> dict[str, Any]:
        inner = {"track": "inbound", "chunk": str(number), "timestamp": str(number * 20), "payload": b64(payload)}
        return {"event": "media", "sequenceNumber": str(number + 1), "media": inner, "streamSid": stream}

    def dtmf(self, stream: str, digit: str) -> dict[str, Any]:
        inner = {"track": "inbound_track", "digit": digit}
        return {"event": "dtmf", "streamSid": stream, "sequenceNumber": "5", "dtmf": inner}

    def stop(self, call: Call, stream: str) -> dict[str, Any]:
        inner = {"accountSid": call.account, "callSid": call.id}
        return {"event": "stop", "sequenceNumber": "99", "streamSid": stream, "stop": inner}


class Telnyx(Carrier):
    name = "telnyx"

    def new_call(self, sender: str = "+15550100002", to: str = "+15550100004") -> Call:
        return Call(
            f"v3:{uuid.uuid4().hex}-{uuid.uuid4().hex[:10]}", sender, to, "b34166f2-7846-1262-7cde-760c40e59e92"
        )

    def fields(self, call: Call) -> dict[str, str]:
        return {
            "AccountSid": call.account, "CallSid": call.id, "CallSidLegacy": call.id, "From": call.sender,
            "To": call.to, "CallStatus": "ringing", "ConnectionId": "1000000000000000001",
        }  # fmt: skip

    def headers(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return self.sign(urlencode(form).encode())

    def sign(self, body: bytes, at: float | None = None) -> dict[str, str]:
        stamp = str(int(time.time() if at is None else at))
        signature = SigningKey(TELNYX_SEED).sign(stamp.encode() + b"|" + body).signature
        return {"telnyx-timestamp": stamp, "telnyx-signature-ed25519": b64(signature)}

    def start(self, call: Call, stream: str, parameters: dict[str, str]) -> dict[str, Any]:
        encoding = {"ulaw": "PCMU", "alaw": "PCMA", "l16": "L16"}[self.codec.name]
        return {
            "event": "start",
            "sequence_number": "1",
            "start": {
                "user_id": call.account,
                "call_control_id": call.id,
                "call_session_id": str(uuid.uuid4()),
                "from": call.sender,
                "to": call.to,
                "tags": [],
                "client_state": "",
                "media_format": {"encoding": encoding, "sample_rate": self.codec.rate, "channels": 1},
                "custom_parameters": parameters,
            },
            "stream_id": stream,
        }

    def media(self, stream: str, number: int, payload: bytes) -> dict[str, Any]:
        inner = {"track": "inbound", "chunk": str(number), "timestamp": str(number * 20), "payload": b64(payload)}
        return {"event": "media", "sequence_number": str(number + 1), "stream_id": stream, "media": inner}

    def dtmf(self, stream: str, digit: str) -> dict[str, Any]:
        at = "2025-06-05T08:54:19.698408Z"
        return {
            "event": "dtmf",
            "stream_id": stream,
            "occurred_at": at,
            "sequence_number": "5",
            "dtmf": {"digit": digit},
        }

    def mark_echo(self, stream: str, name: str) -> dict[str, Any]:
        return {"event": "mark", "stream_id": stream, "sequence_number": "9", "mark": {"name": name}}

    def stop(self, call: Call, stream: str) -> dict[str, Any]:
        inner = {"user_id": call.account, "call_control_id": call.id}
        return {"event": "stop", "sequence_number": "99", "stop": inner, "stream_id": stream}


class Plivo(Carrier):
    name = "plivo"
    start_is_first = True

    def new_call(self, sender: str = "15550100002", to: str = "15550100004") -> Call:
        return Call(str(uuid.uuid4()), sender, to, PLIVO_ID)

    def fields(self, call: Call) -> dict[str, str]:
        return {
            "CallUUID": call.id, "From": call.sender, "To": call.to, "CallStatus": "ringing", "Direction": "inbound",
            "Event": "StartApp", "RequestUUID": call.id, "ParentAuthID": call.account, "BillRate": "0.002",
        }  # fmt: skip

    def headers(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return self.sign(url, form, f"{time.time_ns()}{next(_numbers)}")

    def sign(self, url: str, form: dict[str, Any], nonce: str) -> dict[str, str]:
        try:
            signed = construct_post_url(url, dict(form)).decode()
        except UnicodeEncodeError:  # the SDK's, on a percent-encoded query that is not ASCII: its recipe in UTF-8
            parts = urlsplit(url)
            query = "&".join(f"{key}={value}" for key, value in sorted(parse_qsl(parts.query, keep_blank_values=True)))
            signed = f"{parts.scheme}://{parts.netloc}{parts.path}?{query}."
            signed += "".join(key + form[key] for key in sorted(form))
        signature = get_signature_v3(PLIVO_TOKEN, signed, nonce).decode()
        return {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}

    def upgrade_headers(self, url: str) -> dict[str, str]:
        # The one form that is known from a live call: as a GET over the stream's URL with http for ws or wss.
        nonce = f"{time.time_ns()}{next(_numbers)}"
        signed = construct_get_url("http" + url[url.index(":") :], {}).decode()
        signature = get_signature_v3(PLIVO_TOKEN, signed, nonce).decode()
        return {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}

    def obey(self, response: httpx.Response) -> Answer:
        if response.status_code != 200:
            return Answer(response)
        root = read_xml(response)
        redirect = (root.findtext("Redirect") or "").strip()
        stream = root.find("Stream")
        if stream is None:
            return Answer(response, resume=redirect)
        extra = {"": stream.get("extraHeaders", "")}
        return Answer(response, (stream.text or "").strip(), extra, redirect)

    def connected(self) -> None:
        return None

    def start(self, call: Call, stream: str, parameters: dict[str, str]) -> dict[str, Any]:
        encoding = {"ulaw": "audio/x-mulaw", "l16": "audio/x-l16"}[self.codec.name]
        return {
            "event": "start",
            "sequenceNumber": 1,
            "start": {
                "callId": call.id,
                "streamId": stream,
                "accountId": call.account,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": encoding, "sampleRate": self.codec.rate},
            },
            "extra_headers": parameters.get("", ""),
        }

    def media(self, stream: str, number: int, payload: bytes) -> dict[str, Any]:
        stamp = str(1760000000000 + number * 20)
        inner = {"track": "inbound", "timestamp": stamp, "chunk": number, "payload": b64(payload)}
        return {"event": "media", "sequenceNumber": number + 1, "streamId": stream, "media": inner, "extra_headers": ""}

    def dtmf(self, stream: str, digit: str) -> dict[str, Any]:
        inner = {"track": "inbound", "digit": digit, "timestamp": "1705312250000"}
        return {"event": "dtmf", "sequenceNumber": 5, "streamId": stream, "dtmf": inner, "extra_headers": ""}

    def mark_echo(self, stream: str, name: str) -> dict[str, Any]:
        return {"event": "playedStream", "sequenceNumber": 9, "streamId": stream, "name": name}

    def cleared_echoes(self, stream: str, names: Iterable[str]) -> list[dict[str, Any]]:
        return [{"event": "clearedAudio", "sequenceNumber": 9, "streamId": stream}]

    def stop(self, call: Call, stream: str) -> None:
        return None  # Plivo documents none: the socket closes


class Exotel(Carrier):
    name = "exotel"
    chunk = 0.1
    codec = L16_8K

    def new_call(self, sender: str = "05550100009", to: str = "05550100010") -> Call:
        return Call(uuid.uuid4().hex, sender, to, "exotel1")

    def fields(self, call: Call) -> dict[str, str]:
        return {
            "CallSid": call.id, "CallFrom": call.sender, "CallTo": call.to, "Direction": "incoming",
            "From": call.sender,
            "To": call.to, "Created": "Tue, 07 Jan 2025 15:51:06", "CurrentTime": "2025-01-07 15:51:06",
        }  # fmt: skip

    async def status(self, call: Call, **more: str) -> httpx.Response:
        """The callback as captured: multipart."""
        parts = {key: (None, value) for key, value in ({"CallSid": call.id, "Status": "completed"} | more).items()}
        async with http() as client:
            url = f"{self.base}/webhooks/exotel/status"
            return await client.post(url, files=parts, auth=("exotel", EXOTEL_SECRET))

    async def get(self, what: str, call: Call, query: str = "", **more: str) -> httpx.Response:
        asked = urlencode(self.fields(call) | more) + (f"&{query}" if query else "")
        async with http() as client:
            return await client.get(f"{self.base}/webhooks/exotel/{what}?{asked}", auth=("exotel", EXOTEL_SECRET))

    async def voice(self, call: Call, query: str = "", **more: str) -> Answer:
        return self.obey(await self.get("voice", call, query, **more))

    async def resume(self, answer: Answer, call: Call, **more: str) -> Answer:
        """The Passthru applet behind the Voicebot applet: 302 leads back to it, which asks for a URL again."""
        response = await self.get("resume", call, **more)
        return await self.voice(call) if response.status_code == 302 else Answer(response)

    def obey(self, response: httpx.Response) -> Answer:
        if response.status_code != 200 or not response.content:
            return Answer(response)
        url = response.json()["url"]
        return Answer(response, url, dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)))

    def start(self, call: Call, stream: str, parameters: dict[str, str]) -> dict[str, Any]:
        form = {"encoding": "base64", "sample_rate": str(self.codec.rate), "bit_rate": "128kbps"}
        return {
            "event": "start",
            "sequence_number": "1",
            "stream_sid": stream,
            "start": {
                "stream_sid": stream, "call_sid": call.id, "account_sid": call.account, "from": call.sender,
                "to": call.to, "custom_parameters": parameters, "media_format": form,
            },
        }  # fmt: skip

    def media(self, stream: str, number: int, payload: bytes) -> dict[str, Any]:
        inner = {"chunk": str(number), "timestamp": str(number * 100), "payload": b64(payload)}
        return {"event": "media", "sequence_number": str(number + 1), "stream_sid": stream, "media": inner}

    def dtmf(self, stream: str, digit: str) -> dict[str, Any]:
        inner = {"digit": digit, "duration": "100"}
        return {"event": "dtmf", "sequence_number": "4", "stream_sid": stream, "dtmf": inner}

    def mark_echo(self, stream: str, name: str) -> dict[str, Any]:
        return {"event": "mark", "sequence_number": "5", "stream_sid": stream, "mark": {"name": name}}

    def cleared_echoes(self, stream: str, names: Iterable[str]) -> list[dict[str, Any]]:
        return []  # nothing is documented: the harder of the two readings

    def stop(self, call: Call, stream: str) -> dict[str, Any]:
        inner = {"call_sid": call.id, "account_sid": call.account, "reason": "callended"}
        return {"event": "stop", "sequence_number": "99", "stream_sid": stream, "stop": inner}


CARRIERS: dict[str, type[Carrier]] = {one.name: one for one in (Twilio, Telnyx, Plivo, Exotel)}
NAMES = tuple(CARRIERS)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Phone:
    """One stream as its carrier holds it: buffers and plays what arrives, sends marks back when they are played.

    ``heard`` is every payload with the time it came; ``cleared`` the times of clears; ``marks`` what was asked for;
    ``silent_at`` when the buffer runs out if no clear comes.
    """

    def __init__(self, carrier: Carrier, socket: ClientConnection, codec: Codec) -> None:
        self.carrier, self.socket, self.codec = carrier, socket, codec
        self.stream = carrier.new_stream()
        self.call: Call | None = None
        self.heard: list[tuple[float, bytes]] = []
        self.got: list[dict[str, Any]] = []
        self.cleared: list[float] = []
        self.marks: list[str] = []
        self.dialled = ""
        self.played: list[str] = []
        self.silent_at = 0.0
        self.close_code: int | None = None
        self._queued: list[tuple[float, str]] = []
        self._sent = 0
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._play())]

    # -- sending

    async def send(self, message: Any) -> None:
        """A dict as JSON text; str and bytes as they are."""
        await self.socket.send(json.dumps(message) if isinstance(message, (dict, list)) else message)

    async def shake(self, call: Call, parameters: dict[str, str] | None = None) -> None:
        connected = self.carrier.connected()
        if connected is not None:
            await self.send(connected)
        await self.begin(call, parameters)

    async def begin(self, call: Call, parameters: dict[str, str] | None = None) -> None:
        self.call = call
        await self.send(self.carrier.start(call, self.stream, parameters or {}))

    async def talk(self, seconds: float, *, paced: bool = False) -> None:
        """A tone of 440 Hz; at once, or as a person would."""
        audio = self.codec.tone(seconds)
        size = round(self.carrier.chunk * self.codec.rate) * self.codec.width
        begin = time.monotonic()
        for number, at in enumerate(range(0, len(audio), size)):
            if paced:
                await asyncio.sleep(max(0.0, begin + number * self.carrier.chunk - time.monotonic()))
            self._sent += 1
            await self.send(self.carrier.media(self.stream, self._sent, audio[at : at + size]))

    async def press(self, digit: str) -> None:
        await self.send(self.carrier.dtmf(self.stream, digit))

    async def hang_up(self) -> None:
        """An orderly end: stop where there is one, then close 1000."""
        assert self.call is not None
        stop = self.carrier.stop(self.call, self.stream)
        if stop is not None:
            await self.send(stop)
        await self.socket.close(1000)

    def drop(self) -> None:
        """The carrier's media server dies: no close frame."""
        self.socket.transport.abort()

    # -- receiving

    async def _read(self) -> None:
        try:
            async for raw in self.socket:
                self._receive(raw)
        except websockets.ConnectionClosed:
            pass
        finally:
            self.close_code = self.socket.close_code

    def _receive(self, raw: str | bytes) -> None:
        assert isinstance(raw, str), "carriers take text messages only"
        message = json.loads(raw)
        self.got.append(message)
        event, now = message["event"], time.monotonic()
        if event in ("media", "playAudio"):
            payload = base64.b64decode(message["media"]["payload"], validate=True)
            self.heard.append((now, payload))
            self.silent_at = max(now, self.silent_at) + len(payload) / self.codec.width / self.codec.rate
        elif event in ("mark", "checkpoint"):
            name = message["name"] if event == "checkpoint" else message["mark"]["name"]
            self.marks.append(name)
            self._queued.append((self.silent_at, name))
        elif event in ("clear", "clearAudio"):
            self.cleared.append(now)
            self.silent_at = now
            names, self._queued = [name for _, name in self._queued], []
            self._tasks.append(asyncio.create_task(self._answer(self.carrier.cleared_echoes(self.stream, names))))
        elif event == "sendDTMF":
            self.dialled += message["dtmf"]

    async def _answer(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            try:
                await self.send(message)
            except websockets.ConnectionClosed:
                return

    async def _play(self) -> None:
        """Sends each mark back when all before it has been played."""
        while True:
            await asyncio.sleep(0.005)
            while self._queued and self._queued[0][0] <= time.monotonic():
                _, name = self._queued.pop(0)
                self.played.append(name)
                await self._answer([self.carrier.mark_echo(self.stream, name)])

    async def until(self, what: Any, timeout: float = SECONDS, complain: str = "") -> None:
        """Waits until ``what()`` is true; AssertionError with what was heard so far."""

        def heard() -> str:
            tail = [one["event"] for one in self.got[-5:]]
            return (
                f"{self.carrier.name}: {complain}; closed {self.close_code}, {self.seconds():.2f} s heard, "
                f"last events {tail}"
            )

        await until(what, timeout, heard)

    def audio(self) -> np.ndarray:
        return self.codec.decode(b"".join(payload for _, payload in self.heard))

    def seconds(self) -> float:
        return sum(len(payload) for _, payload in self.heard) / self.codec.width / self.codec.rate

    def loud_seconds(self) -> float:
        """How much of what was heard is no silence."""
        if not self.heard:
            return 0.0
        return float(np.count_nonzero(np.abs(self.audio()) > 400)) / self.codec.rate

    def answered_seconds(self) -> float:
        """How much of what was heard is as loud as what we say: neither silence nor hold audio."""
        block = self.codec.rate // BLOCKS
        audio = np.abs(self.audio())[: len(self.audio()) // block * block]
        return float(np.count_nonzero(audio.reshape(-1, block).max(axis=1) > HOLD_PEAK)) / BLOCKS

    async def hears_echo(self, what: str, seconds: float = 0.4, timeout: float = SECONDS) -> None:
        """Talks as a person would, and waits to hear it: the call is whole. Behind a second without media, what comes
        at once is late, and silence has taken its place.
        """
        before = self.answered_seconds()
        await self.talk(seconds, paced=True)
        await self.until(lambda: self.answered_seconds() - before > 0.75 * seconds, timeout, f"no echo {what}")

    async def ends(self, timeout: float = SECONDS) -> int | None:
        """Waits for the gateway to close; the close code."""
        await self.until(lambda: self.close_code is not None, timeout, "the stream is still open")
        return self.close_code

    async def finish(self) -> None:
        self._tasks[1].cancel()
        for task in self._tasks[2:]:
            task.cancel()
        try:
            await self.socket.close()
        except AttributeError:  # websockets aborting a transport that the peer has already torn down
            pass
        await asyncio.gather(*self._tasks, return_exceptions=True)
