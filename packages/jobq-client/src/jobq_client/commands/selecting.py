"""Which jobs a command is about: ids on the command line, or a filter of options."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import click
import msgspec

from jobq_core.job import check_name
from jobq_core.states import JobState
from jobq_core.storage import JobFilter

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS)})", re.ASCII)


class IdType(click.ParamType[UUID]):
    """The id of a job."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        try:
            return value if isinstance(value, UUID) else UUID(value)
        except ValueError:
            self.fail(f"{value!r} is not a job's id, which looks like 0198c0de-0000-7000-8000-000000000000", param, ctx)


class MomentType(click.ParamType[datetime]):
    """A moment: an age such as 2h, or ISO 8601, in UTC unless it has an offset."""

    name = "moment"

    def __init__(self, *, ahead: bool = False) -> None:
        self._sign = 1 if ahead else -1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if match := _AGE.fullmatch(value):
                return datetime.now(UTC) + self._sign * timedelta(seconds=float(match[1]) * _UNITS[match[2]])
            moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; expected 30m, 2h, 7d, or 2026-12-01T08:00", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


class ArgumentType(click.ParamType[tuple[str, Any]]):
    """NAME=JSON."""

    name = "argument"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals or not name:
            self.fail(f"{value!r} must be NAME=VALUE, such as order_id=7", param, ctx)
        try:
            return name, msgspec.json.decode(text)
        except msgspec.DecodeError:
            return name, text


def filter_options(function: F) -> F:
    """Add the options of a filter; `filter_of` makes a JobFilter of them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS: Final = (
    click.option("--queue", metavar="NAME", help="Jobs of this queue."),
    click.option(
        "--state",
        "states",
        multiple=True,
        type=click.Choice([state.value for state in JobState]),
        help="Jobs in this state; may be given several times.",
    ),
    click.option(
        "--kind", "kinds", metavar="KIND", multiple=True, help="Jobs of this kind; may be given several times."
    ),
    click.option(
        "--tag",
        "tags",
        metavar="TAG",
        multiple=True,
        help="Jobs with this tag; if given several times, with all of them.",
    ),
    click.option("--run", "run_id", metavar="ID", help="Jobs that were added with this run id."),
    click.option("--since", metavar="TIME", type=MomentType(), help="Jobs added since then: 2h, 7d, 2026-12-01T08:00."),
    click.option("--until", metavar="TIME", type=MomentType(), help="Jobs added before then."),
    click.option("--error", metavar="TEXT", help="Jobs whose last error's message contains this."),
    click.option("--error-type", metavar="NAME", help="Jobs whose last error is of this type, with its module."),
    click.option("--argument", metavar="NAME=VALUE", type=ArgumentType(), help="Jobs with this argument."),
    click.option("--worker", metavar="ID", type=click.UUID, help="Jobs that this worker runs, or ran last."),
    click.option("--parent", metavar="ID", type=IdType(), help="Jobs that this job added, or that follow it."),
)

FILTERS: Final = (
    "queue",
    "states",
    "kinds",
    "tags",
    "run_id",
    "since",
    "until",
    "error",
    "error_type",
    "argument",
    "worker",
    "parent",
)
"""The parameters that `filter_options` adds."""


def filter_of(options: dict[str, Any]) -> JobFilter:
    """Take the parameters of a filter out of the options, and return the filter."""
    given = {name: options.pop(name) for name in FILTERS}
    names = [("queue", given["queue"]), ("run_id", given["run_id"])]
    names += [("kind", kind) for kind in given["kinds"]] + [("a tag", tag) for tag in given["tags"]]
    for what, name in names:
        if name is not None:
            check_name(name, what)
    states = frozenset(map(JobState, given.pop("states")))
    return JobFilter(states=states, **given)


def describe(filter: JobFilter) -> str:
    """Return a filter in words: 'failed jobs of queue mail'."""
    states = " or ".join(state.value for state in JobState if state in filter.states)
    parts = [f"{states} jobs" if states else "jobs"]
    parts += [f"of queue {filter.queue}"] if filter.queue is not None else []
    parts += [f"of kind {' or '.join(filter.kinds)}"] if filter.kinds else []
    parts += [f"with tag {' and '.join(filter.tags)}"] if filter.tags else []
    parts += [f"of run {filter.run_id}"] if filter.run_id is not None else []
    parts += [f"added since {filter.since:%Y-%m-%d %H:%M:%S} UTC"] if filter.since is not None else []
    parts += [f"added before {filter.until:%Y-%m-%d %H:%M:%S} UTC"] if filter.until is not None else []
    parts += [f"whose error is {filter.error_type}"] if filter.error_type is not None else []
    parts += [f"whose error contains {filter.error!r}"] if filter.error is not None else []
    parts += [f"with {filter.argument[0]}={filter.argument[1]!r}"] if filter.argument is not None else []
    parts += [f"of worker {filter.worker}"] if filter.worker is not None else []
    parts += [f"added by job {filter.parent}"] if filter.parent is not None else []
    return " ".join(parts)
