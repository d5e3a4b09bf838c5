"""What is kept of the lines that one run logs: the first ones, the last ones, and nothing that no storage takes."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from uuid import uuid4

from jobq_core.storage import ClaimedJob, LogLine
from jobq_worker.running.run import Run
from jobq_worker.running.run_log import HEAD_BYTES, LINE_BYTES, RunLog, to_line

KIB = 1024


def line(message: str) -> LogLine:
    return LogLine(datetime(2026, 3, 4, tzinfo=UTC), "INFO", "shop", message)


def run() -> Run:
    return Run(ClaimedJob(uuid4(), 7, "default", "large", b"{}", 2, 10), 0.0)


def parts_of(log: RunLog) -> list[list[str]]:
    return [[each.message for each in part.lines] for part in log.unsent]


def test_each_part_has_the_lines_since_the_one_before() -> None:
    log, its = RunLog(), run()
    log.make_part(its, last=False)
    for text in ("one", "two"):
        log.add(line(text))
    log.make_part(its, last=False)
    log.add(line("three"))
    log.make_part(its, last=True)
    log.make_part(its, last=True)
    assert parts_of(log) == [["one", "two"], ["three"]]
    assert [(part.job, part.lease, part.attempt, part.part) for part in log.unsent] == [
        (its.job.id, 7, 2, 0),
        (its.job.id, 7, 2, 1),
    ]


def test_the_first_and_the_last_lines_of_a_run_are_kept_and_the_others_counted() -> None:
    log, its = RunLog(), run()
    for number in range(2000):
        log.add(line(f"{number:04} " + "é" * 30))
        if number % 100 == 0:
            log.make_part(its, last=False)
    before_end = [text for part in parts_of(log) for text in part]
    log.make_part(its, last=True)
    kept = [text for part in parts_of(log) for text in part]
    (gap,) = [index for index, text in enumerate(kept) if text.startswith("…")]
    numbers = [int(text[:4]) for text in kept[:gap] + kept[gap + 1 :]]
    assert numbers == [*range(gap), *range(2000 - len(kept) + gap + 1, 2000)]
    assert kept[gap] == (
        f"… {2000 - len(numbers)} lines are left out here: of an attempt, the first 48 KiB and the last 16 KiB are kept"
    )
    assert before_end == kept[: len(before_end)], "the first lines are stored while the run goes on"
    size = sum(len(text.encode()) for text in kept)
    assert 0.4 * 64 * KIB < size <= 64 * KIB
    assert sum(len(text.encode()) for text in kept[:gap]) <= HEAD_BYTES


def test_any_number_of_lines_takes_bounded_memory() -> None:
    log = RunLog()
    for _ in range(50_000):
        log.add(line(""))
    log.make_part(run(), last=True)
    assert len(log.unsent[0].lines) < 1024


def test_a_run_that_logs_less_than_the_bounds_loses_nothing() -> None:
    log = RunLog()
    for number in range(60):
        log.add(line(f"{number:04}" + "x" * 800))
    log.make_part(run(), last=True)
    assert [int(text[:4]) for part in parts_of(log) for text in part] == list(range(60))


def test_a_record_becomes_a_line_with_its_traceback_by_the_clock_of_the_storage() -> None:
    record = logging.makeLogRecord({"name": "shop.mail", "levelname": "ERROR", "msg": "to %s", "args": ("ann",)})
    record.created = 100.5
    try:
        raise LookupError("gone")
    except LookupError:
        record.exc_info = sys.exc_info()
    found = to_line(record, 20.25)
    assert (found.level, found.logger, found.at) == ("ERROR", "shop.mail", datetime.fromtimestamp(120.75, UTC))
    assert found.message.startswith("to ann\nTraceback (most recent call last):")
    assert found.message.endswith("LookupError: gone")


def test_a_line_has_at_most_eight_kib_and_says_what_is_cut() -> None:
    for text in ("x" * 9000, "é" * 5000, "☃" * 100_000):
        (message,) = [to_line(logging.makeLogRecord({"msg": text}), 0.0).message]
        assert LINE_BYTES - 3 <= len(message.encode()) <= LINE_BYTES
        assert message.endswith(f" … (cut: {len(text.encode()):,} bytes)")
        assert text.startswith(message.partition(" …")[0])
    for text in ("x" * LINE_BYTES, "é" * (LINE_BYTES // 2)):
        assert to_line(logging.makeLogRecord({"msg": text}), 0.0).message == text


def test_what_no_storage_takes_is_spelled_out() -> None:
    record = logging.makeLogRecord({"name": "a\0b", "levelname": "L" * 1000, "msg": "nul \0, surrogate \udcff, é"})
    found = to_line(record, 0.0)
    assert (found.logger, found.message) == ("a\\x00b", "nul \\x00, surrogate \\udcff, é")
    assert found.level == "L" * 200
    assert to_line(logging.makeLogRecord({"msg": "plain \0"}), 0.0).message == "plain \\x00"
