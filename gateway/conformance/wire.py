"""What every serializer keeps.

It reads its carrier's stream, and no stranger's message makes it raise.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.carriers import CARRIERS
from gateway.conformance.sample import FROM, TO, Sample
from gateway.simulator.carrier import Clear, Mark, Play
from gateway.simulator.voice import GATEWAY_NAMES
from serializers.base import Connected, Dtmf, Media, Rejected, Serializer, Start, Stop
from serializers.base import Mark as MarkEvent
from serializers.detect import detect

JUNK: tuple[str | bytes, ...] = (
    "",
    b"\xff\xfe",
    "null",
    "[]",
    "0",
    "{",
    "[" * 5000,
    '{"event":' * 200,
    "{}",
    '{"event":null}',
    '{"event":"media"}',
    '{"event":"media","media":null}',
    '{"event":"media","media":{"payload":"!"}}',
    '{"event":"start","start":7}',
    '{"event":"dtmf","dtmf":[]}',
    '{"event":"mark","mark":{"name":{}}}',
    '{"event":"stop","stop":""}',
    "x" * 300_000,
)
ODD_VALUES = ("null", "{}", "[]", "0", "-1", "1e300", "true", '""', '"\\u0000"', '"' + "x" * 5000 + '"')
MUTATIONS = 400


def start_is_complete(sample: Sample) -> Iterator[str]:
    """The handshake gives one Start.

    It names the call, its stream, its numbers and its codec.
    """
    serializer = sample.serializer()
    events = sample.handshake(serializer)
    starts = [event for event in events if isinstance(event, Start)]
    if len(starts) != 1:
        yield f"the simulator's handshake gives {len(starts)} Start events instead of one: {events!r:.200}"
        return
    (start,) = starts
    call = start.call
    if any(not isinstance(event, (Start, Connected)) for event in events):
        yield f"the simulator's handshake gives more than Connected and Start: {events!r:.200}"
    if (start.call_id, call.call_id) != (sample.side.call_id,) * 2:
        yield f"start names the call {start.call_id!r}, and the carrier {sample.side.call_id!r}"
    if start.stream_id != sample.wire.stream_id:
        yield f"start names the stream {start.stream_id!r}, and the carrier {sample.wire.stream_id!r}"
    if serializer.started is not start:
        yield "started does not hold the Start that was given out"
    if call.carrier != sample.plugin.name:
        yield f"CallData.carrier is {call.carrier!r} instead of {sample.plugin.name!r}"
    inbound = (GATEWAY_NAMES[sample.wire.inbound.name], sample.wire.inbound.rate)
    if inbound != (start.inbound.encoding, start.inbound.sample_rate) or inbound != (call.encoding, call.sample_rate):
        yield f"the caller's audio is read as {start.inbound}, and the carrier sends {inbound}"
    for name, number, ours in (("from", call.from_number, FROM), ("to", call.to_number, TO)):
        if number and number != ours:
            yield f"CallData.{name} is {number!r} instead of {ours!r} or nothing"


def decode_never_raises(sample: Sample) -> Iterator[str]:
    """Whatever a stranger sends, before and after `start`, gives events."""
    whole = [message for message in (sample.wire.connected(), sample.wire.start(), sample.wire.dtmf("5")) if message]
    whole += [sample.media(b"\x01\x02" * 80).decode(), sample.wire.mark("m")]
    hostile = [*JUNK, *(_mutated(sample, sample.dice.choice(whole)) for _ in range(MUTATIONS))]
    for serializer in (sample.serializer(), sample.started()):
        for message in hostile:
            for text in (True, False):
                try:
                    serializer.decode(message, text=text)
                    serializer.tick(1.0)
                except Exception as error:
                    yield f"decode raised {type(error).__name__} on {message!r:.120}"


def _mutated(sample: Sample, message: str) -> str:
    """Cut a message off, or change a character or a value of it."""
    at = sample.dice.randrange(len(message))
    match sample.dice.randrange(3):
        case 0:
            return message[:at]
        case 1:
            return message[:at] + chr(sample.dice.randrange(32, 300)) + message[at + 1 :]
    head, colon, tail = message[at:].partition(":")
    rest = tail[len(tail.partition(",")[0].partition("}")[0]) :]
    return message[:at] + head + colon + sample.dice.choice(ODD_VALUES) + rest


def unknown_messages_are_counted(sample: Sample) -> Iterator[str]:
    """What is no message of the carrier's gives one Rejected.

    It is counted, and nothing else comes of it.
    """
    for serializer in (sample.serializer(), sample.started()):
        for message in ('{"event":"no such event"}', "no JSON", "[]"):
            events = serializer.decode(message)
            if len(events) != 1 or not isinstance(events[0], Rejected):
                yield f"{message} gives {events!r:.100} instead of one Rejected"


def media_go_both_ways_unchanged(sample: Sample) -> Iterator[str]:
    """Audio passes both ways unchanged.

    The caller's comes out as it went in, and ours arrives as it was given.
    """
    serializer = sample.started()
    for _ in range(5):
        frame = sample.frame(serializer)
        heard = [event.payload for event in serializer.decode(sample.media(frame)) if isinstance(event, Media)]
        if heard != [frame]:
            yield f"{len(frame)} bytes of the caller's audio gave {list(map(len, heard))} bytes, or others"
        played = sample.wire.read(serializer.media(frame))
        if played != Play(frame):
            yield f"the carrier does not play what media() writes: {played!r:.100}"
    yield from sample.wire.violations


def media_before_start_are_kept(sample: Sample) -> Iterator[str]:
    """Media that come before `start` follow it.

    They are never taken for something unintelligible.
    """
    frame = sample.frame(sample.started())
    serializer = sample.serializer()
    early = [event for _ in range(60) for event in serializer.decode(sample.media(frame))]
    if any(not (isinstance(event, Rejected) and event.reason == "early_media") for event in early):
        yield f"media before start give {early[:2]!r:.100} instead of nothing or Rejected('early_media')"
    heard = [event.payload for event in sample.handshake(serializer) if isinstance(event, Media)]
    if heard[:1] != [frame]:
        yield "media that came before start are lost"


def a_second_start_changes_nothing(sample: Sample) -> Iterator[str]:
    """`start` on a stream that has started is rejected."""
    serializer = sample.started()
    first = serializer.started
    events = serializer.decode(sample.wire.start())
    if serializer.started is not first or not all(isinstance(event, Rejected) for event in events) or not events:
        yield f"a second start gives {events!r:.100} instead of a Rejected"


def ids_that_are_none_open_nothing(sample: Sample) -> Iterator[str]:
    """A call id that would lead a URL elsewhere is no id."""
    for bad in (".", "..", "a/b", "a?b", "a%2fb", "a#b", "a\\\\b"):
        serializer = sample.serializer()
        serializer.decode(sample.wire.start().replace(sample.side.call_id, bad))
        if serializer.started is not None:
            yield f"a start that names the call {bad!r} is taken for one"


def marks_come_back_once(sample: Sample) -> Iterator[str]:
    """A mark is returned as played under its own name.

    One that was flushed is not returned at all.
    """
    serializer = sample.started()
    for name in ("greeting", "greeting", "ü\"'", "x" * 100):
        sent = sample.wire.read(serializer.mark(name))
        if not isinstance(sent, Mark):
            yield f"the carrier takes mark({name!r:.20}) for {sent!r:.100}"
            continue
        events = list(serializer.decode(sample.wire.mark(sent.name)))
        if events != [MarkEvent(name, played=True)]:
            yield f"the echo of mark({name!r:.20}) gives {events!r:.100}"
    sent = sample.wire.read(serializer.mark("flushed"))
    if serializer.flush_marks() != [MarkEvent("flushed", played=False)]:
        yield "flush_marks() does not give the marks that are out, as not played"
    elif isinstance(sent, Mark):
        echoed = serializer.decode(sample.wire.mark(sent.name))
        if any(isinstance(event, MarkEvent) for event in echoed):
            yield "a mark that was flushed comes back as played"


def commands_are_understood(sample: Sample) -> Iterator[str]:
    """The carrier understands clear; we understand its keys and its stop."""
    serializer = sample.started()
    if sample.wire.read(serializer.clear()) != Clear():
        yield f"the carrier does not take clear() for a clear: {serializer.clear()!r:.100}"
    for digit in "0123456789*#":
        if list(serializer.decode(sample.wire.dtmf(digit))) != [Dtmf(digit)]:
            yield f"the key {digit} is not understood"
    stop = sample.wire.stop("callended")
    if stop and not any(isinstance(event, Stop) for event in serializer.decode(stop)):
        yield f"the carrier's stop is not understood: {stop:.100}"


def start_is_told_from_other_carriers(sample: Sample) -> Iterator[str]:
    """On `/ws`, where the URL names no carrier, each `start` is one carrier's."""
    own = sample.plugin.carrier.serializer
    others: list[type[Serializer]] = [p.carrier.serializer for n, p in CARRIERS.items() if n != sample.plugin.name]
    start = sample.wire.start()
    if detect(start, [own]) is not own:
        yield "its own start is not recognized"
    for other in others:
        if detect(start, [other]) is other:
            yield f"its start is taken for one of {other.carrier}"


WIRE_RULES = (
    start_is_complete,
    decode_never_raises,
    unknown_messages_are_counted,
    media_go_both_ways_unchanged,
    media_before_start_are_kept,
    a_second_start_changes_nothing,
    ids_that_are_none_open_nothing,
    marks_come_back_once,
    commands_are_understood,
    start_is_told_from_other_carriers,
)
