"""Why a PENDING job has not started."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from jobq_core.records import JobRecord
from jobq_core.why.facts import AHEAD, LAG_SECONDS, Facts, Reason, say_span, say_time


def explain_pending(record: JobRecord, facts: Facts) -> Reason:
    """Return what keeps a PENDING job from starting."""
    if record.deadline is not None and record.deadline <= facts.now:
        return Reason(
            "past-deadline",
            f"its deadline passed at {say_time(record.deadline)}: it fails in a moment",
            record.deadline,
        )
    return next(_keeps_from_starting(record, facts))


def _keeps_from_starting(record: JobRecord, facts: Facts) -> Iterator[Reason]:
    """Yield what keeps a PENDING job from starting, the first cause first."""
    queue = record.queue
    for each in facts.queues:
        if each.name == queue and each.paused_at is not None:
            by = f" by {each.paused_by}" if each.paused_by else ""
            yield Reason(
                "queue-paused",
                f"queue {queue!r} was paused{by} at {say_time(each.paused_at)}; to resume it: jobq resume {queue}",
                each.paused_at,
            )
    serving = facts.serving(queue)
    if not serving:
        yield _unserved(queue, facts)
    slots = sum(worker.slots for worker in serving)
    busy = sum(worker.stats.running for worker in serving)
    ahead = _ahead(record, facts)
    if slots == 0:
        yield Reason("no-slots", f"the workers of queue {queue!r} have no slots: they were scaled to 0")
    if not any(record.kind in worker.info.kinds for worker in serving):
        yield Reason(
            "kind-not-served",
            f"no live worker of queue {queue!r} knows the kind {record.kind!r}: deploy one that declares it{ahead}",
        )
    blocked = [worker for worker in serving if worker.stats.loop_lag >= LAG_SECONDS]
    if len(blocked) == len(serving):
        yield Reason("loop-blocked", f"the loop of worker {blocked[0].info.name!r} is blocked: see its log{ahead}")
    limited = [worker for worker in serving if worker.stats.limited is not None]
    if len(limited) == len(serving):
        first = min(limited, key=lambda worker: worker.stats.limited or 0.0)
        yield Reason(
            "limited",
            f"the limiter of worker {first.info.name!r} opens in {say_span(first.stats.limited or 0.0)}{ahead}",
        )
    if busy >= slots:
        named = "the worker" if len(serving) == 1 else f"the {len(serving)} workers"
        yield Reason("slots-busy", f"all {slots:,} slots of {named} of queue {queue!r} are busy{ahead}")
    if facts.ahead:
        count = f"more than {AHEAD:,}" if facts.ahead >= AHEAD else f"{facts.ahead:,}"
        verb = "job is" if facts.ahead == 1 else "jobs are"
        yield Reason(
            "in-line",
            f"{count} {verb} ahead of it in queue {queue!r}, and {slots - busy:,} of {slots:,} slots are free",
        )
    if not any(worker.stats.hears for worker in serving):
        yield Reason(
            "polling", f"it is next in queue {queue!r}; its workers receive no notifications and look every second"
        )
    yield Reason(
        "next", f"it is next in queue {queue!r} and starts in a moment: {slots - busy:,} of {slots:,} slots are free"
    )


def _unserved(queue: str, facts: Facts) -> Reason:
    lost = [worker for worker in facts.workers if queue in worker.info.queues]
    if lost:
        last = max(lost, key=lambda worker: worker.expires_at)
        silent = say_span(facts.now - last.beat_at)
        return Reason(
            "worker-lost",
            f"the last worker of queue {queue!r}, {last.info.name!r}, has been silent for {silent}: start a worker",
        )
    if not facts.alive:
        return Reason("no-worker", f"no worker is alive: start one that serves queue {queue!r}")
    served = sorted({name for worker in facts.alive for name in worker.info.queues})
    close = get_close_matches(queue, served, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return Reason("queue-not-served", f"no live worker serves queue {queue!r}{meant}")


def _ahead(record: JobRecord, facts: Facts) -> str:
    if not facts.ahead:
        return ""
    count = f"more than {AHEAD:,}" if facts.ahead >= AHEAD else f"{facts.ahead:,}"
    return f", and {count} {'job is' if facts.ahead == 1 else 'jobs are'} ahead of it"
