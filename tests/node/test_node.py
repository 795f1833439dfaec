"""What a node keeps of hosts, which have a new name each time that they start."""

from __future__ import annotations

import pytest

from gateway.metrics import MAX_HOSTS
from gateway.node.node import Node
from gateway.serve.app import make_node
from gateway.settings import Settings


@pytest.fixture
def node() -> Node:
    return make_node(Settings(public_url="http://127.0.0.1:1"), dev=True)


def test_the_most_that_a_host_has_had_ready(node):
    for ready in (1, 3, 2):
        node.note_ready("h1", ready)
    assert node.peak_ready == {"h1": 3}


def test_hosts_that_left_are_forgotten_after_many_others_but_not_the_rest(node):
    node.note_ready("stays", 5)
    for n in range(3 * MAX_HOSTS):
        node.note_ready(f"h{n}", 1)
        node.note_ready("stays", 0)
    assert node.peak_ready["stays"] == 5
    assert len(node.peak_ready) == MAX_HOSTS
    assert "h0" not in node.peak_ready
