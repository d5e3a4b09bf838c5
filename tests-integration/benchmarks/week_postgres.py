"""Write a week of jobs into a PostgreSQL database as jobq would leave it: millions that finished and many that wait."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import psycopg

STATEMENT: Final = Path(__file__).with_suffix(".sql")
CHUNK: Final = 200_000
"""Jobs that one statement writes."""
FEW: Final = 100_000
"""With fewer finished jobs, only a twentieth of the history of statistics and depths is written."""
MINUTE: Final = 60_000
DAY: Final = 86_400_000
"""In milliseconds."""

PARTITIONS: Final = """
SELECT jobq.make_partition(date_trunc('week', now() AT TIME ZONE 'UTC')::date - 7 * weeks, 1)
FROM unnest(ARRAY[2, 1]) AS weeks
"""
COUNTS: Final = """
WITH counted AS (DELETE FROM jobq.tally RETURNING *)
INSERT INTO jobq.tally (finished, queue, kind, state)
SELECT sum(finished)::bigint, queue, kind, state FROM counted GROUP BY queue, kind, state
"""
LEASES: Final = "SELECT setval('jobq.lease', (SELECT max(lease) FROM jobq.running))"
LINES: Final = "INSERT INTO jobq.line (queue, rank) SELECT DISTINCT queue, rank FROM jobq.ready"
STATISTICS: Final = """
INSERT INTO jobq.statistic (step, start, queue, kind, state, jobs, waited, ran, waiting, running)
SELECT k.step, date_bin(make_interval(secs => k.step), now(), 'epoch') - make_interval(secs => k.step * n),
    'queue' || q, 'kind' || q || '.' || d, s.state, 100, 12.5, 80.25, h.waiting, h.running
FROM (VALUES (60, 1440), (600, 432), (3600, 720)) AS k(step, steps)
CROSS JOIN LATERAL generate_series(1, k.steps / %(part)s) AS n
CROSS JOIN generate_series(0, 7) AS q
CROSS JOIN generate_series(0, 2) AS d
CROSS JOIN (VALUES ('completed', 12, 1), ('failed', 6, 1), ('aborted', 3, 3)) AS s(state, buckets, every)
CROSS JOIN LATERAL (
    SELECT json_object_agg(b, b) AS waiting, json_object_agg(b + 6, b) AS running
    FROM generate_series(3, 2 + s.buckets) AS b
) h
WHERE k.step > 60 OR (n + q + d) %% s.every = 0
"""
"""Of each step, queue and kind three states, of which one is seldom in a minute."""
TOGETHER: Final = """
INSERT INTO jobq.statistic (step, start, queue, kind, state, jobs, waited, ran, waiting, running)
SELECT step, start, '', '', state, sum(jobs), sum(waited), sum(ran), (array_agg(waiting))[1], (array_agg(running))[1]
FROM jobq.statistic
GROUP BY step, start, state
"""
DEPTHS: Final = """
INSERT INTO jobq.depth_point (step, start, at, queues, states, jobs, oldest)
SELECT k.step, t.start, t.start + make_interval(secs => k.step - 5), a.queues, a.states, a.jobs,
    array_fill(t.start, ARRAY[cardinality(a.jobs)])
FROM (VALUES (60, 1440), (600, 432), (3600, 720)) AS k(step, steps)
CROSS JOIN LATERAL generate_series(1, k.steps / %(part)s) AS n
CROSS JOIN LATERAL (
    SELECT date_bin(make_interval(secs => k.step), now(), 'epoch') - make_interval(secs => k.step * n) AS start
) t
CROSS JOIN (
    SELECT array_agg('queue' || q) AS queues, array_agg(state) AS states, array_agg(1000 + q) AS jobs
    FROM generate_series(0, 7) AS q, unnest(ARRAY['pending', 'processing', 'scheduled', 'blocked', 'disabled']) AS state
) a
"""
WORKERS: Final = """
INSERT INTO jobq.worker (
    id, started_at, beat_at, expires_at, lost_after, pid, concurrency, name, host, queues, kinds
)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, now(), now(), now() + interval '30 days', 30,
    1000 + n, 50, 'worker-' || n, 'host' || n / 4, ARRAY['queue' || n % 8, 'queue' || (n + 1) % 8],
    ARRAY(SELECT 'kind' || q || '.' || d FROM generate_series(0, 7) AS q, generate_series(0, 2) AS d)
FROM generate_series(0, 19) AS n
"""
"""Live ones, of which no heartbeat is needed while pages are read."""
AUDIT: Final = """
INSERT INTO jobq.audit (id, at, actor, action, target)
SELECT gen_random_uuid(), now() - n * interval '1 minute', 'operator', 'pause', 'queue' || n % 8
FROM generate_series(1, 1000) AS n
"""
OPERATIONS: Final = """
INSERT INTO jobq.operation (
    id, before, created_at, worked_at, finished_at, matched, done, changed, refused, action, filter, actor, state
)
SELECT gen_random_uuid(), gen_random_uuid(), now() - n * interval '1 hour', now() - n * interval '1 hour',
    now() - n * interval '1 hour', 100, 100, 100, 0, 'retry', '{"states": ["failed"]}', 'operator', 'done'
FROM generate_series(1, 100) AS n
"""


def write_week(url: str, finished: int, waiting: int, *, oldest: bool) -> None:
    """Write jobs into an empty schema of jobq.

    oldest: whether the jobs that wait are older than those that finished, instead of newer.
    """
    now = time.time() * 1000
    parts = [(False, waiting, now - 8 * DAY, now - 7 * DAY), (True, finished, now - 7 * DAY, now - MINUTE)]
    if not oldest:
        parts = [(True, finished, now - 7 * DAY, now - 60 * MINUTE), (False, waiting, now - 60 * MINUTE, now - MINUTE)]
    history = {"part": 1 if finished >= FEW else 20}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(PARTITIONS)
        first = 1
        for is_finished, count, low, high in parts:
            _write_jobs(connection, first, count, low, high, is_finished)
            first += count
        for statement in (STATISTICS, DEPTHS):
            connection.execute(statement, history)  # type: ignore[arg-type]
        for statement in (COUNTS, LEASES, LINES, TOGETHER, WORKERS, AUDIT, OPERATIONS):
            connection.execute(statement)  # type: ignore[arg-type]
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _write_jobs(
    connection: psycopg.Connection[Any], first: int, count: int, low: float, high: float, finished: bool
) -> None:
    """Write jobs that were added evenly between two times, chunk by chunk."""
    text = STATEMENT.read_text()
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        chunk = {
            "first": first + start,
            "count": size,
            "low": low + (high - low) * start / count,
            "high": low + (high - low) * (start + size) / count,
            "finished": finished,
        }
        connection.execute(text, chunk)  # type: ignore[arg-type]
