"""Spans: where jobs of a queue, a kind or a tag are among the ids, so that `find` passes over the others.

A span is 4,096 ms of the time in a UUIDv7. Every other id has a span too. Spans have the order of the ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final, TypeAlias
from uuid import UUID

from jobq_core.timestamps import SECOND

SPAN_SHIFT: Final = 92
"""The bits of an id below its span: 80 below its milliseconds, and twelve of those."""

END: Final = 1 << (128 - SPAN_SHIFT)
"""What follows the last span."""

AFTER_ALL_IDS: Final = b"\xff" * 17
"""What follows the last id."""

STORED_LIMIT: Final = 10_000
"""The number of stored spans from which they are forgotten. One queue and kind have two in 4,096 ms."""

APART: Final = 15
"""How many spans the time in an id may differ from the time of adding: a minute. The spans of other jobs, such as those
that a handler added an hour after it had made their ids, are stored with their time of adding."""

Span: TypeAlias = tuple[str, str, int]
"""A row of jobq_span: 'queue', 'kind', 'tag', 'state' or 'apart', its name, and a span that has jobs of it."""


def span_of(job_id: UUID) -> int:
    """Return the span that an id is in."""
    return job_id.int >> SPAN_SHIFT


def start_of(span: int) -> bytes:
    """Return the least id of a span."""
    return (span << SPAN_SHIFT).to_bytes(16) if span < END else AFTER_ALL_IDS


def span_at(moment: int) -> int:
    """Return the span of ids that are made at a moment, which is in microseconds."""
    return min(max(moment * 1000 // SECOND >> SPAN_SHIFT - 80, 0), END)


def apart_name(added: int) -> str:
    """Return the name of the spans of jobs that were added in this span but have ids of others: about an hour."""
    return f"{added >> 10:08d}"


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges of spans, which are in descending order; neighbours become one."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][0] == end:
            joined[-1] = (start, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


class StoredSpans:
    """The spans that are known to be stored, so that a writer stores each once. Any process's pruning ends that."""

    def __init__(self) -> None:
        self._spans: set[Span] = set()
        self._prunings = 0

    def missing(self, spans: Set[Span], prunings: int) -> list[Span]:
        """Return the spans that may not be stored, in order. prunings: how often spans were deleted so far."""
        if prunings != self._prunings or len(self._spans) > STORED_LIMIT:
            self.forget()
            self._prunings = prunings
        return sorted(spans - self._spans)

    def add(self, spans: Set[Span]) -> None:
        """Note spans that were committed."""
        self._spans |= spans

    def forget(self) -> None:
        """Take none for stored."""
        self._spans.clear()
