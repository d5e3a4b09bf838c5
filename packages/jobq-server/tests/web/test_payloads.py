"""How a job's data is shown."""

from __future__ import annotations

import pytest

from jobq_core.encoding import MAX_DEPTH
from jobq_server.web.security.payloads import pretty

LISTS = MAX_DEPTH - 1


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ('{"n":12345678901234567890.50}', '{\n  "n": 12345678901234567890.50\n}'),
        ('{"text":"' + "[{" * 100 + '\\"["}', '{\n  "text": "' + "[{" * 100 + '\\"["\n}'),
        ('{"text":"no JSON', '{"text":"no JSON'),
        ('{"text":"\\', '{"text":"\\'),
    ],
    ids=["a number", "brackets in text", "no end", "a backslash at the end"],
)
def test_json_is_indented_and_other_text_stays_as_it_is(data: str, shown: str) -> None:
    assert pretty(data.encode()) == shown


@pytest.mark.parametrize("depth", [LISTS, LISTS + 1, 20_000])
def test_json_that_is_nested_more_deeply_than_jobq_stores_it_is_not_indented(depth: int) -> None:
    data = '{"a":' + "[" * depth + "]" * depth + "}"
    shown = pretty(data.encode())
    assert shown == data if depth > LISTS else shown.count("\n") == 2 * depth


def test_the_depth_of_text_that_is_not_json_is_found_at_once() -> None:
    data = '"' + '\\"[' * 200_000
    assert pretty(data.encode()) == data
