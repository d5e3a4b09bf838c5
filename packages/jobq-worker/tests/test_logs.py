"""How the commands write their log: text, or JSON that machines read."""

from __future__ import annotations

import json
import logging

import pytest

from jobq_worker.logs import FORMATS, LEVELS, JsonFormatter, configure_logging


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
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (2 if level == "debug" else 1)
    assert lines[0].startswith("{") == (format == "json")
    assert "mail is down" in lines[0]


def test_a_program_that_has_set_up_its_logging_keeps_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.RootLogger(logging.WARNING)
    root.addHandler(logging.NullHandler())
    monkeypatch.setattr(logging, "root", root)
    configure_logging("debug", "json")
    root.error("mail is down")
    assert capsys.readouterr().err == ""
