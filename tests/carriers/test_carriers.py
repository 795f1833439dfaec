"""The table of carriers, and what all of them keep."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings

from gateway.carriers import CARRIERS, CarrierPlugin
from gateway.carriers.base import HttpRequest, Refused, StreamAnswer, Verified, Webhook
from serializers.base import MediaFormat
from tests.carriers.webhooks import PUBLIC, strangers
from tests.kit.golden import VECTORS

ENTRIES = pytest.mark.parametrize("entry", CARRIERS.values(), ids=CARRIERS.keys())
SETTINGS = {
    "twilio": {"account_sid": "AC1", "auth_token": "t", "shared_keys": {"k": "s"}},
    "telnyx": {"public_key": VECTORS["telnyx"]["public_key"]},
    "plivo": {"auth_id": "MA1", "auth_token": "t"},
    "exotel": {"webhook_secret": "s"},
}
ANSWER = StreamAnswer(
    "wss://voice.example.com/ws/x/token",
    "https://voice.example.com/resume?gw_session=s",
    "https://voice.example.com/stream?gw_session=s",
    [("serviceHost", "support.acme"), ("n", "1")],
)


def test_importing_the_table_imports_no_sdk() -> None:
    check = (
        "import sys, gateway.carriers\n"
        "print([m for m in ('twilio', 'telnyx', 'plivo', 'nacl', 'python_multipart') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@ENTRIES
def test_names_and_environment(entry: CarrierPlugin) -> None:
    assert CARRIERS[entry.carrier.name] is entry
    account = next(iter(entry.config.model_fields["accounts"].annotation.__args__))  # type: ignore[union-attr]
    assert set(entry.env.values()) <= set(account.model_fields)
    assert all(name.startswith(entry.carrier.name.upper() + "_") for name in entry.env)


@ENTRIES
def test_dev_without_credentials_believes_every_request(entry: CarrierPlugin) -> None:
    request = HttpRequest("POST", "/voice", "", {})
    for config in (None, entry.config()):
        carrier = entry.carrier(config, public_url=PUBLIC, dev=True)
        assert carrier.verify(request, now=0) == Verified()
        assert carrier.verify_upgrade(HttpRequest("GET", "/ws", "", {}), now=0) == Verified()


@ENTRIES
def test_without_credentials_no_request_is_believed(entry: CarrierPlugin) -> None:
    carrier = entry.carrier(entry.config(), public_url=PUBLIC)
    assert carrier.verify(HttpRequest("POST", "/voice", "", {}), now=0) == Refused("not_configured")
    assert isinstance(carrier.verify_upgrade(HttpRequest("GET", "/ws", "", {}), now=0), Refused)


@ENTRIES
def test_dev_with_credentials_believes_only_the_carrier(entry: CarrierPlugin) -> None:
    config = entry.config.model_validate(SETTINGS[entry.carrier.name])
    carrier = entry.carrier(config, public_url=PUBLIC, dev=True)
    assert isinstance(carrier.verify(HttpRequest("POST", "/voice", "", {}), now=0), Refused)


@ENTRIES
def test_same_answer_same_bytes(entry: CarrierPlugin) -> None:
    one, two = (entry.carrier(None, public_url=PUBLIC) for _ in range(2))
    assert one.answer_stream(ANSWER) == two.answer_stream(ANSWER)


@ENTRIES
@pytest.mark.parametrize("encoding", ["mulaw", "alaw", "l16", "opus"])
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100])
def test_asked_is_settled(entry: CarrierPlugin, encoding: str, rate: int) -> None:
    carrier = entry.carrier(None, public_url=PUBLIC)
    asked = carrier.negotiate(MediaFormat(encoding, rate))
    assert asked.encoding in ("mulaw", "alaw", "l16")
    assert carrier.negotiate(asked) == asked


@ENTRIES
def test_only_exotel_is_asked_whom_to_connect(entry: CarrierPlugin) -> None:
    status = entry.carrier(None, public_url=PUBLIC).answer_number("+15550100", caller="").status
    assert status == (200 if entry.carrier.name == "exotel" else 404)


@ENTRIES
@settings(max_examples=300)
@given(request=strangers)
def test_strangers_are_refused_without_raising(entry: CarrierPlugin, request: HttpRequest) -> None:
    config = entry.config.model_validate(SETTINGS[entry.carrier.name])
    carrier = entry.carrier(config, public_url=PUBLIC)
    result = carrier.verify(request, now=1_760_000_000)
    if entry.carrier.name != "exotel":  # whose secret "s" a stranger of this test may guess
        assert isinstance(result, Refused)
    assert isinstance(carrier.verify_upgrade(request, now=1_760_000_000), Refused)


@ENTRIES
@settings(max_examples=300)
@given(request=strangers)
def test_parse_is_total(entry: CarrierPlugin, request: HttpRequest) -> None:
    carrier = entry.carrier(None, public_url=PUBLIC)
    assert isinstance(carrier.parse(request), Webhook | Refused)
