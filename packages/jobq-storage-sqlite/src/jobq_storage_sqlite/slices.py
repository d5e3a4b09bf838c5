"""Operations on many jobs, in slices. Each slice is a transaction of its own, and others can write in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from jobq_core.storage import Change
from jobq_storage_sqlite.group_commit import Work

SLICE: Final = 500
"""How many jobs a slice changes at most: it holds the write lock for about 10 ms."""

PAUSE_SECONDS: Final = 0.005
"""The pause after a slice. A process that waits for the write lock asks for it about as often."""

OnProgress = Callable[[int], object]
"""Gets the number of jobs that an operation has changed so far."""


async def in_slices(
    write: Callable[[Work[int]], Awaitable[int]],
    work: Callable[..., int],
    limit: int | None = None,
    on_progress: OnProgress | None = None,
) -> int:
    """Run slices until one changes fewer jobs than it may, or `limit` jobs are changed; return their number.

    work: gets a transaction and the `size` of the slice, and returns how many jobs it changed.
    """
    changed = 0
    while limit is None or changed < limit:
        size = SLICE if limit is None else min(SLICE, limit - changed)
        count = await write(partial(work, size=size))
        changed += count
        if count and on_progress is not None:
            on_progress(changed)
        if count < size:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    return changed


async def change_in_slices(
    write: Callable[[Work[list[Change]]], Awaitable[list[Change]]],
    work: Callable[..., list[Change]],
    ids: Sequence[UUID],
) -> list[Change]:
    """Change jobs in slices, and return the changes. work: gets a transaction and the `ids` of a slice."""
    changes: list[Change] = []
    for start in range(0, len(ids), SLICE):
        if start:
            await asyncio.sleep(PAUSE_SECONDS)
        changes += await write(partial(work, ids=ids[start : start + SLICE]))
    return changes
