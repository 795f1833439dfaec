"""Nobody gets in who does not belong: forged webhooks are 403 and one log line, and the log gives nothing away."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from nacl.signing import SigningKey
from plivo.utils.signature_v3 import construct_get_url, construct_post_url, get_signature_v3
from twilio.request_validator import HMAC_SHA256, RequestValidator

from tests.acceptance.carriers import CARRIERS, FORM, NAMES, Call, Carrier, Exotel, Plivo, Telnyx, Twilio
from tests.acceptance.program import (
    EXOTEL_SECRET,
    PLIVO_TOKEN,
    SECOND_TWILIO_SID,
    SECOND_TWILIO_TOKEN,
    TELNYX_SEED,
    TWILIO_SID,
    TWILIO_TOKEN,
    Gateway,
    free_port,
    run,
    service,
    settings,
)
from tests.kit.bots import place_bot
from tests.kit.golden import VECTORS, golden_bytes
from tests.kit.waiting import PATIENCE

SIGNED = ("twilio", "telnyx", "plivo")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=PATIENCE) as one:
        yield one


class Door:
    """One gateway's webhooks, and how to see what a request left in its log."""

    def __init__(self, gateway: Gateway, client: httpx.Client) -> None:
        self.gateway, self.client = gateway, client

    def url(self, carrier: str, query: str = "", what: str = "voice") -> str:
        return f"{self.gateway.url}/webhooks/{carrier}/{what}" + (f"?{query}" if query else "")

    def post(self, url: str, body: bytes, headers: dict[str, str], kind: dict[str, str] = FORM) -> httpx.Response:
        return self.client.post(url, content=body, headers=kind | headers)

    def refused(self, ask: Callable[[], httpx.Response], *hidden: str) -> None:
        """403 with nothing echoed, one log line, nothing hidden in it."""
        before = self.gateway.fence() + 1
        response = ask()
        assert response.status_code == 403, (response.status_code, response.text[:300])
        assert len(response.content) < 200, response.text[:300]
        (left,) = [one for one in self.gateway.records(before, self.gateway.fence()) if one.get("event") == "refused"]
        for word in hidden:
            assert word not in json.dumps(left), left


@pytest.fixture
def door(gateway: Gateway, client: httpx.Client) -> Iterator[Door]:
    yield Door(gateway, client)
    assert gateway.alive()


def signed(name: str, door: Door, query: str = "") -> tuple[str, bytes, dict[str, str], Carrier, Call]:
    carrier = CARRIERS[name](door.gateway.url)
    call = carrier.new_call()
    form = carrier.fields(call)
    url = door.url(name, query)
    return url, urlencode(form).encode(), carrier.headers(url, form), carrier, call


@pytest.mark.parametrize("name", SIGNED)
def test_signed_is_answered(name: str, door: Door) -> None:
    url, body, headers, _, _ = signed(name, door)
    assert door.post(url, body, headers).status_code == 200


@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize("what", ["voice", "resume", "status", "stream"])
def test_unsigned(name: str, what: str, door: Door) -> None:
    _, body, _, _, call = signed(name, door)
    door.refused(lambda: door.post(door.url(name, what=what), body, {}), call.sender, "/webhooks")


@pytest.mark.parametrize("name", SIGNED)
def test_unsigned_get(name: str, door: Door) -> None:
    _, body, _, _, _ = signed(name, door)
    door.refused(lambda: door.client.get(door.url(name, body.decode())))


@pytest.mark.parametrize("name", SIGNED)
def test_one_byte_changed(name: str, door: Door) -> None:
    url, body, headers, _, _ = signed(name, door)
    assert b"50100002" in body
    door.refused(lambda: door.post(url, body.replace(b"50100002", b"50100003"), headers))


@pytest.mark.parametrize("name", ["twilio", "plivo"])
def test_url_changed(name: str, door: Door) -> None:
    url, body, headers, _, _ = signed(name, door, "serviceHost=echo.acme")
    door.refused(lambda: door.post(url + "&x=1", body, headers))


@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize(
    "signature", ["", "x" * 4000, "A" * 28, "%C3%A9", "\u00e9", "null", "=", ","], ids=lambda value: ascii(value[:8])
)
def test_signature_of_junk(name: str, signature: str, door: Door) -> None:
    url, body, headers, _, _ = signed(name, door)
    spoiled = {}
    for key, value in headers.items():
        spoiled[key] = signature if "signature" in key.lower() and "nonce" not in key.lower() else value
    encoded = {key.encode(): value.encode("latin-1") for key, value in (FORM | spoiled).items()}
    door.refused(lambda: door.client.post(url, content=body, headers=list(encoded.items())))


@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize("query", ["x=%C3%A9", "x=%FF%FE", "x=%00", "%C3%A9=%C3%A9", "x=" + "%22" * 500])
def test_query_that_is_not_ascii(name: str, query: str, door: Door) -> None:
    """The SDKs raise on some of these; a forged one is refused as any other."""
    _, body, headers, _, _ = signed(name, door)
    headers = {
        key: value if "nonce" in key.lower() or "timestamp" in key else value[::-1] for key, value in headers.items()
    }
    door.refused(lambda: door.post(door.url(name, query), body, headers))


def test_query_that_is_not_ascii_with_an_honest_signature(door: Door) -> None:
    """Plivo's own SDK raises on the decoded é; the algorithm in UTF-8 does not."""
    import hmac

    carrier = Plivo(door.gateway.url)
    form = carrier.fields(carrier.new_call())
    base = door.url("plivo")
    text = f"{base}?x=é." + "".join(key + form[key] for key in sorted(form)) + ".nonce-1"
    signature = base64.b64encode(hmac.digest(PLIVO_TOKEN.encode(), text.encode(), "sha256")).decode()
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "nonce-1"}
    assert door.post(base + "?x=%C3%A9", urlencode(form).encode(), headers).status_code == 200
    carrier = Twilio(door.gateway.url)  # type: ignore[assignment]
    form = carrier.fields(carrier.new_call())
    url = base.replace("plivo", "twilio") + "?x=%C3%A9"
    assert door.post(url, urlencode(form).encode(), carrier.headers(url, form)).status_code == 200


# -- Twilio


def test_twilio_as_captured(door: Door) -> None:
    """Empty fields are signed too."""
    body = golden_bytes("twilio-01-inbound-webhook.form").strip()
    form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    headers = Twilio(door.gateway.url).headers(door.url("twilio"), form)
    assert door.post(door.url("twilio"), body, headers).status_code == 200
    fewer = {key: value for key, value in form.items() if value}
    headers = Twilio(door.gateway.url).headers(door.url("twilio"), fewer)
    door.refused(lambda: door.post(door.url("twilio"), body, headers))


def test_twilio_second_account(door: Door) -> None:
    carrier = Twilio(door.gateway.url)
    form = carrier.fields(carrier.new_call()) | {"AccountSid": SECOND_TWILIO_SID}
    headers = {"X-Twilio-Signature": RequestValidator(SECOND_TWILIO_TOKEN).compute_signature(door.url("twilio"), form)}
    assert door.post(door.url("twilio"), urlencode(form).encode(), headers).status_code == 200


@pytest.mark.parametrize("account", ["AC" + "0" * 32, SECOND_TWILIO_SID])
def test_twilio_wrong_account(account: str, door: Door) -> None:
    """Foreign; ours, but with the other account's token."""
    carrier = Twilio(door.gateway.url)
    form = carrier.fields(carrier.new_call()) | {"AccountSid": account}
    headers = {"X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(door.url("twilio"), form)}
    door.refused(lambda: door.post(door.url("twilio"), urlencode(form).encode(), headers))


def test_twilio_json_without_its_hash(door: Door) -> None:
    carrier = Twilio(door.gateway.url)
    url = door.url("twilio", what="status")
    body = json.dumps(carrier.fields(carrier.new_call())).encode()
    headers = {"X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, {})}
    door.refused(lambda: door.post(url, body, headers, {"content-type": "application/json"}))


def test_twilio_json_with_its_hash(door: Door) -> None:
    carrier = Twilio(door.gateway.url)
    body = json.dumps(carrier.fields(carrier.new_call())).encode()
    kind = {"content-type": "application/json"}
    url = door.url("twilio", f"bodySHA256={hashlib.sha256(body).hexdigest()}", "status")
    headers = {"X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, {})}
    assert door.post(url, body, headers, kind).status_code == 200
    door.refused(lambda: door.post(url, body.replace(b"ringing", b"rinGing"), headers, kind))
    url = door.url("twilio", "bodySHA256=", "status")
    empty = {"X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, {})}
    door.refused(lambda: door.post(url, body, empty, kind))


def test_twilio_shared_key_that_is_not_configured(door: Door) -> None:
    """HMAC_SHA256 is of a shared key: the auth token under it proves nothing."""
    url, body, _, carrier, call = signed("twilio", door)
    form = carrier.fields(call)
    headers = {
        "X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, form, HMAC_SHA256),
        "X-Twilio-Webhooks-Signature-Settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
    }
    door.refused(lambda: door.post(url, body, headers))


class Repeated(dict[str, list[str]]):
    """What the SDK wants of repeated names."""

    def getall(self, name: str) -> list[str]:
        return self[name]


def test_twilio_repeated_names(door: Door) -> None:
    """Distinct values, sorted."""
    case = next(one for one in VECTORS["twilio"]["cases"] if "repeated" in one["what"])
    given = {key: value if isinstance(value, list) else [value] for key, value in case["params"].items()}
    validator = RequestValidator(VECTORS["twilio"]["auth_token"])
    assert validator.compute_signature(VECTORS["twilio"]["url"], Repeated(given)) == case["signature"]

    carrier = Twilio(door.gateway.url)
    form = {key: [value] for key, value in carrier.fields(carrier.new_call()).items()} | {
        "Digits": ["5678", "1234", "1234"]
    }
    url = door.url("twilio", what="status")
    headers = {"X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, Repeated(form))}
    assert door.post(url, urlencode(form, doseq=True).encode(), headers).status_code == 200
    form["Digits"] = ["5678", "12345"]
    door.refused(lambda: door.post(url, urlencode(form, doseq=True).encode(), headers))


def test_twilio_vectors_are_the_sdk_s() -> None:
    """The published vectors, so that what signs these tests is what Twilio signs with."""
    vectors = VECTORS["twilio"]
    validator = RequestValidator(vectors["auth_token"])
    for case in vectors["cases"]:
        params = case.get("params", vectors["params"])
        params = Repeated({key: value if isinstance(value, list) else [value] for key, value in params.items()})
        url = case.get("url", vectors["url"])
        if "body" in case:
            assert hashlib.sha256(case["body"].encode()).hexdigest() in url
        matches = validator.validate(url, params, case["signature"], case.get("algorithm"))
        assert matches, case["what"]


def test_twilio_ports(folder: Path, echo_bot: Path, client: httpx.Client) -> None:
    """Signed with the standard port or without: both are Twilio's. The URL is the public one, never Host."""
    port = free_port()
    config = settings(service("echo.acme", echo_bot, min_warm=1), public_url="https://mycompany.com/base")
    file = folder / "ports.toml"
    file.write_text(config)
    with Gateway("--config", str(file), "--port", str(port)) as gateway:
        gateway.url = f"http://127.0.0.1:{port}"
        carrier = Twilio(gateway.url)
        local = f"{gateway.url}/base/webhooks/twilio/voice"
        validator = RequestValidator(TWILIO_TOKEN)
        for host in ("https://mycompany.com", "https://mycompany.com:443"):
            form = carrier.fields(carrier.new_call())
            url = f"{host}/base/webhooks/twilio/voice"
            headers = {"X-Twilio-Signature": validator.compute_signature(url, form)} | FORM
            answers = {
                path: client.post(path, content=urlencode(form), headers=headers).status_code
                for path in (local, local.replace("/base", ""))
            }
            assert 200 in answers.values(), (host, answers)
        form = carrier.fields(carrier.new_call())
        for url in (
            local,
            "http://mycompany.com/base/webhooks/twilio/voice",
            "https://other.com/base/webhooks/twilio/voice",
        ):
            headers = {"X-Twilio-Signature": validator.compute_signature(url, form)} | FORM
            headers |= {"X-Forwarded-Host": "other.com", "Host": "other.com", "X-Forwarded-Proto": "https"}
            for path in (local, local.replace("/base", "")):
                assert client.post(path, content=urlencode(form), headers=headers).status_code in (403, 404), url
        answer = carrier.obey(
            client.post(
                local.replace("/base", ""),
                content=urlencode(form),
                headers={
                    "X-Twilio-Signature": validator.compute_signature(
                        "https://mycompany.com/base/webhooks/twilio/voice", form
                    )
                }
                | FORM,
            )
        )
        assert answer.stream.startswith("wss://mycompany.com/base/ws/twilio/"), answer.stream
        assert answer.resume.startswith("https://mycompany.com/base/webhooks/twilio/resume"), answer.resume


# -- Telnyx


def test_telnyx_vector(door: Door) -> None:
    """The published vector is honest, and stale: its timestamp is long gone."""
    vector = VECTORS["telnyx"]
    body = vector["body"].encode()
    made = (
        SigningKey(bytes.fromhex(vector["private_seed_hex"])).sign(vector["timestamp"].encode() + b"|" + body).signature
    )
    assert base64.b64encode(made).decode() == vector["signature"]
    headers = {"telnyx-timestamp": vector["timestamp"], "telnyx-signature-ed25519": vector["signature"]}
    kind = {"content-type": "application/json"}
    door.refused(lambda: door.post(door.url("telnyx", what="status"), body, headers, kind))
    assert door.post(door.url("telnyx", what="status"), body, Telnyx("").sign(body), kind).status_code == 200


@pytest.mark.parametrize("seconds", [-310, 310, -86400 * 365, 1e12])
def test_telnyx_stale(seconds: float, door: Door) -> None:
    url, body, _, _, _ = signed("telnyx", door)
    door.refused(lambda: door.post(url, body, Telnyx("").sign(body, time.time() + seconds)))


@pytest.mark.parametrize("seconds", [-280, 280])
def test_telnyx_clock_askew_within_the_window(seconds: float, door: Door) -> None:
    url, body, _, _, _ = signed("telnyx", door)
    assert door.post(url, body, Telnyx("").sign(body, time.time() + seconds)).status_code == 200


@pytest.mark.parametrize("stamp", ["", "abc", "1e9", "-1", "9" * 400, "\u0661\u0662", "nan"])
def test_telnyx_timestamp_of_junk(stamp: str, door: Door) -> None:
    url, body, headers, _, _ = signed("telnyx", door)
    signature = SigningKey(TELNYX_SEED).sign(stamp.encode() + b"|" + body).signature
    headers = {"telnyx-signature-ed25519": base64.b64encode(signature).decode()}
    wire: list[tuple[bytes, bytes]] = [(key.encode(), value.encode()) for key, value in (FORM | headers).items()]
    wire.append((b"telnyx-timestamp", stamp.encode()))
    door.refused(lambda: door.client.post(url, content=body, headers=wire))


def test_telnyx_other_key(door: Door) -> None:
    url, body, headers, _, _ = signed("telnyx", door)
    stamp = headers["telnyx-timestamp"]
    forged = SigningKey(bytes(32)).sign(stamp.encode() + b"|" + body).signature
    door.refused(
        lambda: door.post(url, body, headers | {"telnyx-signature-ed25519": base64.b64encode(forged).decode()})
    )


def test_telnyx_get_with_a_signature_of_nothing(door: Door) -> None:
    """Telnyx signs timestamp and body: on a GET any query could follow such a signature."""
    _, body, _, _, _ = signed("telnyx", door)
    headers = Telnyx("").sign(b"")
    door.refused(lambda: door.client.get(door.url("telnyx", body.decode()), headers=headers))


# -- Plivo


def test_plivo_vectors_are_the_sdk_s() -> None:
    for case in VECTORS["plivo_v3"]:
        build = construct_get_url if case["method"] == "GET" else construct_post_url
        text = build(case["url"], dict(case["params"])).decode()
        assert get_signature_v3(case["token"], text, case["nonce"]).decode() == case["signature"]
    for case in VECTORS["plivo_v3_edges"]:
        build = construct_get_url if case["method"] == "GET" else construct_post_url
        text = build(case["uri"], dict(case["params"])).decode()
        assert f"{text}.{case['nonce']}" == case["signed"], case["name"]
        assert get_signature_v3(case["token"], text, case["nonce"]).decode() == case["sig"], case["name"]


@pytest.mark.parametrize("query", ["", "foo=bar&a=1", "b=2&a=1&a=0", "x=a%20b&y=%2B2", "x=", "x=a%26b=2"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plivo_edges(method: str, query: str, door: Door) -> None:
    """The shapes of the published edges, over our own URL."""
    carrier = Plivo(door.gateway.url)
    form = carrier.fields(carrier.new_call())
    nonce = str(time.time_ns())
    if method == "POST":
        url = door.url("plivo", query)
        headers = carrier.sign(url, form, nonce)
        response = door.post(url, urlencode(form).encode(), headers)
        assert response.status_code == 200, (response.text, door.gateway.lines[-1])
        return
    url = door.url("plivo", "&".join(filter(None, (query, urlencode(form)))))
    signature = get_signature_v3(PLIVO_TOKEN, construct_get_url(url, {}).decode(), nonce).decode()
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}
    assert door.client.get(url, headers=headers).status_code == 200


def test_plivo_list_of_signatures(door: Door) -> None:
    """Several live tokens, and a space after the comma."""
    url, body, headers, _, _ = signed("plivo", door)
    headers["X-Plivo-Signature-V3"] = "AAAA, " + headers["X-Plivo-Signature-V3"]
    assert door.post(url, body, headers).status_code == 200


def test_plivo_main_account_signature(door: Door) -> None:
    url, body, headers, _, _ = signed("plivo", door)
    headers["X-Plivo-Signature-Ma-V3"] = headers.pop("X-Plivo-Signature-V3")
    assert door.post(url, body, headers).status_code == 200


def test_plivo_version_two_proves_nothing(door: Door) -> None:
    """V2 covers neither query nor body."""
    import hmac

    url, body, _, _, _ = signed("plivo", door)
    signature = base64.b64encode(hmac.digest(PLIVO_TOKEN.encode(), (url + "12345").encode(), "sha256")).decode()
    door.refused(
        lambda: door.post(url, body, {"X-Plivo-Signature-V2": signature, "X-Plivo-Signature-V2-Nonce": "12345"})
    )


def test_plivo_wrong_account(door: Door) -> None:
    carrier = Plivo(door.gateway.url)
    form = carrier.fields(carrier.new_call()) | {"ParentAuthID": "MAXXXXXXXXXXXXXXXXXX"}
    url = door.url("plivo")
    door.refused(lambda: door.post(url, urlencode(form).encode(), carrier.headers(url, form)))


def test_plivo_same_bytes_again_same_answer(door: Door) -> None:
    url, body, headers, _, _ = signed("plivo", door)
    first = door.post(url, body, headers)
    assert first.status_code == 200
    assert door.post(url, body, headers).content == first.content


def test_plivo_nonce_with_other_bytes(door: Door) -> None:
    """Honestly signed, but the nonce was another request's."""
    carrier = Plivo(door.gateway.url)
    url, nonce = door.url("plivo"), str(time.time_ns())
    form = carrier.fields(carrier.new_call())
    assert door.post(url, urlencode(form).encode(), carrier.sign(url, form, nonce)).status_code == 200
    other = form | {"From": "15550100008"}
    door.refused(lambda: door.post(url, urlencode(other).encode(), carrier.sign(url, other, nonce)))


def test_plivo_fields_moved_between_query_and_body(door: Door) -> None:
    """What is signed has no separators, so other bytes can bear the same signature: the nonce tells them apart."""
    carrier = Plivo(door.gateway.url)
    url = door.url("plivo", "serviceHost=echo.acme")
    form = carrier.fields(carrier.new_call())
    headers = carrier.headers(url, form)
    moved = {key: value for key, value in form.items() if key != "To"}
    last = max(key for key in moved if key < "To")
    moved[last] += "To" + form["To"]
    assert door.post(url, urlencode(form).encode(), headers).status_code == 200
    door.refused(lambda: door.post(url, urlencode(moved).encode(), headers))


# -- Exotel


@pytest.mark.parametrize("key", ["", "wrong", EXOTEL_SECRET + "x", "é"])
@pytest.mark.parametrize("how", ["basic", "query"])
@pytest.mark.parametrize("what", ["voice", "resume", "connect", "status"])
def test_exotel_without_its_secret(key: str, how: str, what: str, door: Door) -> None:
    carrier = Exotel(door.gateway.url)
    query = urlencode(carrier.fields(carrier.new_call()) | ({"key": key} if how == "query" else {}))
    auth = ("exotel", key) if how == "basic" else None
    door.refused(lambda: door.client.get(door.url("exotel", query, what), auth=auth))


def test_exotel_with_its_secret(door: Door) -> None:
    carrier = Exotel(door.gateway.url)
    query = urlencode(carrier.fields(carrier.new_call()))
    assert door.client.get(door.url("exotel", query), auth=("anyone", EXOTEL_SECRET)).status_code == 200
    query = urlencode(carrier.fields(carrier.new_call()) | {"key": EXOTEL_SECRET})
    answer = door.client.get(door.url("exotel", query))
    assert answer.status_code == 200
    assert EXOTEL_SECRET not in answer.text, "the secret goes on to the stream's URL"


@pytest.mark.parametrize(
    "header", ["Basic", "Basic %%%", "Basic " + "A" * 4000, "Basic /w==", "Bearer x", "Basic OjpAOg=="]
)
def test_exotel_authorization_of_junk(header: str, door: Door) -> None:
    carrier = Exotel(door.gateway.url)
    query = urlencode(carrier.fields(carrier.new_call()))
    door.refused(lambda: door.client.get(door.url("exotel", query), headers={"Authorization": header}))


# -- What is not a form


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[" * 20000),
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x"),
        ("application/x-www-form-urlencoded", b"%%%=%FF&&&==;"),
        ("application/x-www-form-urlencoded", b"a=1&" * 5000),
        ("nonsense", b"\x00\xff"),
        ("", b""),
    ],
    ids=["json", "deep", "no-boundary", "multipart", "percent", "many", "nonsense", "empty"],
)
def test_body_of_junk(name: str, kind: str, body: bytes, door: Door) -> None:
    door.refused(lambda: door.post(door.url(name), body, {}, {"content-type": kind}))


@pytest.mark.parametrize("name", NAMES)
def test_body_of_ten_megabytes(name: str, door: Door) -> None:
    response = door.post(door.url(name), b"a=" + b"b" * 10_000_000, {})
    assert response.status_code in (403, 413), response.status_code


def test_signed_by_telnyx_and_yet_junk(door: Door) -> None:
    """An honest signature over bytes that are no webhook: an answer below 500, and no traceback."""
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"data":[]}',
        b'{"data":{"payload":[]}}',
        b"\xff\xfe",
        b"CallSid=",
        b"a" * 90_000,
    ):
        for kind in ("application/json", FORM["content-type"], "multipart/form-data; boundary=a", ""):
            for what in ("voice", "status", "stream", "resume"):
                url = door.url("telnyx", what=what)
                response = door.post(url, body, Telnyx("").sign(body), {"content-type": kind})
                assert response.status_code < 500, (body[:20], kind, what, response.status_code)


def test_one_line_for_each_refusal(door: Door) -> None:
    """And in all the lines above no number, path, token, traceback."""
    before, sent = door.gateway.fence() + 1, 25
    for _ in range(sent):
        assert door.post(door.url("twilio"), b"CallSid=CA1", {}).status_code == 403
    lines = door.gateway.lines[before : door.gateway.fence()]
    assert len(lines) == sent, lines
    door.gateway.assert_clean("15550100002")


# -- Closed by default


def test_no_credentials_is_404_and_check_says_why(folder: Path, client: httpx.Client) -> None:
    bot = place_bot("echo", folder)
    file = folder / "closed.toml"
    file.write_text(settings(service("echo.acme", bot, min_warm=0), carriers=""))
    checked = run("check", "--config", str(file))
    with Gateway("--config", str(file), "--port", "0") as gateway:
        for name in NAMES:
            for what in ("voice", "resume", "status", "stream"):
                response = client.post(f"{gateway.url}/webhooks/{name}/{what}", content=b"CallSid=1", headers=FORM)
                assert response.status_code == 404, (name, what, response.status_code)
        assert client.get(f"{gateway.url}/webhooks/nobody/voice").status_code == 404
    assert checked.returncode == 1, checked
    assert "Traceback" not in checked.stderr
    for name in NAMES:
        assert name in (checked.stdout + checked.stderr).lower(), checked


def test_exotel_without_webhook_secret_is_said(folder: Path, echo_bot: Path, client: httpx.Client) -> None:
    file = folder / "exotel.toml"
    section = '[carriers.exotel]\naccount_sid = "e"\napi_key = "k"\napi_token = "exotel-api-token-of-the-tests"\n'
    file.write_text(settings(service("echo.acme", echo_bot, min_warm=0), carriers=section))
    checked = run("check", "--config", str(file))
    assert checked.returncode == 1, checked
    assert "webhook_secret" in checked.stdout + checked.stderr, checked


def test_check_of_a_good_configuration(folder: Path, echo_bot: Path) -> None:
    file = folder / "good.toml"
    file.write_text(settings(service("echo.acme", echo_bot), public_url="https://voice.example.com"))
    checked = run("check", "--config", str(file))
    assert "Traceback" not in checked.stderr, checked.stderr
    assert checked.returncode in (0, 1)
    for word in (TWILIO_TOKEN, PLIVO_TOKEN, EXOTEL_SECRET):
        assert word not in checked.stdout + checked.stderr


def one_line(result: Any) -> str:
    assert "Traceback" not in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return str(result.stderr)


def test_serve_without_configuration() -> None:
    result = run("serve", "--port", "0")
    assert result.returncode == 2
    assert "--dev" in one_line(result)


def test_serve_dev_beyond_loopback() -> None:
    result = run("serve", "--dev", "--host", "0.0.0.0", "--port", "0")
    assert result.returncode == 2
    assert "loopback" in one_line(result)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("public_url = ", "TOML"),
        ("[[services]]\nhost = 'a'\nwhen_full = 'sing'", "when_full"),
        ("[[services]]\nhost = 'a'\nbot = '/nowhere/bot.py'", "bot"),
    ],
)
def test_serve_with_a_wrong_setting(text: str, named: str, tmp_path: Path) -> None:
    """One line naming the setting, exit 2. `tests/test_settings.py` has all that can be wrong in them."""
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    result = run("serve", "--config", str(file), "--port", "0")
    assert result.returncode == 2, result
    assert named in one_line(result)


def test_serve_on_a_taken_port(folder: Path, gateway: Gateway) -> None:
    result = run("serve", "--dev", "--port", gateway.url.rpartition(":")[2])
    assert result.returncode == 1, result  # another try may succeed: a service manager makes one
    one_line(result)


@pytest.mark.parametrize("sid", [TWILIO_SID])
def test_other_methods(sid: str, door: Door) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        response = door.client.request(method, door.url("twilio"))
        assert response.status_code in (403, 404, 405), (method, response.status_code)
