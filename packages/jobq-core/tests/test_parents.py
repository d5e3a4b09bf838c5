"""Which job added another one: kept in the child's `meta`, and when its children were made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core.adding import decode_headers
from jobq_core.errors import WorkerLostError
from jobq_core.ids import first_id_after
from jobq_core.masking import mark_secrets, marked_secrets
from jobq_core.parents import (
    FOLLOWED_SECONDS,
    SKEW_SECONDS,
    mark_of,
    may_have_children,
    parent_of,
    time_of_id,
    times_of_children,
    with_parent,
)
from jobq_core.records import AttemptRecord, ErrorRecord, JobRecord, type_name
from jobq_core.states import JobState

S = JobState
PARENT, OTHER = UUID("0198c0de-0000-7000-8000-000000000001"), UUID("0198c0de-0000-7000-8000-000000000002")
ADDED = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return ADDED + timedelta(seconds=seconds)


def job(state: JobState, *runs: float, **fields: Any) -> JobRecord:
    """Return a job whose attempts started after these seconds, and failed one second later."""
    error = ErrorRecord(type=type_name(WorkerLostError), message="lost")
    attempts = tuple(
        AttemptRecord(number=1, lease=1, worker=None, started_at=later(at), finished_at=later(at + 1), error=error)
        for at in runs
    )
    fields = {"arguments_json": b"{}", "attempts": attempts} | fields
    return JobRecord(id=PARENT, kind="k", queue="q", state=state, priority=0, created_at=ADDED, **fields)


@pytest.mark.parametrize("meta", [None, b"{}", b'{"tenant":"7"}', b'{ "tenant" : "7" }', mark_secrets(None, ["pin"])])
def test_a_child_has_its_parent_beside_its_headers_and_secrets(meta: bytes | None) -> None:
    marked = with_parent(meta, PARENT)
    assert parent_of(marked) == PARENT
    assert (decode_headers(marked), marked_secrets(marked)) == (decode_headers(meta), marked_secrets(meta))
    assert mark_of(PARENT) in marked
    assert mark_of(OTHER) not in marked


def test_the_parent_of_a_follow_up_replaces_that_of_the_job_that_ended() -> None:
    marked = with_parent(with_parent(b'{"tenant":"7"}', PARENT), OTHER)
    assert (parent_of(marked), decode_headers(marked)) == (OTHER, {"tenant": "7"})
    assert mark_of(PARENT) not in marked


@pytest.mark.parametrize("meta", [b"[1]", b"jobq:parent", b'"jobq:parent"', b"\xff"])
def test_what_another_program_stored_is_dropped(meta: bytes) -> None:
    assert with_parent(meta, PARENT) == with_parent(None, PARENT)


@pytest.mark.parametrize(
    "value", [b"7", b"null", b"[]", b"[7]", b'["no id"]', b'"%s"' % str(PARENT).encode(), b'{"a":1}', b'["a","b"]']
)
def test_a_mark_of_another_form_names_nobody(value: bytes) -> None:
    assert parent_of(b'{"jobq:parent":%s}' % value) is None


def test_the_record_of_a_job_has_its_parent_and_not_among_its_headers() -> None:
    child = job(S.PENDING, meta_json=with_parent(b'{"tenant":"7"}', OTHER))
    assert (child.parent, child.meta, child.shown_headers) == (OTHER, {"tenant": "7"}, b'{"tenant":"7"}')
    assert job(S.PENDING).parent is None


@pytest.mark.parametrize(
    ("parent", "first", "last"),
    [
        (job(S.COMPLETED, started_at=later(5), finished_at=later(7)), 5, 7 + SKEW_SECONDS),
        (job(S.COMPLETED, 5, started_at=later(90), finished_at=later(95)), 5, 95 + SKEW_SECONDS),
        (job(S.FAILED, 5, started_at=later(5), finished_at=later(6)), 5, 6 + FOLLOWED_SECONDS),
        (job(S.ABORTED, 5, started_at=later(5), finished_at=later(6)), 5, 6 + SKEW_SECONDS),
        (job(S.FAILED, finished_at=later(60)), 0, 60 + FOLLOWED_SECONDS),
        (job(S.PENDING, 5, started_at=later(5)), 5, None),
    ],
    ids=range(6),
)
def test_children_are_made_while_their_parent_runs_or_soon_after_it_failed(
    parent: JobRecord, first: float, last: float | None
) -> None:
    assert times_of_children(parent) == (later(first - SKEW_SECONDS), None if last is None else later(last))
    assert may_have_children(parent)


def test_a_job_that_has_never_ended_a_run_has_no_children() -> None:
    assert not may_have_children(job(S.PENDING))
    assert not may_have_children(job(S.PROCESSING, started_at=later(5)))


def test_the_time_of_an_id_is_that_at_which_it_was_made() -> None:
    assert time_of_id(first_id_after(ADDED)) is None
    made = UUID(int=first_id_after(ADDED).int | 0x7 << 76 | 0x8 << 60)
    assert time_of_id(made) == ADDED + timedelta(milliseconds=1)
    assert time_of_id(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")) == datetime.max.replace(tzinfo=UTC)
