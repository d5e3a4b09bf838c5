"""Run every code block of a page, from top to bottom, in the current folder: `python tests-integration/documents PAGE`.

Each page runs in a separate process, so that it can change folders, declare jobs and block its event loop as a reader
would. Exit code 0 means that every block was run or checked, and did what the page says.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import os
import re
import signal
import sys
import tempfile
import traceback
import types
from collections.abc import Sequence
from pathlib import Path

from blocks import MANIFESTS, Block, PageError, read_blocks
from commands import Command, is_run, read_commands
from manifests import check_excerpt, check_manifest

LIMIT = 300.0
"""Maximum duration of a command, in seconds; installing packages takes longest."""


class Serving:
    """A command that runs until it is stopped, and its output so far."""

    def __init__(self, block: Block, command: str, process: asyncio.subprocess.Process) -> None:
        self.block = block
        self.command = command
        self._process = process
        self._lines: list[str] = []
        self._changed = asyncio.Condition()
        self._ended = False
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._changed:
                self._lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    async def show(self, wanted: str) -> None:
        """Wait until the command has printed this line. Raises PageError if it ends first, or after 30 seconds."""
        pattern = re.compile(_pattern(wanted))

        def has_shown() -> bool:
            return any(pattern.fullmatch(line) for line in self._lines) or self._ended

        async with self._changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(has_shown), 30)
        if not any(pattern.fullmatch(line) for line in self._lines):
            raise self.block.error(f"{self.command} did not print {wanted!r}, but:\n{self.output}")

    async def stop(self) -> None:
        """Stop the command as Ctrl-C would. Raises PageError unless it exits with 0."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            code = await asyncio.wait_for(self._process.wait(), 60)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise self.block.error(f"{self.command} did not stop; it printed:\n{self.output}") from None
        await self._reader
        if code != 0:
            raise self.block.error(f"{self.command} ended with {code}; it printed:\n{self.output}")


class Page:
    """Runs blocks one after another, with the state of one terminal and one interpreter."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._module = types.ModuleType("page")
        sys.modules["page"] = self._module  # where types in annotations are looked up
        self._serving: list[Serving] = []
        self._printed: str | None = None
        sys.path.insert(0, "")

    async def run(self) -> None:
        """Run all blocks, then stop the serving commands."""
        errors: list[PageError] = []
        try:
            for block in self._blocks:
                await self._run(block)
        except PageError as error:
            errors.append(error)
        for serving in self._serving:
            try:
                await serving.stop()
            except PageError as error:
                errors.append(error)
        if errors:
            raise PageError("\n".join(map(str, errors)))
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            raise PageError(f"{self._blocks[0].page.name} leaves running: {left}")

    async def _run(self, block: Block) -> None:
        if block.language == "output":
            _compare(block, "the block above", block.text.splitlines(), self._printed)
            self._printed = None
        elif block.language in MANIFESTS:
            check_manifest(block)
            self._configure(block)
        elif block.language == "typescript":
            check_excerpt(block)
        elif block.language in ("bash", "console"):
            await self._type(block)
        elif block.language == "python" and block.name:
            self._write(block)
        elif block.language == "python":
            self._printed = await self._execute(block)

    def _configure(self, block: Block) -> None:
        """Write a configuration that names its file, such as pyproject.toml."""
        if block.language == "toml" and block.name:
            Path(block.name).write_text(block.text + "\n", encoding="utf-8")

    def _write(self, block: Block) -> None:
        path = Path(block.name or "")
        module = ".".join(path.with_suffix("").parts)
        later = [other.text for other in self._blocks if other.line > block.line]
        named = rf"\b{module}\b|import {path.stem}\b|\bmanage\.py\b"  # Django imports the files of a project itself
        if not any(str(path) in text or re.search(named, text) for text in later):
            raise block.error(f"nothing on the page runs or imports {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text + "\n", encoding="utf-8")
        importlib.invalidate_caches()

    async def _execute(self, block: Block) -> str:
        # Blank lines before the code, so that a traceback has the line numbers of the page.
        source = "\n" * (block.line - 1) + block.text
        printed = io.StringIO()
        try:
            code = compile(source, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            with contextlib.redirect_stdout(printed):
                running = eval(code, vars(self._module))
                if inspect.iscoroutine(running):
                    await asyncio.wait_for(running, LIMIT)
        except Exception as error:
            raise block.error("".join(traceback.format_exception(error)) + printed.getvalue()) from error
        return printed.getvalue()

    async def _type(self, block: Block) -> None:
        printed: list[str] = []
        for command in read_commands(block):
            if not is_run(block, command.text, self._blocks):
                continue
            if command.serves:
                if not command.shown:
                    raise block.error(f"{command.text}: show a line that it prints when it has started")
                serving = await self._start(block, command)
                self._serving.append(serving)
                for line in command.shown:
                    await serving.show(line)
                continue
            output = await self._finish(block, command)
            if command.shown is not None:
                _compare(block, command.text, command.shown, output)
            printed.append(output)
        self._printed = "".join(printed)

    async def _start(self, block: Block, command: Command) -> Serving:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"exec {command.text}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return Serving(block, command.text, process)

    async def _finish(self, block: Block, command: Command) -> str:
        """Run a command in a separate shell, then change to the folder and the environment that it leaves."""
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as kept:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", f"set -e\n{command.text}\n{{ pwd; env -0; }} > '{kept.name}'"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                output, _ = await asyncio.wait_for(process.communicate(), LIMIT)
            except TimeoutError:
                process.kill()
                raise block.error(f"{command.text} did not end") from None
            if process.returncode != 0:
                raise block.error(f"{command.text} ended with {process.returncode}:\n{output.decode()}")
            directory, _, variables = kept.read().partition("\n")
        os.chdir(directory)
        for variable in variables.split("\0"):
            name, found, value = variable.partition("=")
            if found and name not in ("_", "SHLVL", "PWD", "OLDPWD"):
                os.environ[name] = value
        return output.decode()


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.rstrip().split("…"))


def _compare(block: Block, what: str, wanted: list[str], printed: str | None) -> None:
    """Raise PageError unless this was printed. The line `…` stands for any number of lines."""
    if printed is None:
        raise block.error("no block above prints this")
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "…" else _pattern(line) + r"\s*\n" for line in wanted)
    if not re.fullmatch(pattern, printed if not printed or printed.endswith("\n") else printed + "\n"):
        raise block.error(f"{what} did not print what the page shows, but:\n{printed}")


def main(path: str) -> int:
    """Run a page, and return the exit code."""
    # A shell's background processes ignore Ctrl-C, and their children inherit that. The commands here must handle it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        blocks = read_blocks(Path(path).resolve())
        if blocks:
            asyncio.run(Page(blocks).run())
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(blocks)} blocks")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
