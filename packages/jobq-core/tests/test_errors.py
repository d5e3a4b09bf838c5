from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobq_core import errors
from jobq_core.errors import JobQueueError, RetryableJobError


def all_errors() -> list[type[Exception]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_is_in_the_tree_and_in_its_drawing(error: type[Exception]) -> None:
    assert issubclass(error, JobQueueError)
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidJobError, ValueError),
        (errors.ConfigurationError, ValueError),
        (errors.WaitTimeoutError, TimeoutError),
    ],
)
def test_errors_can_be_caught_by_the_builtin_they_extend(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)


def test_errors_of_the_database_are_storage_errors() -> None:
    assert issubclass(errors.StorageUnavailableError, errors.StorageError)
    assert issubclass(errors.SchemaError, errors.StorageError)
    assert not issubclass(errors.SchemaError, errors.StorageUnavailableError)


def test_a_retryable_error_has_a_delay_or_a_time() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert (RetryableJobError("busy").delay, RetryableJobError("busy").retry_at) == (None, None)
    assert RetryableJobError(delay=0).delay == 0
    assert RetryableJobError(delay=timedelta(minutes=1)).delay == 60.0
    assert RetryableJobError("busy", retry_at=moment).retry_at == moment
    assert str(RetryableJobError("busy", delay=1.5)) == "busy"


def test_a_retryable_error_with_an_impossible_time_is_refused() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="not both"):
        RetryableJobError(delay=1, retry_at=moment)
    with pytest.raises(ValueError, match="0 seconds or more"):
        RetryableJobError(delay=-1)
    with pytest.raises(ValueError, match="0 seconds or more"):
        RetryableJobError(delay=timedelta(seconds=-1))
    with pytest.raises(ValueError, match="0 seconds or more"):
        RetryableJobError(delay=float("nan"))
    with pytest.raises(ValueError, match="0 seconds or more"):
        RetryableJobError(delay="soon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="retry_at must be an aware datetime"):
        RetryableJobError(retry_at=30)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time zone"):
        RetryableJobError(retry_at=moment.replace(tzinfo=None))
