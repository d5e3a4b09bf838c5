from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq_core.adding import decode_backoff, decode_headers, new_job
from jobq_core.declaring import job
from jobq_core.encoding import fingerprint
from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.ids import new_id
from jobq_core.retry import Backoff
from jobq_core.storage import NewJob

MOMENT = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


@job()
def plain(number: int = 0) -> None: ...


@job(queue="mail", priority=3, timeout=60, max_attempts=5, fingerprint=True)
def declared(number: int = 0) -> None: ...


def submit(value: Any = None, /, **options: Any) -> NewJob:
    return new_job(new_id(), plain() if value is None else value, "default", options)  # type: ignore[arg-type]


def test_without_options_the_declaration_decides_and_the_client_names_the_queue() -> None:
    made = submit(plain(7))
    assert (made.queue, made.kind, made.arguments) == ("default", "plain", b'{"number":7}')
    assert (made.priority, made.timeout, made.max_attempts) == (0, None, 10)
    assert (made.run_at, made.deadline, made.backoff, made.unique_key, made.run_id) == (None, None, None, None, None)
    assert (made.tags, made.fingerprint) == ((), None)


def test_the_declaration_is_stronger_than_the_clients_queue() -> None:
    made = submit(declared(7))
    assert (made.queue, made.priority, made.timeout, made.max_attempts) == ("mail", 3, 60, 5)
    assert made.fingerprint == fingerprint("declared", made.arguments)


def test_the_submission_is_stronger_than_the_declaration() -> None:
    made = submit(declared(), queue="urgent", priority=0, timeout=1, max_attempts=1)
    assert (made.queue, made.priority, made.timeout, made.max_attempts) == ("urgent", 0, 1.0, 1)


def test_the_id_is_the_clients() -> None:
    made = new_id()
    assert new_job(made, plain(), "default", {}).id == made


def test_all_else_is_handed_on() -> None:
    made = submit(unique="order 7", run_id="nightly", tags=["b", "a", "b"], deadline=MOMENT)
    assert (made.unique_key, made.run_id, made.tags, made.deadline) == ("order 7", "nightly", ("b", "a"), MOMENT)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"delay": 0}, 0.0),
        ({"delay": 30}, 30.0),
        ({"delay": 0.5}, 0.5),
        ({"delay": timedelta(minutes=1, microseconds=1)}, 60.000001),
        ({"run_at": MOMENT}, MOMENT),
        ({"delay": None, "run_at": MOMENT}, MOMENT),
    ],
    ids=str,
)
def test_a_delay_is_seconds_and_run_at_is_a_moment(options: dict[str, Any], expected: object) -> None:
    run_at = submit(**options).run_at
    assert run_at == expected
    assert type(run_at) is type(expected)


@pytest.mark.parametrize("deadline", [60, 60.0, timedelta(minutes=1)], ids=repr)
def test_a_deadline_may_be_seconds_from_now(deadline: Any) -> None:
    assert submit(deadline=deadline).deadline == 60.0


def test_a_timeout_may_be_a_timedelta() -> None:
    assert submit(timeout=timedelta(minutes=1)).timeout == 60.0


class Nowhere(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delay": 1, "run_at": MOMENT}, "delay or run_at, not both"),
        ({"delay": MOMENT}, "give a datetime as run_at"),
        ({"run_at": 30}, "give seconds as delay"),
        ({"run_at": MOMENT.replace(tzinfo=None)}, "run_at needs a time zone"),
        ({"deadline": MOMENT.replace(tzinfo=None)}, "deadline needs a time zone"),
        ({"run_at": MOMENT.replace(tzinfo=Nowhere())}, "run_at needs a time zone"),
        ({"delay": -1}, "delay must be from 0 seconds"),
        ({"delay": timedelta(seconds=-1)}, "delay must be from 0 seconds"),
        ({"delay": 4e9}, "delay must be from 0 seconds to 100 years"),
        ({"delay": float("nan")}, "delay must be"),
        ({"delay": float("inf")}, "delay must be"),
        ({"delay": True}, "delay must be"),
        ({"delay": "soon"}, "delay must be"),
        ({"deadline": "soon"}, "deadline must be"),
        ({"deadline": -1}, "deadline must be from 0 seconds"),
        ({"priority": 101}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": 0}, "timeout"),
        ({"queue": 7}, "queue"),
        ({"queue": "x" * 256}, "queue"),
        ({"unique": ""}, "unique"),
        ({"unique": 7}, "unique"),
        ({"run_id": ""}, "run_id"),
        ({"run_id": "a\0"}, "run_id"),
        ({"tags": "urgent"}, "tags must be several"),
        ({"tags": [""]}, "a tag"),
        ({"tags": [7]}, "a tag"),
        ({"tags": 7}, "tags must be several"),
        ({"tags": 0}, "tags must be several"),
        ({"queue": ""}, "queue must be text"),
        ({"queue": 0}, "queue must be text"),
        ({"delay": 10**400}, "delay must be from 0 seconds to 100 years"),
        ({"run_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "run_at must lie in the years"),
        ({"unique": "x" * 1000}, r"not .x{79}… \(1002 characters\)"),
        ({"tags": map(str, range(51))}, "50 tags, not 51"),
        ({"retry": 5}, "retry must be a Backoff"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        submit(**options)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="add\\(\\) has no option eta, prio"):
        submit(prio=1, eta=2, queue="q")


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidJobError, match=r"\$\.number"):
        submit(plain("seven"))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [plain, 7, None, "plain", object()], ids=lambda value: type(value).__name__)
def test_a_value_that_is_not_a_job_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError):
        new_job(new_id(), value, "default", {})


@given(st.floats(0, 1e9), st.floats(1, 100), st.floats(0, 3e8), st.booleans())
def test_a_backoff_comes_back_as_it_was(base: float, factor: float, maximum: float, jitter: bool) -> None:
    base = min(base, 3e8)
    backoff = Backoff(base=base, factor=factor, maximum=maximum, jitter=jitter)
    data = submit(retry=backoff).backoff
    assert data is not None
    assert decode_backoff(data) == backoff
    assert decode_backoff(data.decode()) == backoff


def test_a_stored_backoff_is_checked_and_may_have_fields_of_a_later_release() -> None:
    assert decode_backoff(b'{"base":5,"later":1}') == Backoff(base=5)
    with pytest.raises(ConfigurationError, match="base must be 0 seconds or more"):
        decode_backoff(b'{"base":-1}')
    with pytest.raises(msgspec.ValidationError, match="base"):
        decode_backoff(b'{"base":"soon"}')


def test_headers_are_stored_as_json() -> None:
    headers = {"traceparent": "00-ab-cd-01", "tenant": "ü"}
    made = submit(headers=headers)
    assert made.meta is not None
    assert msgspec.json.decode(made.meta) == headers
    assert decode_headers(made.meta) == headers
    assert submit().meta is None
    assert submit(headers={}).meta is None


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([("a", "b")], "headers must be a dict of texts"),
        ("a=b", "headers must be a dict of texts"),
        ({"a": 1}, "the header 'a' must be text, not 1"),
        ({"a": None}, "the header 'a' must be text, not None"),
        ({1: "a"}, "the name of a header must be text"),
        ({"": "a"}, "the name of a header must be text of 1 to 255"),
        ({"a": "x\0"}, "NUL"),
        ({"a": "x" * 8192}, "headers takes 8200 bytes as JSON, 8192 are allowed"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_headers_other_than_texts_by_name_are_refused(headers: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        submit(headers=headers)


@pytest.mark.parametrize("meta", [None, b"[1]", b"not JSON", b'{"a":1}', b"7"])
def test_what_another_program_stored_as_headers_is_left_out(meta: bytes | None) -> None:
    assert decode_headers(meta) == {}
