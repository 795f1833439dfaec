"""The faults that we promise to bear, and the tests that show it. A row without a test, or with one that is gone or
skipped, fails. `pytest -s` prints what `make` runs each test.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent

FAULTS = {
    "a worker dies idle": ["admission/test_deaths.py::test_workers_killed_idle_are_never_met_by_the_next_100_calls"],
    "a worker dies mid-call": [
        "cluster/test_losses.py::test_worker_dies_mid_call",
        "cluster/test_haproxy.py::test_half_the_workers_are_killed",
        "sessions/test_session.py::test_a_link_that_breaks_is_dialled_again",
    ],
    "a worker hangs, or is slow": [
        "cluster/test_losses.py::test_worker_hangs_mid_call",
        "worker/test_host.py::test_a_stopped_worker_is_killed_and_replaced",
        "media/test_bridge.py::test_a_link_unheard_for_five_seconds_gets_no_more_audio",
        "media/test_bridge.py::test_a_bot_that_does_not_read_is_not_buried_in_audio",
    ],
    "a worker host is short of processes, memory or descriptors": [
        "worker/test_fork_server.py::test_it_outlives_a_fork_that_fails_and_says_why",
        "worker/test_fork_server.py::test_a_request_whose_channel_was_lost_is_answered",
        "worker/test_fleet.py::test_a_fork_that_fails_is_said_and_tried_again",
        "worker/test_fleet.py::test_without_descriptors_it_tries_again_later",
    ],
    "a fork server dies, or hangs": [
        "worker/test_host.py::test_a_fork_server_that_is_killed_is_replaced_and_calls_go_on",
        "worker/test_fleet.py::test_a_fork_server_that_hangs_is_replaced",
    ],
    "a bug in what one call does by the clock": [
        "media/test_ticker.py::test_a_member_that_fails_once_goes_on_and_is_said",
        "sessions/test_session.py::test_a_call_whose_clock_only_fails_ends",
    ],
    "a bot raises": [
        "sessions/test_session.py::test_a_bot_that_raises_is_replaced_and_its_successor_has_its_state",
        "sessions/test_session.py::test_a_call_that_kills_its_bots_is_not_given_one_after_another",
    ],
    "a bot sends 30 s of speech at once": [
        "acceptance/test_bot_api.py::test_thirty_seconds_at_once",
        "media/test_bridge.py::test_a_clear_silences_the_carrier_and_says_what_was_dropped",
    ],
    "a half-open carrier": [
        "media/test_bridge.py::test_a_carrier_that_does_not_answer_is_dead",
        "media/test_relay.py::test_a_carrier_that_neither_sends_nor_answers_is_dead_after_15_seconds",
    ],
    "a half-open link": [
        "media/test_bridge.py::test_a_link_is_pinged_every_second_and_dead_after_ten",
        "media/test_keepalive.py::test_a_link_is_asked_every_second_slow_after_five_and_dead_after_ten",
        "sessions/test_worker_search.py::test_after_an_unanswering_worker_the_next_is_sought_on_another_host",
    ],
    "a half-open peer": ["cluster/test_haproxy.py::test_gateway_in_a_black_hole"],
    "a gateway dies": [
        "cluster/test_losses.py::test_gateway_dies_mid_call",
        "cluster/test_haproxy.py::test_gateway_is_killed",
        "cluster/test_haproxy.py::test_gateway_hangs",
    ],
    "Redis restarts empty": [
        "pool/redis/test_faults.py::test_the_server_is_killed_and_starts_empty",
        "pool/redis/test_faults.py::test_the_server_forgets_everything",
        "cluster/test_losses.py::test_registry_forgets_all_between_two_deaths",
        "sessions/test_facts_sync.py::test_a_registry_that_was_away_for_anybody_is_told_before_the_next_beat",
    ],
    "Redis hangs": ["pool/redis/test_faults.py::test_the_server_hangs_for_longer_than_a_lease"],
    "Redis is cut off": [
        "sessions/test_hold.py::test_a_registry_that_is_down_gives_busy",
        "sessions/test_hold.py::test_a_call_on_hold_when_the_registry_goes_down_is_held_on",
        "sessions/test_worker_search.py::test_a_caller_who_waits_for_a_worker_outlasts_a_registry_outage",
        "sessions/test_worker_search.py::test_a_call_that_loses_its_worker_in_an_outage_gets_the_next",
        "streams/test_admission.py::test_a_stream_that_our_own_answer_asked_for_waits_out_an_outage",
    ],
    "a webhook is sent twice, at once, to two nodes": [
        "cluster/test_balanced.py::test_duplicate_webhooks_on_two_nodes"
    ],
    "Plivo repeats a nonce": [
        "acceptance/test_refusals.py::test_plivo_same_bytes_again_same_answer",
        "acceptance/test_refusals.py::test_plivo_nonce_with_other_bytes",
    ],
    "a stream without a valid token": [
        "streams/test_handshake.py::test_a_stream_without_a_valid_token_is_refused_before_the_handshake",
        "streams/test_handshake.py::test_of_two_streams_with_one_token_at_once_one_is_served",
        "cluster/test_balanced.py::test_token_replayed_on_the_other_node",
    ],
    "start never comes": ["streams/test_handshake.py::test_no_start_closes_1008_and_the_url_works_again"],
    "malformed, unknown, binary": [
        "streams/test_handshake.py::test_no_bad_message_after_start_ends_a_call",
        "streams/test_handshake.py::test_five_unintelligible_messages_in_a_row_close_1003",
        "serializers/test_commands.py::test_no_json_raises",
    ],
    "an oversized message": ["streams/test_handshake.py::test_an_oversized_message_closes_1009"],
    "a forged signature": ["acceptance/test_refusals.py::test_one_byte_changed"],
    "a burst of calls": ["admission/test_crowd.py::test_a_full_pool_refuses_or_forwards_exactly_the_rest"],
    "a replayed token, or a bad handshake with it": [
        "streams/test_handshake.py::test_a_spent_token_closes_1008_and_leaves_the_honest_call_alone",
        "streams/test_handshake.py::test_a_start_that_names_another_call_closes_1008_and_spares_the_url",
    ],
    "a newer stream takes the session": [
        "cluster/test_balanced.py::test_newer_stream_while_the_older_lives",
        "cluster/test_balanced.py::test_older_stream_after_a_newer",
        "sessions/test_session.py::test_a_link_closed_as_superseded_neither_claims_nor_hangs_up",
    ],
    "a static worker whose renewal is lost": [
        "pool/test_registry.py::test_a_static_worker_with_a_lost_claim_returns_after_busy_and_ready"
    ],
    "a double release, late callbacks": [
        "pool/test_registry.py::test_a_release_frees_the_slot_and_is_idempotent",
        "pool/test_facts.py::test_the_order_of_events_does_not_matter",
        "pool/test_interleavings.py::test_in_memory",
    ],
    "clock skew": ["acceptance/test_refusals.py::test_telnyx_clock_askew_within_the_window"],
    # Bugs of others that we keep from having.
    "a hang-up event that arrives before its call": [
        "acceptance/test_answers.py::test_a_call_that_has_ended_is_hung_up"
    ],
    "XML issued and never used": [
        "sessions/test_preconnect.py::test_a_link_whose_caller_never_comes_is_closed_with_its_claim"
    ],
    "a caller transferred by the bot's own REST": [
        "cluster/test_balanced.py::test_transfer_made_elsewhere_is_never_hung_up"
    ],
}


NOT_IN_MAKE_TEST = {"a half-open peer": {"cluster"}}
"""All tests of these are marked so, and run by `make cluster-test`."""
ON_DEMAND = frozenset({"cluster", "slow"})
SKIPPING = frozenset({"skip", "skipif", "xfail"})

Cases = dict[str, list[frozenset[str]]]
"""By `file::test`: the marks of each of its cases."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where this file is a plugin: of the pytest that `cases` starts. Before any item is deselected."""
    for item in items:
        file, name, *_ = item.nodeid.split("::")
        marks = sorted({mark.name for mark in item.iter_markers()})
        print(json.dumps({"test": f"{file}::{name.partition('[')[0]}".removeprefix("tests/"), "marks": marks}))


@pytest.fixture(scope="module")
def cases() -> Cases:
    """As pytest itself collects them, whatever this run of it was asked for."""
    files = sorted({f"tests/{test.partition('::')[0]}" for tests in FAULTS.values() for test in tests})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-s", "-p", __name__, *files],
        capture_output=True, text=True, cwd=HERE.parent, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: Cases = defaultdict(list)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            said = json.loads(line)
            found[said["test"]].append(frozenset(said["marks"]))
    return dict(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_tested(fault: str, cases: Cases) -> None:
    assert FAULTS[fault]
    for test in FAULTS[fault]:
        assert test in cases, f"there is no {test}"
        assert not any(marks & SKIPPING for marks in cases[test]), f"{test} may be skipped"
        text = (HERE / test.partition("::")[0]).read_text()
        assert not re.search(r"pytest\.(skip|importorskip|xfail)\b", text), f"{test} may be skipped"


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_tested_by_make_test_or_it_is_said_by_what(fault: str, cases: Cases) -> None:
    runs = {test: min((marks & ON_DEMAND for marks in cases[test]), key=len) for test in FAULTS[fault]}
    for test, marks in runs.items():
        print(f"{fault}: {test} ({', '.join(marks) or 'make test'})")
    marked = set().union(*runs.values()) if all(runs.values()) else set()
    assert marked == NOT_IN_MAKE_TEST.get(fault, set())
