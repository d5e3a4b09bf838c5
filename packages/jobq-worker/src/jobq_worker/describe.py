"""From an exception to the ErrorRecord that is kept with the job: readable, bounded, and without secrets."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Final

from jobq_core.records import ErrorRecord, type_name
from jobq_core.secret import redact
from jobq_worker.run import Run

MAX_MESSAGE: Final = 4_000
"""Characters of an error's message."""
MAX_TRACEBACK: Final = 16_000
"""Characters of a traceback; of a longer one the beginning and the end are kept."""

_OWN = ("jobq_worker.", "jobq_core.job")


def describe(run: Run, error: BaseException) -> ErrorRecord:
    """Return the error's type, message and traceback, the latter from the handler's first frame on."""
    secrets = () if run.arguments is None else tuple(vars(run.arguments).values())
    frames = _handlers_own(error.__traceback__)
    text = None
    if frames is not None:
        text = "".join(traceback.TracebackException(type(error), error, frames).format())
        text = _cut(_clean(redact(text, secrets)), MAX_TRACEBACK)
    return ErrorRecord(
        type=type_name(type(error)),
        message=_cut(_clean(redact(_message(error), secrets)), MAX_MESSAGE),
        traceback=text,
    )


def _handlers_own(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OWN):
        trace = trace.tb_next
    return trace


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001  (an error that cannot say its message must not hide that it happened)
        return f"<its message cannot be had: {type(second).__name__}>"


def _clean(text: str) -> str:
    """Return text that every storage can keep: no NUL characters, no lone surrogates."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2 - 20
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
