from __future__ import annotations

import pytest

from gateway.node.urls import loggable_stream, loggable_webhook, meant, without_prefix

PUBLIC = "https://voice.example.com/tel"


@pytest.mark.parametrize(
    ("path", "query", "shown"),
    [
        ("/webhooks/twilio/voice", "", "/webhooks/twilio/voice"),
        ("/webhooks/twilio/voice/", "", "/webhooks/twilio/voice/"),
        ("/webhooks/telnyx/voice/hush", "", "/webhooks/telnyx/voice/{key}"),
        ("/webhooks/telnyx/voice/hush/", "", "/webhooks/telnyx/voice/{key}/"),
        ("/webhooks/plivo/resume", "gw_session=abc&key=hush&x=", "/webhooks/plivo/resume?gw_session&key&x"),
        ("/webhooks/plivo/voice", "hush&a=1&&b=c=d", "/webhooks/plivo/voice?…&a&b"),
    ],
)
def test_a_webhook_without_key_and_values(path: str, query: str, shown: str) -> None:
    assert loggable_webhook(PUBLIC, path, query) == PUBLIC + shown


@pytest.mark.parametrize(
    ("path", "query", "shown"),
    [
        ("/ws", "", "/ws"),
        ("/ws/", "key=hush", "/ws/?key"),
        ("/ws/twilio", "serviceHost=a.b", "/ws/{carrier}?serviceHost"),
        ("/ws/twilio/t0ken", "", "/ws/{carrier}/{token}"),
        ("/ws/twilio/t0ken/", "", "/ws/{carrier}/{token}/"),
        ("/ws/twilio/s/a.b/hush", "", "/ws/{carrier}/s/{service}/{key}"),
        ("/ws/twilio/s/a.b", "", "/ws/{carrier}/s/{service}"),
    ],
)
def test_a_stream_without_token_and_key(path: str, query: str, shown: str) -> None:
    assert loggable_stream(PUBLIC, path, query) == PUBLIC + shown


@pytest.mark.parametrize(
    ("path", "likely"),
    [
        ("/webhook/twilio/voice", "/webhooks/twilio/voice"),
        ("/Webhooks/twilio/voice", "/webhooks/twilio/voice"),
        ("/webhooks/twilio/voice", ""),
        ("/secret/words", ""),
        ("/", ""),
    ],
)
def test_what_a_wrong_path_may_have_meant(path: str, likely: str) -> None:
    assert meant(path) == likely


@pytest.mark.parametrize(
    ("path", "left"),
    [("/tel/ws", "/ws"), ("/ws", "/ws"), ("/tell/ws", "/tell/ws"), ("/telws", "/telws"), ("/tel", "/tel")],
)
def test_the_public_path_is_taken_off_whole(path: str, left: str) -> None:
    assert without_prefix(path, "/tel") == left
    assert without_prefix(path, "") == path
