"""Jobs that take a secret and reveal it in their failures in every possible way."""

from __future__ import annotations

import traceback
from urllib.parse import quote

from jobq_core import (
    AbortSignalJobError,
    JobContext,
    JobDisabledError,
    PermanentJobError,
    RetryableJobError,
    RetryPolicy,
    Secret,
    job,
)

ONCE = RetryPolicy(retry_on=())


def misbehave(token: Secret[str], how: str) -> object:
    """Fail in the given way, with the secret in the error."""
    word = token.reveal()
    match how:
        case "message":
            raise ValueError(f"{word} was refused")
        case "cause":
            try:
                {}[word]
            except KeyError as error:
                raise RuntimeError("no such user") from error
        case "context":
            try:
                int(word)
            except ValueError:
                raise RuntimeError("and then") from None
        case "note":
            error = RuntimeError("see the note")
            error.add_note(f"it was {word!r}")
            raise error
        case "group":
            raise ExceptionGroup(f"several with {word}", [OSError(f"one\n{word}"), KeyError(word)])
        case "spelled":
            raise ConnectionError(f"GET https://example.org/?token={quote(word)} gave 401 {traceback.format_list([])}")
        case "permanent":
            raise PermanentJobError(word)
        case "abort":
            raise AbortSignalJobError(word)
        case "disable":
            raise JobDisabledError(word)
        case "retry":
            raise RetryableJobError(word, delay=3600)
        case "long":
            raise ValueError("x" * 3_990 + word + "y" * 20_000 + word)
        case "result":
            return {word: Secret([word, float("nan")]), "value": Secret({word: 2**70})}
        case "exit":
            raise SystemExit(word)
    return len(word)


HOWS = (
    *("message", "cause", "context", "note", "group", "spelled", "permanent"),
    *("abort", "disable", "retry", "long", "result", "exit"),
)


@job(retry=ONCE)
async def in_loop(context: JobContext, token: Secret[str], how: str) -> object:
    context.progress(50, "half")
    return misbehave(token, how)


@job(retry=ONCE)
def in_thread(token: Secret[str], how: str) -> object:
    return misbehave(token, how)


@job(queue="elsewhere", name="in_loop")
def misfit(token: Secret[int], how: int) -> object: ...


@job(queue="elsewhere")
def unknown(token: Secret[str]) -> object: ...
