from __future__ import annotations

import pytest

from jobq_core import ErrorRecord, Job, Secret, job
from jobq_core.ids import new_id
from jobq_core.storage import ClaimedJob
from jobq_worker.run import Run
from jobq_worker.settlements import MAX_MESSAGE, MAX_TRACEBACK, describe


@job()
async def login(user: str, password: Secret[str], keys: dict[str, Secret[str]]) -> None: ...


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message today")


def record(error: BaseException, arguments: Job[None] | None = None) -> ErrorRecord:
    run = Run(ClaimedJob(new_id(), 1, "default", "login", b"{}", 1, 10), 0.0)
    run.arguments = arguments
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return describe(run, caught)


def test_the_type_is_the_qualified_name() -> None:
    assert record(ValueError("x")).type == "ValueError"
    assert record(OddError()).type.endswith("test_settlements.OddError")


def test_every_secret_at_any_depth_is_hidden_in_message_and_traceback() -> None:
    arguments = login("ada", Secret("hunter22"), {"api": Secret("k-123")})
    found = record(ValueError("ada with hunter22 and k-123"), arguments)
    assert found.message == "ada with *** and ***"
    assert found.traceback is not None
    assert "hunter22" not in found.traceback
    assert "k-123" not in found.traceback


def test_a_secret_in_the_cause_is_hidden_too() -> None:
    cause = OSError("password hunter22 refused")
    error = ValueError("cannot log in")
    error.__cause__ = cause
    found = record(error, login("ada", Secret("hunter22"), {}))
    assert found.traceback is not None
    assert "password *** refused" in found.traceback


def test_a_secret_where_a_long_text_is_cut_is_hidden_whole() -> None:
    secret = "s" * 50
    for place in range(MAX_MESSAGE // 2 - 80, MAX_MESSAGE // 2 + 20, 7):
        message = "x" * place + secret + "y" * MAX_MESSAGE
        assert "sss" not in record(ValueError(message), login("ada", Secret(secret), {})).message
    for place in range(MAX_TRACEBACK // 2 - 400, MAX_TRACEBACK // 2 + 20, 7):
        found = record(ValueError("x" * place + secret + "y" * MAX_TRACEBACK), login("ada", Secret(secret), {}))
        assert found.traceback is not None
        assert "sss" not in found.traceback


def test_long_texts_keep_their_beginning_and_end() -> None:
    found = record(ValueError("begin" + "x" * 100_000 + "end"))
    assert len(found.message) <= MAX_MESSAGE
    assert found.message.startswith("begin")
    assert found.message.endswith("end")
    assert found.traceback is not None
    assert len(found.traceback) <= MAX_TRACEBACK


@pytest.mark.parametrize("text", ["a\0b", "a\udc80b"])
def test_what_no_storage_can_keep_is_spelled_out(text: str) -> None:
    found = record(ValueError(text))
    found.message.encode()
    assert "\0" not in found.message + (found.traceback or "")
    assert found.message in ("a\\x00b", "a\\udc80b")


def test_an_error_without_a_message_of_its_own_is_still_told() -> None:
    assert record(OddError()).message == "<no message: str() raised RuntimeError>"


def test_an_error_that_was_never_raised_has_no_traceback() -> None:
    run = Run(ClaimedJob(new_id(), 1, "default", "login", b"{}", 1, 10), 0.0)
    assert describe(run, ValueError("x")).traceback is None
