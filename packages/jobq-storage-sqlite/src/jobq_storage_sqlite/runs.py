"""What the writer keeps in mind of a claimed job, so that it need not be looked up when its run is settled."""

from __future__ import annotations

from typing import Final, TypeAlias
from uuid import UUID

GATED: Final = 1
FOLLOWED: Final = 2
"""The flags of a job."""

RUNS_LIMIT: Final = 100_000
"""How many runs are kept in mind. Those of leases that were lost are never settled."""


Run: TypeAlias = tuple[UUID, int, str, str, int, int, int, str | None]
"""A run: its job's id, number, queue and kind; how many microseconds it waited, and when it was claimed; its flags and
unique key. A plain tuple, since one is made for every job."""
