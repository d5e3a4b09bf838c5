"""The log of `jobq worker` and `jobq server`: lines of text, or one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Final, TextIO

from jobq_core.current import current_job

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
MAX_LINES: Final = 10_000
"""Maximum number of lines that wait to be written."""
FLUSH_SECONDS: Final = 0.5
"""Time that the end of the process waits for lines that nothing reads."""

_STANDARD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""The attributes that every log record has; the others came with `extra=`."""


class JobLogFilter(logging.Filter):
    """Adds the fields job_id, kind, queue and attempt to the log records of a handler, whatever logger makes them.

    Add it to a logging handler. Records made outside of a job stay as they are: a format that names these fields needs
    defaults, as in `logging.Formatter("%(job_id)s %(message)s", defaults={"job_id": "-"})`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, unless the record has them; True, since it leaves no record out."""
        context = current_job()
        if context is not None and not hasattr(record, "job_id"):
            record.job_id = str(context.job_id)
            record.kind = context.kind
            record.queue = context.queue
            record.attempt = context.attempt
        return True


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, logger, message, the fields of `extra=`, and the traceback.

    process: the name of this process, which is a field too; None for no such field.
    """

    def __init__(self, process: str | None = None) -> None:
        super().__init__()
        self._process: dict[str, object] = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= self._process
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:  # formatted in a handler process
            line["traceback"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes lines in a thread, so that a stream that takes nothing, such as a full pipe, holds nothing up.

    At most MAX_LINES lines wait; what comes then is left out, and counted in the log. Errors of the stream, such as
    that of a closed pipe or a full disk, are ignored.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._pid = os.getpid()
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name="jobq-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record in. Returns at once."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  (as every handler does)
            self.handleError(record)
            return
        if os.getpid() != self._pid:  # a forked child, without the thread
            self._write(line)
            return
        with self._changed:
            if len(self._lines) >= MAX_LINES:
                self._dropped += 1
                return
            if self._dropped:
                self._lines.append(f"… {self._dropped} lines of the log were dropped")
                self._dropped = 0
            self._lines.append(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until the lines are written, FLUSH_SECONDS at most."""
        if os.getpid() == self._pid:
            with self._changed:
                self._changed.wait_for(lambda: not self._lines, FLUSH_SECONDS)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._lines))
                lines = list(self._lines)
            self._write("\n".join(lines))
            with self._changed:
                for _ in lines:
                    self._lines.popleft()
                self._changed.notify_all()

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text + "\n")
            self.stream.flush()


def configure_logging(level: str, format: str, *, process: str | None = None, keep: int | None = None) -> None:
    """Log to standard error, unless the program has set up its logging already.

    level: one of LEVELS. format: one of FORMATS. process: the name of this process, for each line, where there are
    several. keep: the level from which on the worker keeps what handlers log: the loggers let that through too.
    """
    handler = StderrHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonFormatter(process))
    else:
        prefix = "" if process is None else f"[{process.replace('%', '%%')}] "
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {prefix}%(message)s"))
    handler.addFilter(JobLogFilter())
    number = logging.getLevelNamesMapping()[level.upper()]
    handler.setLevel(number)
    logging.basicConfig(level=number if keep is None else min(number, keep), handlers=[handler])
