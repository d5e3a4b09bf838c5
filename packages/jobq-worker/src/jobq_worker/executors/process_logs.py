"""Log records of handler processes: sent to the worker, and handled by the loggers there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from jobq_core.current import running
from jobq_worker.executors.messages import LogEntry
from jobq_worker.running.run import Run

_DROPPED: Final = ("args", "exc_info", "message", "asctime")
_formatter = logging.Formatter()


def read_levels() -> dict[str, int]:
    """Return the levels of this process's loggers by name, the root logger's as ''."""
    root = logging.getLogger()
    loggers = {name: logger for name, logger in root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}
    return {"": root.level} | {name: logger.level for name, logger in loggers.items() if logger.level}


def set_levels(levels: dict[str, int], disabled: int) -> None:
    """Give this process's loggers the levels of the worker, so that it sends nothing that the worker would drop."""
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.disable(disabled)


def replay(record: dict[str, Any], run: Run | None) -> None:
    """Handle a record of a process as if it came from this one. run: the one that the process is sent at present."""
    made = logging.makeLogRecord(record)
    logger = logging.getLogger(made.name)
    if logger.isEnabledFor(made.levelno):
        # Between two runs, the process may log what belongs to none.
        token = running.set(run if run is not None and record.get("job_id") == str(run.job.id) else None)
        try:
            logger.handle(made)
        finally:
            running.reset(token)


class ChannelHandler(logging.Handler):
    """Sends log records to the worker; blocks while the worker does not take them.

    send: sends a message. fields: returns the fields of the present job.
    """

    def __init__(self, send: Callable[[LogEntry], None], fields: Callable[[], dict[str, object]]) -> None:
        super().__init__()
        self._send = send
        self._fields = fields

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record with the fields of the present job. The worker formats it, so its values become JSON here."""
        try:
            values = self._fields() | {name: value for name, value in vars(record).items() if name not in _DROPPED}
            values["msg"] = record.getMessage()
            if record.exc_info:
                values["exc_text"] = _formatter.formatException(record.exc_info)
            self._send(LogEntry({name: _plain(value) for name, value in values.items()}))
        except OSError:
            return  # the worker is gone, and the process ends with it
        except Exception:  # noqa: BLE001  (as every handler does)
            self.handleError(record)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    except Exception:  # noqa: BLE001  (what cannot be converted is shown)
        return repr(value)
