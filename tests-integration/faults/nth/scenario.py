"""`Scenario`: one way to call an operation; and the objects that it uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs

from jobq_core.storage import Heartbeat, QueueStorage

from .world import World

Act: TypeAlias = Callable[["Stage"], Awaitable[Any]]

Plain: TypeAlias = dict[str, Any]
"""All that is visible, as lists of plain rows by their name."""

Partly: TypeAlias = Callable[[Plain, Plain, Plain], bool]
"""Whether the last of three, of a storage before and after an operation, is one after a part of its transactions."""


@attrs.define
class Stage:
    """The objects that an operation uses; faults are injected into `storage`."""

    storage: QueueStorage
    other: QueueStorage
    """A storage without faults, like that of another process."""
    world: World
    caller: Callable[..., Any]
    """Returns a context manager of a caller's connection in a transaction."""
    advance_watermarks: Callable[[], None]
    """Makes the next claim advance the watermarks."""
    heartbeat: Heartbeat | None = None


@attrs.frozen(kw_only=True)
class Scenario:
    """One way to call an operation.

    changes: whether the operation changes anything visible. before: a step before it, without faults. theirs: whether
    the caller's own statements can fail, too, with the driver's errors. partly: for an operation of several
    transactions, what a call that fails may leave: a part of them, or all. see: reads rows that the operation changes
    beside jobs and workers. aside: whether no job depends on what it changes. most: the number of statements to fail,
    for an operation that repeats its statements without limit.
    """

    act: Act
    changes: bool = True
    before: Act | None = None
    theirs: bool = False
    opened: bool = True
    partly: Partly | None = None
    see: Act | None = None
    aside: bool = False
    most: int = 1000


def reads(act: Act) -> Scenario:
    return Scenario(act=act, changes=False, aside=True)


def in_parts(*jobs: int) -> Partly:
    """Return whether each transaction took effect as a whole or not at all. jobs: how many are changed after each."""

    def partly(before: Plain, after: Plain, seen: Plain) -> bool:
        as_before = [job for job in before["records"] if job in seen["records"]]
        changed = len(before["records"]) - len(as_before)
        return changed in (0, *jobs) and all(some_rows(before[name], after[name], seen[name]) for name in before)

    return partly


def some_rows(before: list[Any], after: list[Any], seen: list[Any]) -> bool:
    """Return whether each row is as before or as after, and none is lost or there twice."""
    found = [_key(row) for row in seen]
    stay = {_key(row) for row in before} & {_key(row) for row in after}
    return len(found) == len({*found}) and stay <= {*found} and all(row in before or row in after for row in seen)


def _key(row: Any) -> str:
    """Return what stays of a row that changes: the id of a job. Other rows do not change: they are added or removed."""
    return str(row["id"] if isinstance(row, dict) and "id" in row else row)
