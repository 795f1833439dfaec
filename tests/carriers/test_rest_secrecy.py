"""Keys, numbers and URLs of orders: none is shown, none is logged, and none can change where a request goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.carriers import CARRIERS
from gateway.carriers.base import Carrier
from gateway.carriers.orders import CallOrder, RestCall
from gateway.node.http_client import HttpClient, NotSent
from tests.carriers.rest import ORDER, sent
from tests.carriers.webhooks import PUBLIC
from tests.kit.logs import log_plainly

SECTIONS: dict[str, dict[str, Any]] = {
    "twilio": {"account_sid": "AC1", "auth_token": "sesame-1"},
    "telnyx": {"connection_id": "77", "api_key": "sesame-1", "webhook_secret": "sesame-2", "verify": "key"},
    "plivo": {"auth_id": "MA1", "auth_token": "sesame-1"},
    "exotel": {"account_sid": "e1", "api_key": "sesame-1", "api_token": "sesame-3", "webhook_secret": "sesame-2"},
}
SECRET = ORDER.answer_url + "&key=sesame-2"
KEYED = replace(ORDER, answer_url=SECRET, status_url=SECRET, stream_url="wss://h.example/ws/c/sesame-4")
CALLS = {"twilio": "CA1", "telnyx": "v3:1", "plivo": "u-1", "exotel": "e-1"}


@pytest.fixture(params=SECTIONS)
def carrier(request: pytest.FixtureRequest) -> Carrier:
    return carrier_of(request.param)


def carrier_of(name: str, **more: Any) -> Carrier:
    config = CARRIERS[name].config.model_validate({**SECTIONS[name], **more})
    return CARRIERS[name].carrier(config, public_url=PUBLIC)


def requests_of(carrier: Carrier, order: CallOrder = KEYED) -> list[RestCall]:
    call_id, account = CALLS[carrier.name], carrier.default_account()
    made = (
        carrier.place_call(order, account),
        carrier.ask_call(call_id, account),
        carrier.hang_up(call_id, account),
        carrier.cancel_call(call_id, "u-2", account),
    )
    return [call for call in made if call is not None]


def test_nothing_secret_is_shown(carrier: Carrier) -> None:
    shown = f"{requests_of(carrier)!r} {requests_of(carrier)} {KEYED!r} {carrier.config!r} {carrier.config}"
    for secret in ("sesame", "+1555", "gw_mac", "wss://"):
        assert secret not in shown


def test_no_key_stands_in_a_url(carrier: Carrier) -> None:
    for call in requests_of(carrier):
        assert "sesame" not in call.url
        assert not httpx.URL(call.url).userinfo


async def test_nothing_secret_is_logged_of_a_request_that_fails(carrier: Carrier) -> None:
    client = HttpClient()
    log_plainly()
    with capture_logs() as logged:
        for call in requests_of(carrier):
            call = replace(call, url="http://127.0.0.1:1/")
            assert isinstance(await client.send(call, 5.0), NotSent)
            await client.ask(call, seconds=5.0)
    await client.close()
    assert logged
    assert "sesame" not in str(logged)
    assert "+1555" not in str(logged)


HOSTILE = st.sampled_from(["..", "/../..", "%2e%2e", "?x=", "#", "@evil.example", "\r\nHost: evil", "\\", "é", "\x00"])
CARRIERS_MADE = {name: carrier_of(name) for name in SECTIONS}
PATHS = {name: sent(requests_of(made)[0]).url for name, made in CARRIERS_MADE.items()}


@given(name=st.sampled_from(list(SECTIONS)), text=HOSTILE | st.text(st.characters(codec="utf-8"), max_size=30))
def test_an_order_decides_nothing_of_where_it_goes(name: str, text: str) -> None:
    urls = {"answer_url": f"https://h.example/{text}", "status_url": text, "stream_url": f"wss://h.example/{text}"}
    call = CARRIERS_MADE[name].place_call(replace(ORDER, session=text, **urls), "")
    assert sent(call).url == PATHS[name]


@pytest.mark.parametrize("number", ["", "15550100001", "+1555<+1900", "+1 555 010", "+0155501", "sip:a@b", "+1" * 9])
def test_what_is_no_number_is_no_order(number: str) -> None:
    for name in ("to", "from_number"):
        with pytest.raises(ValueError, match=f"^{name} is not a number in E.164$"):
            replace(ORDER, **{name: number})


def test_a_number_with_a_line_break_is_no_order() -> None:
    with pytest.raises(ValueError, match=r"E\.164"):
        replace(ORDER, to="+15550100002\n")
