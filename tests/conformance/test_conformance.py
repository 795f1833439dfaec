"""The conformance kit: the carriers that ship keep every rule, and each kind of broken carrier gets its sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.__main__ import main
from gateway.carriers import CARRIERS, CarrierPlugin
from gateway.carriers.base import HttpAnswer, HttpRequest, Refused, StreamAnswer, Verified, Webhook
from gateway.carriers.config import CarrierConfig
from gateway.carriers.orders import CallOrder, CarrierRefusal, RestCall
from gateway.carriers.plivo import PlivoCarrier
from gateway.carriers.twilio import Account, TwilioCarrier
from gateway.conformance import RULES, breaches
from gateway.simulator.carriers import simulator_of
from serializers.base import Event, Mark, MediaFormat
from serializers.twilio import TwilioSerializer
from tests.acceptance.program import run
from tests.fifth.test_fifth_carrier import HERE, install


@pytest.mark.parametrize("name", CARRIERS)
def test_the_carriers_that_ship_keep_every_rule(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", name]) == 0
    assert capsys.readouterr().out == f"{name}: {len(RULES)} rules tried, all kept\n"


def test_a_carrier_from_another_package_is_tried_by_name(tmp_path: Any) -> None:
    env = install(tmp_path, "acme = acme_carrier:PLUGIN")
    tried = run("conformance", "acme", env=env)
    assert (tried.returncode, tried.stdout) == (0, f"acme: {len(RULES)} rules tried, all kept\n"), tried


def test_a_carrier_that_is_not_there_is_called_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["conformance", "nobody"])
    assert stopped.value.code == 2
    assert "'nobody' is not one of twilio, telnyx, plivo, exotel" in capsys.readouterr().err


def test_a_broken_carrier_from_another_package_fails_with_a_sentence(tmp_path: Any) -> None:
    env = install(tmp_path, "acme = broken_acme:PLUGIN")
    (tmp_path / "broken_acme.py").write_text(
        "from dataclasses import replace\n"
        "from acme_carrier import PLUGIN as whole\n"
        "from gateway.carriers.base import Verified\n"
        "class Believing(whole.carrier):\n"
        "    def verify(self, request, *, now):\n"
        "        return Verified('acme-account')\n"
        "PLUGIN = replace(whole, carrier=Believing)\n"
    )
    tried = run("conformance", "acme", env=env)
    assert tried.returncode == 1, tried
    assert "acme: a webhook that is unsigned is believed\n" in tried.stdout
    assert str(HERE) not in tried.stdout


def test_no_line_is_longer_than_80_columns(tmp_path: Any) -> None:
    env = install(tmp_path, "acme = broken_acme:PLUGIN")
    (tmp_path / "broken_acme.py").write_text(
        "from dataclasses import replace\n"
        "from acme_carrier import PLUGIN as whole\n"
        "class Raising(whole.carrier):\n"
        "    def parse(self, request):\n"
        "        raise ValueError('words ' * 30 + 'x' * 200)\n"
        "PLUGIN = replace(whole, carrier=Raising)\n"
    )
    lines = run("conformance", "acme", env=env).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    told = " ".join(line.strip() for line in lines)
    assert "acme: webhooks are understood: ValueError was raised: words words" in told


# Broken carriers: Twilio's, with one thing wrong.


def broken_wire(**members: Any) -> CarrierPlugin:
    serializer = type("Broken", (TwilioSerializer,), members)
    return broken_side(serializer=serializer)


def broken_side(**members: Any) -> CarrierPlugin:
    return replace(CARRIERS["twilio"], carrier=type("Broken", (TwilioCarrier,), members))


def raising(self: Any, message: str | bytes, *, text: bool = True, now: float = 0.0) -> Sequence[Event]:
    return TwilioSerializer.decode(self, message, text=text, now=now) if message != b"stop" else ()


def decode(wrong: Callable[[Any, Any], Sequence[Event] | None]) -> dict[str, Any]:
    def decode(self: Any, message: Any, *, text: bool = True, now: float = 0.0) -> Sequence[Event]:
        events = wrong(self, message)
        return TwilioSerializer.decode(self, message, text=text, now=now) if events is None else events

    return {"decode": decode}


def _raise(error: Exception) -> Any:
    raise error


def _believed(self: Any, request: HttpRequest, *, now: float) -> Verified | Refused:
    return Verified("AC1")


def _unchanged(self: Any, request: HttpRequest, *, now: float) -> Verified | Refused:
    """Looks at whether there is a signature, and not at what it says."""
    if self.unauthenticated or request.headers.get("x-twilio-signature"):
        return Verified(self.accounts[0].id if self.accounts else "")
    return Refused("missing_signature")


def _as_voice(self: Any, request: HttpRequest) -> Webhook | Refused:
    webhook = TwilioCarrier.parse(self, request)
    return replace(webhook, from_number="12025550143") if isinstance(webhook, Webhook) else webhook


def _without_query(self: Any, request: HttpRequest) -> Webhook | Refused:
    webhook = TwilioCarrier.parse(self, request)
    return replace(webhook, custom_params={}) if isinstance(webhook, Webhook) else webhook


def _careless_rest(self: Any, call_id: str, account: str) -> RestCall:
    return RestCall("DELETE", f"https://api.example.com/Calls/{call_id}/")


class ShownCall(RestCall):
    def __repr__(self) -> str:
        return f"{self.auth}"


def _shown_order(self: Any, order: CallOrder, account: str) -> RestCall | None:
    return ShownCall(
        "POST", "https://api.example.com/Calls", auth=("user", self.accounts[0].auth_token[0].get_secret_value())
    )


def _order_in_path(self: Any, order: CallOrder, account: str) -> RestCall | None:
    return RestCall("POST", f"https://api.example.com/{order.session}/Calls")


def _refuse_all(self: Any, status: int, body: bytes, headers: Any) -> CarrierRefusal:
    return CarrierRefusal(f"{orjson.loads(body or b'0')}"[:9], "", "refused")


class OpenConfig(CarrierConfig[Account]):
    def __repr__(self) -> str:
        return repr([token.get_secret_value() for account in self.accounts for token in account.auth_token])


BROKEN: dict[str, tuple[CarrierPlugin, str]] = {
    "raises on binary": (
        broken_wire(**decode(lambda self, m: None if isinstance(m, str) else m.decode("ascii") and None)),
        "decode raised UnicodeDecodeError on b'\\xff\\xfe'",
    ),
    "raises on a missing member": (
        broken_wire(**decode(lambda self, m: _raise(KeyError("media")) if m == '{"event":"media"}' else None)),
        'decode raised KeyError on \'{"event":"media"}\'',
    ),
    "swallows the unknown": (
        broken_wire(**decode(lambda self, m: () if "no such" in str(m) else None)),
        '{"event":"no such event"} gives () instead of one Rejected',
    ),
    "changes audio": (
        broken_wire(media=lambda self, payload: TwilioSerializer.media(self, payload[::-1])),
        "the carrier does not play what media() writes",
    ),
    "forgets early media": (
        broken_wire(**decode(lambda self, m: () if self.started is None and "media" in str(m)[:20] else None)),
        "media that came before start are lost",
    ),
    "believes any id": (
        broken_wire(ids=replace(TwilioSerializer.ids, call=".*")),
        "a start that names the call '..' is taken for one",
    ),
    "returns flushed marks": (
        broken_wire(flush_marks=lambda self: [Mark("flushed", played=False)]),
        "a mark that was flushed comes back as played",
    ),
    "wants no clear": (
        broken_wire(clear=lambda self: '{"event":"clear"}'),
        "the carrier does not take clear() for a clear",
    ),
    "recognizes nothing": (
        broken_wire(recognizes=classmethod(lambda cls, handshake: False)),
        "its own start is not recognized",
    ),
    "reads another codec": (
        broken_wire(read_start=lambda self, top, start: _alaw(TwilioSerializer.read_start(self, top, start))),
        "the caller's audio is read as MediaFormat(encoding='alaw', sample_rate=8000)",
    ),
    "believes every request": (broken_side(verify=_believed), "a webhook that is unsigned is believed"),
    "believes any signature": (broken_side(verify=_unchanged), "a webhook that is signed, with a field added"),
    "believes no request in --dev": (
        broken_side(verify=lambda self, request, *, now: Refused("no")),
        "in --dev, without credentials, a webhook is refused",
    ),
    "leaves the plus out": (broken_side(parse=_as_voice), "is read as from '12025550143' to '+12025550100'"),
    "loses the query": (broken_side(parse=_without_query), "of the author's query, a POST gives {}"),
    "raises in parse": (
        broken_side(parse=lambda self, request: _raise(ValueError("x")) if not request.body else _parse(self, request)),
        "parse raised ValueError on POST  b''",
    ),
    "follows any id": (
        broken_side(hang_up=_careless_rest),
        "a REST request is made for the call '..': DELETE /Calls/../",
    ),
    "shows keys of an order": (broken_side(place_call=_shown_order), "a request shows "),
    "puts an order into a path": (
        broken_side(place_call=_order_in_path),
        "a session changes the URL",
    ),
    "takes a placed call for refused": (
        broken_side(read_placed=_refuse_all),
        "the answer 200 b'' to an order is read as CarrierRefusal",
    ),
    "raises on an answer": (broken_side(read_placed=_refuse_all), "reading 0 b'\\xff' raised JSONDecodeError"),
    "dials without saying so": (
        broken_side(can=replace(TwilioCarrier.can, place_calls=False)),
        "place_calls is False, and place_call makes a request",
    ),
    "writes bad XML": (
        broken_side(
            answer_dial=lambda self, to, *, caller, action_url: HttpAnswer(
                f"<Dial>{to}</Dial>".encode("utf-8", "replace")
            )
        ),
        "answer_dial of anything gives no text/xml",
    ),
    "raises in an answer": (
        broken_side(answer_park=lambda self: _raise(NotImplementedError())),
        "answer_park raised NotImplementedError",
    ),
    "forgets the stream": (
        broken_side(answer_stream=lambda self, answer: self.answer_empty()),
        "answer_stream does not name the stream's URL",
    ),
    "settles on nothing": (
        broken_side(negotiate=lambda self, wanted: MediaFormat(wanted.encoding, wanted.sample_rate + 1)),
        "which is not settled",
    ),
    "shows its secrets": (replace(CARRIERS["twilio"], config=OpenConfig), "the setting auth_token is shown"),
    "fills what is not there": (
        replace(CARRIERS["twilio"], env={"TWILIO_TOKEN": "token"}),
        "the variable TWILIO_TOKEN fills token, and an account has no such key",
    ),
}


def _alaw(start: Any) -> Any:
    return start and replace(start, inbound=MediaFormat("alaw", 8000))


def _parse(self: Any, request: HttpRequest) -> Webhook | Refused:
    return TwilioCarrier.parse(self, request)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_carrier_gets_its_sentence(what: str) -> None:
    plugin, sentence = BROKEN[what]
    found = list(breaches(plugin, simulator_of("twilio")))
    assert any(sentence in one for one in found), found


def test_a_carrier_with_anothers_simulator_is_said_to_be_broken() -> None:
    plugin = replace(CARRIERS["plivo"], carrier=PlivoCarrier)
    assert len(list(breaches(plugin, simulator_of("twilio")))) >= len(RULES) // 2


def test_one_rule_says_no_more_than_five_sentences() -> None:
    plugin = broken_wire(**decode(lambda self, m: _raise(KeyError()) if str(m)[:1] in "[0nx" else None))
    found = [one for one in breaches(plugin, simulator_of("twilio")) if "decode raised" in one]
    assert len(found) == 5


def test_every_answer_is_asked_for() -> None:
    """A new answer of the base class must come into the kit."""
    import inspect

    from gateway.carriers.base import Carrier
    from gateway.conformance import webhooks

    source = inspect.getsource(webhooks.answers_can_be_read)
    answers = {name for name in vars(Carrier) if name.startswith("answer_")} - {"answer_number"}
    assert {name for name in answers if f'"{name}' not in source} == set()
    assert StreamAnswer
