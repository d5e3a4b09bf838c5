"""The statements that add jobs, as a generator: the writer runs them, or a connection of the caller does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from jobq_core.states import JobState
from jobq_core.storage import GATED as GATED_REASON
from jobq_core.storage import WAITING_TOPIC, Added, NewJob, queue_topic
from jobq_core.timestamps import to_moment
from jobq_storage_sqlite.columns import from_ids, from_tags, to_array, to_id
from jobq_storage_sqlite.runs import FAILURE_FOLLOWED, FOLLOWED, GATED
from jobq_storage_sqlite.spans import APART, SPAN_SHIFT, Span, apart_name, span_at

PENDING, SCHEDULED, BLOCKED = JobState.PENDING.value, JobState.SCHEDULED.value, JobState.BLOCKED.value

NO_OPTIONS: Final = (None,) * 7
PLAIN_STATES: Final = (0, None, None, None, None)
"""The last columns of the rows of plain jobs, which their statements leave out."""

Step = tuple[str, Any]
"""A statement's name and its parameters: a list of rows for each of which it is run, or the values for one run."""


def steps_of_adding(
    jobs: Sequence[NewJob], first: int, now: int, topics: set[str], spans: set[Span]
) -> Generator[Step, Any, list[Added]]:
    """Yield the statements that store jobs, under the numbers from `first` on; adds the topics to notify to `topics`,
    and the spans to store to `spans`.

    A list of parameters is answered by the number of changed rows, other parameters by the rows read.
    """
    follow_ups: list[tuple[bytes, int]] = []
    rows, lives, plain = _rows(jobs, first, now, topics, spans, follow_ups)
    insert_job, insert_life = ("insert_plain_job", "insert_plain_life") if plain else ("insert_job", "insert_life")
    keyed = not plain and any([life[-1] is not None for life in lives])  # noqa: C419 -- a generator takes twice as long
    if keyed:
        added = yield from _resolve(jobs, now)
        rows = [row for row, answer in zip(rows, added, strict=True) if answer.created]
        if rows:
            yield insert_job, rows
    elif (yield insert_job, rows) == len(jobs):
        added = [Added(job.id, True) for job in jobs]
    else:
        new = {n for (n,) in (yield "find_inserted", (first,))}
        added = [Added(job.id, n in new) for n, job in enumerate(jobs, first)]
        rows = [row for row in rows if row[0] in new]
    if len(rows) < len(jobs):
        lives = [life for life, answer in zip(lives, added, strict=True) if answer.created]
    if lives:
        yield insert_life, lives
    if follow_ups:
        yield "store_follow_up", follow_ups  # a number that went to no job names none
    if keyed and (keys := [(life[1], life[-1], life[0]) for life in lives if life[-1] is not None]):
        yield "hold_key", keys
    for queue, state in {(life[1], life[4]) for life in lives}:
        if state != BLOCKED:
            topics.add(queue_topic(queue) if state == PENDING else WAITING_TOPIC)
    return added


def _resolve(jobs: Sequence[NewJob], now: int) -> Generator[Step, Any, list[Added]]:
    """Find out for which jobs another one stands: the same id, or the job that holds the same unique key."""
    known = {job_id for (job_id,) in (yield "find_ids", {"ids": from_ids(job.id for job in jobs)})}
    keys = [(job.queue, job.unique_key) for job in jobs if job.unique_key is not None]
    held = yield "find_key_holders", {"keys": to_array(keys), "now": now}
    holders = {keys[index]: job_id for index, job_id in held}
    added: list[Added] = []
    for job in jobs:
        job_id, key = job.id.bytes, (job.queue, job.unique_key)
        if job_id in known:
            added.append(Added(job.id, False))
        elif key in holders:
            added.append(Added(to_id(holders[key]), False))
        else:
            known.add(job_id)
            if job.unique_key is not None:
                holders[key] = job_id
            added.append(Added(job.id, True))
    return added


def _rows(
    jobs: Sequence[NewJob],
    first: int,
    now: int,
    topics: set[str],
    spans: set[Span],
    follow_ups: list[tuple[bytes, int]],
) -> tuple[list[Any], list[Any], bool]:
    """Return the rows of jobq_job and of jobq_life, and whether they are without what plain jobs do not have.

    Notes the jobs' spans, deadlines and follow-ups, too: in one loop, since all adds pass here.
    """
    plain, added = True, span_at(now)
    noted: tuple[str, str, int] | None = None
    rows: list[Any] = []
    lives: list[Any] = []
    for n, job in enumerate(jobs, first):
        state, reason, flags, tags = PENDING, None, 0, None
        run_at, deadline, priority, queue = job.run_at, job.deadline, job.priority, job.queue
        kind, number = job.kind, job.id.int
        # Mostly the same as of the job before.
        if (place := (queue, kind, number >> SPAN_SHIFT)) != noted:
            noted = place
            spans.add(("queue", queue, place[2]))
            spans.add(("kind", kind, place[2]))
            if abs(place[2] - added) > APART:
                spans.add(("apart", apart_name(added), place[2]))
        if job.tags:
            tags = from_tags(job.tags)
            spans.update([("tag", tag, place[2]) for tag in job.tags])
        if run_at is not None:
            run_at = to_moment(run_at, now)
        if deadline is not None:
            deadline = to_moment(deadline, now)
            topics.add(WAITING_TOPIC)
        if job.gated or job.followed:
            flags = GATED * job.gated + FOLLOWED * job.followed
        if job.follow_up is not None:
            flags += FAILURE_FOLLOWED
            follow_ups.append((job.follow_up, n))
        if run_at is not None and run_at > now:
            state, reason = SCHEDULED, "delayed"
        elif flags & GATED:
            state, reason, run_at = BLOCKED, GATED_REASON, None
        options = (deadline, job.timeout, job.backoff, job.run_id, tags, job.fingerprint, job.meta)
        states = (flags, run_at, deadline, reason, job.unique_key)
        plain = plain and options == NO_OPTIONS and states == PLAIN_STATES
        rows.append((n, number.to_bytes(16), kind, priority, job.arguments, now, job.max_attempts, *options))
        lives.append((n, queue, -priority, n, state, now, *states))
    if plain:
        rows, lives = [row[: -len(NO_OPTIONS)] for row in rows], [life[: -len(PLAIN_STATES)] for life in lives]
    return rows, lives, plain
