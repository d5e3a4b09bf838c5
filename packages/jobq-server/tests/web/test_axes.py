"""What stands at the axes of the charts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobq_server.web.charts.axes import count_scale, duration_scale, time_ticks


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, "0, 1"),
        (1, "0, 1"),
        (3, "0, 1, 2, 3"),
        (7, "0, 2, 4, 6, 8"),
        (12, "0, 5, 10, 15"),
        (40, "0, 10, 20, 30, 40"),
        (41, "0, 20, 40, 60"),
        (12_345, "0, 5,000, 10k, 15k"),
        (9_000_000, "0, 5M, 10M"),
    ],
)
def test_numbers_of_jobs_stand_at_round_values(most: int, labels: str) -> None:
    scale = count_scale(most)
    assert ", ".join(tick.label for tick in scale.ticks) == labels
    assert scale.top >= most


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, "0, 1 ms"),
        (0.0031, "0, 1 ms, 2 ms, 3 ms, 4 ms"),
        (0.3, "0, 100 ms, 200 ms, 300 ms"),
        (1.7, "0, 500 ms, 1 s, 1.5 s, 2 s"),
        (9.2, "0, 5 s, 10 s"),
        (55, "0, 15 s, 30 s, 45 s, 1 min"),
        (100, "0, 30 s, 1 min, 1.5 min, 2 min"),
        (3_000, "0, 15 min, 30 min, 45 min, 1 h"),
        (5.5 * 3_600, "0, 2 h, 4 h, 6 h"),
        (40 * 3_600, "0, 12 h, 1 d, 1.5 d, 2 d"),
        (9 * 86_400, "0, 5 d, 10 d"),
    ],
)
def test_lengths_of_time_stand_at_round_values(most: float, labels: str) -> None:
    scale = duration_scale(most)
    assert ", ".join(tick.label for tick in scale.ticks) == labels
    assert scale.top >= most


@pytest.mark.parametrize(
    ("hours", "every", "labels"),
    [
        (1, 600, "23:10, 23:20, 23:30, 23:40, 23:50, 1 Dec, 00:10"),
        (24, 14_400, "04:00, 08:00, 12:00, 16:00, 20:00, 1 Dec"),
        (7 * 24, 86_400, "Wed, Thu, Fri, Sat, Sun, Mon, Tue"),
    ],
)
def test_times_stand_at_round_moments_of_utc(hours: int, every: int, labels: str) -> None:
    until = datetime(2026, 12, 1, 0, 10, tzinfo=UTC).astimezone()
    ticks = time_ticks(until - timedelta(hours=hours), until, every)
    assert ", ".join(tick.label for tick in ticks) == labels
    assert all(0 <= tick.share <= 1 for tick in ticks)


def test_a_time_stands_where_its_step_begins() -> None:
    since = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
    ticks = time_ticks(since, since + timedelta(hours=1), 900)
    assert [(tick.share, tick.label) for tick in ticks] == [
        (0.0, "12:00"),
        (0.25, "12:15"),
        (0.5, "12:30"),
        (0.75, "12:45"),
        (1.0, "13:00"),
    ]
