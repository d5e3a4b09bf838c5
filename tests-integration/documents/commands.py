"""Decide which commands of a page are run and which are only checked, and check the latter.

Four kinds of commands are only checked: those that need a container engine or a cluster (`docker`, `kubectl`), those
that need the machine's service manager (`systemctl`, `journalctl`), those of Node.js (`npm`, `npx`), which the test of
the TypeScript client runs, and nox, which runs this test.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import attrs
import click
from blocks import Block

from jobq_core.commands import main

ROOT = Path(__file__).parents[2]

RUN = (".", "cat", "cd", "echo", "export", "flask", "gunicorn", "jobq", "mkdir", "pip", "python", "true", "uvicorn")
CHECKED = ("docker", "journalctl", "kubectl", "systemctl")
NODE = ("npm", "npx")
NODE_PACKAGE = ROOT / "examples" / "clients" / "typescript" / "package.json"
NOX = re.compile(r"python -m pip install nox && python -m nox(?: -s (?P<session>\w+))?(?: -- (?P<rest>.*))?")
UNTIL_STOPPED = re.compile(r"#.*until Ctrl-C")
"""The comment of a serving command: it is started, and stopped at the end of the page."""


@attrs.frozen
class Command:
    """A line to type, and the output that a console block shows below it; None for a bash block."""

    text: str
    shown: list[str] | None

    @property
    def serves(self) -> bool:
        """Whether it runs until it is stopped."""
        return bool(UNTIL_STOPPED.search(self.text))


def read_commands(block: Block) -> list[Command]:
    """Return the commands of a bash or console block."""
    if block.language == "bash":
        lines = block.text.replace("\\\n", " ").splitlines()
        return [Command(line, None) for line in lines if line.strip() and not line.startswith("#")]
    commands: list[Command] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], []))
        elif not commands:
            raise block.error("a console block begins with '$ ' and a command")
        else:
            shown = commands[-1].shown
            assert shown is not None
            shown.append(line)
    return commands


def is_run(block: Block, command: str, page: Sequence[Block]) -> bool:
    """Return whether to run a command; otherwise it has been checked. Raises PageError for an unknown command."""
    if nox := NOX.fullmatch(command):
        if nox["session"] and nox["session"] not in _sessions():
            raise block.error(f"the noxfile has no session {nox['session']!r}")
        return False
    parts = _split(command)
    programs = [part[0] for part in parts]
    if all(program in RUN for program in programs):
        return True
    if len(parts) == 1 and programs[0] in NODE:
        _check_node(block, parts[0])
        return False
    if len(parts) == 1 and programs[0] in CHECKED:
        _check(block, parts[0], page)
        return False
    raise block.error(f"no check for {command!r}; see RUN and CHECKED in {Path(__file__).name}")


def _split(command: str) -> list[list[str]]:
    """Return the words of each program that a line runs."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            parts.append([])
        elif word != "sudo" or parts[-1]:
            parts[-1].append(word)
    return [part for part in parts if part]


def _check(block: Block, words: list[str], page: Sequence[Block]) -> None:
    """Raise PageError unless every file, unit and image that the command names is on the page."""
    named = {Path(other.name).name for other in page if other.name}
    text = "\n".join(other.text for other in page if other.language in ("yaml", "ini", "dockerfile"))
    program, *rest = words
    if program == "docker":
        if "Dockerfile" not in named:
            raise block.error("there is no Dockerfile on the page")
        wanted = [value for option, value in itertools.pairwise(rest) if option == "-t"]
    elif program == "kubectl":
        for option, value in itertools.pairwise(rest):
            if option == "-f" and value not in named:
                raise block.error(f"there is no file {value} on the page")
        wanted = [word.partition("/")[2] for word in rest if re.fullmatch(r"[a-z]+/[\w-]+", word)]
        if rest[:3] == ["create", "secret", "generic"]:
            wanted.append(rest[3])
        if rest[0] == "exec":
            check_jobq(block, rest[rest.index("--") + 1 :])
    else:
        units = rest[1:] if program == "systemctl" else [w for o, w in itertools.pairwise(rest) if o == "-u"]
        wanted = [re.sub("@.*", "@", unit).removesuffix(".service") for unit in units if not unit.startswith("-")]
        text = "\n".join(name.removesuffix(".service") for name in named)
    for name in wanted:
        if not re.search(rf"\b{re.escape(name)}", text):
            raise block.error(f"{name!r} is not on the page")


def _check_node(block: Block, words: Sequence[str]) -> None:
    """Raise PageError unless the example depends on every package that `npm install …` or `npx …` names."""
    package = json.loads(NODE_PACKAGE.read_text(encoding="utf-8"))
    named = [word for word in words[1:] if not word.startswith("-")]
    for name in named[1:] if words[0] == "npm" else named[:1]:
        if name not in package["dependencies"] and name not in package["devDependencies"]:
            raise block.error(f"{name!r} is not in {NODE_PACKAGE.name} of the example")


def check_jobq(block: Block, words: Sequence[str]) -> None:
    """Raise PageError unless `jobq …` is an installed command with valid options."""
    if words[0] != "jobq":
        raise block.error(f"{shlex.join(words)} does not begin with jobq")
    try:
        with main.make_context("jobq", list(words[1:]), resilient_parsing=False) as context:
            name, command, rest = main.resolve_command(context, list(context._protected_args) + context.args)
            assert command is not None
            command.make_context(name, rest, parent=context)
    except click.UsageError as error:
        raise block.error(f"{shlex.join(words)}: {error.format_message()}") from error


def _sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any("nox.session" in ast.unparse(d) for d in node.decorator_list)
    }
