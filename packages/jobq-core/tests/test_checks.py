"""Values that no option takes: refused with words that name the option, whatever the value is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from jobq_core import Backoff, ConfigurationError, RetryableJobError
from jobq_core.checks import check_count, check_list, check_positive_seconds, check_seconds
from jobq_core.encoding import decode, decode_or_show
from jobq_core.errors import InvalidJobError
from jobq_core.reprs import short_repr
from jobq_core.storage import Retention

NO_TIME = [None, True, "5", b"5", [], object(), -1, float("nan"), float("inf"), 1e300, 10**400, 10**5000]


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", NO_TIME, ids=lambda value: short_repr(value)[:20])
@pytest.mark.parametrize(
    "use",
    [
        lambda value: check_positive_seconds(value, "gap"),
        lambda value: check_seconds(value, "gap"),
        lambda value: Backoff(base=value),
        lambda value: Backoff(maximum=value),
        lambda value: Backoff(factor=value),
        lambda value: Retention(failed=value if value is not None else "never"),
    ],
    ids=["span", "patience", "base", "maximum", "factor", "retention"],
)
def test_anything_but_a_number_of_seconds_is_refused(use: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"gap|base|maximum|factor|failed"):
        use(value)


@pytest.mark.parametrize("check", [check_seconds, check_positive_seconds])
def test_a_timedelta_is_taken_as_its_seconds(check: Callable[[Any, str], float]) -> None:
    seconds = check(timedelta(minutes=1, milliseconds=5), "gap")
    assert (seconds, type(seconds)) == (60.005, float)


@pytest.mark.parametrize("value", [timedelta(seconds=-1), timedelta.max], ids=repr)
@pytest.mark.parametrize("check", [check_seconds, check_positive_seconds])
def test_a_timedelta_out_of_range_is_refused(check: Callable[[Any, str], float], value: timedelta) -> None:
    with pytest.raises(ConfigurationError, match=r"gap must be .* seconds.*, not datetime\.timedelta"):
        check(value, "gap")


def test_zero_is_refused_as_a_positive_time() -> None:
    assert check_seconds(timedelta(0), "gap") == 0
    with pytest.raises(ConfigurationError, match="more than 0 seconds"):
        check_positive_seconds(timedelta(0), "gap")


def test_a_jitter_that_is_not_a_bool_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="jitter must be True or False"):
        Backoff(jitter="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, 1.0, "1", -1, 10**5000, Silent()], ids=lambda value: short_repr(value)[:20])
def test_anything_but_a_count_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="slots must be a whole number, 0 or more and at most 10, not"):
        check_count(value, "slots", most=10)


@pytest.mark.parametrize("value", [5, None, "mail", b"mail", object()], ids=lambda value: short_repr(value)[:20])
def test_anything_but_a_collection_is_refused_with_an_example(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"tags must be several, as in tags=\['mail'\], not"):
        check_list(value, "tags", "tags=['mail']")


def test_a_value_is_shown_in_few_characters_whatever_its_repr_does() -> None:
    assert short_repr("x" * 1000) == f"'{'x' * 79}… (1002 characters)"
    assert short_repr(10**5000) == "a int"
    assert short_repr(Silent()) == "a Silent"


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), 1e300])
def test_a_retry_at_a_time_that_no_storage_keeps_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match="delay must be 0 seconds or more"):
        RetryableJobError(delay=delay)


@pytest.mark.parametrize(
    "moment",
    [
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=12))),
    ],
)
def test_a_retry_outside_the_years_of_utc_is_refused(moment: datetime) -> None:
    with pytest.raises(ValueError, match="no storage could keep the retry_at"):
        RetryableJobError(retry_at=moment)
    RetryableJobError(retry_at=datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'"\\ud800"', b"1e999", b"[" * 100_000, "nul"])
def test_malformed_stored_json_is_distinguished_from_valid_json(data: bytes | str) -> None:
    with pytest.raises(InvalidJobError, match="not valid JSON"):
        decode(data)
    assert isinstance(decode_or_show(data), str)
    assert decode_or_show(b"[1]") == [1]
