"""Programs: operations that do no I/O. They are generators that yield statements and are sent the rows of each.

    rows = yield [(statements["get"], params)]

What is yielded together is one round trip. A driver runs the statements on some connection: ours (`Transaction`, or
`Database` with a transaction per round trip), the caller's, or one of a thread. An error of the driver is raised in the
program where it yields.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from jobq_storage_postgres.protocol import Step

T = TypeVar("T")

Rows: TypeAlias = "list[list[Any]]"
"""The rows of each statement of a round trip, as tuples."""

Program: TypeAlias = Generator[Sequence[Step], Rows, T]
"""An operation; returns its answer."""


class Last(list[Step]):
    """The last statements of a program: its transaction may be committed in the same round trip."""


async def drive(program: Program[T], run: Callable[[Sequence[Step]], Awaitable[Rows]]) -> T:
    """Run a program on a connection of an event loop."""
    try:
        steps = next(program)
        while True:
            try:
                rows = await run(steps)
            except Exception as error:  # noqa: BLE001  (raised in the program)
                steps = program.throw(error)
            else:
                steps = program.send(rows)
    except StopIteration as end:
        answer: T = end.value
        return answer


def drive_sync(program: Program[T], run: Callable[[Sequence[Step]], Rows]) -> T:
    """Run a program on a connection of a thread."""
    try:
        steps = next(program)
        while True:
            try:
                rows = run(steps)
            except Exception as error:  # noqa: BLE001  (raised in the program)
                steps = program.throw(error)
            else:
                steps = program.send(rows)
    except StopIteration as end:
        answer: T = end.value
        return answer


def part(program: Program[T]) -> Program[T]:
    """Return a program as a part of a longer one, whose transaction it does not end."""
    try:
        steps = next(program)
        while True:
            steps = program.send((yield list(steps)))
    except StopIteration as end:
        answer: T = end.value
        return answer
