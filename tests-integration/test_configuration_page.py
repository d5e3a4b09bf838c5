"""The table of docs/guides/configuration.md has each parameter of the commands, as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

import click

from jobq_core.configuration import expected, variable
from jobq_server.commands import server
from jobq_worker.commands import check, worker

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "configuration.md"


def row(parameter: click.Parameter) -> str:
    key = str(parameter.name)
    option = next((flag for flag in parameter.opts if flag.startswith("--")), "MODULE...")
    return f"| `{key}` | `{variable(key)}` | `{option}` | {expected(parameter)} |"


def test_the_table_lists_each_parameter_of_the_commands_once() -> None:
    rows = [row(parameter) for command in (worker, server, check) for parameter in command.configurable().values()]
    shown = re.findall(r"^\| `.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == list(dict.fromkeys(rows)), "\n".join(dict.fromkeys(rows))
