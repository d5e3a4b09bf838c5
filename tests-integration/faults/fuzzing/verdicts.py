"""The result of a call with odd values: an answer, or an error that people can understand."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, HypothesisWarning

from jobq_core.errors import JobQueueError

T = TypeVar("T")

TIMEOUT = 20.0
"""Seconds after which a call counts as hung: far more than any call takes, even on a busy machine."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Refused:
    """A documented error: its class and its message, without the ids, which differ each time."""

    def __init__(self, error: Exception) -> None:
        self.error = type(error).__name__
        self.said = _ID.sub("<id>", str(error))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and (self.error, self.said) == (other.error, other.said)

    def __hash__(self) -> int:
        return hash((self.error, self.said))

    def __repr__(self) -> str:
        return f"{self.error}: {self.said}"


def try_all(drawn: st.SearchStrategy[T], check: Callable[[T], object], *, count: int, seed: int) -> int:
    """Check `count` values of a strategy, drawn by the seed; return the number of values tried."""
    tried = 0
    failures: list[Exception] = []

    @given(drawn)
    def run(value: T) -> None:
        nonlocal tried
        tried += 1
        try:
            check(value)
        except Exception as error:
            failures.append(error)
            raise

    chosen = settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    with warnings.catch_warnings():
        # Some values are long on purpose, and take long to show.
        warnings.simplefilter("ignore", HypothesisWarning)
        try:
            chosen(seeded(seed)(run))()
        except HypothesisException as error:
            # Hypothesis failed while it shrank the value (a subclass of str, for example): the first error counts.
            raise next(iter(failures), error) from error
    return tried


def attempt(call: Callable[[], T], names: Collection[str]) -> T | Refused:
    """Make a call that answers, or fails with a jobq error that contains one of the names; raise all other errors."""
    begun = time.monotonic()
    try:
        return call()
    except JobQueueError as error:
        return _understood(error, names)
    finally:
        assert time.monotonic() - begun < TIMEOUT, "the call took too long"


async def attempt_async(call: Callable[[], Awaitable[T]], names: Collection[str]) -> T | Refused:
    """Do the same as `attempt` for a coroutine."""
    begun = time.monotonic()
    try:
        return await call()
    except JobQueueError as error:
        return _understood(error, names)
    finally:
        assert time.monotonic() - begun < TIMEOUT, "the call took too long"


def _understood(error: JobQueueError, names: Collection[str]) -> Refused:
    said = str(error)
    assert said.strip(), f"{type(error).__name__} has no message"
    assert len(said) < 1000, f"{type(error).__name__} has a message of {len(said)} characters: {said[:200]}"
    said.encode(errors="strict")  # the message can be printed and logged
    assert any(name in said for name in names), f"{type(error).__name__} names none of {sorted(names)}: {said}"
    return Refused(error)


def words_for(options: Mapping[str, Any], words: Mapping[str, str]) -> set[str]:
    """Return the words of which an error about these options must contain one: by default, the option's name."""
    return {words.get(name, name) for name in options}
