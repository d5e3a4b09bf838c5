"""Finding jobs by a filter, and counting those that match.

One of five statements walks down the jobs that match what has an index, newest first, and leaves out those that do not
match the rest. An argument is looked for here: PostgreSQL refuses to read some JSON that its columns hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from attrs import evolve
from msgspec import Struct

from jobq_core.parents import mark_of
from jobq_core.records import JobSummary
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import COUNT_LIMIT, SEARCHED, JobFilter, Page, ReaderStorage
from jobq_core.storage.searching import has_argument, near_parent
from jobq_storage_postgres.binary import pack_int8, pack_moment, pack_optional, pack_text, pack_uuid, texts, uuids
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.records import SUMMARY, summary_fields

Wanted: TypeAlias = Literal["jobs", "arguments", "count"]

_WITH_ERRORS: Final = frozenset({JobState.DISABLED, JobState.FAILED, JobState.ABORTED})
"""The states in which a job shows an error."""
_Driver: TypeAlias = Literal["queue", "kind", "run", "tag"]

_SEARCHED_NARROWED: Final = 1_000
"""The number of jobs that a search in queues, kinds, tags or a run reads per call: of each line, to be sorted."""
_WALKED: Final[dict[_Driver | None, Iterable[int]]] = {
    None: repeat(0),
    "queue": (1_500, 2_500),
    "kind": (4_000, 6_000),
    "run": (1_000, 2_000),
    "tag": (1_000, 2_000),
}
"""The number of jobs of which `find` reads the kind or the state to know if they match: at first, and then."""
_READ_OF_ALL: Final = 300_000
"""The number of unfinished jobs of which `count` reads the kinds."""
_READ_OF_QUEUE: Final = 60_000
"""The same, where they are found by an index: of one queue, or of a time."""
_READ_BY_TAG: Final = 4_000
"""The number of jobs of a tag or a run that `count` reads."""
_READ_BY_STATE: Final = 3_000
"""The same, where it reads their states as well."""
_FRINGE: Final = 1000
"""The minimum number of jobs to look at where some could be left out because of the time when they were added."""


class _Look(Struct):
    """The answer of one statement: how many jobs were looked at and the last one of them; how many of them matched; the
    rows of jobs, or of ids, arguments and `meta`."""

    looked: int
    last: UUID | None
    matching: int
    rows: list[Sequence[Any]]


class Finding(Facet, ReaderStorage):
    """The operations of the facet of readers with a filter."""

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        if filter.searches:
            return await self._search(*await near_parent(self, filter, after), limit)
        # One more than the limit shows whether there is a next page.
        most = limit + 1 if filter.since is None and filter.until is None else max(limit + 1, _FRINGE)
        found: list[Sequence[Any]] = []
        for walked in _WALKED[_driver(filter)]:
            look = await self._look(filter, after, most, limit + 1 - len(found), "jobs", walked)
            found += look.rows
            if len(found) > limit or look.looked < most:
                return _page(found, limit)
            after = look.last
        return Page(_summaries(found), after)

    async def count(self, filter: JobFilter, *, limit: int = COUNT_LIMIT) -> int | None:
        if filter.searches:
            return await self._count_searched(filter, limit)
        if filter.run_id is None and not filter.tags:
            params = (*_tokens(filter), pack_int8(limit + 1))
            if filter.since is None and filter.until is None:
                read = _READ_OF_ALL if filter.queue is None else _READ_OF_QUEUE
                ((count,),) = await self._engine.fetch("count_tokens", *params, pack_int8(read))
            else:
                times = pack_optional(pack_moment, filter.since), pack_optional(pack_moment, filter.until)
                ((count,),) = await self._engine.fetch("count_added", *params, *times, pack_int8(_READ_OF_QUEUE))
            return count if count is not None and count <= limit else None
        most = _READ_BY_STATE if filter.queue is not None or filter.states else _READ_BY_TAG
        look = await self._look(filter, None, most, limit + 1, "count", most)
        return look.matching if look.looked < most and look.matching <= limit else None

    async def _search(self, filter: JobFilter, after: UUID | None, limit: int) -> Page:
        most = SEARCHED if _driver(filter) is None else _SEARCHED_NARROWED
        if filter.argument is None:
            look = await self._look(filter, after, most, limit + 1, "jobs")
            found = look.rows
            last = look.last
        else:
            look = await self._look(filter, after, most, most, "arguments")
            ids = _with_argument(look.rows, *filter.argument)[: limit + 1]
            found = await self._engine.fetch("summaries", uuids([job_id.bytes for job_id in ids])) if ids else []
            last = look.last if len(look.rows) == look.matching else look.rows[-1][0]
        if len(found) > limit:
            return _page(found, limit)
        over = look.looked < most and last == look.last
        return Page(_summaries(found), None if over else last)

    async def _count_searched(self, filter: JobFilter, limit: int) -> int | None:
        read = _to_read(filter)
        if read is not None and await self.count(read, limit=SEARCHED) is None:
            return None  # without reading them: jobs are counted at less cost
        wanted: Wanted = "count" if filter.argument is None else "arguments"
        look = await self._look(*await near_parent(self, filter), SEARCHED + 1, SEARCHED + 1, wanted)
        if filter.argument is None:
            count = look.matching
        elif len(look.rows) < look.matching:
            return None
        else:
            count = len(_with_argument(look.rows, *filter.argument))
        return count if look.looked <= SEARCHED and count <= limit else None

    async def _look(
        self, filter: JobFilter, after: UUID | None, most: int, limit: int, wanted: Wanted, walked: int = SEARCHED
    ) -> _Look:
        """Look at up to `most` jobs, and answer with up to `limit`. walked: how many jobs to read to find those."""
        states = filter.states
        if filter.error is not None or filter.error_type is not None:
            states = (states or frozenset(JobState)) & _WITH_ERRORS
            if not states:
                return _Look(0, None, 0, [])
        name, params = _statement(filter, states)
        if _driver(filter) is not None:
            params.append(pack_int8(walked))
        rows = await self._engine.fetch(
            name,
            pack_optional(pack_uuid, after),
            pack_int8(most),
            pack_int8(limit),
            pack_optional(pack_moment, filter.since),
            pack_optional(pack_moment, filter.until),
            pack_optional(pack_uuid, filter.worker),
            pack_optional(pack_text, filter.error_type),
            pack_optional(pack_text, filter.error),
            pack_text(wanted),
            None if filter.parent is None else mark_of(filter.parent),
            *params,
        )
        looked, last, matching = rows[0][:3]
        return _Look(looked, last, matching, [row[3:] for row in rows if row[3] is not None])


def _page(rows: Sequence[Sequence[Any]], limit: int) -> Page:
    jobs = _summaries(rows[:limit])
    return Page(jobs, jobs[-1].id if jobs and len(rows) > limit else None)


def _summaries(rows: Sequence[Sequence[Any]]) -> list[JobSummary]:
    return [JobSummary(**summary_fields(row[:SUMMARY])) for row in rows]


def _driver(filter: JobFilter) -> _Driver | None:
    """Return the condition by whose index the jobs are found, while the others have to be read; None without any."""
    if filter.run_id is not None:
        return "run"
    if filter.tags:
        return "tag"
    if filter.queue is not None:
        return "queue"
    return "kind" if filter.kinds else None


def _to_read(filter: JobFilter) -> JobFilter | None:
    """Return a filter without a search for jobs all of which the search would read; None if none is known."""
    if filter.parent is not None:
        return None
    rest = evolve(filter, argument=None, worker=None, error=None, error_type=None)
    if filter.error is None and filter.error_type is None:
        return rest
    # The few DISABLED jobs with an error have an index.
    ended = (filter.states or _WITH_ERRORS) & FINISHED & _WITH_ERRORS
    return evolve(rest, states=ended) if ended else None


def _statement(filter: JobFilter, states: frozenset[JobState]) -> tuple[str, list[bytes | None]]:
    """Return the statement for a filter, and its own parameters. states: of the filter, or fewer."""
    tokens = _tokens(filter, states)
    tags = texts(filter.tags) if filter.tags else None
    if filter.run_id is not None:
        return "find_run", [pack_text(filter.run_id), *tokens, tags]
    if tags is not None:
        return "find_tag", [tags, *tokens]
    if filter.queue is not None or filter.kinds:
        return "find_line", tokens
    if states or filter.worker is not None:
        return "find_state", [_states(states or frozenset(JobState))]
    return "find", []


def _tokens(filter: JobFilter, states: frozenset[JobState] | None = None) -> list[bytes | None]:
    states = filter.states if states is None else states
    return [
        pack_optional(pack_text, filter.queue),
        texts(filter.kinds) if filter.kinds else None,
        _states(states) if states else None,
    ]


def _states(states: frozenset[JobState]) -> bytes:
    return texts([state.value for state in sorted(states)])


def _with_argument(rows: Sequence[Sequence[Any]], name: str, value: object) -> list[UUID]:
    """Return the ids of the jobs that have this argument."""
    found: list[UUID] = []
    for row in rows:
        if has_argument(row[-2], row[-1], name, value):
            found.append(row[0])
    return found
