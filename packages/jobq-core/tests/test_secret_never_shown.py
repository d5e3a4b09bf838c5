"""Attacks on Secrets: whatever goes wrong with a job, no error, cause, context or repr says what a Secret holds."""

from __future__ import annotations

import enum
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import attrs
import msgspec
import pytest

from jobq_core import InvalidJobError, Job, JobDefinition, Secret, UnfitArgumentsError, job
from jobq_core.adding import new_job
from jobq_core.encoding import encode
from jobq_core.ids import new_id
from jobq_core.records import ErrorRecord
from jobq_core.secret import redact
from jobq_core.states import Ending, JobState
from jobq_core.storage import Added, ClaimedJob, JobStatus, NewJob, SettleAndClaimResult, Settlement

WORD = "hunter2hunter2"
NUMBER = 4711471147114711


class Color(enum.Enum):
    RED = "red"


@attrs.frozen
class Card:
    number: str = attrs.field()

    @number.validator
    def check(self, attribute: Any, value: str) -> None:
        raise ValueError(f"{value!r} is not a card number")


@attrs.frozen
class Typed:
    number: str = attrs.field()

    @number.validator
    def check(self, attribute: Any, value: str) -> None:
        raise TypeError(f"{value!r} is not a card number")


@job()
def any_secret(token: Secret[Any], note: Any = None) -> None: ...
@job()
def text(token: Secret[str]) -> None: ...
@job()
def number(token: Secret[int]) -> None: ...
@job()
def color(token: Secret[Color]) -> None: ...
@job()
def choice(token: Secret[Literal["a", "b"]]) -> None: ...
@job()
def card(token: Secret[Card]) -> None: ...
@job()
def typed(token: Secret[Typed]) -> None: ...
@job()
def many(tokens: dict[str, Secret[list[int]]]) -> None: ...
@job()
def maybe(token: Secret[int] | None = None) -> None: ...


class Vault:
    """What no JSON has a form for, and whose repr tells all."""

    def __repr__(self) -> str:
        return WORD


def everything_said(error: BaseException | None) -> Iterator[str]:
    """Give all that an error, its causes, contexts and notes say, as text and as repr."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield from (str(error), repr(error), repr(vars(error)))
        yield "".join(traceback.format_exception(error))
        waiting += [error.__cause__, error.__context__]


def assert_hidden(*shown: object) -> None:
    for one in shown:
        for said in everything_said(one) if isinstance(one, BaseException) else (repr(one), str(one)):
            assert WORD not in said
            assert str(NUMBER) not in said


@pytest.mark.parametrize(
    "make",
    [
        lambda: any_secret(Secret(f"{WORD}\0")),
        lambda: any_secret(Secret(f"{WORD}\udc80")),
        lambda: any_secret(Secret(NUMBER * 10**16)),
        lambda: any_secret(Secret({WORD: float("nan")})),
        lambda: any_secret(Secret({f"{WORD}\0": 1})),
        lambda: any_secret(Secret({WORD: [{WORD: NUMBER * 10**16}]})),
        lambda: any_secret(Secret({WORD: Vault()})),
        lambda: any_secret(Secret([WORD] * 100_000)),
        lambda: any_secret(Secret(Vault())),
        lambda: any_secret(Secret({Vault(): 1})),
        lambda: any_secret(Secret(1), note={Secret(WORD): 2**64}),
        lambda: any_secret(Secret({Secret(WORD): NUMBER * 10**16})),
        lambda: any_secret({"deep": [Secret({WORD: Secret({WORD: f"{WORD}\0"})})]}),
        lambda: any_secret(Secret(WORD), note=2**64),
        lambda: text(Secret(NUMBER)),  # type: ignore[arg-type]
        lambda: text(WORD and Secret([WORD])),  # type: ignore[arg-type]
        lambda: number(Secret(WORD)),  # type: ignore[arg-type]
        lambda: color(Secret(WORD)),  # type: ignore[arg-type]
        lambda: choice(Secret(WORD)),  # type: ignore[arg-type]
        lambda: card(Secret({"number": WORD})),  # type: ignore[arg-type]
        lambda: typed(Secret({"number": WORD})),  # type: ignore[arg-type]
        lambda: many({"a": Secret([1, WORD])}),  # type: ignore[list-item]
        lambda: maybe(Secret(WORD)),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_stored_is_refused_without_saying_the_secret(make: Callable[[], Job[None]]) -> None:
    given = make()
    with pytest.raises(InvalidJobError) as caught:
        new_job(new_id(), given, "default", {})
    assert_hidden(caught.value, given)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (any_secret(Secret({"key": 2**64})), "any_secret.token is a number, beyond"),
        (any_secret(Secret(["a\0"])), "any_secret.token holds a NUL"),
        (any_secret({"x": [Secret("a\0")]}), r"any_secret.token.x\[0\] holds a NUL"),
        (any_secret(Secret(1), note={"key": 2**64}), r"any_secret.note.key is 18446744073709551616"),
        (number(Secret("x")), r"Secret\[int\] cannot be made from the stored value - at `\$.token`"),
        (many({"a": Secret(["x"])}), r"cannot be made from the stored value - at `\$.tokens\[...\]`"),  # type: ignore[list-item]
    ],
)
def test_the_place_is_said_up_to_the_secret(given: Job[None], place: str) -> None:
    with pytest.raises(InvalidJobError, match=place):
        new_job(new_id(), given, "default", {})


@pytest.mark.parametrize(
    "stored",
    [
        b'{"token":"%s"}' % WORD.encode(),
        b'{"token":{"%s":%d}}' % (WORD.encode(), NUMBER),
        b'{"%s":%d}' % (WORD.encode(), NUMBER),
        b'{"token":"%s\xff"}' % WORD.encode(),
        b'{"token":"%s' % WORD.encode(),
        b"%s" % WORD.encode(),
        b"[" * 100_000 + WORD.encode(),
    ],
)
@pytest.mark.parametrize("declared", [number, color, choice, card, typed, maybe])
def test_foreign_stored_data_is_refused_and_not_repeated(stored: bytes, declared: Any) -> None:
    definition: JobDefinition = declared.definition
    if declared is maybe and b"token" not in stored and stored.endswith(b"}"):
        return  # a job without a token is fine, and the name that is not declared is shown: see the next test
    with pytest.raises((InvalidJobError, UnfitArgumentsError)) as caught:
        definition.decode_arguments(stored)
    assert_hidden(caught.value)


def test_the_value_of_an_argument_that_is_not_declared_is_not_repeated() -> None:
    with pytest.raises(UnfitArgumentsError, match="`pin`") as caught:
        maybe.definition.decode_arguments(b'{"pin":{"%s":%d}}' % (WORD.encode(), NUMBER))
    assert_hidden(caught.value)


def test_what_passes_through_storages_does_not_show_what_it_carries() -> None:
    new = new_job(new_id(), any_secret(Secret(WORD), NUMBER), "default", {})
    claimed = ClaimedJob(new.id, 1, "default", "any_secret", new.arguments, 1, 10)
    settled = Settlement(new.id, 1, Ending.COMPLETE, result=WORD.encode())
    status = JobStatus(
        id=new.id,
        kind="any_secret",
        queue="default",
        state=JobState.COMPLETED,
        attempt=1,
        progress=None,  # type: ignore[arg-type]
        result_json=WORD.encode(),
    )
    assert WORD.encode() in new.arguments
    assert isinstance(new, NewJob)
    for value in (new, claimed, settled, status):
        assert_hidden(value, [value], {"x": value}, SettleAndClaimResult([], [claimed]), Added(new.id, True))
        assert str(new.id) in repr(value)
    # A hash of what can be guessed, a PIN say, tells it.
    assert "hash" not in repr(msgspec.structs.replace(new, fingerprint=b"hash"))


def test_an_error_about_something_else_shows_a_job_without_its_secret() -> None:
    with pytest.raises(Exception, match="add"):
        new_job(new_id(), text(Secret(WORD)), "default", {"colour": Secret(WORD)})  # type: ignore[typeddict-unknown-key]
    for options in ({"unique": Secret(WORD)}, {"tags": [Secret(WORD)]}, {"queue": Secret(WORD)}):
        with pytest.raises(Exception, match=r"\*\*\*") as caught:
            new_job(new_id(), text(Secret(WORD)), "default", options)  # type: ignore[arg-type]
        assert_hidden(caught.value)


@dataclass
class Kept:
    token: Any


class Held(msgspec.Struct):
    token: Any


@pytest.mark.parametrize(
    "held",
    [
        Kept(Secret(WORD)),
        Held(Secret(WORD)),
        {Secret(WORD): 1},
        Secret(Secret(WORD)),
        Secret({"password": WORD, "n": NUMBER}),
        Secret([Kept({"token": WORD})]),
        Secret(WORD.encode()),
    ],
)
def test_redact_finds_secrets_and_what_is_in_them_wherever_they_are(held: Any) -> None:
    assert redact(f"a {WORD} b", (held,)) == "a *** b"


@pytest.mark.parametrize("shape", [str, repr, lambda text: f"{text!r} refused", lambda text: f"url?x={text}"])
@pytest.mark.parametrize(
    "secret", ["pa ss/wörd&=", 'it\'s "it"', "-----BEGIN-----\nabcdef+/=\nghijkl\n-----END-----\n"]
)
def test_redact_finds_the_usual_spellings(secret: str, shape: Callable[[str], str]) -> None:
    from urllib.parse import quote, quote_plus

    for spelled in (
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        msgspec.json.encode(secret).decode(),
    ):
        left = redact(shape(spelled), (Secret(secret),))
        for piece in ("ss", "wö", "it's", "abcdef", "ghijkl"):
            assert piece not in left.replace("refused", "")


def test_redact_finds_a_secret_of_several_lines_that_are_indented() -> None:
    group = ExceptionGroup("several", [ValueError("key:\n-----BEGIN-----\nabcdef+/=\nghijkl\n-----END-----")])
    text = "".join(traceback.format_exception(group))
    assert "| ghijkl" in text
    left = redact(text, (Secret("-----BEGIN-----\nabcdef+/=\nghijkl\n-----END-----"),))
    assert "abcdef" not in left
    assert "ghijkl" not in left


def test_redact_leaves_short_numbers_and_truth_values_within_a_secret_alone() -> None:
    assert redact("line 3 of 12 is True", (Secret({"n": 3, "m": 12, "t": True, "x": None}),)) == "line 3 of 12 is True"


def test_an_error_that_is_kept_shows_what_was_kept() -> None:
    record = ErrorRecord(type="ValueError", message=redact(f"no {WORD}", (Secret(WORD),)))
    assert_hidden(record)


def test_a_result_that_cannot_be_kept_does_not_say_its_secret() -> None:
    for result in (Secret(NUMBER * 10**16), {"x": Secret({WORD: float("inf")})}, Secret([Vault()])):
        with pytest.raises(InvalidJobError) as caught:
            text.definition.encode_result(result)
        assert_hidden(caught.value)
    assert encode(Secret([Secret(WORD)]), "x", 1000) == f'["{WORD}"]'.encode()
