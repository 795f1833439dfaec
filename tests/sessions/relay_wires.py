"""What the four carriers write on a relayed stream, and what a bot of Pipecat's writes back: literally."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class RelayWire:
    """One carrier's messages. `{id}` is the stream's id, `{call}` the call's.

    says: what bots answer. stream_key: under which they name the stream, if they do.
    """

    carrier: str
    handshake: tuple[str, ...]
    media: str
    dtmf: str
    stop: str
    says: tuple[str, ...]
    stream_key: str = ""

    def messages(self, stream_id: str, call_id: str = "CA1") -> list[str]:
        return [each.replace("{id}", stream_id).replace("{call}", call_id) for each in self.handshake]

    def of(self, name: str, stream_id: str, call_id: str = "CA1") -> str:
        return getattr(self, name).replace("{id}", stream_id).replace("{call}", call_id)

    def bot_says(self, stream_id: str) -> list[str]:
        return [each.replace("{id}", stream_id) for each in self.says]


TWILIO = RelayWire(
    "twilio",
    (
        '{"event":"connected","protocol":"Call","version":"1.0.0"}',
        '{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"{id}","callSid":"{call}",'
        '"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
        '"customParameters":{}},"streamSid":"{id}"}',
    ),
    '{"event":"media","sequenceNumber":"3","media":{"track":"inbound","chunk":"1","timestamp":"5","payload":"f39/fw=="},'
    '"streamSid":"{id}"}',
    '{"event":"dtmf","streamSid":"{id}","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"5"}}',
    '{"event":"stop","sequenceNumber":"5","stop":{"accountSid":"AC1","callSid":"{call}"},"streamSid":"{id}"}',
    (
        '{"event": "media", "streamSid": "{id}", "media": {"payload": "AAAA"}}',
        '{"event": "mark", "streamSid": "{id}", "mark": {"name": "end"}}',
        '{"event": "clear", "streamSid": "{id}"}',
    ),
    "streamSid",
)
TELNYX = RelayWire(
    "telnyx",
    (
        '{"event":"connected","version":"1.0.0"}',
        '{"event":"start","sequence_number":"1","start":{"user_id":"u-1","call_control_id":"v3:{call}",'
        '"call_session_id":"cs-1","from":"+15550100001","to":"+15550100000","client_state":"",'
        '"media_format":{"encoding":"PCMU","sample_rate":8000,"channels":1}},"stream_id":"{id}"}',
    ),
    '{"event":"media","sequence_number":"4","media":{"track":"inbound","chunk":"2","timestamp":"5","payload":"f39/fw=="},'
    '"stream_id":"{id}"}',
    '{"event":"dtmf","stream_id":"{id}","occurred_at":"2026-01-01T00:00:00Z","sequence_number":"5","dtmf":{"digit":"5"}}',
    '{"event":"stop","sequence_number":"5","stop":{"user_id":"u-1","call_control_id":"v3:{call}"},"stream_id":"{id}"}',
    ('{"event": "media", "media": {"payload": "AAAA"}}', '{"event": "clear"}'),
)
PLIVO = RelayWire(
    "plivo",
    (
        '{"sequenceNumber":0,"event":"start","start":{"callId":"{call}","streamId":"{id}","accountId":"MA1",'
        '"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}},"extra_headers":"{}"}',
    ),
    '{"sequenceNumber":1,"streamId":"{id}","event":"media","media":{"track":"inbound","timestamp":"1","chunk":1,'
    '"payload":"f39/fw=="},"extra_headers":"{}"}',
    '{"event":"dtmf","streamId":"{id}","dtmf":{"track":"inbound","digit":"5","timestamp":"1700000000000"}}',
    '{"event":"stop","streamId":"{id}","stop":{"callId":"{call}"}}',
    (
        '{"event": "playAudio", "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": "AAAA"}, '
        '"streamId": "{id}"}',
        '{"event": "clearAudio", "streamId": "{id}"}',
    ),
    "streamId",
)
EXOTEL = RelayWire(
    "exotel",
    (
        '{"event":"connected"}',
        '{"event":"start","sequence_number":"1","stream_sid":"{id}","start":{"stream_sid":"{id}","call_sid":"{call}",'
        '"account_sid":"ex1","from":"09876543210","to":"08012345678","custom_parameters":{},'
        '"media_format":{"encoding":"raw/slin","sample_rate":"8000","bit_rate":"128kbps"}}}',
    ),
    '{"event":"media","sequence_number":"2","stream_sid":"{id}","media":{"chunk":"1","timestamp":"10","payload":"AQABAA=="}}',
    '{"event":"dtmf","stream_sid":"{id}","sequence_number":"5","dtmf":{"digit":"5","duration":"100"}}',
    '{"event":"stop","sequence_number":"9","stream_sid":"{id}","stop":{"call_sid":"{call}","account_sid":"ex1",'
    '"reason":"callended"}}',
    (
        '{"event": "media", "streamSid": "{id}", "media": {"payload": "AAAA"}}',
        '{"event": "clear", "streamSid": "{id}"}',
    ),
    "streamSid",
)
WIRES = {wire.carrier: wire for wire in (TWILIO, TELNYX, PLIVO, EXOTEL)}


def same(one: str | bytes, other: str | bytes) -> bool:
    """Whether these are the same message."""
    return json.loads(one) == json.loads(other)
