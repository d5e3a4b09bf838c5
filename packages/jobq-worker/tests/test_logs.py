"""How the commands write their log: text, or JSON that machines read."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator

import pytest

from jobq_worker import logs
from jobq_worker.logs import FORMATS, LEVELS, JsonFormatter, StderrHandler, configure_logging


def test_a_json_line_has_the_fields_of_the_record_and_its_traceback() -> None:
    record = logging.makeLogRecord(
        {"name": "jobq.worker", "levelname": "ERROR", "msg": "job %s failed", "args": ("7",)}
    )
    record.created = 0.5
    record.queue = "mail"
    try:
        raise ValueError("no such file")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    read = json.loads(line)
    traceback = read.pop("traceback")
    assert read == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "ERROR",
        "logger": "jobq.worker",
        "message": "job 7 failed",
        "queue": "mail",
    }
    assert traceback.endswith("ValueError: no such file")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("format", FORMATS)
def test_the_root_logger_gets_the_level_and_the_format(
    level: str, format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    configure_logging(level, format)
    root.error("mail is down")
    root.debug("a detail")
    root.handlers[0].flush()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (2 if level == "debug" else 1)
    assert lines[0].startswith("{") == (format == "json")
    assert "mail is down" in lines[0]


def test_the_loggers_let_through_what_is_kept_with_jobs_and_standard_error_does_not_show_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    configure_logging("warning", "text", keep=logging.DEBUG)
    assert root.isEnabledFor(logging.DEBUG)
    root.info("a detail")
    root.warning("mail is slow")
    root.handlers[0].flush()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("mail is slow")


def test_a_program_that_has_set_up_its_logging_keeps_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.RootLogger(logging.WARNING)
    root.addHandler(logging.NullHandler())
    monkeypatch.setattr(logging, "root", root)
    configure_logging("debug", "json")
    root.error("mail is down")
    assert capsys.readouterr().err == ""


@pytest.fixture
def pipe() -> Iterator[tuple[int, StderrHandler]]:
    """The reading end of a pipe, and a handler that writes to it."""
    reading, writing = os.pipe()
    yield reading, StderrHandler(os.fdopen(writing, "w"))
    with contextlib.suppress(OSError):
        os.close(reading)


def record(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text, "levelno": logging.INFO})


def fill(pipe: int) -> int:
    """Fill a pipe with lines, so that the next write has to wait, and return how many."""
    os.set_blocking(pipe, False)
    lines = 0
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe, b"x" * 4095 + b"\n"):
            lines += 1
    os.set_blocking(pipe, True)
    return lines


def test_a_pipe_that_nobody_reads_holds_nothing_up(
    pipe: tuple[int, StderrHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_LINES", 100)
    reading, handler = pipe
    before = fill(handler.stream.fileno())
    for number in range(200):
        handler.emit(record(f"{number} " + "x" * 10_000))
    monkeypatch.setattr(logs, "FLUSH_SECONDS", 0.01)
    handler.flush()
    with os.fdopen(os.dup(reading)) as stream:
        for _ in range(before):
            stream.readline()
        numbers = [int(stream.readline().split()[0]) for _ in range(100)]
        assert numbers == list(range(100))
        monkeypatch.setattr(logs, "FLUSH_SECONDS", 60.0)
        handler.flush()
        handler.emit(record("at last"))
        assert stream.readline() == "… 100 lines of the log were dropped\n"
        assert stream.readline() == "at last\n"


def test_a_closed_pipe_stops_nothing(pipe: tuple[int, StderrHandler]) -> None:
    reading, handler = pipe
    os.close(reading)
    handler.emit(record("unread"))
    handler.flush()
    with contextlib.suppress(BrokenPipeError):
        handler.stream.close()
    handler.emit(record("unread"))
    handler.flush()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_writes_its_lines_itself(pipe: tuple[int, StderrHandler]) -> None:
    reading, handler = pipe
    child = os.fork()
    if child == 0:
        handler.emit(record("of the child"))
        os._exit(0)
    os.waitpid(child, 0)
    handler.emit(record("of the parent"))
    with os.fdopen(os.dup(reading)) as stream:
        assert [stream.readline(), stream.readline()] == ["of the child\n", "of the parent\n"]
