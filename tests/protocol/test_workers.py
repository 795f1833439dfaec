from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import workers
from tests.protocol.test_pcm import JSON

W1 = workers.Worker("w1", "unix:/run/gw/w1.sock", "ready")
W2 = workers.Worker("w2", "ws://10.0.0.7:4711/ws", "busy", "s1")

REGISTER = workers.Register(
    "host-1", 1700000000000, "support.acme", "pcm", 20, (W1, W2), (workers.Running("s1", 7, "w2"),), "link-key", 8, 900
)
REGISTER_TEXT = (
    '{"type":"register","host":"host-1","epoch":1700000000000,"service_host":"support.acme","protocol":"pcm","cap":20,'
    '"workers":[{"id":"w1","url":"unix:/run/gw/w1.sock","state":"ready","session":""},'
    '{"id":"w2","url":"ws://10.0.0.7:4711/ws","state":"busy","session":"s1"}],'
    '"running":[{"session":"s1","fence":7,"worker":"w2"}],"link_key":"link-key","seq":8,"start_ms":900}'
)

TO_GATEWAY = [
    (REGISTER, REGISTER_TEXT),
    (
        workers.Beat((W1,), 3, {"hung": 2}, 9, 1200),
        '{"type":"beat","workers":[{"id":"w1","url":"unix:/run/gw/w1.sock","state":"ready","session":""}],"lag_ms":3,'
        '"ends":{"hung":2},"seq":9,"start_ms":1200}',
    ),
    (
        workers.Beat((replace(W2, cpu=150, memory=2**27),), 3),
        '{"type":"beat","workers":[{"id":"w2","url":"ws://10.0.0.7:4711/ws","state":"busy","session":"s1","cpu":150,'
        '"memory":134217728}],"lag_ms":3,"ends":{},"seq":0,"start_ms":0}',
    ),
    (workers.Drain(), '{"type":"drain"}'),
]
TO_HOST = [
    (workers.Registered(2.0, 6.0, 30.0), '{"type":"registered","heartbeat_s":2.0,"lease_s":6.0,"wrapup_s":30.0}'),
    (workers.Ok(), '{"type":"ok"}'),
    (workers.Gone(), '{"type":"gone"}'),
    (workers.Drain(), '{"type":"drain"}'),
    (workers.StartWorker("s1"), '{"type":"start","session":"s1"}'),
]


@pytest.mark.parametrize(("message", "text"), TO_GATEWAY, ids=lambda x: type(x).__name__)
def test_what_goes_to_the_gateway_and_back(message: workers.ToGateway, text: str) -> None:
    assert workers.encode(message) == text
    assert workers.decode_to_gateway(text) == message


@pytest.mark.parametrize(("message", "text"), TO_HOST, ids=lambda x: type(x).__name__)
def test_what_goes_to_the_host_and_back(message: workers.ToHost, text: str) -> None:
    assert workers.encode(message) == text
    assert workers.decode_to_host(text) == message


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(REGISTER_TEXT), **changes})


@pytest.mark.parametrize(
    "text",
    [
        changed(host=""),
        changed(service_host=None),
        changed(protocol="smtp"),
        changed(protocol=[]),
        changed(cap=0),
        changed(cap=workers.MAX_CAP + 1),
        changed(cap="20"),
        '{"type":"ok"}',
        "[]",
        "x",
    ],
)
def test_what_makes_no_sense_to_a_gateway_is_none(text: str) -> None:
    assert workers.decode_to_gateway(text) is None


@pytest.mark.parametrize(
    "text", ['{"type":"start"}', '{"type":"start","session":""}', '{"type":"beat"}', "{}", "", "[]"]
)
def test_what_makes_no_sense_to_a_host_is_none(text: str) -> None:
    assert workers.decode_to_host(text) is None


@pytest.mark.parametrize("said", [-1, 2**60, "150", 1.5, True, None, []])
def test_what_a_worker_cannot_use_is_not_known(said: Any) -> None:
    text = changed(workers=[{"id": "w1", "url": "", "state": "busy", "cpu": said, "memory": said}])
    register = workers.decode_to_gateway(text)
    assert isinstance(register, workers.Register)
    assert register.workers == (workers.Worker("w1", "", "busy"),)


def test_workers_and_sessions_that_make_no_sense_are_left_out() -> None:
    text = changed(
        workers=[
            {"id": "w1"},
            {"id": "", "state": "ready"},
            {"id": "w3", "state": "asleep"},
            5,
            {"id": "w2", "state": []},
        ],
        running=[{"session": ""}, None, {"session": "s1"}],
    )
    register = workers.decode_to_gateway(text)
    assert isinstance(register, workers.Register)
    assert register.workers == () and register.running == (workers.Running("s1", 0, ""),)
    register = workers.decode_to_gateway(changed(workers={}, running="s1"))
    assert isinstance(register, workers.Register)
    assert register.workers == register.running == ()


def test_a_host_without_a_protocol_speaks_pcm() -> None:
    fields = json.loads(REGISTER_TEXT)
    del fields["protocol"]
    register = workers.decode_to_gateway(json.dumps(fields))
    assert isinstance(register, workers.Register) and register.protocol == "pcm"


def test_times_that_make_no_sense_are_the_usual_ones() -> None:
    text = '{"type":"registered","heartbeat_s":0,"lease_s":"soon"}'
    assert workers.decode_to_host(text) == workers.Registered(2.0, 6.0)


NAMES = [
    "host",
    "epoch",
    "service_host",
    "protocol",
    "cap",
    "workers",
    "running",
    "link_key",
    "lag_ms",
    "heartbeat_s",
    "lease_s",
    "session",
]


@given(
    st.sampled_from(["register", "beat", "drain", "registered", "ok", "gone", "start"]),
    st.dictionaries(st.sampled_from(NAMES), JSON),
)
def test_no_object_raises(kind: str, fields: dict[str, Any]) -> None:
    text = json.dumps({**fields, "type": kind})
    for message in (workers.decode_to_gateway(text), workers.decode_to_host(text)):
        if message is not None:
            workers.encode(message)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    workers.decode_to_gateway(data)
    workers.decode_to_host(data)


@pytest.mark.parametrize(
    "ends", ["", ',"ends":null', ',"ends":[1]', ',"ends":{"hung":"2","of boredom":3,"unusable":-1}']
)
def test_a_beat_without_ends_that_make_sense_is_a_beat(ends):
    assert workers.decode_to_gateway('{"type":"beat","workers":[],"lag_ms":3' + ends + "}") == workers.Beat((), 3)


LONG = "x" * 129
NAMES_OR_ANY = st.sampled_from(["a-name", "static:a", LONG]) | st.text()
TOO_BIG = workers.MAX_NUMBER + 1


def with_worker(**changes: Any) -> str:
    return changed(workers=[{"id": "w1", "url": "unix:/w1", "state": "ready", "session": ""} | changes])


def with_running(**changes: Any) -> str:
    return changed(running=[{"session": "s1", "fence": 7, "worker": "w1"} | changes])


IN_REGISTER = [
    with_running(fence=2**64 - 1),
    with_running(fence=TOO_BIG),
    with_running(fence=-1),
    with_running(session=LONG),
    with_running(worker="h/w1"),
    changed(running=[{"session": f"s{n}", "fence": 1} for n in range(34_000)]),
    changed(epoch=2**63),
    changed(epoch=-1),
    changed(cap=2**31),
    changed(host=LONG),
    changed(host="static:support.acme"),
    changed(host="h/1"),
    changed(host="h\n1"),
    changed(service_host="x" * 101),
    changed(link_key="x" * 257),
    changed(link_key="k\r\nX-Forged: 1"),
]
IN_BOTH = [
    changed(seq=TOO_BIG),
    changed(seq=-1),
    changed(workers=[{"id": f"w{n}", "url": "unix:/w", "state": "busy"} for n in range(34_000)]),
    with_worker(id="x" * 1_000_000),
    with_worker(id="other-host/w1"),
    with_worker(session=LONG),
    with_worker(url="unix:/" + "x" * 600),
    with_worker(url="http://10.0.0.7/"),
    with_worker(url="ws://user@10.0.0.7/"),
    with_worker(url="ws://10.0.0.7/ws HTTP/1.1\r\nX-Forged: 1"),
    with_worker(url="unix:relative.sock"),
]


@pytest.mark.parametrize("text", [*IN_REGISTER, *IN_BOTH], ids=lambda text: text[-60:])
def test_a_register_beyond_the_bounds_is_refused_whole(text: str) -> None:
    assert workers.decode_to_gateway(text) is None


@pytest.mark.parametrize("text", IN_BOTH, ids=lambda text: text[-60:])
def test_a_beat_beyond_the_bounds_is_refused_whole(text: str) -> None:
    assert workers.decode_to_gateway(json.dumps(json.loads(text) | {"type": "beat"})) is None


@pytest.mark.parametrize(
    "text", ["ws://10.0.0.7:4711/ws", "wss://bots.acme.com/ws", "ws://[fd00::1]:4000/ws", "unix:/a b"]
)
def test_where_workers_may_be_reached(text: str) -> None:
    register = workers.decode_to_gateway(with_worker(url=text))
    assert isinstance(register, workers.Register) and register.workers[0].url == text


def test_measurements_out_of_bounds_cost_no_beat() -> None:
    text = '{"type":"beat","workers":[],"lag_ms":-5,"start_ms":1e30,"ends":{"hung":18446744073709551615}}'
    assert workers.decode_to_gateway(text) == workers.Beat((), 0)
    text = '{"type":"beat","workers":[],"lag_ms":900000000000,"start_ms":900000000000}'
    assert workers.decode_to_gateway(text) == workers.Beat((), 86_400_000, start_ms=86_400_000)


@given(
    kind=st.sampled_from(["register", "beat"]),
    numbers=st.fixed_dictionaries(
        {}, optional={n: st.integers() for n in ("epoch", "seq", "cap", "lag_ms", "start_ms")}
    ),
    names=st.fixed_dictionaries({}, optional=dict.fromkeys(("host", "service_host", "link_key"), NAMES_OR_ANY)),
    known=st.lists(
        st.fixed_dictionaries({"id": NAMES_OR_ANY, "url": st.just("") | st.text(), "state": st.just("ready")})
    ),
    running=st.lists(
        st.fixed_dictionaries({"session": NAMES_OR_ANY, "fence": st.integers(-5, 2**64), "worker": NAMES_OR_ANY})
    ),
)
def test_what_is_understood_is_within_the_bounds(kind, numbers, names, known, running) -> None:
    fields = json.loads(REGISTER_TEXT) | numbers | names | {"type": kind, "workers": known, "running": running}
    message = workers.decode_to_gateway(json.dumps(fields))
    if message is None:
        return
    assert 0 <= message.seq <= workers.MAX_NUMBER and 0 <= message.start_ms <= 86_400_000
    assert all(workers.NAME.fullmatch(w.id) and len(w.session) <= workers.MAX_NAME for w in message.workers)
    if isinstance(message, workers.Register):
        assert 0 <= message.epoch <= workers.MAX_NUMBER and 0 < message.cap <= workers.MAX_CAP
        assert all(0 <= run.fence <= workers.MAX_NUMBER for run in message.running)
        assert workers.NAME.fullmatch(message.host) and message.service_host.isprintable()
