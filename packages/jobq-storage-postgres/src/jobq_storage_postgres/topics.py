"""The topics that changes concern."""

from __future__ import annotations

from collections.abc import Sequence

from jobq_core.states import JobState
from jobq_core.storage import (
    FINISHED_TOPIC,
    REQUEST_TOPIC,
    WAITING_TOPIC,
    Change,
    NewJob,
    blocked_topic,
    queue_topic,
)


def topics_of(jobs: Sequence[NewJob]) -> set[str]:
    """Return the topics that new jobs concern."""
    topics: set[str] = set()
    for job in jobs:
        topics.add(queue_topic(job.queue))
        if job.run_at is not None or job.deadline is not None:
            topics.add(WAITING_TOPIC)
    return topics


def topics_of_change(change: Change, queue: str | None) -> set[str]:
    """Return the topics that the change of a job of this queue concerns."""
    if change.asked:
        return {REQUEST_TOPIC}
    if change.altered and change.after is JobState.BLOCKED:
        # It may wait for a worker that can run it, or for `admit`.
        return {blocked_topic(queue or ""), WAITING_TOPIC}
    if change.altered and change.after is JobState.DISABLED:
        return set()
    if change.before is change.after and not change.altered:
        return set()
    if change.after is None:
        return {FINISHED_TOPIC, REQUEST_TOPIC} if change.before is JobState.PROCESSING else {FINISHED_TOPIC}
    return {topic_of_state(change.after, queue or "")}


def topic_of_state(state: JobState, queue: str) -> str:
    """Return the topic that concerns a job of this queue which has come to this state."""
    if state is JobState.PENDING:
        return queue_topic(queue)
    return WAITING_TOPIC if state in (JobState.SCHEDULED, JobState.BLOCKED) else FINISHED_TOPIC
