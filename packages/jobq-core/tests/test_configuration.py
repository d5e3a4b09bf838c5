"""Options from the environment and pyproject.toml: precedence, and what each mistake is answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from jobq_core.commands import migrate
from jobq_core.configuration import ConfiguredCommand

SECRET = "postgresql://shop:hidden-away@db.example/shop"


@click.command(cls=ConfiguredCommand, other_keys=frozenset({"worker_count"}))
@click.option("--storage")
@click.option("--queue", "queues", multiple=True)
@click.option("--concurrency", type=click.IntRange(0, 100), default=10)
@click.option("--lost-after", type=float, default=30.0)
@click.option("--log-level", type=click.Choice(["debug", "info"]), default="info")
@click.option("--discover", is_flag=True)
def serve(**options: Any) -> None:
    """Print the options."""
    click.echo(sorted((name, value) for name, value in options.items() if name != "storage"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, file: str = "", command: click.Command = serve, **environment: str) -> Result:
    if file:
        Path("pyproject.toml").write_text(file if file.startswith("!") else f"[tool.jobq]\n{file}\n")
    return CliRunner().invoke(command, arguments, env=environment)


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_comes_before_the_environment_and_that_before_the_file() -> None:
    file = "concurrency = 3"
    assert "('concurrency', 10)" in said(run())
    assert "('concurrency', 3)" in said(run(file=file))
    assert "('concurrency', 4)" in said(run(file=file, JOBQ_CONCURRENCY="4"))
    assert "('concurrency', 5)" in said(run("--concurrency", "5", file=file, JOBQ_CONCURRENCY="4"))


def test_each_type_of_value() -> None:
    everything = "[('concurrency', 3), ('discover', True), ('log_level', 'debug'), ('lost_after', 4.0), ('queues', "
    file = 'queues = ["a", "b"]\nconcurrency = 3\nlost_after = 4\nlog_level = "debug"\ndiscover = true'
    assert everything + "('a', 'b'))]" in said(run(file=file))
    environment = {"QUEUES": "a, b c", "CONCURRENCY": "3", "LOST_AFTER": "4", "LOG_LEVEL": "debug", "DISCOVER": "1"}
    Path("pyproject.toml").unlink()
    assert everything + "('a', 'b', 'c'))]" in said(
        run(**{f"JOBQ_{name}": value for name, value in environment.items()})
    )


def test_an_empty_variable_counts_as_unset() -> None:
    assert "('concurrency', 3)" in said(run(file="concurrency = 3", JOBQ_CONCURRENCY=""))


@pytest.mark.parametrize(
    ("file", "environment", "message"),
    [
        ("concurency = 3", {}, "pyproject.toml, [tool.jobq]: unknown key 'concurency'; did you mean 'concurrency'?"),
        ("log-level = 'info'", {}, "unknown key 'log-level'; did you mean 'log_level'?"),
        ("color = 3", {}, "unknown key 'color'; expected one of concurrency, discover,"),
        ("concurrency = '3'", {}, "pyproject.toml, [tool.jobq]: concurrency: expected a whole number, not '3'"),
        ("concurrency = true", {}, "concurrency: expected a whole number, not True"),
        ("concurrency = -1", {}, "concurrency: -1 is not in the range 0<=x<=100"),
        ("lost_after = [1]", {}, "lost_after: expected a number, not [1]"),
        ("queues = 'mail'", {}, "queues: expected a list of texts, not 'mail'"),
        ("queues = [1]", {}, "queues: expected a list of texts, not [1]"),
        ("discover = 1", {}, "discover: expected true or false, not 1"),
        ("log_level = 'loud'", {}, "log_level: 'loud' is not one of 'debug', 'info'"),
        (f"storage = ['{SECRET}']", {}, "storage: expected a text, not a list"),
        ("concurrency = = 3", {}, "pyproject.toml could not be read: Invalid value (at line 2"),
        ("", {"JOBQ_CONCURRENCY": "many"}, "JOBQ_CONCURRENCY: 'many' is not a valid integer range; expected a whole"),
        ("", {"JOBQ_DISCOVER": "maybe"}, "JOBQ_DISCOVER: 'maybe' is not a valid boolean"),
        ("", {"JOBQ_CONCURENCY": "3"}, "JOBQ_CONCURENCY: unknown variable; did you mean JOBQ_CONCURRENCY?"),
        ("", {"JOBQ_QUEUE": "mail"}, "JOBQ_QUEUE: unknown variable; did you mean JOBQ_QUEUES?"),
    ],
)
def test_a_mistake_is_named_with_where_it_is_and_what_to_write(
    file: str, environment: dict[str, str], message: str
) -> None:
    result = run(file=file, **environment)
    assert result.exit_code == 2
    assert message in result.output
    assert "hidden-away" not in result.output


def test_all_mistakes_are_named_at_once() -> None:
    output = run(file="color = 3\nconcurrency = ''", JOBQ_LOST_AFTER="soon").output
    assert all(word in output for word in ("color", "concurrency", "JOBQ_LOST_AFTER"))


def test_a_table_that_is_not_a_table_is_refused() -> None:
    Path("pyproject.toml").write_text("[tool]\njobq = 3\n")
    assert "pyproject.toml: tool.jobq must be a table; write [tool.jobq]" in run().output


def test_what_belongs_to_others_is_ignored() -> None:
    variables = dict.fromkeys(
        ["JOBQ_SERVICE_HOST", "JOBQ_PORT", "JOBQ_PORT_5432_TCP_ADDR", "JOBQ_TEST_POSTGRES", "JOBQ_WORKER_COUNT"], "x"
    )
    said(run(file="worker_count = 3", **variables))
    Path("pyproject.toml").write_text("[tool.other]\nconcurrency = 'x'\n")
    said(run())


def test_help_is_shown_whatever_the_file_says() -> None:
    assert "Print the options" in said(run("--help", file="color = 3"))


def test_a_command_of_the_storage_alone_ignores_keys_of_the_worker() -> None:
    result = run(file="storage = 'nosql://db'\nconcurrency = 3", command=migrate)
    assert "no installed storage opens nosql://" in str(result.exception)
