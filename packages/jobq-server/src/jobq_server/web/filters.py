"""Filters of jobs in addresses: parsed, checked and bounded, and written back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from starlette.datastructures import FormData, QueryParams

from jobq_core.checks import is_one_of
from jobq_core.errors import InvalidJobError
from jobq_core.job import check_name
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import JobFilter

MAX_TEXT: Final = 500
"""Characters of a text that is searched for."""
MAX_VALUES: Final = 50
"""Values of one condition."""

_RELATIVE: Final = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_filter(query: QueryParams | FormData, now: datetime) -> JobFilter:
    """Return the filter that a query or a form asks for. Raises InvalidJobError for what cannot be.

    queue, run, error, error_type, worker, parent: one value. state, kind, tag: several. argument: 'name=value', the
    value as JSON or else as text. since, until: a moment in ISO 8601, of UTC unless it says otherwise, or a time ago,
    as '90m'.
    """
    states = _many(query, "state")
    for state in states:
        if not is_one_of(state, JobState):
            raise InvalidJobError(f"unknown state {short_repr(state)}; expected one of {', '.join(JobState)}")
    return JobFilter(
        queue=_name(query, "queue"),
        states=map(JobState, states),
        kinds=[check_name(kind, "kind") for kind in _many(query, "kind")],
        tags=[check_name(tag, "a tag") for tag in _many(query, "tag")],
        run_id=_name(query, "run"),
        since=_moment(query, "since", now),
        until=_moment(query, "until", now),
        error_type=_text(query, "error_type"),
        error=_text(query, "error"),
        argument=parse_argument(_text(query, "argument")),
        worker=_id(query, "worker"),
        parent=_id(query, "parent"),
    )


def to_query(wanted: JobFilter) -> dict[str, Any]:
    """Return the parameters of a filter, for `link`."""
    argument = wanted.argument
    return {
        "queue": wanted.queue,
        "state": [state.value for state in wanted.states],
        "kind": wanted.kinds,
        "tag": wanted.tags,
        "run": wanted.run_id,
        "since": None if wanted.since is None else wanted.since.isoformat(),
        "until": None if wanted.until is None else wanted.until.isoformat(),
        "error_type": wanted.error_type,
        "error": wanted.error,
        "argument": None if argument is None else f"{argument[0]}={msgspec.json.encode(argument[1]).decode()}",
        "worker": wanted.worker,
        "parent": wanted.parent,
    }


def to_pairs(wanted: JobFilter) -> list[tuple[str, str]]:
    """Return the parameters of a filter as pairs, for the hidden fields of a form."""
    pairs: list[tuple[str, str]] = []
    for name, value in to_query(wanted).items():
        if isinstance(value, (list, tuple)):
            pairs += [(name, str(each)) for each in value]
        elif value is not None:
            pairs.append((name, str(value)))
    return pairs


def describe(wanted: JobFilter) -> str:
    """Return a filter in words, for a question and for the audit."""
    parts = [f"{name} {value}" for name, value in to_pairs(wanted)]
    return ", ".join(parts) or "all jobs"


def _many(query: QueryParams | FormData, name: str) -> list[str]:
    found = [str(value).strip() for value in query.getlist(name)]
    values = [part.strip() for value in found for part in (value.split(",") if name == "state" else [value])]
    wanted = list(dict.fromkeys(value for value in values if value))
    if len(wanted) > MAX_VALUES:
        raise InvalidJobError(f"at most {MAX_VALUES} values of {name} can be searched for")
    return wanted


def _text(query: QueryParams | FormData, name: str) -> str | None:
    value = str(query.get(name) or "").strip()
    if len(value) > MAX_TEXT or "\0" in value:
        raise InvalidJobError(f"{name} must be text of at most {MAX_TEXT} characters")
    return value or None


def _name(query: QueryParams | FormData, name: str) -> str | None:
    value = _text(query, name)
    return None if value is None else check_name(value, name)


def _id(query: QueryParams | FormData, name: str) -> UUID | None:
    value = _text(query, name)
    return None if value is None else parse_uuid(value, name)


def parse_uuid(value: str, name: str) -> UUID:
    """Return an id. Raises InvalidJobError for any other text."""
    try:
        return UUID(value)
    except ValueError:
        raise InvalidJobError(f"{name} must be an id, not {short_repr(value)}") from None


def parse_argument(text: str | None) -> tuple[str, Any] | None:
    """Return the name and the value of an argument in text; None for None. Raises InvalidJobError."""
    if text is None:
        return None
    name, mark, value = text.partition("=")
    if not mark or not name.strip():
        raise InvalidJobError("argument must be a name and a value, such as order_id=7")
    try:
        return name.strip(), msgspec.json.decode(value.strip())
    except (msgspec.DecodeError, RecursionError):
        return name.strip(), value.strip()


def _moment(query: QueryParams | FormData, name: str, now: datetime) -> datetime | None:
    text = _text(query, name)
    return None if text is None else parse_moment(text, name, now)


def parse_moment(text: str, name: str, now: datetime, *, ahead: bool = False) -> datetime:
    """Return a moment in ISO 8601, or one that is a time ago or, with `ahead`, from now. Raises InvalidJobError."""
    relative = _RELATIVE.fullmatch(text)
    try:
        if relative is not None:
            span = timedelta(seconds=int(relative[1]) * _SECONDS[relative[2]])
            return now + span if ahead else now - span
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidJobError(
            f"{name} must be a moment such as 2026-12-01T08:00Z, or a time such as 90m, not {short_repr(text)}"
        ) from None


def to_utc(at: datetime | None, name: str) -> datetime | None:
    """Return a moment in UTC; None for None. Raises InvalidJobError for one outside the years 1 to 9999 of UTC."""
    try:
        return None if at is None else at.astimezone(UTC)
    except OverflowError:
        raise InvalidJobError(f"{name} must lie in the years 1 to 9999 of UTC, not at {at}") from None


def names_of(values: Iterable[str], limit: int = 500) -> list[str]:
    """Return names in order, for a list to choose from."""
    return sorted(set(values))[:limit]
