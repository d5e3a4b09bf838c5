"""Read the code blocks of a page.

The language of a block says how it is checked; another language than these fails the page:

    python        run with the page's other python blocks, in order, in one namespace, `await` allowed;
                  or, if its first line is a comment that names a file (`# shop/jobs.py`), written to that file
    bash          commands, run in order; see `commands`
    console       the same, after `$ `, followed by their output (`…` stands for anything)
    output        the output of the block before it
    toml, yaml, json, ini, dockerfile
                  checked by `manifests`; toml whose first line names a file is written to it too
    typescript    part of the file of examples/ that its first line names, which has tests of its own
    text          a diagram: it must contain drawn lines
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs

MANIFESTS = ("dockerfile", "ini", "json", "toml", "yaml")
LANGUAGES = ("python", "bash", "console", "output", "text", "typescript", *MANIFESTS)

_FENCE = re.compile(r"(?P<indent>\s*)(?P<marks>`{3,}|~{3,})(?P<info>.*)")
_NAME = re.compile(r"(?:#|//) (?P<name>[\w./@-]*[\w@]\.\w+|Dockerfile)")


class PageError(Exception):
    """A page has the wrong form, or a block does not do what the page says."""


@attrs.frozen
class Block:
    """One code block; `line` is the number of its first line in the page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str | None:
        """The file that its first line names; None if it names no file."""
        found = _NAME.fullmatch(self.text.partition("\n")[0])
        return found["name"] if found else None

    def error(self, message: object) -> PageError:
        """Return an error with the page and line of the block."""
        return PageError(f"{self.page.name}:{self.line}: {message}")


def read_blocks(page: Path) -> list[Block]:
    """Return the page's blocks in order. Raises PageError for an unknown language."""
    blocks: list[Block] = []
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.fullmatch(line)
        if opened is None and fence:
            if fence["indent"] or fence["marks"] != "```":
                raise PageError(f"{page.name}:{number}: begin code blocks with ``` at the start of the line")
            opened, lines = (number + 1, fence["info"]), []
        elif opened is not None and line == "```":
            blocks.append(_checked(Block(page, opened[0], opened[1], "\n".join(lines))))
            opened = None
        elif opened is not None:
            lines.append(line)
    if opened is not None:
        raise PageError(f"{page.name}:{opened[0]}: this code block does not end")
    return blocks


def _checked(block: Block) -> Block:
    if block.language not in LANGUAGES:
        raise block.error(f"no check for blocks of {block.language!r}; expected one of {', '.join(LANGUAGES)}")
    if block.language == "text" and not re.search("[─│└►]", block.text):
        raise block.error("'text' is for diagrams; use 'output' for what a block prints")
    return block
