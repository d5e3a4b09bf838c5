"""Secrets in stored jobs are not shown, by any program that shows the job."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from jobq_core import Secret, job
from jobq_core.adding import decode_headers, new_job
from jobq_core.ids import new_id
from jobq_core.masking import USUAL_NAMES, holds_secret, mark_secrets, marked_secrets, mask


@dataclass
class Card:
    owner: str
    number: Secret[str]


@dataclass
class Chain:
    link: Chain | None = None
    card: Card | None = None


@job
async def charge(order_id: int, card: Card, pin: Secret[str], others: list[Secret[int]], note: str = "") -> None: ...


@job
async def plain(order_id: int) -> None: ...


@pytest.mark.parametrize(
    ("hint", "holds"),
    [
        (Secret[str], True),
        (Secret[str] | None, True),
        (dict[str, list[Secret[int]]], True),
        (tuple[int, Card], True),
        (Chain, True),
        (int, False),
        (list[str], False),
    ],
)
def test_a_secret_is_found_at_any_depth_of_a_type(hint: object, holds: bool) -> None:
    assert holds_secret(hint) is holds


def test_a_job_is_stored_with_the_names_of_its_secret_arguments_beside_its_headers() -> None:
    value = charge(7, Card("kai", Secret("4111")), Secret("1234"), [Secret(1)])
    new = new_job(new_id(), value, "default", {"headers": {"tenant": "7"}})
    assert marked_secrets(new.meta) == {"card", "pin", "others"}
    assert decode_headers(new.meta) == {"tenant": "7"}
    shown = mask(new.arguments, marked_secrets(new.meta))
    assert msgspec.json.decode(shown) == {"order_id": 7, "card": "***", "pin": "***", "others": "***", "note": ""}


def test_a_job_without_secrets_is_stored_as_before() -> None:
    assert new_job(new_id(), plain(7), "default", {}).meta is None


def test_a_mark_of_another_form_is_ignored() -> None:
    for meta in (None, b"{}", b'{"jobq:secrets": 7}', b'"jobq:secrets"', b"jobq:secrets"):
        assert marked_secrets(meta) == frozenset()
    assert marked_secrets(mark_secrets(b'{"a":"b"}', ["pin"])) == {"pin"}


@pytest.mark.parametrize(
    ("name", "is_usual"),
    [
        ("password", True),
        ("db_password", True),
        ("Api-Key", True),
        ("access_token", True),
        ("smtp.credentials", True),
        ("token_count", False),
        ("secretary", False),
        ("passenger", False),
    ],
)
def test_usual_names_of_secrets_are_whole_words(name: str, is_usual: bool) -> None:
    assert bool(USUAL_NAMES.fullmatch(name)) is is_usual


def test_other_values_keep_each_digit() -> None:
    data = b'{"n":12345678901234567890.0, "token":"x"}'
    assert mask(data) == b'{"n":12345678901234567890.0,"token":"***"}'
    assert mask(data, usual=False) == data
    assert mask(b"[not json") == b"[not json"
