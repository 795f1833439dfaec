"""Signatures by Standard Webhooks, against the standard's own vector and its library."""

from __future__ import annotations

import base64
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.outbox.signing import Signatures, secret_bytes
from tests.outbox.receiver import SECRET

OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes......").decode()


def test_signs_as_the_standard_says() -> None:
    headers = Signatures([SECRET]).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", '{"test": 2432232314}', 1614265330.9)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_secret_of_a_rotation_verifies() -> None:
    body = '{"name": "Zoë"}'
    headers = dict(Signatures([SECRET, OTHER]).headers("evt_1", body, time.time()))
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body, headers) == {"name": "Zoë"}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"x" * 24).decode()).verify(body, headers)


@pytest.mark.parametrize("secret", ["", "secret", "whsec_", "whsec_…", "whsec_a b", "whsec_A-_B", "WHSEC_AAAA"])
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError):
        secret_bytes(secret)


def test_padding_may_be_left_out() -> None:
    assert secret_bytes("whsec_YWI") == secret_bytes("whsec_YWI=") == b"ab"


def test_no_secret_shows() -> None:
    assert SECRET not in repr(Signatures([SECRET]))
