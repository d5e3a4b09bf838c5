"""`assert_added` and `assert_not_added`: which jobs the code under test has added."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, TypeAlias

from jobq_core.checks import is_number, to_seconds
from jobq_core.errors import ConfigurationError, JobQueueError
from jobq_core.job import Job, JobDefinition, JobFunction, definition_of
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import JobRecord
from jobq_core.reprs import short_repr
from jobq_core.storage import JobFilter
from jobq_core.testing.declared import declared_kind
from jobq_core.testing.without_loop import HasStorage, memory_of, run_to_end

Kind: TypeAlias = "Job[Any] | type[Job[Any]] | JobFunction[Any, Any, Any]"
"""A kind of job, which the function or class that `@job` declared stands for, or a job with all its arguments."""

SHOWN: Final = 10
"""How many of the added jobs an error shows."""
TOLERANCE_SECONDS: Final = 1.0
"""How far `delay` and `deadline` may be from the given ones, where the storage's clock does not stand still."""


def assert_added(client: HasStorage, job: Kind, /, **expected: Any) -> JobRecord:
    """Check that a job was added, in whatever state it is now, and return its record (the newest of several).

    client: a running client on memory storage, or the storage. It needs no `await`.
    job: its kind, as in `assert_added(client, thumbnail, path="a.png")`, or a job, as in
        `assert_added(client, thumbnail("a.png"))`, whose arguments must all be equal.
    expected: arguments of the job, and options of `add`: queue, priority, delay and deadline (seconds or a timedelta,
        counted from the time when the job was added), run_at, timeout, max_attempts, unique, run_id, headers, tags
        (all of them in any order). Each is compared by `==`, so that `unittest.mock.ANY` works. A name that is both is
        the argument's. count: how many such jobs there must be (default: one or more).

    Raises AssertionError with the jobs that were added instead, and what differs.
    """
    count = expected.pop("count", None) if "count" not in _arguments(definition_of(job)) else None
    wanted = _Wanted(job, expected)
    added = _added(memory_of(client))
    found = [record for record in added if wanted.fits(record)]
    if len(found) == count or (found and count is None):
        return found[0]
    times = "no job" if not found else f"{len(found)} jobs, not {count},"
    raise AssertionError(f"{times} {wanted} {'was' if not found else 'were'} added; {_listed(added, wanted)}")


def assert_not_added(client: HasStorage, job: Kind | None = None, /, **expected: Any) -> None:
    """Check that no such job was added; without a kind, that no job was added at all.

    The parameters are those of `assert_added`. Raises AssertionError with the jobs that were added.
    """
    added = _added(memory_of(client))
    if job is None:
        if added:
            raise AssertionError(f"no job should have been added; {_listed(added, None)}")
        return
    wanted = _Wanted(job, expected)
    found = [record for record in added if wanted.fits(record)]
    if found:
        raise AssertionError(f"a job {wanted} was added:{''.join(_lines(found, None))}")


class _Wanted:
    """What a job must be: its kind, and what is expected of its arguments and options."""

    def __init__(self, job: Any, expected: dict[str, Any]) -> None:
        self.definition = definition_of(job)
        names = _arguments(self.definition)
        self.arguments = {name: getattr(job, name) for name in names} if isinstance(job, Job) else {}
        self.arguments |= {name: value for name, value in expected.items() if name in names}
        self.options = {name: value for name, value in expected.items() if name not in names}
        for name in self.options:
            if name not in _OPTIONS:
                known = [*names, *_OPTIONS]
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
                raise ConfigurationError(f"{self.definition.kind} has no argument or option {name!r}; {hint}")

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={_text(value)}" for name, value in self.arguments.items())
        options = "".join(f" {name}={_text(value)}" for name, value in self.options.items())
        return f"{self.definition.kind}({arguments}){' with' if options else ''}{options}"

    def fits(self, record: JobRecord) -> bool:
        """Return whether a job is as it must be."""
        return record.kind == self.definition.kind and not list(self.differences(record))

    def differences(self, record: JobRecord) -> Iterator[str]:
        """Return a line for each argument and option in which a job of the kind differs."""
        job = _decoded(self.definition, record)
        for name, value in self.arguments.items():
            found = record.arguments.get(name) if job is None else getattr(job, name)
            if value != found:
                yield f"{name} is {_text(found)}, not {_text(value)}"
        for name, value in self.options.items():
            found = _OPTIONS[name](record)
            if not _is_option(name, found, value):
                yield f"{name} is {_text(found)}, not {_text(value)}"


def _arguments(definition: JobDefinition) -> list[str]:
    fields: Any = vars(definition.job_type)["__attrs_attrs__"]
    return [field.name for field in fields]


def _since_added(moment: datetime | None, record: JobRecord) -> float | None:
    return None if moment is None else (moment - record.created_at).total_seconds()


_OPTIONS: Final[dict[str, Callable[[JobRecord], Any]]] = {
    "queue": lambda record: record.queue,
    "priority": lambda record: record.priority,
    "delay": lambda record: _since_added(record.run_at, record) or 0.0,
    "run_at": lambda record: record.run_at,
    "deadline": lambda record: _since_added(record.deadline, record),
    "timeout": lambda record: record.timeout,
    "max_attempts": lambda record: record.max_attempts,
    "unique": lambda record: record.unique_key,
    "run_id": lambda record: record.run_id,
    "tags": lambda record: record.tags,
    "headers": lambda record: record.meta,
}
"""How to read each option of `add` from the record of a job."""


def _is_option(name: str, found: Any, value: Any) -> bool:
    value = to_seconds(value)
    if name in ("delay", "deadline") and is_number(value) and found is not None:
        return abs(float(value - found)) <= TOLERANCE_SECONDS
    if name == "tags" and isinstance(value, (list, tuple, set, frozenset)):
        return set(value) == set(found or ())
    return bool(value == found)


def _added(storage: MemoryQueueStorage) -> list[JobRecord]:
    """Return the records of all jobs, newest first."""
    page = run_to_end(storage.find(JobFilter(), limit=100_000))
    records = run_to_end(storage.get([summary.id for summary in page.jobs]))
    return [record for record in records if record is not None]


def _decoded(definition: JobDefinition, record: JobRecord) -> Job[Any] | None:
    try:
        return definition.decode_arguments(record.arguments_json)
    except JobQueueError:
        return None


def _text(value: Any) -> str:
    return str(value) if isinstance(value, datetime) else short_repr(value)


def _declared(kind: str) -> JobDefinition | None:
    try:
        return declared_kind(kind)
    except ConfigurationError:
        return None


def _listed(added: list[JobRecord], wanted: _Wanted | None) -> str:
    if not added:
        return "none was"
    counted = "this one was" if len(added) == 1 else f"these {len(added)} were"
    return f"{counted}:{''.join(_lines(added, wanted))}"


def _lines(added: list[JobRecord], wanted: _Wanted | None) -> Iterator[str]:
    """Return a line for each job, those of the wanted kind first, with what differs from it below each of them."""
    kind = None if wanted is None else wanted.definition.kind
    ordered = sorted(added, key=lambda record: record.kind != kind)
    for record in ordered[:SHOWN]:
        yield f"\n  {_shown(record, wanted)}"
        if wanted is not None and record.kind == kind:
            yield from (f"\n    {difference}" for difference in wanted.differences(record))
    if len(ordered) > SHOWN:
        yield f"\n  … and {len(ordered) - SHOWN} more"


def _shown(record: JobRecord, wanted: _Wanted | None) -> str:
    """Return a job as text; Secrets are hidden where its declaration is known, and all values where it is not."""
    if wanted is not None and wanted.definition.kind == record.kind:
        definition: JobDefinition | None = wanted.definition
    else:
        definition = _declared(record.kind)
    job = None if definition is None else _decoded(definition, record)
    if job is None:
        arguments = ", ".join(f"{name}=…" for name in record.arguments)
    else:
        arguments = ", ".join(f"{name}={_text(getattr(job, name))}" for name in _arguments(job.definition))
    return f"{record.kind}({arguments}) in queue {record.queue!r}, {record.state.name}"
