"""How commands print."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobq_client.commands.output import Output, clean, clean_line, count, duration


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 字 🙂", "plain é 字 🙂"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\rb\x07\x00", "a\\rb\\x07\\x00"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\x9b2J", "\\x9b2J"),
        ("\ud800", "\\ud800"),
        ("two\nlines\tkept", "two\nlines\tkept"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_cell_is_one_line() -> None:
    assert clean_line("two\nlines") == "two\\nlines"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.012, "12 ms"),
        (4.2, "4.2 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400 * 3 + 7_200, "3 d 2 h"),
        (-5, "-5.0 s"),
        (timedelta(minutes=2), "2 min"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float | timedelta | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_numbers_have_separators() -> None:
    assert (count(1234567), count(0), count(None)) == ("1,234,567", "0", "-")


def test_a_table_without_a_terminal_has_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("name", "jobs"), [("mail\x1b", 5), ("images", 1000)], right=("jobs",))
    assert capsys.readouterr().out == "name      jobs\nmail\\x1b     5\nimages    1000\n"


def test_fields_leave_out_what_is_empty_and_indent_further_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Output().fields({"id": 7, "run": None, "tags": "", "result": "a\nb"})
    assert capsys.readouterr().out == "id      7\nresult  a\n        b\n"
