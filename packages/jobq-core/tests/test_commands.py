"""The `jobq` command by itself."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

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


def test_text_without_a_password_is_repeated() -> None:
    assert "'mgirate'" in CliRunner().invoke(main, ["mgirate"]).output
    assert "db.example" in CliRunner().invoke(main, [URL]).output


def only_core(*, group: str, **wanted: Any) -> list[EntryPoint]:
    """Stand for an environment in which no distribution but jobq-core has commands."""
    entry = EntryPoint("migrate", "jobq_core.commands:migrate", group)
    return [entry] if wanted.get("name", entry.name) == entry.name else []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("migarte", "No such command 'migarte'. Did you mean 'migrate'?"),
        ("worker", "No such command 'worker'. jobq-worker provides it: pip install jobq-worker"),
        ("server", "No such command 'server'. jobq-server provides it: pip install jobq-server"),
        ("grant", "jobq-storage-postgres provides it: pip install jobq-storage-postgres"),
        ("wroker", "Did you mean 'worker'? (jobq-worker provides it: pip install jobq-worker)"),
        ("xyz", "No such command 'xyz'."),
    ],
)
def test_an_unknown_command_is_answered_with_what_may_be_meant(
    monkeypatch: pytest.MonkeyPatch, command: str, says: str
) -> None:
    monkeypatch.setattr("jobq_core.commands.entry_points", only_core)
    result = CliRunner().invoke(main, [command])
    assert result.exit_code == 2
    assert says in result.output


def test_the_shell_completes_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "jobq mig")
    monkeypatch.setenv("COMP_CWORD", "1")
    completed = CliRunner().invoke(main, prog_name="jobq", env={"_JOBQ_COMPLETE": "bash_complete"})
    assert completed.output == "plain,migrate\n"
