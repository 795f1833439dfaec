from __future__ import annotations

from gateway.node.log_limiter import LogLimiter

KIND, OTHER = ("http", "unknown_path"), ("http", "no_upgrade")


def test_a_burst_and_then_so_many_a_second() -> None:
    limiter = LogLimiter(burst=2, per_second=0.1)
    assert [limiter.allow(KIND, 0.0) for _ in range(4)] == [0, 0, None, None]
    assert limiter.allow(KIND, 9.0) is None
    assert limiter.allow(KIND, 10.5) == 3, "those that were left out are told"
    assert limiter.allow(KIND, 10.6) is None


def test_each_kind_has_its_own() -> None:
    limiter = LogLimiter(burst=1, per_second=0.1)
    assert [limiter.allow(KIND, 0.0), limiter.allow(OTHER, 0.0), limiter.allow(KIND, 0.0)] == [0, 0, None]


def test_rest_gives_no_more_than_a_burst() -> None:
    limiter = LogLimiter(burst=2, per_second=1.0)
    assert limiter.allow(KIND, 0.0) == 0
    assert [limiter.allow(KIND, 1e6) for _ in range(3)] == [0, 0, None]
