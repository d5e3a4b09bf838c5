"""`RunLog`: the lines that one run has logged and that are not stored yet, within bounds.

Of what a run logs, the first HEAD_BYTES are stored while it runs, and the last TAIL_BYTES when it has ended. What is in
between is left out, and counted.
"""

from __future__ import annotations

import logging
from collections import deque
from datetime import UTC, datetime
from typing import Final

from jobq_core.storage import LogLine, LogPart
from jobq_worker.running.run import Run

HEAD_BYTES: Final = 48 * 1024
TAIL_BYTES: Final = 16 * 1024 - 512
"""Both of UTF-8. With the line that says how many are left out, an attempt has 64 KiB at most."""
LINE_BYTES: Final = 8 * 1024
"""Maximum size of a message with its traceback; the rest is cut off."""
OVERHEAD_BYTES: Final = 64
"""What a line counts for beside its texts."""
NAME_LENGTH: Final = 200
"""Maximum number of characters of the names of a level and of a logger."""

_formatter: Final = logging.Formatter("%(message)s")


class RunLog:
    """Threads of the run add lines, one at a time; the event loop takes them."""

    def __init__(self) -> None:
        self._new: deque[LogLine] = deque()
        self._head_size = 0
        self._tail: deque[tuple[LogLine, int]] = deque()
        self._tail_size = 0
        self._left_out = 0
        self._parts = 0
        self.unsent: deque[LogPart] = deque()
        """The parts that were made of lines, until they are stored."""

    def add(self, line: LogLine) -> None:
        """Take a line."""
        size = len(line.message.encode()) + len(line.logger.encode()) + len(line.level.encode()) + OVERHEAD_BYTES
        if not self._tail and self._head_size + size <= HEAD_BYTES:
            self._head_size += size
            self._new.append(line)
            return
        self._tail.append((line, size))
        self._tail_size += size
        while self._tail_size > TAIL_BYTES:
            _, gone = self._tail.popleft()
            self._tail_size -= gone
            self._left_out += 1

    def make_part(self, run: Run, *, last: bool) -> None:
        """Make a part of the new lines, if there are any. last: whether the run has ended."""
        lines = [self._new.popleft() for _ in range(len(self._new))]
        if last:
            lines += self._end()
        if lines:
            job = run.job
            part = LogPart(job=job.id, lease=job.lease, attempt=job.attempt, part=self._parts, lines=tuple(lines))
            self._parts += 1
            self.unsent.append(part)

    def _end(self) -> list[LogLine]:
        """Take the last lines, after one that says how many are left out before them."""
        tail = [line for line, _ in self._tail]
        self._tail.clear()
        if not tail or not self._left_out:
            return tail
        said = (
            f"… {self._left_out} lines are left out here: of an attempt, the first {HEAD_BYTES // 1024} KiB and the "
            "last 16 KiB are kept"
        )
        return [LogLine(tail[0].at, "WARNING", "jobq.worker", said), *tail]


def to_line(record: logging.LogRecord, offset: float) -> LogLine:
    """Return a record as a line that every storage keeps. offset: seconds that the storage's clock is ahead."""
    return LogLine(
        datetime.fromtimestamp(record.created + offset, UTC),
        _storable(str(record.levelname)[:NAME_LENGTH]),
        _storable(str(record.name)[:NAME_LENGTH]),
        _cut(_storable(_formatter.format(record))),
    )


def _storable(text: str) -> str:
    """Return text without NUL characters and lone surrogates, which are spelled out."""
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _cut(text: str) -> str:
    """Return a text of LINE_BYTES at most, which says so if something is cut off."""
    if len(text) <= LINE_BYTES // 4:
        return text
    data = text.encode()
    if len(data) <= LINE_BYTES:
        return text
    said = f" … (cut: {len(data):,} bytes)"
    return data[: LINE_BYTES - len(said.encode())].decode("utf-8", "ignore") + said
