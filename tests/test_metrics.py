"""What is counted is exposed under the contract's names, exactly, and never goes down."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import gateway
from gateway.media.types import MAX_REASONS, Counts
from gateway.metrics import _DROPPED, MAX_CARRIER_ERRORS, MAX_HOSTS, Histogram, Metrics
from gateway.pool.registry import PoolCounts
from gateway.protocol.codes import EndReason

CONTRACT = {
    "gateway_calls_active": ("gauge", {"carrier", "service_host"}),
    "gateway_calls_total": ("counter", {"carrier", "service_host", "outcome"}),
    "gateway_webhook_seconds": ("histogram", {"carrier", "outcome"}),
    "gateway_first_audio_seconds": ("histogram", {"carrier"}),
    "gateway_transit_seconds": ("histogram", {"direction"}),
    "gateway_frames_total": ("counter", {"carrier", "direction"}),
    "gateway_frames_dropped_total": ("counter", {"direction", "reason"}),
    "gateway_bad_messages_total": ("counter", {"carrier", "reason"}),
    "gateway_playout_seconds": ("histogram", set()),
    "gateway_rejected_total": ("counter", {"where", "reason"}),
    "gateway_worker_slots": ("gauge", {"service_host", "state"}),
    "gateway_claim_seconds": ("histogram", {"outcome"}),
    "gateway_resumes_total": ("counter", {"cause", "result"}),
    "gateway_dialout_total": ("counter", {"carrier", "result"}),
    "gateway_event_loop_lag_seconds": ("histogram", set()),
    # Not in the contract: questions that a registry left open, and workers that are killed and replaced, by reason.
    "gateway_registry_failures_total": ("counter", {"reason"}),
    "gateway_worker_ends_total": ("counter", {"service_host", "reason"}),
    # Nor are events: attempts to deliver them, and how long the oldest has waited.
    "gateway_event_deliveries_total": ("counter", {"result"}),
    "gateway_events_oldest_pending_seconds": ("gauge", set()),
    # Nor what is written in the background.
    "gateway_records_total": ("counter", {"result"}),
    "gateway_records_waiting": ("gauge", set()),
    "gateway_recordings_total": ("counter", {"result"}),
    "gateway_recordings_waiting": ("gauge", set()),
}


@dataclass
class Bridge:
    """What a bridge shows of itself."""

    counts: Counts = field(default_factory=Counts)
    waiting: float = 0.0

    def unplayed(self, now: float) -> float:
        return self.waiting


@dataclass
class Writer:
    """What a background writer shows of itself."""

    waiting: int
    results: dict[str, int]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def samples(metrics: Metrics, name: str, slots: dict[str, PoolCounts] | None = None) -> dict[tuple[str, ...], float]:
    """{label values, in the order of their names: value} of one sample name."""
    found = {}
    for family in text_string_to_metric_families(metrics.expose(slots or {}).decode()):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def everything(metrics: Metrics) -> dict[str, PoolCounts]:
    """One of each."""
    with metrics.call("twilio", "a.b", Bridge(Counts(1, 2, 3, 4, Counter(no_bot=1), Counter(not_json=1), 5.0)), 4.0):
        metrics.sample(5.0)
    metrics.timed("inbound", lambda *_: None, b"", True, 0.0)
    metrics.webhooks.observe(0.1, "twilio", "answered")
    metrics.claims.observe(0.1, "claimed")
    metrics.rejected["voice", "full"] += 1
    metrics.resumes["stream_lost", "attached"] += 1
    metrics.dialouts["twilio", "answered"] += 1
    metrics.event_deliveries[("delivered",)] += 1
    metrics.records = metrics.recordings = Writer(2, {"written": 5})
    metrics.note_registry_failure("bad_answer")
    metrics.note_ends("h1", 1, "a.b", {"hung": 1})
    return {"a.b": PoolCounts(20, 3, 2, 1, 3, 0)}


def test_names_types_and_labels_are_the_contracts(metrics):
    slots = everything(metrics)
    with metrics.call("twilio", "a.b", Bridge(), 0.0) as meter:
        families = {family.name: family for family in text_string_to_metric_families(metrics.expose(slots).decode())}
        meter.ended = EndReason.CALLER_HANGUP
        metrics.expose(slots)
    with metrics.call("twilio", "a.b", Bridge(), 0.0):
        families |= {f.name: f for f in text_string_to_metric_families(metrics.expose(slots).decode())}
    ours = {name: family for name, family in families.items() if name.startswith("gateway_")}
    shown = {
        name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for name, family in ours.items()
    }
    assert shown == CONTRACT


def test_every_name_is_there_before_anything_has_happened(metrics):
    text = metrics.expose({}).decode()
    assert [name for name in CONTRACT if f"# TYPE {name} " not in text] == []


def test_two_nodes_share_nothing_nor_does_the_process_know_of_them(metrics):
    everything(metrics)
    assert samples(Metrics(), "gateway_rejected_total") == {}
    assert b"gateway_" not in prometheus_client.generate_latest()


def test_the_process_itself_is_there(metrics):
    assert samples(metrics, "process_resident_memory_bytes")[()] > 0


# Calls.


def test_a_call_counts_as_active_until_it_has_ended_and_as_ended_at_once(metrics):
    with metrics.call("plivo", "a.b", Bridge(), 0.0) as meter:
        assert samples(metrics, "gateway_calls_active") == {("plivo", "a.b"): 1}
        meter.ended = EndReason.BOT_HANGUP  # its bot is still wrapping up
        assert samples(metrics, "gateway_calls_active") == {("plivo", "a.b"): 0}
        assert samples(metrics, "gateway_calls_total") == {("plivo", "bot_hangup", "a.b"): 1}
    assert samples(metrics, "gateway_calls_active") == {}
    assert samples(metrics, "gateway_calls_total") == {("plivo", "bot_hangup", "a.b"): 1}


def test_a_call_that_another_node_took_over_has_not_ended(metrics):
    with metrics.call("plivo", "a.b", Bridge(), 0.0):
        pass
    assert samples(metrics, "gateway_calls_total") == {}


def test_a_call_is_folded_in_though_its_session_raised(metrics):
    with pytest.raises(ZeroDivisionError), metrics.call("plivo", "a.b", Bridge(Counts(from_carrier=3)), 0.0) as meter:
        meter.ended = EndReason.UNKNOWN_END
        raise ZeroDivisionError
    assert samples(metrics, "gateway_frames_total")[("plivo", "inbound")] == 3
    assert samples(metrics, "gateway_calls_active") == {}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["begin", "frames", "drop", "bad", "end"]), st.integers(0, 9)),
        max_size=40,
    )
)
def test_sums_are_exact_and_never_go_down_whatever_begins_and_ends(steps):
    metrics, model, open_calls, before = Metrics(), Counter(), {}, {}
    for number, what, n in steps:
        if what == "begin" and number not in open_calls:
            context = metrics.call(f"c{number}", "a.b", bridge := Bridge(), 0.0)
            open_calls[number] = context, context.__enter__(), bridge
        elif number in open_calls:
            context, meter, bridge = open_calls[number]
            if what == "frames":
                bridge.counts.from_carrier += n
                bridge.counts.to_carrier += 2 * n
                model["in", number] += n
                model["out", number] += 2 * n
            elif what == "drop":
                bridge.counts.dropped["link_slow"] += n
                model["drop"] += n
            elif what == "bad":
                bridge.counts.bad["not_json"] += n
                model["bad", number] += n
            elif what == "end":
                meter.ended = EndReason.CALLER_HANGUP
                context.__exit__(None, None, None)
                del open_calls[number]
        frames = samples(metrics, "gateway_frames_total")
        for number_ in range(4):
            assert frames.get((f"c{number_}", "inbound"), 0) == model["in", number_]
            assert frames.get((f"c{number_}", "outbound"), 0) == model["out", number_]
            assert (
                samples(metrics, "gateway_bad_messages_total").get((f"c{number_}", "not_json"), 0)
                == model["bad", number_]
            )
        assert samples(metrics, "gateway_frames_dropped_total").get(("inbound", "link_slow"), 0) == model["drop"]
        assert all(frames.get(key, 0) >= value for key, value in before.items())
        before = frames


# Labels.


def test_every_reason_for_which_frames_are_dropped_has_its_direction():
    sources = [path.read_text() for path in Path(gateway.__file__).parent.rglob("*.py")]
    reasons = {reason for source in sources for reason in re.findall(r'\.dropped\["(\w+)"\]', source)}
    assert reasons == set(_DROPPED)


def test_a_reason_that_is_new_still_counts(metrics):
    with metrics.call("twilio", "a.b", Bridge(Counts(dropped=Counter(whim=2))), 0.0):
        assert samples(metrics, "gateway_frames_dropped_total") == {("unknown", "whim"): 2}


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("100002", "carrier_error_100002"),
        ("31921", "carrier_error_31921"),
        ("", "carrier_error"),
        ("1000000", "carrier_error"),
        ("playFailed", "carrier_error"),
        ("+15550100001", "carrier_error"),
        ("١٢٣", "carrier_error"),
        ("²", "carrier_error"),
    ],
)
def test_a_carriers_error_is_counted_by_its_number_if_it_looks_like_one(metrics, code, label):
    bridge = Bridge()
    bridge.counts.note_carrier_error(code)
    with metrics.call("telnyx", "a.b", bridge, 0.0):
        assert samples(metrics, "gateway_bad_messages_total") == {("telnyx", label): 1}


def test_one_stream_that_makes_up_error_numbers_takes_no_memory():
    counts = Counts()
    for code in range(5000):
        counts.note_carrier_error(str(code))
    assert len(counts.bad) == MAX_REASONS + 1
    assert counts.bad.total() == 5000


def test_many_streams_that_make_up_error_numbers_mint_no_labels(metrics):
    for call in range(20):
        bridge = Bridge()
        for code in range(30):
            bridge.counts.note_carrier_error(str(1000 * call + code))
        with metrics.call("telnyx", "a.b", bridge, 0.0):
            pass
    bad = samples(metrics, "gateway_bad_messages_total")
    assert len(bad) == MAX_CARRIER_ERRORS + 1
    assert sum(bad.values()) == 600
    assert bad[("telnyx", "carrier_error")] == 600 - MAX_CARRIER_ERRORS


# Times.


def test_first_audio_is_observed_once_with_the_next_sample(metrics):
    bridge = Bridge()
    with metrics.call("exotel", "a.b", bridge, 100.0):
        metrics.sample(100.5)
        assert samples(metrics, "gateway_first_audio_seconds_count") == {}
        bridge.counts.first_audio = 100.25
        metrics.sample(101.5)
        metrics.sample(102.5)
    assert samples(metrics, "gateway_first_audio_seconds_count") == {("exotel",): 1}
    assert samples(metrics, "gateway_first_audio_seconds_sum") == {("exotel",): 0.25}


def test_first_audio_of_a_call_shorter_than_a_sample_is_not_lost(metrics):
    with metrics.call("exotel", "a.b", Bridge(Counts(first_audio=100.5)), 100.0):
        pass
    assert samples(metrics, "gateway_first_audio_seconds_sum") == {("exotel",): 0.5}


def test_playout_is_sampled_from_calls_that_have_something_to_play(metrics):
    with metrics.call("plivo", "a.b", Bridge(waiting=1.5), 0.0), metrics.call("plivo", "a.b", Bridge(), 0.0):
        metrics.sample(1.0)
        metrics.sample(2.0)
    assert samples(metrics, "gateway_playout_seconds_count") == {(): 2}
    assert samples(metrics, "gateway_playout_seconds_sum") == {(): 3.0}


def test_a_timed_message_goes_on_as_it_came(metrics):
    passed = []
    metrics.timed("outbound", lambda *message: passed.append(message), b"audio", False, 7.0)
    assert passed == [(b"audio", False, 7.0)]
    assert samples(metrics, "gateway_transit_seconds_count") == {("outbound",): 1}


def test_slots_are_shown_by_state_and_left_out_when_nobody_tells(metrics):
    told = samples(
        metrics,
        "gateway_worker_slots",
        {"a.b": PoolCounts(cap=20, used=3, ready=2, starting=1, busy=3, queued=4, free=17)},
    )
    assert told == {
        ("a.b", "cap"): 20,
        ("a.b", "used"): 3,
        ("a.b", "ready"): 2,
        ("a.b", "starting"): 1,
        ("a.b", "busy"): 3,
        ("a.b", "queued"): 4,
        ("a.b", "free"): 17,
    }
    assert samples(metrics, "gateway_worker_slots") == {}


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_histogram_holds_what_was_observed(values):
    histogram = Histogram(0.1, 1.0, 5.0)
    for value in values:
        histogram.observe(value)
    assert histogram.buckets() == [
        ("0.1", sum(v <= 0.1 for v in values)),
        ("1", sum(v <= 1 for v in values)),
        ("5", sum(v <= 5 for v in values)),
        ("+Inf", len(values)),
    ]
    assert histogram.sum == pytest.approx(sum(values))


def test_how_workers_ended_is_counted_once_however_often_their_host_tells():
    metrics = Metrics()
    for _ in range(3):
        metrics.note_ends("h1", 1, "support.acme", {"hung": 2, "died_in_call": 1})
    metrics.note_ends("h1", 1, "support.acme", {"hung": 3, "died_in_call": 1})
    metrics.note_ends("h2", 1, "support.acme", {"hung": 1})
    metrics.note_ends("h2", 2, "support.acme", {"hung": 1})  # it began anew
    exposed = metrics.expose({}).decode()
    assert 'gateway_worker_ends_total{reason="hung",service_host="support.acme"} 5.0' in exposed
    assert 'gateway_worker_ends_total{reason="died_in_call",service_host="support.acme"} 1.0' in exposed


def ends_of(metrics: Metrics) -> float:
    return samples(metrics, "gateway_worker_ends_total").get(("hung", "a.b"), 0.0)


def test_hosts_with_a_new_name_each_time_do_not_pile_up_and_stay_counted(metrics):
    before = 0.0
    for n in range(3 * MAX_HOSTS):
        metrics.note_ends(f"h{n}", 1, "a.b", {"hung": 1})
        if not n % MAX_HOSTS:
            assert ends_of(metrics) > before
            before = ends_of(metrics)
    assert ends_of(metrics) == 3 * MAX_HOSTS
    assert len(metrics._known_ends) == MAX_HOSTS


def test_a_host_that_still_beats_is_not_forgotten_for_those_that_have_left(metrics):
    for n in range(3 * MAX_HOSTS):
        metrics.note_ends(f"h{n}", 1, "a.b", {"died_in_call": 1})
        metrics.note_ends("stays", 1, "a.b", {"hung": 2})
    assert ends_of(metrics) == 2


def test_a_host_without_ends_takes_no_room(metrics):
    metrics.note_ends("h1", 1, "a.b", {})
    assert not metrics._known_ends
