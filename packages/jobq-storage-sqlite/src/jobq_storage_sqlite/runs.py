"""The fields of a claimed job that the writer keeps, so that settling its run need not read them."""

from __future__ import annotations

from typing import Final, TypeAlias
from uuid import UUID

GATED: Final = 1
FOLLOWED: Final = 2
FAILURE_FOLLOWED: Final = 4
"""The flags of a job. The last one: it has a `follow_up`."""

RUNS_LIMIT: Final = 100_000
"""Maximum number of runs that are kept. Runs whose lease was lost are never settled."""


Run: TypeAlias = tuple[UUID, int, str, str, int, int, int, str | None]
"""A run: its job's id, number, queue and kind; how many microseconds it waited, and when it was claimed; its flags and
unique key. A plain tuple, since one is made for every job."""
