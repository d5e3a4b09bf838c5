"""Turns a job value and the options of `add` into the NewJob that a storage takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict
from uuid import UUID

import attrs
import msgspec
from msgspec.structs import replace

from jobq_core.checks import Seconds, check_list, check_moment, is_number, to_seconds
from jobq_core.encoding import MAX_ARGUMENTS, decode, decode_or_show, encode
from jobq_core.errors import CENTURY, ConfigurationError, InvalidJobError
from jobq_core.job import (
    Job,
    JobDefinition,
    check_max_attempts,
    check_name,
    check_priority,
    check_timeout,
    definition_of,
)
from jobq_core.masking import mark_secrets
from jobq_core.reprs import short_repr
from jobq_core.retry import Backoff
from jobq_core.storage import NewJob, When

MAX_HEADERS: Final = 8 * 1024
"""Bytes of a job's headers as JSON."""


class AddOptions(TypedDict, total=False):
    """Options of one job, given to `add`.

    queue: name of its queue (default: the queue declared with the job, else the client's).
    priority: -100 to 100, higher first (default: as declared).
    delay: time before the job may run, in seconds or as a timedelta (default: none). Excludes run_at.
    run_at: earliest start, as an aware datetime (default: now). Excludes delay.
    deadline: end of the job's time, as an aware datetime, or counted from now in seconds or as a timedelta. The job
        does not start after it, and is stopped if it still runs then (default: none).
    timeout: longest time of one run, in seconds or as a timedelta (default: as declared).
    max_attempts: highest number of runs, from 1 to 32767 (default: as declared).
    retry: the Backoff between runs (default: as declared).
    unique: a key. While a job with this key is unfinished in this queue, no second one is added (default: none).
    run_id: a name shared by the jobs of one run, to find and abort them together (default: none).
    tags: at most 50 words to find the job by (default: none).
    headers: texts by name that travel with the job, such as a trace context: at most 8 KiB as JSON (default: none).
        The handler reads them as `context.headers`, and the jobs that it adds inherit them.
    """

    queue: str
    priority: int
    delay: Seconds
    run_at: datetime
    deadline: Seconds | datetime
    timeout: Seconds
    max_attempts: int
    retry: Backoff
    unique: str
    run_id: str
    tags: Iterable[str]
    headers: Mapping[str, str]


def new_job(id: UUID, job: Job[Any] | Any, default_queue: str, options: AddOptions) -> NewJob:
    """Return the NewJob; raises InvalidJobError for arguments that cannot be stored, ConfigurationError for an option
    out of range, TypeError for an unknown option."""
    definition = definition_of(job)
    if not isinstance(job, Job):
        raise ConfigurationError(f"{short_repr(job)} is a kind of job; call it with its arguments to make a job")
    new = _new_job(id, definition, definition.encode_arguments(job), default_queue, options)
    secrets = definition.secrets
    return replace(new, meta=mark_secrets(new.meta, secrets)) if secrets else new


def new_job_of_kind(id: UUID, kind: str, arguments: bytes | str, default_queue: str, options: AddOptions) -> NewJob:
    """Return the NewJob of a kind whose declaration this process does not have.

    arguments: a JSON object. Options that are not given are those of a declaration without any. Raises as `new_job`.
    """
    try:
        given = decode(arguments)
    except InvalidJobError:
        raise InvalidJobError(
            f"the arguments of {short_repr(kind)} are not valid JSON: {short_repr(arguments)}"
        ) from None
    if not isinstance(given, dict):
        raise InvalidJobError(f'the arguments of {short_repr(kind)} must be a JSON object, such as {{"order_id": 7}}')
    checked = encode(given, f"arguments of {kind}", MAX_ARGUMENTS)
    definition = JobDefinition(kind=check_name(kind, "kind"), job_type=Job, result_type=Any)
    return _new_job(id, definition, checked, check_name(default_queue, "queue"), options)


def _new_job(id: UUID, definition: JobDefinition, arguments: bytes, default_queue: str, options: AddOptions) -> NewJob:
    new = NewJob(
        id=id,
        queue=definition.queue or default_queue,
        kind=definition.kind,
        arguments=arguments,
        priority=definition.priority,
        timeout=definition.timeout,
        max_attempts=definition.max_attempts,
        fingerprint=definition.fingerprint_of(arguments),
        follow_up=definition.on_failure,
    )
    return _with_options(new, options) if options else new


def _with_options(new: NewJob, options: AddOptions) -> NewJob:
    if unknown := options.keys() - AddOptions.__annotations__.keys():
        raise TypeError(f"add() has no option {', '.join(sorted(unknown))}")
    queue = options.get("queue")
    priority = options.get("priority")
    deadline = options.get("deadline")
    timeout = options.get("timeout")
    max_attempts = options.get("max_attempts")
    unique = options.get("unique")
    run_id = options.get("run_id")
    return replace(
        new,
        queue=new.queue if queue is None else check_name(queue, "queue"),
        priority=new.priority if priority is None else check_priority(priority),
        run_at=start_time(options.get("delay"), options.get("run_at")),
        deadline=None if deadline is None else _when(deadline, "deadline"),
        timeout=new.timeout if timeout is None else check_timeout(timeout),
        max_attempts=new.max_attempts if max_attempts is None else check_max_attempts(max_attempts),
        backoff=_backoff(options.get("retry")),
        unique_key=None if unique is None else check_name(unique, "unique"),
        run_id=None if run_id is None else check_name(run_id, "run_id"),
        tags=_tags(options.get("tags")),
        meta=encode_headers(options.get("headers")),
    )


def new_job_like(pattern: NewJob, id: UUID, job: Job[Any]) -> NewJob:
    """Return the NewJob of another job of the same class, added with the same options; raises InvalidJobError."""
    definition = job.definition
    arguments = definition.encode_arguments(job)
    return replace(pattern, id=id, arguments=arguments, fingerprint=definition.fingerprint_of(arguments))


def start_time(delay: Any, run_at: Any) -> When | None:
    """Return when a job may start, from the one of the two that was given; None for neither. Raises ConfigurationError
    for both, and for values that they cannot have."""
    if delay is not None and run_at is not None:
        raise ConfigurationError("give delay or run_at, not both")
    if isinstance(delay, datetime):
        raise ConfigurationError("delay must be seconds or a timedelta; give a datetime as run_at")
    if delay is not None:
        return _when(delay, "delay")
    if isinstance(run_at, (int, float, timedelta)):
        raise ConfigurationError("run_at must be an aware datetime; give seconds as delay")
    return None if run_at is None else _when(run_at, "run_at")


def _when(value: Any, what: str) -> When:
    if isinstance(value, datetime):
        return check_moment(value, what)
    seconds = to_seconds(value)
    if not is_number(seconds) or seconds != seconds:
        raise ConfigurationError(f"{what} must be seconds, a timedelta or an aware datetime, not {short_repr(value)}")
    if not 0 <= seconds <= CENTURY:
        raise ConfigurationError(f"{what} must be from 0 seconds to 100 years, not {short_repr(value)}")
    return float(seconds)


def _backoff(retry: Any) -> bytes | None:
    if retry is None:
        return None
    if not isinstance(retry, Backoff):
        raise ConfigurationError(
            f"retry must be a Backoff, not {short_repr(retry)}; declare the exceptions that are retried with @job"
        )
    return msgspec.json.encode(retry)


def decode_backoff(data: bytes | str) -> Backoff:
    """Return the Backoff that `add(retry=…)` stored; raises an error of msgspec, or ConfigurationError, for other
    data."""
    return attrs.evolve(msgspec.json.decode(data, type=Backoff))  # msgspec sets the fields without their checks


def _tags(tags: Any) -> tuple[str, ...]:
    if tags is None:
        return ()
    example = f"tags=[{short_repr(tags)}]" if isinstance(tags, str) else "tags=['monthly']"
    checked = tuple(dict.fromkeys(check_name(tag, "a tag") for tag in check_list(tags, "tags", example)))
    if len(checked) > 50:
        raise ConfigurationError(f"a job can have 50 tags, not {len(checked)}")
    return checked


def encode_headers(headers: Any) -> bytes | None:
    """Return headers as the JSON that `NewJob.meta` holds, None for none; raises ConfigurationError for anything but
    texts by name, and for headers of more than 8 KiB."""
    if not headers and (headers is None or isinstance(headers, Mapping)):
        return None
    if not isinstance(headers, Mapping):
        raise ConfigurationError(
            f"headers must be a dict of texts, as in headers={{'tenant': '7'}}, not {short_repr(headers)}"
        )
    for name, value in headers.items():
        check_name(name, "the name of a header")
        if not isinstance(value, str):
            raise ConfigurationError(f"the header {name!r} must be text, not {short_repr(value)}")
    try:
        return encode(dict(headers), "headers", MAX_HEADERS)
    except InvalidJobError as error:
        raise ConfigurationError(str(error)) from None


def decode_headers(meta: bytes | None) -> dict[str, str]:
    """Return the headers in a job's `meta`; without what another program stored there that is not text by name."""
    stored = {} if meta is None else decode_or_show(meta)
    return {name: value for name, value in stored.items() if isinstance(value, str)} if isinstance(stored, dict) else {}
