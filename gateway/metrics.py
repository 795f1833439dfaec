"""What a node counts and times, and how Prometheus reads it.

Nothing here is paid for by a frame: calls count in plain integers of their own (`media.types.Counts`), which are summed
when they are collected, those of ended calls being folded into one total first. All of it lives in one event loop, so
there is no lock, and in one object per node, so there is no state of the process.

Names and labels are kept (see the README); what a stranger sends never becomes a label. Directions: "inbound" is from
caller to bot, "outbound" from bot to caller.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.media.endpoints import TIMED_EVERY
from gateway.media.types import CARRIER_ERROR, Counts
from gateway.pool.registry import PoolCounts
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import WorkerEnd

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MAX_CARRIER_ERRORS = 30
"""Carriers' error numbers that become labels, in all; those that are new after that count without their number."""

MAX_HOSTS = 4096
"""Worker hosts of whom something is remembered. Each start of one has a name of its own, so those that have left are
forgotten at last; far more than ever beat at once, for one that does and is forgotten would be counted twice."""

_DROPPED = {
    "no_bot": "inbound",
    "keys": "inbound",
    "link_slow": "inbound",
    "late": "inbound",
    "early": "inbound",
    "no_stream": "outbound",
    "stream_slow": "outbound",
    "playout_overflow": "outbound",
}
"""Which way a frame was going that was dropped for this reason."""


class Histogram:
    """Observations, counted in buckets. bounds: their upper ends, ascending."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: (upper end, how many up to there), the last one "+Inf"."""
        ends = (*(f"{bound:g}" for bound in self._bounds), "+Inf")
        return list(zip(ends, map(float, accumulate(self._counts)), strict=True))


class Histograms:
    """One for each set of label values. Those must come from closed sets: they are never forgotten."""

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._by_labels: dict[tuple[str, ...], Histogram] = {}

    def observe(self, value: float, *labels: str) -> None:
        histogram = self._by_labels.get(labels)
        if histogram is None:
            histogram = self._by_labels[labels] = Histogram(*self._bounds)
        histogram.observe(value)

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        return iter(self._by_labels.items())


class Measured(Protocol):
    """What a call's bridge shows of itself."""

    @property
    def counts(self) -> Counts:
        """What has passed so far."""

    def unplayed(self, now: float) -> float:
        """Seconds of audio that the caller has still to hear."""


class Background(Protocol):
    """What a background writer shows of itself."""

    @property
    def waiting(self) -> int:
        """What is still to be written."""

    @property
    def results(self) -> Mapping[str, int]:
        """How often what came of it."""


class Meter:
    """One call on this node, from its stream's start until its bot has wrapped up. ended: set when the call is over."""

    __slots__ = ("began", "bridge", "carrier", "ended", "heard", "service")

    def __init__(self, carrier: str, service: str, bridge: Measured, began: float) -> None:
        self.carrier = carrier
        self.service = service
        self.bridge = bridge
        self.began = began
        self.ended: EndReason | None = None
        self.heard = False
        """Its first audio has been observed."""


class _Sums:
    """What calls have counted, added up."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.frames: Counter[tuple[str, str]] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.bad: Counter[tuple[str, str]] = Counter()

    def add(self, meter: Meter, label: Callable[[str], str]) -> None:
        """label: of a reason why a message was bad."""
        counts = meter.bridge.counts
        if meter.ended not in (None, EndReason.TRANSFERRED):  # see `Metrics.note_transferred`
            self.calls[meter.carrier, meter.service, meter.ended] += 1
        self.frames[meter.carrier, "inbound"] += counts.from_carrier
        self.frames[meter.carrier, "outbound"] += counts.to_carrier
        for reason, n in counts.dropped.items():
            self.dropped[_DROPPED.get(reason, "unknown"), reason] += n
        for reason, n in counts.bad.items():
            self.bad[meter.carrier, label(reason)] += n

    def copy(self) -> _Sums:
        copy = _Sums()
        for mine, its in zip(vars(self).values(), vars(copy).values(), strict=True):
            its.update(mine)
        return copy


class Metrics(Collector):
    """The metrics of one node. Everything may be observed from callbacks in its event loop, and nowhere else."""

    def __init__(self) -> None:
        self.rejected: Counter[tuple[str, str]] = Counter()
        """(where, reason)"""
        self.registry_failures: Counter[tuple[str]] = Counter()
        """(reason,)"""
        self.resumes: Counter[tuple[str, str]] = Counter()
        """(cause, result)"""
        self._worker_ends: Counter[tuple[str, str]] = Counter()
        """(service, reason)"""
        self._known_ends: dict[str, tuple[int, Mapping[WorkerEnd, int]]] = {}
        """Per host: its epoch and what it said last. Hosts tell totals since they began. The first is the one that has
        been silent for longest."""
        self.dialouts: Counter[tuple[str, str]] = Counter()
        """(carrier, result)"""
        self.event_deliveries: Counter[tuple[str]] = Counter()
        """(result,)"""
        self.oldest_event: float | None = None
        """Unix seconds: when the oldest event that waits for an endpoint happened."""
        self.records: Background | None = None
        self.recordings: Background | None = None
        """Their writers; None: nothing of the kind is kept."""
        self.webhooks = Histograms(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
        """(carrier, outcome)"""
        self.claims = Histograms(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)
        """(outcome,)"""
        self.lag = Histogram(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
        self._first_audio = Histograms(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10)
        self._transit = Histograms(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
        self._playout = Histogram(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
        self._live: dict[Meter, None] = {}
        self._ended = _Sums()
        self._carrier_errors: set[str] = set()
        self._slots: Mapping[str, PoolCounts] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    # From the calls.

    @contextlib.contextmanager
    def call(self, carrier: str, service: str, bridge: Measured, now: float) -> Iterator[Meter]:
        """Measure a call until the end of the `with`. carrier, service: ours, never a stranger's word."""
        meter = Meter(carrier, service, bridge, now)
        self._live[meter] = None
        try:
            yield meter
        finally:
            del self._live[meter]
            self._note_first_audio(meter)
            self._ended.add(meter, self._bad_label)

    def note_transferred(self, carrier: str, service: str) -> None:
        """Count a transferred call."""
        self._ended.calls[carrier, service, EndReason.TRANSFERRED] += 1

    def timed(
        self, direction: str, deliver: Callable[[bytes, bool, float], None], data: bytes, text: bool, now: float
    ) -> None:
        """Pass one message of audio on, and time its way: decoded, transcoded and written to the other socket.

        deliver: `stream_received` or `link_received` of a bridge. Waiting to be read is not in it: that is the loop's
        lag.
        """
        began = time.perf_counter()
        deliver(data, text, now)
        self._transit.observe(time.perf_counter() - began, direction)

    def note_ends(self, host: str, epoch: int, service: str, ends: Mapping[WorkerEnd, int]) -> None:
        """A host's totals; what is new in them counts."""
        known, before = self._known_ends.pop(host, (epoch, {}))
        for how, count in ends.items():
            if (more := count - (before.get(how, 0) if known == epoch else 0)) > 0:
                self._worker_ends[service, how] += more
        if ends:
            self._known_ends[host] = epoch, ends
            forget_oldest(self._known_ends, MAX_HOSTS)

    def sample(self, now: float) -> None:
        """Once a second: what is not worth a thought in between."""
        for meter in self._live:
            self._note_first_audio(meter)
            if unplayed := meter.bridge.unplayed(now):
                self._playout.observe(unplayed)

    def _note_first_audio(self, meter: Meter) -> None:
        first = meter.bridge.counts.first_audio
        if first and not meter.heard:
            meter.heard = True
            self._first_audio.observe(max(0.0, first - meter.began), meter.carrier)

    def _bad_label(self, reason: str) -> str:
        """The label of a reason: ours as it is; a carrier's error number while there are not too many of them."""
        if not reason.startswith(CARRIER_ERROR) or reason in self._carrier_errors:
            return reason
        if len(self._carrier_errors) >= MAX_CARRIER_ERRORS:
            return CARRIER_ERROR
        self._carrier_errors.add(reason)
        return reason

    # To Prometheus.

    def expose(self, slots: Mapping[str, PoolCounts]) -> bytes:
        """Everything, in Prometheus' text format. slots: of each service's pool; none while the registry is away."""
        self._slots = slots
        return generate_latest(self._registry)

    def note_registry_failure(self, reason: str) -> None:
        """A question to the registry was not answered."""
        self.registry_failures[(reason,)] += 1

    def collect(self) -> Iterable[Metric]:
        """For `prometheus_client`."""
        sums = self._ended.copy()
        active: Counter[tuple[str, str]] = Counter()
        for meter in self._live:
            sums.add(meter, self._bad_label)
            active[meter.carrier, meter.service] += meter.ended is None
        yield from self._of_calls(sums, active)
        yield from self._of_audio(sums)
        yield from self._of_workers()
        yield from self._of_events()
        yield from _of_writer("records", "Records of calls", self.records, "failed is a try that is repeated")
        yield from _of_writer("recordings", "Recordings", self.recordings, "failed is made by the next start")
        yield _counter("rejected", "What was refused at the door.", ("where", "reason"), self.rejected.items())
        yield _histogram("event_loop_lag_seconds", "How late the 20 ms tick ran.", (), self.lag)

    def _of_calls(self, sums: _Sums, active: Counter[tuple[str, str]]) -> Iterator[Metric]:
        yield _gauge("calls_active", "Calls in progress.", ("carrier", "service_host"), active.items())
        yield _counter(
            "calls", "Calls that have ended, by EndReason.", ("carrier", "service_host", "outcome"), sums.calls.items()
        )
        yield _histogram(
            "webhook_seconds", "From a webhook's last byte to our answer.", ("carrier", "outcome"), self.webhooks
        )
        yield _counter("resumes", "Calls that lost a worker or a stream.", ("cause", "result"), self.resumes.items())
        yield _counter("dialout", "Calls that we placed.", ("carrier", "result"), self.dialouts.items())

    def _of_audio(self, sums: _Sums) -> Iterator[Metric]:
        yield _histogram(
            "first_audio_seconds", "From a stream's start to the first audio sent.", ("carrier",), self._first_audio
        )
        yield _histogram(
            "transit_seconds",
            f"From reading an audio message to writing it on; one in {TIMED_EVERY} is timed.",
            ("direction",),
            self._transit,
        )
        yield _counter("frames", "Audio messages from and to carriers.", ("carrier", "direction"), sums.frames.items())
        yield _counter("frames_dropped", "Audio messages lost here.", ("direction", "reason"), sums.dropped.items())
        yield _counter(
            "bad_messages",
            "Messages in streams that gave nothing, and carriers' errors.",
            ("carrier", "reason"),
            sums.bad.items(),
        )
        yield _histogram(
            "playout_seconds",
            "Audio not heard yet, sampled once a second from each call that has some.",
            (),
            self._playout,
        )

    def _of_events(self) -> Iterator[Metric]:
        yield _counter(
            "event_deliveries",
            "Attempts to deliver an event: delivered, retry (it waits for another), dead.",
            ("result",),
            self.event_deliveries.items(),
        )
        age = 0.0 if self.oldest_event is None else max(0.0, time.time() - self.oldest_event)
        yield _gauge(
            "events_oldest_pending_seconds",
            "Age of the oldest event that waits for an endpoint: the same on all nodes of a database.",
            (),
            [((), age)],
        )

    def _of_workers(self) -> Iterator[Metric]:
        yield _gauge(
            "worker_slots",
            "Workers and claims of a pool as the registry has them: the same on all nodes, do not add them up.",
            ("service_host", "state"),
            [
                ((host, state), getattr(slots, state))
                for host, slots in self._slots.items()
                for state in PoolCounts.__slots__
            ],
        )
        yield _histogram("claim_seconds", "One question for a slot to the registry.", ("outcome",), self.claims)
        yield _counter(
            "registry_failures",
            "Questions to the registry without an answer, or with one that makes no sense.",
            ("reason",),
            self.registry_failures.items(),
        )
        yield _counter(
            "worker_ends",
            "Workers that did not end in good order, as their hosts tell all nodes: do not add them up.",
            ("service_host", "reason"),
            self._worker_ends.items(),
        )


def forget_oldest(known: dict[str, Any], most: int) -> None:
    """Drop what was put in first, until there are no more than so many."""
    while len(known) > most:
        del known[next(iter(known))]


_Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]


def _of_writer(name: str, what: str, writer: Background | None, hint: str) -> Iterator[Metric]:
    waiting, results = (writer.waiting, writer.results) if writer is not None else (0, {})
    yield _gauge(f"{name}_waiting", f"{what} that are still to be written on this node.", (), [((), waiting)])
    counts = [((result,), count) for result, count in results.items()]
    yield _counter(name, f"{what} by what became of them; {hint}.", ("result",), counts)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = GaugeMetricFamily(f"gateway_{name}", text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = CounterMetricFamily(f"gateway_{name}", text, labels=labels)  # it adds the _total
    for key, value in values:
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], values: Histograms | Histogram) -> Metric:
    family = HistogramMetricFamily(f"gateway_{name}", text, labels=labels)
    for key, histogram in [((), values)] if isinstance(values, Histogram) else values:
        family.add_metric(key, histogram.buckets(), histogram.sum)
    return family
