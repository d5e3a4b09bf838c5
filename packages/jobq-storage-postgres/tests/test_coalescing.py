"""Which notifications are left out, and how long the server delays one; as a table, without a clock."""

from __future__ import annotations

import itertools

import pytest

from jobq_storage_postgres.coalescing import BURST_SECONDS, GAP_SECONDS, MAX_RECENT, STEADY_GAP_SECONDS, Coalescer


def test_the_first_notification_takes_effect_at_once_and_covers_nothing_later() -> None:
    coalescer = Coalescer()
    assert coalescer.send(["a"], 100.0, delayed=True) == ({"a"}, 0.0)
    assert not coalescer.covers(["a"], 100.0)


def test_a_delayed_notification_covers_what_is_committed_until_it_is_sent() -> None:
    coalescer = Coalescer()
    coalescer.send(["a"], 100.0, delayed=True)
    topics, delay = coalescer.send(["a"], 100.0005, delayed=True)
    assert topics == {"a"}
    assert delay == pytest.approx(GAP_SECONDS - 0.0005)
    assert coalescer.covers(["a"], 100.0005 + delay)
    assert not coalescer.covers(["a"], 100.0005 + delay + 0.0001)
    assert not coalescer.covers(["a", "b"], 100.001), "it does not name this topic"
    coalescer.lost()
    assert not coalescer.covers(["a"], 100.001)


def test_a_topic_that_a_delayed_notification_does_not_name_gets_one_at_once_and_is_named_by_the_next() -> None:
    coalescer = Coalescer()
    coalescer.send(["a"], 100.0, delayed=True)
    _, delay = coalescer.send(["a"], 100.0, delayed=True)
    assert coalescer.send(["b"], 100.001, delayed=True) == ({"b"}, 0.0)
    assert coalescer.covers(["a"], 100.001), "the delayed one is still under way"
    topics, _ = coalescer.send(["a"], 100.0 + delay + 0.0001, delayed=True)
    assert topics == {"a", "b"}
    topics, _ = coalescer.send(["a"], 101.0, delayed=True)
    assert topics == {"a"}, "the other topic has not changed for long"


def test_without_a_free_connection_nothing_is_delayed() -> None:
    coalescer = Coalescer()
    coalescer.send(["a"], 100.0, delayed=True)
    assert coalescer.send(["a"], 100.0001, delayed=False) == ({"a"}, 0.0)


def test_a_flood_sends_at_the_steady_pace_after_its_burst() -> None:
    coalescer = Coalescer()
    now, sent = 100.0, []
    while now < 103.0:
        if not coalescer.covers(["a"], now):
            _, delay = coalescer.send(["a"], now, delayed=True)
            sent.append(now + delay)
        now += 0.0003
    assert min(b - a for a, b in itertools.pairwise(sent)) >= GAP_SECONDS * 0.99
    assert len(sent) <= (3.0 + BURST_SECONDS) / STEADY_GAP_SECONDS + 2
    assert len(sent) >= 3.0 / STEADY_GAP_SECONDS / 2
    _, delay = coalescer.send(["a"], now + 1, delayed=True)
    assert delay == 0.0, "after the flood the first one takes effect at once"


def test_a_flood_over_many_topics_delays_none_for_long_and_names_a_bounded_number() -> None:
    coalescer = Coalescer()
    for n in range(5000):
        topics, delay = coalescer.send([f"queue {n}"], 100.0 + n * 0.0001, delayed=True)
        assert len(topics) <= MAX_RECENT + 1
        assert 0.0 <= delay <= STEADY_GAP_SECONDS
