"""Each operation fails at its N-th statement, before or after it, for every N: nothing is lost or stuck."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from nth.operations import ELSEWHERE, OPERATIONS
from nth.place import Fault, Kind, Place, Sight
from nth.postgres import OnPostgres
from nth.scenario import Plain, Scenario, Stage
from nth.sqlite import OnSqlite
from scaling import Scale

from jobq_core.errors import StorageUnavailableError
from jobq_core.states import FINISHED
from jobq_core.storage import LogStorage, QueueStorage
from jobq_storage_postgres.testing import ThrowawayPostgres

TIMEOUT = 60.0
ASKED_LATER = {"settled"}
"""Statements after the commit that fetch the answer: if one of them fails, the answer is lost."""


@pytest.fixture(scope="module")
def on_postgres() -> Iterator[Callable[[Path], AbstractAsyncContextManager[Place]]]:
    with ThrowawayPostgres() as server:
        world = asyncio.run(OnPostgres.prepare(server.dsn))
        yield lambda folder: OnPostgres.opened(server.dsn, world)


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], AbstractAsyncContextManager[Place]]:
    kept = tmp_path_factory.mktemp("kept") / "jobs.db"
    world = asyncio.run(OnSqlite.prepare(kept))
    return lambda folder: nullcontext(OnSqlite(folder, world, kept))


@pytest.fixture(params=["on_postgres", "on_sqlite"])
def on(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
async def place(on: Callable[[Path], AbstractAsyncContextManager[Place]], tmp_path: Path) -> AsyncIterator[Place]:
    async with on(tmp_path) as made:
        yield made


class Outcome:
    """The result of an operation without a fault: its answer, and everything visible before and after it.

    statements: how many it has, without those that open a connection.
    """

    def __init__(self, answer: Any, before: Sight, after: Sight, statements: int) -> None:
        self.answer = answer
        self.before = before
        self.after = after
        self.statements = statements


async def look(place: Place, scenario: Scenario, stage: Stage) -> Sight:
    """Read everything that is visible, and what the scenario adds to that."""
    sight = await place.look()
    if scenario.see is not None:
        sight.plain["seen"] = place.plain(await scenario.see(stage))
    return sight


async def unharmed(place: Place, scenario: Scenario, way: bool) -> Outcome:
    """Run an operation without a fault, and return its outcome."""
    fault = Fault()
    await place.restore()
    async with place.stage(fault, opened=scenario.opened, way=way) as stage:
        if scenario.before is not None:
            await scenario.before(stage)
            await place.settled(stage)
        before = await look(place, scenario, stage)
        fault.armed = True
        answer = place.plain(await scenario.act(stage))
        await place.settled(stage)
        fault.armed = False
        after = await look(place, scenario, stage)
    assert (after.plain != before.plain) == scenario.changes
    # Whether a connection is opened on the way depends on the speed of the server's answers; not behind a pooler, it
    # makes its settings too.
    opening = fault.statements.count("identify") * (2 if way else 1)
    return Outcome(answer, before, after, len(fault.statements) - opening)


@attrs.define(kw_only=True)
class Case:
    """One fault. way: how statements are run. thorough: whether a worker runs the remaining jobs whatever happened;
    brief: whether it does not run them even after an error."""

    place: Place
    scenario: Scenario
    kind: Kind
    nth: int
    way: bool
    thorough: bool
    brief: bool
    usual: Outcome
    fault: Fault = attrs.field(init=False)
    figures: dict[str, int] = attrs.field(init=False, factory=lambda: dict.fromkeys(("added", "runs", "doubled"), 0))

    async def happens(self) -> bool:
        """Let the N-th statement of an operation fail; return False if the operation has fewer statements."""
        self.fault = Fault(self.kind, self.nth)
        await self.place.restore()
        async with self.place.stage(self.fault, opened=self.scenario.opened, way=self.way) as stage:
            error = await self._run_with_fault(stage)
            if not self.fault.fired:
                return False
            await self.place.nothing_is_open()
            seen = (await look(self.place, self.scenario, stage)).plain
            assert self._may_be_seen(seen, error)
            await self.scenario.act(stage)
            await self.place.settled(stage)
            again = await look(self.place, self.scenario, stage)
            assert again.plain == self.usual.after.plain
            await self.place.nothing_is_open()
            self.figures["added"] = len(again.records)
            if self.thorough or (error is not None and self.scenario.changes and not self.brief):
                await self._drain(stage, again)
        return True

    async def _run_with_fault(self, stage: Stage) -> Exception | None:
        if self.scenario.before is not None:
            await self.scenario.before(stage)
            await self.place.settled(stage)
        self.fault.armed = True
        error: Exception | None = None
        try:
            answer = self.place.plain(await self.scenario.act(stage))
        except StorageUnavailableError as caught:
            error = caught
        except (psycopg.Error, sqlite3.Error) as caught:
            assert self.scenario.theirs, "the driver's error escaped"
            error = caught
        await self.place.settled(stage)
        self.fault.armed = False
        if error is None and self.fault.fired:
            assert answer == self.usual.answer
        return error

    def _may_be_seen(self, seen: Plain, error: Exception | None) -> bool:
        before, after = self.usual.before.plain, self.usual.after.plain
        if error is None:
            return seen == after
        if self.scenario.partly is not None:
            return self.scenario.partly(before, after, seen)
        committed = self.kind.after and self.fault.statements[-1] == "COMMIT"
        unknown = self.kind.breaks or committed or ASKED_LATER.intersection(self.fault.together)
        return seen == before or (bool(unknown) and seen == after)

    async def _drain(self, stage: Stage, left: Sight) -> None:
        due = [record.id for record in left.records if record.state not in FINISHED]
        runs = Counter(await self.place.drain(stage, due))
        self.figures["runs"] = runs.total()
        self.figures["doubled"] = len([job_id for job_id, times in runs.items() if times > 1 or job_id not in due])
        assert not self.figures["doubled"]


def kinds_in(place: Place, seed: int, scale: Scale) -> Iterator[tuple[Callable[[int], Kind], bool]]:
    """Yield a function from N to the kind of fault, and the way to run statements. A soak takes all kinds. Otherwise
    similar kinds take turns by the seed; at the smallest scale, so do all before and all after a statement."""
    if scale.is_soak:
        for kinds, way in itertools.product(place.kinds, place.ways):
            for kind in kinds:
                yield partial(lambda kind, nth: kind, kind), way
    else:
        groups = place.kinds
        if scale.is_smallest:
            every = [kind for kinds in place.kinds for kind in kinds]
            groups = tuple(tuple(kind for kind in every if kind.after is after) for after in (False, True))
        for number, kinds in enumerate(groups, seed):
            yield (
                partial(lambda kinds, nth: kinds[(nth + seed) % len(kinds)], kinds),
                place.ways[number % len(place.ways)],
            )


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_statement_of_an_operation_may_fail(
    place: Place, operation: str, report: Callable[..., None], seed: int, scale: Scale
) -> None:
    for scenario in OPERATIONS[operation]:
        usual = {way: await unharmed(place, scenario, way) for way in place.ways}
        for number, (kind_of, way) in enumerate(kinds_in(place, seed, scale), list(OPERATIONS).index(operation)):
            for nth in range(1, scenario.most + 1):
                # At the smallest scale, a worker runs the remaining jobs once for each statement on which jobs depend:
                # when it has failed before its execution, or after it; operations and statements take turns at that.
                brief = scale.is_smallest and (scenario.aside or (nth + number) % 2 == 1)
                case = Case(
                    place=place,
                    scenario=scenario,
                    kind=kind_of(nth),
                    nth=nth,
                    way=way,
                    thorough=not brief and (scale.is_soak or nth == 1),
                    brief=brief,
                    usual=usual[way],
                )
                try:
                    async with asyncio.timeout(TIMEOUT):
                        happened = await case.happens()
                except BaseException as failure:
                    failure.add_note(f"{operation}, {scenario.act.__name__}: {case.fault}")
                    raise
                if not happened:
                    break
                report(f"N-th statement, {place.name}: {case.kind.name}", tried=1, **case.figures)
            assert nth >= min(usual[way].statements + 1, scenario.most)


def test_no_operation_is_forgotten() -> None:
    assert {*OPERATIONS, *ELSEWHERE} == QueueStorage.__abstractmethods__ | LogStorage.__abstractmethods__
