"""Show the options in our docstrings, lines such as `timeout: seconds that one run may take`, as lists."""

from __future__ import annotations

import re
from typing import Any

import griffe

_OPTION = re.compile(r"(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?=\S)")


class OptionLists(griffe.Extension):
    """Rewrites docstrings as they are read, for the reference pages alone."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Make a list item of each option in the docstring of `obj`."""
        if obj.docstring is not None:
            obj.docstring.value = as_list(obj.docstring.value)


def as_list(text: str) -> str:
    """Return Markdown in which each line that begins with a name and a colon is an item of a list."""
    lines: list[str] = []
    for line in text.splitlines():
        option = _OPTION.match(line)
        if option:
            if lines and lines[-1] and not lines[-1].startswith(("- ", "    ")):
                lines.append("")  # a list begins after an empty line
            names = ", ".join(f"`{name}`" for name in option["names"].split(", "))
            lines.append(f"- {names}: {line[option.end() :]}")
        else:
            lines.append(line)
    return "\n".join(lines)
