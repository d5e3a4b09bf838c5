"""Invalid values, and values at the edge of the valid ones."""

from __future__ import annotations

import decimal
import enum
import fractions
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import partial
from typing import Any

from hypothesis import strategies as st

from jobq_core import Backoff, JobState
from jobq_core.reprs import short_repr
from jobq_core.secret import Secret


class Nowhere(tzinfo):
    """A time zone without an offset: Python treats such a datetime as naive."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "nowhere"


class Nameless:
    """An object whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("this has no repr")


class Loud(str):
    """Text of a subclass of str."""


class Colour(str, enum.Enum):  # noqa: UP042  (the test needs this class)
    """A text that is also a member of an enumeration."""

    RED = "red"


class Level(enum.IntEnum):
    """A number that is also a member of an enumeration."""

    ONE = 1


def nested(levels: int) -> Any:
    """Return lists within lists."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def ring() -> list[Any]:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


texts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(categories=["Cs", "Cc", "Lu", "So"]), max_size=6),
    st.sampled_from(
        [
            "", " ", "\0", "a\0b", "\ud800", "x\udfff", "\U0010ffff", "'; DROP TABLE jobq_job; --", '"', "\\", "{}",
            "{NULL}", "NULL", "%s", "$1", "a" * 255, "a" * 256, "é" * 255, "😀" * 255, "a" * 100_000, "default",
            "PENDING", "nan", "0",
        ]
    ),
)  # fmt: skip
numbers = st.one_of(
    st.integers(-12, 12),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [
            0, -1, 1, 9, 10, -9, -10, 32767, 32768, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63),
            -(2**63) - 1,
            10**30, 0.0, -0.0, 5e-324, 1e-9, 1e-7, 0.1, 1e308, float("inf"), -float("inf"), float("nan"),
            100 * 366 * 86400, 100 * 366 * 86400.5, 10 * 365 * 86400, True, False, 1j,
        ]
    ),
    st.decimals(),
    st.fractions(),
)  # fmt: skip
zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.just(Nowhere()),
    st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone),
)
moments = st.one_of(
    st.datetimes(timezones=zones),
    st.builds(
        datetime.replace,
        st.sampled_from([datetime.min, datetime.max, datetime(1970, 1, 1)]),  # noqa: DTZ001, DTZ901
        tzinfo=zones,
    ),
)
spans = st.one_of(st.timedeltas(), st.sampled_from([timedelta.min, timedelta.max, timedelta(0), timedelta(seconds=-1)]))
lone: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, ..., NotImplemented, object(), object, int, str, len, Nameless, Loud("loud"), Colour.RED, Level.ONE,
        JobState.FAILED, Backoff(), Secret("hidden"), date(2026, 1, 1), decimal.Decimal("NaN"),
        fractions.Fraction(1, 3), uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), range(3), frozenset({"a"}),
        memoryview(b"a"), bytearray(b"a"),
    ]
)  # fmt: skip
unshowable = st.sampled_from(
    [Nameless, lambda: 10**5000, ring, *(partial(nested, levels) for levels in (62, 63, 64, 65, 2000, 20_000))]
).map(lambda make: make())
"""Strategies are built when they are drawn, since Hypothesis shows their values."""
scalars = st.one_of(
    st.none(), unshowable, st.booleans(), numbers, texts, st.binary(max_size=8), st.uuids(), moments, spans, lone
)


def _anything() -> st.SearchStrategy[Any]:
    keys = st.one_of(texts, st.integers(), st.none(), st.uuids())
    return st.one_of(
        scalars,
        st.recursive(
            scalars,
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.lists(inner, max_size=3).map(tuple),
                st.dictionaries(keys, inner, max_size=3),
                st.sets(st.one_of(texts, st.integers()), max_size=3),
            ),
            max_leaves=6,
        ),
        st.integers(51, 60).map(lambda count: [f"tag {number}" for number in range(count)]),
    )


anything = _anything()
"""Any value: alone, or in nested lists, tuples, sets and dicts."""


class Drawn:
    """The drawn options, and the names of the odd ones."""

    def __init__(self, odd: list[str], given: dict[str, Any]) -> None:
        self.odd = odd
        self.given = given

    def __repr__(self) -> str:
        return f"odd: {self.odd}; " + ", ".join(f"{name}={short_repr(value)}" for name, value in self.given.items())


@st.composite
def one_odd(
    draw: st.DrawFn, options: Mapping[str, st.SearchStrategy[Any]], needed: Collection[str] = (), odds: int = 1
) -> Drawn:
    """Draw options of which one (or up to `odds`) may be anything. The others are valid: otherwise the first refusal
    would hide the rest."""
    odd = draw(st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=odds, unique=True))
    given = {}
    for name, in_order in options.items():
        if name in odd:
            given[name] = draw(anything)
        elif name in needed or draw(st.booleans()):
            given[name] = draw(in_order)
    return Drawn(odd, given)


def _plain() -> st.SearchStrategy[Any]:
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=5)),
        max_leaves=12,
    )


plain = _plain()
"""Any JSON value, within and beyond the limits of what a storage keeps."""
