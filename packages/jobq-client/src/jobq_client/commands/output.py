"""`Output`: prints tables, fields and JSON. What jobs hold is shown without control characters."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import click
import msgspec

_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that could move the cursor, colour a terminal, or reverse the order of what is read."""
_KEPT: Final = frozenset("\n\t")


def clean(text: object) -> str:
    """Return a text with control characters as escapes, such as \\x1b; line ends and tabs are kept."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        _escaped(each) if each not in _KEPT and unicodedata.category(each) in _UNSAFE else each for each in shown
    )


def clean_line(text: object) -> str:
    """Return a text as `clean` does, in one line."""
    return clean(text).replace("\n", "\\n").replace("\t", " ")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def moment(at: datetime | None) -> str:
    """Return a moment in UTC, to the second; '-' for None."""
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | timedelta | None) -> str:
    """Return a duration in its two largest units: '3 h 20 min', '4.2 s', '12 ms'; '-' for None."""
    if seconds is None:
        return "-"
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def count(number: int | None) -> str:
    """Return a number with separators of thousands; '-' for None."""
    return "-" if number is None else f"{number:,}"


class Output:
    """Where a command prints: columns for people, or one JSON document for programs."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    def json(self, value: Any) -> None:
        """Print a value of Structs, attrs classes and plain types as JSON, indented."""
        encoded = msgspec.json.encode(value, order="deterministic")
        click.echo(msgspec.json.format(encoded, indent=2).decode())

    def line(self, text: str = "") -> None:
        """Print a line for people; with --json, to standard error."""
        click.echo(text, err=self.as_json)

    def fields(self, values: Mapping[str, object]) -> None:
        """Print names and values, one a line; None and empty values are left out."""
        shown = {name: str(value) for name, value in values.items() if value not in (None, "", (), [])}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            first, *rest = clean(value).split("\n")
            click.echo(f"{name:<{width}}  {first}")
            for line in rest:
                click.echo(f"{'':<{width}}  {line}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> None:
        """Print rows under the names of their columns. right: the columns that are aligned to the right."""
        cells = [[clean_line("-" if cell is None else cell) for cell in row] for row in rows]
        to_right = set(right)
        if sys.stdout.isatty() and _print_rich(columns, cells, to_right):
            return
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in (list(columns), *cells):
            parts = [
                cell.rjust(width) if name in to_right else cell.ljust(width)
                for name, cell, width in zip(columns, row, widths, strict=True)
            ]
            click.echo("  ".join(parts).rstrip())


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]], right: set[str]) -> bool:
    """Print a table with rich, if it is installed; return whether it is."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)
    return True
