from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq_core.errors import (
    AbortSignalJobError,
    ConfigurationError,
    JobDisabledError,
    JobQueueError,
    PermanentJobError,
    RetryableJobError,
    Snooze,
)
from jobq_core.retry import Backoff, RetryPolicy, deciding

BACKOFFS = st.builds(
    Backoff,
    base=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    maximum=st.floats(0, 1e8),
    jitter=st.booleans(),
)


def test_the_wait_doubles_up_to_an_hour() -> None:
    backoff = Backoff(jitter=False)
    assert [backoff.delay(attempt) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert [backoff.delay(attempt) for attempt in (12, 13, 100)] == [2048, 3600, 3600]


def test_the_wait_is_as_configured() -> None:
    backoff = Backoff(base=10, factor=3, maximum=100, jitter=False)
    assert [backoff.delay(attempt) for attempt in (1, 2, 3, 4)] == [10, 30, 90, 100]


def test_a_wait_may_be_a_timedelta() -> None:
    backoff = Backoff(base=timedelta(minutes=1), maximum=timedelta(hours=2))
    assert backoff == Backoff(base=60, maximum=7200)
    assert type(backoff.base) is float


def test_jitter_draws_from_zero_to_the_wait() -> None:
    drawn = iter([0.0, 0.25, 0.999])
    assert [Backoff(base=8).delay(1, draw=drawn.__next__) for _ in range(3)] == [0, 2, 7.992]


def test_jobs_that_fail_together_do_not_come_back_together() -> None:
    assert len({Backoff().delay(5) for _ in range(50)}) == 50


@given(BACKOFFS, st.integers(1, 32767), st.floats(0, 1, exclude_max=True))
def test_no_wait_is_negative_or_beyond_the_maximum(backoff: Backoff, attempt: int, drawn: float) -> None:
    assert 0 <= backoff.delay(attempt, draw=lambda: drawn) <= backoff.maximum


@given(BACKOFFS, st.integers(1, 200))
def test_no_wait_is_shorter_than_the_one_before(backoff: Backoff, attempt: int) -> None:
    assert backoff.delay(attempt, draw=lambda: 0.5) <= backoff.delay(attempt + 1, draw=lambda: 0.5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"base": -1}, "base"),
        ({"base": float("nan")}, "base"),
        ({"base": float("inf")}, "base"),
        ({"maximum": -0.001}, "maximum"),
        ({"maximum": float("inf")}, "maximum"),
        ({"factor": 0.5}, "factor"),
        ({"factor": 101}, "factor"),
        ({"factor": float("nan")}, "factor"),
    ],
)
def test_bad_backoffs_are_refused_by_name(options: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Backoff(**options)  # type: ignore[arg-type]


def test_any_exception_is_worth_another_attempt() -> None:
    policy = RetryPolicy()
    assert policy.retries(ValueError())
    assert policy.retries(RetryableJobError())
    assert policy.retries(JobQueueError())


def test_a_permanent_error_is_not() -> None:
    class MineError(PermanentJobError):
        pass

    for policy in (RetryPolicy(), RetryPolicy(retry_on=(Exception,))):
        assert not policy.retries(PermanentJobError())
        assert not policy.retries(MineError())


def test_fail_on_fails_at_once_with_subclasses() -> None:
    policy = RetryPolicy(fail_on=[LookupError])
    assert not policy.retries(KeyError())
    assert policy.retries(ValueError())


def test_retry_on_leaves_out_all_others() -> None:
    policy = RetryPolicy(retry_on=[OSError])
    assert policy.retries(ConnectionResetError())
    assert not policy.retries(ValueError())
    assert not RetryPolicy(retry_on=()).retries(ValueError())


def test_fail_on_is_stronger_than_retry_on() -> None:
    policy = RetryPolicy(retry_on=(OSError,), fail_on=(FileNotFoundError,))
    assert not policy.retries(FileNotFoundError())
    assert policy.retries(PermissionError())


@pytest.mark.parametrize("types", [ValueError, 7, "ValueError", ["ValueError"], [int], [None]], ids=repr)
@pytest.mark.parametrize("name", ["fail_on", "retry_on"])
def test_anything_but_exception_types_is_refused_when_the_policy_is_made(name: str, types: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        RetryPolicy(**{name: types})


@pytest.mark.parametrize("backoff", [None, 5, {"base": 5}], ids=repr)
def test_anything_but_a_backoff_is_refused_when_the_policy_is_made(backoff: Any) -> None:
    with pytest.raises(ConfigurationError, match="backoff must be a Backoff"):
        RetryPolicy(backoff=backoff)


# Groups, as a TaskGroup raises them


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    """Return the exceptions in a group within a group."""
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", errors)])


def test_a_group_fails_at_once_if_one_of_its_exceptions_does() -> None:
    assert not RetryPolicy().retries(group(OSError(), PermanentJobError()))
    assert not RetryPolicy(fail_on=[LookupError]).retries(group(KeyError(), OSError()))
    assert not RetryPolicy(retry_on=[OSError]).retries(group(OSError(), ValueError()))
    assert not RetryPolicy(fail_on=[BaseExceptionGroup]).retries(group(OSError()))


def test_a_group_runs_again_if_all_its_exceptions_do() -> None:
    assert RetryPolicy().retries(group(OSError(), ValueError()))
    assert RetryPolicy(retry_on=[OSError]).retries(group(OSError(), ConnectionResetError(), RetryableJobError()))
    assert RetryPolicy(fail_on=[LookupError]).retries(group(OSError()))
    assert RetryPolicy(retry_on=[BaseExceptionGroup]).retries(group(ValueError()))


def test_asking_for_a_retry_counts_more_than_the_types_that_are_retried() -> None:
    class MineError(RetryableJobError):
        pass

    assert RetryPolicy(retry_on=[OSError]).retries(MineError())
    assert not RetryPolicy(fail_on=[MineError]).retries(MineError())


def test_the_exception_that_decides_is_found_in_a_group() -> None:
    permanent, abort, disable = PermanentJobError(), AbortSignalJobError(), JobDisabledError()
    again, later, other = RetryableJobError(delay=1), Snooze(5), ValueError()
    for one in (permanent, abort, disable, again):
        assert deciding(one) is one
        assert deciding(group(other, later, one)) is one
    assert deciding(group(again, disable, abort, permanent)) is permanent
    assert deciding(group(again, disable)) is disable
    assert deciding(group(later)) is later
    assert deciding(group(later, Snooze(9))) is later
    assert deciding(group(other)) is other


def test_a_group_without_such_an_exception_decides_itself() -> None:
    for several in (group(ValueError(), OSError()), group(Snooze(5), OSError())):
        assert deciding(several) is several
