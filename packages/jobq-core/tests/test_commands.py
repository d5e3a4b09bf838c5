"""The `jobq` command by itself."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from jobq_core.commands import main

URL = "postgresql://shop:hidden-away@db.example/shop"


@pytest.mark.parametrize(
    "arguments",
    [
        [URL],
        [f"--{URL}"],
        ["migrate", URL],
        ["migrate", "--storage", "--storage", URL],
        ["migrate", "--storage", "memory://", "--phase", URL],
        ["migrate", "--storage", "memory://", "host=db.example password=hidden-away"],
        ["migrate", "--storage", "memory://", "host=db.example password='hidden-away too'"],
        ["migrate", "--storage", "memory://", "postgresql:///shop?password=hidden-away&user=shop"],
        ["migrate", "--storage", URL.replace("postgresql", "nosql")],
    ],
)
def test_a_password_in_a_misplaced_word_is_not_repeated(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert "Error: " in result.output
    assert "hidden-away" not in result.output


def test_what_is_no_password_is_repeated() -> None:
    assert "'mgirate'" in CliRunner().invoke(main, ["mgirate"]).output
    assert "db.example" in CliRunner().invoke(main, [URL]).output
