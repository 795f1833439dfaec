"""`[[events]]`: endpoints, and each mistake in one line that shows no value."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.check import NOTE, examine
from gateway.errors import SettingsError
from gateway.settings import Settings, load
from tests.outbox.receiver import SECRET

URL = "https://crm.example.com/hooks/calls?token=t0ken-of-the-tests"
GOOD: dict[str, Any] = {"url": URL, "secret": SECRET}


def read(**changes: Any) -> Settings:
    return Settings.model_validate({"records": "sqlite+aiosqlite:///x.db", "events": [GOOD | changes]})


def test_an_endpoint_is_what_the_settings_say() -> None:
    endpoint = read(types=["call.ended"]).events[0].endpoint()
    assert (endpoint.url, endpoint.types) == (URL, ("call.ended",))
    assert set(endpoint.signatures.headers("evt_1", "{}", 0.0)) == {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }


def test_no_types_are_all_types() -> None:
    assert len(read().events[0].endpoint().types) == 4


def test_a_list_of_secrets_signs_with_all() -> None:
    endpoint = read(secret=[SECRET, SECRET]).events[0].endpoint()
    assert endpoint.signatures.headers("evt_1", "{}", 0.0)["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/hooks", "http://localhost/", "http://[::1]:9/", "https://a.b:8443/x"]
)
def test_urls(url: str) -> None:
    assert read(url=url).events[0].url == url


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"url": "http://crm.t0ken-of-the-tests.example/"}, "events.0.url"),
        ({"url": "ftp://t0ken-of-the-tests/"}, "events.0.url"),
        ({"url": "https://[t0ken-of-the-tests/"}, "events.0.url"),
        ({"url": "https:///t0ken-of-the-tests"}, "events.0.url"),
        ({"url": "https://a/#t0ken-of-the-tests"}, "events.0.url"),
        ({"url": "https://a/t0ken-of-the-tests\n"}, "events.0.url"),
        ({"secret": "t0ken-of-the-tests"}, "events.0.secret"),
        ({"secret": "whsec_t0ken-of-the-tests"}, "events.0.secret"),
        ({"secret": []}, "events.0.secret"),
        ({"types": ["t0ken-of-the-tests"]}, "events.0.types.0"),
        ({"type": ["call.ended"]}, "events.0.type"),
    ],
)
def test_a_mistake_is_one_line_without_the_value(changes: dict[str, Any], setting: str, tmp_path: Any) -> None:
    import orjson

    with pytest.raises(SettingsError) as raised:
        load(None, {"GATEWAY_EVENTS": orjson.dumps([GOOD | changes]).decode()})
    assert raised.value.setting == setting
    assert "t0ken-of-the-tests" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_url_is_one_endpoint() -> None:
    with pytest.raises(ValueError, match="one URL is there twice"):
        Settings.model_validate({"events": [GOOD, GOOD]})


def test_neither_secret_nor_url_show() -> None:
    settings = read()
    for text in (repr(settings), repr(settings.events[0].endpoint())):
        assert SECRET not in text
        assert "t0ken-of-the-tests" not in text
    assert SECRET not in settings.model_dump_json()


def test_check_tells_what_would_send_nothing_and_what_is_weak() -> None:
    without = read().model_copy(update={"records": ""})
    assert any(line.startswith("events: none is sent") for line in examine(without))
    weak = read(secret="whsec_dGVzdA==")
    assert any(line.startswith(f"{NOTE}events.0.secret") for line in examine(weak))
    assert not any("events" in line for line in examine(read()))
