"""`FollowUp`: what a declaration stores of the job that follows another one, and the job that is made of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Raw

from jobq_core import ConfigurationError, ErrorRecord, InvalidJobError, Job, Secret, job
from jobq_core.adding import new_job, new_job_like
from jobq_core.encoding import fingerprint
from jobq_core.follow_ups import FollowUp, follow_failure
from jobq_core.ids import new_id
from jobq_core.masking import marked_secrets
from jobq_core.parents import parent_of, with_parent
from jobq_core.storage import ClaimedJob, FailedJob, NewJob

JOB = new_id()
NEW = new_id()
ERROR = ErrorRecord(type="ValueError", message="no card")


@job(queue="ops", priority=3, timeout=5, max_attempts=2, fingerprint=True)
class Alert(Job[None]):
    job_id: UUID
    kind: str
    error: ErrorRecord
    order_id: int
    channel: str = "ops"


def failed(added: NewJob, **options: Any) -> FailedJob:
    assert added.follow_up is not None
    values = {
        "id": JOB, "queue": "shop", "kind": added.kind, "arguments": Raw(added.arguments),
        "follow_up": Raw(added.follow_up), "error": ERROR,
    }  # fmt: skip
    return FailedJob(**values | options)


def test_a_follow_up_takes_its_arguments_by_their_names() -> None:
    @job(on_failure=Alert)
    class Charge(Job[None]):
        order_id: int
        card: str

    added = new_job(JOB, Charge(7, "x"), "shop", {"headers": {"tenant": "a"}, "run_id": "r"})
    assert added.meta is not None
    new = follow_failure(NEW, failed(added, meta=Raw(added.meta), run_id=added.run_id))
    error = msgspec.json.encode(ERROR)
    arguments = b'{"job_id":"%s","kind":"Charge","error":%s,"order_id":7}' % (str(JOB).encode(), error)
    assert new == NewJob(
        id=NEW,
        queue="ops",
        kind="Alert",
        arguments=arguments,
        priority=3,
        timeout=5.0,
        max_attempts=2,
        run_id="r",
        meta=with_parent(b'{"tenant":"a"}', JOB),
        fingerprint=fingerprint("Alert", arguments),
    )
    assert Alert.definition.decode_arguments(new.arguments) == Alert(JOB, "Charge", ERROR, 7)


def test_a_job_value_is_added_as_it_is_in_the_queue_of_the_job_unless_it_declares_one() -> None:
    @job
    def tidy(folder: str) -> None: ...

    @job(on_failure=tidy("/tmp"))
    def unpack() -> None: ...

    new = follow_failure(NEW, failed(new_job(JOB, unpack(), "shop", {})))
    assert (new.kind, new.queue, new.arguments) == ("tidy", "shop", b'{"folder":"/tmp"}')
    assert (parent_of(new.meta), new.follow_up, new.fingerprint) == (JOB, None, None)


def test_a_follow_up_has_a_follow_up_of_its_own() -> None:
    @job
    def page(kind: str) -> None: ...

    @job(on_failure=page)
    def alert(kind: str) -> None: ...

    @job(on_success=alert, on_failure=alert)
    def charge() -> None: ...

    added = new_job(JOB, charge(), "shop", {})
    second = follow_failure(NEW, failed(added))
    third = follow_failure(NEW, failed(second))
    assert (third.kind, third.arguments, third.follow_up) == ("page", b'{"kind":"alert"}', None)
    success = charge.definition.on_success
    assert success is not None
    claimed = ClaimedJob(JOB, 1, "shop", "charge", b"{}", 1, 10)
    assert success.of_success(NEW, claimed, b"1") == msgspec.structs.replace(second, arguments=b'{"kind":"charge"}')


def test_jobs_of_a_kind_without_one_have_no_follow_up() -> None:
    @job(on_success=Alert(JOB, "x", ERROR, 1))
    def charge() -> None: ...

    assert new_job(JOB, charge(), "shop", {}).follow_up is None


def test_each_job_of_a_batch_has_the_follow_up() -> None:
    @job(on_failure=Alert)
    def charge(order_id: int) -> None: ...

    first = new_job(JOB, charge(1), "shop", {})
    assert new_job_like(first, NEW, charge(2)).follow_up == first.follow_up


def test_what_is_stored_of_a_follow_up_is_small_and_has_no_defaults() -> None:
    @job
    def alert(kind: str) -> None: ...

    @job(on_failure=alert)
    def charge() -> None: ...

    assert charge.definition.on_failure == b'{"kind":"alert","takes":["kind"]}'


def test_a_follow_up_of_a_newer_version_is_read() -> None:
    added = new_job(JOB, Alert(JOB, "x", ERROR, 1), "shop", {})
    stored = Raw(b'{"kind":"alert","takes":["kind"],"delay":5}')
    new = follow_failure(NEW, failed(msgspec.structs.replace(added, follow_up=bytes(stored))))
    assert (new.kind, new.arguments) == ("alert", b'{"kind":"Alert"}')


def test_a_result_that_is_too_large_is_refused_and_an_error_is_not() -> None:
    claimed = ClaimedJob(JOB, 1, "shop", "charge", b"{}", 1, 10)
    follow_up = FollowUp(kind="keep", takes=("result", "error"))
    with pytest.raises(InvalidJobError, match="the arguments of keep take 3000"):
        follow_up.of_success(NEW, claimed, b'"%s"' % (b"x" * 300_000))
    large = FailedJob(
        id=JOB,
        queue="q",
        kind="k",
        arguments=Raw(b"{}"),
        follow_up=Raw(b"{}"),
        error=ErrorRecord(type="E", message="x" * 300_000),
    )
    assert len(follow_up.of_failure(NEW, large).arguments) > 300_000


def test_a_job_value_that_cannot_be_stored_is_refused_at_the_declaration() -> None:
    @job
    def tidy(size: float) -> None: ...

    with pytest.raises(ConfigurationError, match=r"job unpack: on_failure: tidy\.size is nan"):

        @job(on_failure=tidy(float("nan")))
        def unpack() -> None: ...


def test_a_follow_up_that_needs_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_failure=Alert needs 'order_id'; it can take job_id, kind, error"):

        @job(on_failure=Alert)
        def act() -> None: ...


def test_the_secrets_of_a_follow_up_are_marked_beside_those_of_its_parent() -> None:
    @job
    class Call(Job[None]):
        pin: Secret[str]

    @job(on_failure=Call(Secret("1234")))
    class Charge(Job[None]):
        card: Secret[str]

    added = new_job(JOB, Charge(Secret("x")), "shop", {})
    assert added.meta is not None
    new = follow_failure(NEW, failed(added, meta=Raw(added.meta)))
    assert marked_secrets(new.meta) == {"card", "pin"}
    assert parent_of(new.meta) == JOB
