"""Why a job is in its state: one function for each state."""

from __future__ import annotations

from datetime import datetime

from jobq_core.errors import WorkerLostError
from jobq_core.job_audit import operation_of
from jobq_core.records import JobRecord, deadline_passed, type_name
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import GATED, UNFIT_ARGUMENTS, UNKNOWN_KIND, AuditEntry
from jobq_core.why.facts import LAG_SECONDS, PROMOTED_SECONDS, Facts, Reason, say_span, say_time
from jobq_core.why.in_line import explain_pending


def explain(record: JobRecord, facts: Facts) -> Reason:
    """Return the reason of a job's state, from what is known of it and of the workers."""
    judge = {
        JobState.SCHEDULED: _scheduled,
        JobState.BLOCKED: _blocked,
        JobState.DISABLED: _disabled,
        JobState.PENDING: explain_pending,
        JobState.PROCESSING: _processing,
        JobState.COMPLETED: _completed,
        JobState.FAILED: _failed,
        JobState.ABORTED: _aborted,
    }[record.state]
    return judge(record, facts)


def _scheduled(record: JobRecord, facts: Facts) -> Reason:
    at = record.run_at
    if at is None:
        return Reason("scheduled", "it waits for a time that is not known")
    late = (facts.now - at).total_seconds()
    if late > 0:
        if not facts.alive:
            return Reason(
                "no-maintenance", f"it has been due since {say_time(at)}, and no worker is alive to start it", at
            )
        if late > PROMOTED_SECONDS:
            return Reason(
                "not-promoted",
                f"it was due {say_span(late)} ago, at {say_time(at)}, and no worker has started it: see their logs",
                at,
            )
        return Reason("due", f"it was due {say_span(late)} ago and starts in a moment", at)
    when = f"{say_time(at)} (in {say_span(-late)})"
    if record.deadline is not None and record.deadline < at:
        return Reason(
            "deadline-first", f"it starts at {when}, and fails first: its deadline is {say_time(record.deadline)}"
        )
    if record.reason == "backoff":
        # A job that goes on has its errors in its attempts.
        last = record.attempts[-1].error if record.attempts else record.error
        error = "" if last is None else f" with {last.type}"
        return Reason(
            "backoff",
            f"attempt {record.attempt} of {record.max_attempts} failed{error}; the next one starts at {when}",
            at,
        )
    if record.reason == "snoozed":
        return Reason("snoozed", f"its handler asked to go on at {when}", at)
    entry = _last(facts, "reschedule", "run-now")
    is_so = entry is not None and (operation_of(entry) is not None or entry.details == at.isoformat())
    by = f", rescheduled {_by(entry)}" if entry is not None and is_so else ""
    return Reason("delayed", f"it is delayed until {when}{by}", at)


def _blocked(record: JobRecord, facts: Facts) -> Reason:
    until = "" if record.run_at is None else f", until {say_time(record.run_at)} at the latest"
    if record.reason == UNKNOWN_KIND:
        knowing = [worker for worker in facts.serving(record.queue) if record.kind in worker.info.kinds]
        if knowing:
            name = knowing[0].info.name
            return Reason(
                "kind-known-again", f"worker {name!r} knows its kind {record.kind!r} and frees it at its next claim"
            )
        return Reason(
            "unknown-kind",
            f"no live worker of queue {record.queue!r} knows the kind {record.kind!r}: deploy one that declares it",
        )
    if record.reason == UNFIT_ARGUMENTS:
        return Reason(
            "unfit-arguments",
            f"its arguments do not fit the declaration of {record.kind!r} on any worker: deploy one that takes them",
        )
    if record.reason == GATED:
        return Reason("gated", f"it waits to be admitted{until}", record.run_at)
    return Reason(
        "held-back", f"its worker holds it back: {record.reason or 'it gave no reason'}{until}", record.run_at
    )


def _disabled(record: JobRecord, facts: Facts) -> Reason:
    entry = _last(facts, "disable", "enable")
    if entry is not None:
        said = f"it was disabled {_by(entry)}"
    elif record.reason in (None, "disabled"):
        said = "it was disabled" + (f" at {say_time(record.since)}" if record.since else "")
    else:
        said = f"its handler disabled it: {record.reason}"
    return Reason("disabled", f"{said}; to let it run: jobq enable {record.id}", record.since)


def _processing(record: JobRecord, facts: Facts) -> Reason:
    worker = next((worker for worker in facts.workers if worker.info.id == record.worker), None)
    name = repr(worker.info.name) if worker is not None else str(record.worker)
    if worker is None or not worker.is_alive(facts.now):
        silent = (
            "is not registered any more"
            if worker is None
            else (f"has missed its heartbeat for {say_span(facts.now - worker.beat_at)}")
        )
        rescue = "a live worker rescues it within 5 s" if facts.alive else "no worker is alive to rescue it: start one"
        return Reason("rescue", f"its worker {name} {silent}; {rescue}")
    span = None if record.started_at is None else say_span(facts.now - record.started_at)
    still = f"its handler is still running on {name}" + ("" if span is None else f" after {span}")
    if worker.stats.loop_lag >= LAG_SECONDS:
        return Reason(
            "worker-blocked",
            f"the loop of its worker {name} has not answered for {say_span(worker.stats.loop_lag)}: see its log",
        )
    if record.stop_request is StopRequest.ABORT:
        by = _asked_by(_last(facts, "abort", "retry"), facts)
        return Reason("aborting", f"it was asked to abort{by}, and {still}")
    if record.stop_request is StopRequest.DISABLE:
        by = _asked_by(_last(facts, "disable", "enable"), facts)
        return Reason("disabling", f"it was asked to stop and to be disabled{by}, and {still}")
    if record.id in worker.stats.awaiting_process:
        waited = "waits" if span is None else f"has waited for {span}"
        return Reason(
            "no-process",
            f"it {waited} for a handler process of {name}, as of {say_span(facts.now - worker.beat_at)} ago: "
            "all are busy or starting (see process_limit)",
        )
    if _is_over(record, facts.now):
        return Reason(
            "hung",
            f"its handler is still running past its timeout of {say_span(record.timeout or 0.0)} on {name}: "
            f"jobq workers drain {worker.info.name}",
        )
    runs = f"is running on {name}" if span is None else f"has been running on {name} for {span}"
    return Reason("running", f"it {runs}, attempt {record.attempt} of {record.max_attempts}{_progress(record)}")


def _is_over(record: JobRecord, now: datetime) -> bool:
    """Whether a run goes on for a good while after its timeout."""
    if record.timeout is None or record.started_at is None:
        return False
    return (now - record.started_at).total_seconds() > record.timeout + PROMOTED_SECONDS


def _progress(record: JobRecord) -> str:
    progress = record.progress
    shown = [f"{progress.percent:g} %"] if progress.percent else []
    shown += [progress.message] if progress.message else []
    return f": {' '.join(shown)}" if shown else ""


def _completed(record: JobRecord, facts: Facts) -> Reason:
    ran = ""
    if record.started_at is not None and record.finished_at is not None:
        ran = f" after {say_span(record.finished_at - record.started_at)}"
    return Reason("completed", f"it completed{_at(record)}{ran}, in attempt {record.attempt}", record.finished_at)


def _failed(record: JobRecord, facts: Facts) -> Reason:
    error = record.error
    at = _at(record)
    if error is None:
        return Reason("failed", f"it failed{at}", record.finished_at)
    if error == deadline_passed():
        again = f" again, after {record.attempt} of {record.max_attempts} attempts" if record.attempt else ""
        return Reason(
            "deadline-passed", f"it failed{at}: its deadline passed before it could start{again}", record.finished_at
        )
    with_ = f"with {error.type}: {error.message}" if error.message else f"with {error.type}"
    if error.type == type_name(WorkerLostError) and record.attempt >= record.max_attempts:
        return Reason("worker-lost-last", f"it failed{at}: its worker was lost in its last attempt", record.finished_at)
    if record.attempt >= record.max_attempts:
        spent = "its only attempt" if record.max_attempts == 1 else f"the last of {record.max_attempts} attempts"
        return Reason("attempts-spent", f"it failed{at} in {spent}, {with_}", record.finished_at)
    return Reason(
        "permanent-error",
        f"it failed{at} in attempt {record.attempt} of {record.max_attempts}, and is not retried, {with_}",
        record.finished_at,
    )


def _aborted(record: JobRecord, facts: Facts) -> Reason:
    entry = _last(facts, "abort", "retry")
    by = "" if entry is None else f" by {entry.actor}"
    return Reason("aborted", f"it was aborted{by}{_at(record)}{_in_bulk(entry)}", record.finished_at)


def _at(record: JobRecord) -> str:
    return "" if record.finished_at is None else f" at {say_time(record.finished_at)}"


def _by(entry: AuditEntry) -> str:
    return f"by {entry.actor} at {say_time(entry.at)}{_in_bulk(entry)}"


def _asked_by(entry: AuditEntry | None, facts: Facts) -> str:
    return "" if entry is None else f" by {entry.actor} {say_span(facts.now - entry.at)} ago{_in_bulk(entry)}"


def _in_bulk(entry: AuditEntry | None) -> str:
    operation = None if entry is None else operation_of(entry)
    return "" if operation is None else f" (operation {operation})"


def _last(facts: Facts, action: str, undone_by: str) -> AuditEntry | None:
    """Return the last time that an operator did something to the job, unless it was undone since."""
    last = next((entry for entry in facts.audit if entry.action in (action, undone_by)), None)
    return last if last is not None and last.action == action else None
