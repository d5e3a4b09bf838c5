"""`Conditions`: which jobs `find`, `find_all` and `count` are for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack
from uuid import UUID

from jobq_core.checks import check_list, check_moment, is_one_of
from jobq_core.encoding import MAX_ARGUMENTS, decode, encode
from jobq_core.errors import ConfigurationError
from jobq_core.ids import parse_id
from jobq_core.job import Job, JobFunction, check_name, definition_of
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import JobFilter

MAX_ERROR: Final = 1000
"""The most characters that `error` may have."""

Kind = str | type[Job[Any]] | JobFunction[Any, Any, Any]
"""A kind of job: its name, or the function or class that `@job` declared."""


class Conditions(TypedDict, total=False):
    """Conditions of the jobs to find; a job matches if all that are given hold.

    state: one of JobState, or several of which any matches.
    queue: the queue where the job is (default: every queue).
    kind: its name, or the function or class that `@job` declared; or several of which any matches.
    tag: one tag, or several that the job must all have.
    run_id: the name of the run that it was added with.
    since, until: added at this moment or later, and before this one; aware datetimes, by the storage's clock.
    error_type: the whole name of the type of its error, such as 'ConnectionError' or 'shop.PaymentError'.
    error: text that the message of its error contains, in upper or lower case.
    argument: the name of one of its arguments, and the value that it must have.
        Arguments that are stored as a Secret match no value.
    worker: the id of the worker that runs it, or ran it last.
    parent: the id of the job whose handler added it, or that it follows.

    The error of an unfinished job is among its `attempts` and not searched: error_type and error are for finished and
    disabled jobs. The last five conditions need a search, which reads up to 5,000 jobs for each page: combine them with
    others, which are found by an index.
    """

    state: JobState | Iterable[JobState]
    queue: str | None
    kind: Kind | Iterable[Kind]
    tag: str | Iterable[str]
    run_id: str | None
    since: datetime | None
    until: datetime | None
    error_type: str | None
    error: str | None
    argument: tuple[str, Any] | None
    worker: UUID | str | None
    parent: UUID | str | None


def to_filter(method: str, conditions: Conditions) -> JobFilter:
    """Return the filter; raises ConfigurationError for a condition that no job could meet, TypeError for an unknown
    one. method: the one that got the conditions."""
    if unknown := conditions.keys() - Conditions.__annotations__.keys():
        raise TypeError(f"{method}() has no condition {', '.join(sorted(unknown))}")
    return _filter(**conditions)


def _filter(**conditions: Unpack[Conditions]) -> JobFilter:
    queue, run_id = conditions.get("queue"), conditions.get("run_id")
    since, until = conditions.get("since"), conditions.get("until")
    error_type, worker = conditions.get("error_type"), conditions.get("worker")
    parent = conditions.get("parent")
    return JobFilter(
        queue=None if queue is None else check_name(queue, "queue"),
        states=check_states(conditions.get("state", ())),
        kinds=_kinds(conditions.get("kind", ())),
        tags=_tags(conditions.get("tag", ())),
        run_id=None if run_id is None else check_name(run_id, "run_id"),
        since=None if since is None else check_moment(since, "since"),
        until=None if until is None else check_moment(until, "until"),
        error_type=None if error_type is None else check_name(error_type, "error_type"),
        error=_text(conditions.get("error")),
        argument=_argument(conditions.get("argument")),
        worker=None if worker is None else parse_id(worker),
        parent=None if parent is None else parse_id(parent),
    )


def check_states(state: JobState | Iterable[JobState]) -> frozenset[JobState]:
    """Return one state or several; raises ConfigurationError for an unknown one."""
    # A JobState is a str, which would be iterated letter by letter.
    states = [state] if isinstance(state, str) else check_list(state, "state", "state=[JobState.FAILED]")
    for one in states:
        if not is_one_of(one, JobState):
            raise ConfigurationError(f"unknown state {short_repr(one)}; expected one of {', '.join(JobState)}")
    return frozenset(map(JobState, states))


def _kinds(kind: Kind | Iterable[Kind]) -> tuple[str, ...]:
    kinds = (kind,) if isinstance(kind, (str, type, JobFunction)) else check_list(kind, "kind", "kind=[send, resize]")
    return tuple(check_name(one, "kind") if isinstance(one, str) else definition_of(one).kind for one in kinds)


def _tags(tag: str | Iterable[str]) -> tuple[str, ...]:
    tags = (tag,) if isinstance(tag, str) else check_list(tag, "tag", "tag=['monthly', 'mail']")
    return tuple(check_name(one, "a tag") for one in tags)


def _text(text: Any) -> str | None:
    if text is None or (isinstance(text, str) and 1 <= len(text) <= MAX_ERROR):
        return text
    raise ConfigurationError(f"error must be text of 1 to {MAX_ERROR} characters, not {short_repr(text)}")


def _argument(argument: Any) -> tuple[str, Any] | None:
    if argument is None:
        return None
    if not isinstance(argument, tuple) or len(argument) != 2 or not isinstance(argument[0], str):
        raise ConfigurationError(f'argument must be a name and a value, as in ("order_id", 7): {short_repr(argument)}')
    name, value = argument
    # The value as the job has it stored: a datetime or a UUID is text there.
    return name, decode(encode(value, f"argument {name}", MAX_ARGUMENTS))
