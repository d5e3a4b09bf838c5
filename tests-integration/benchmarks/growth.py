"""Write the tables and plots of the curves into the page that explains them.

    python tests-integration/benchmarks/growth.py docs/growth.md RESULTS …

A marker such as `<!-- by-queues -->` is followed by that scenario's tables and plots, `<!-- conditions -->` by the
conditions of the runs, each up to `<!-- end -->`. RESULTS are the files that runs wrote. If several contain the same
scenario, the latest counts. Raises KeyError for a marked scenario without results.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import attrs
import tables
from plots import draw
from reading import Outcome, read

_MARKED = re.compile(r"(?s)<!-- (?P<name>[a-z0-9-]+) -->\n.*?<!-- end -->")


def main() -> None:
    """Read the command line, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("page", type=Path)
    parser.add_argument("results", type=Path, nargs="+")
    options = parser.parse_args()
    page: Path = options.page
    outcomes = [_ours(outcome) for outcome in read(options.results)]
    shown: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        shown.setdefault(outcome.name, []).append(outcome)

    def written(found: re.Match[str]) -> str:
        name = found["name"]
        parts = _conditions(outcomes) if name == "conditions" else _parts(shown[name], page)
        return "\n\n".join([f"<!-- {name} -->", *parts, "<!-- end -->"])

    page.write_text(_MARKED.sub(written, page.read_text()))


def _ours(outcome: Outcome) -> Outcome:
    """Leave out the floors, which are the subject of another page."""
    return attrs.evolve(outcome, summaries=[line for line in outcome.summaries if line["contestant"] == "jobq"])


def _conditions(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the conditions of the runs, without the contestants: only jobq took part."""
    return [part for part in tables.conditions(outcomes) if part.startswith("**")]


def _parts(outcomes: Sequence[Outcome], page: Path) -> list[str]:
    parts: list[str] = []
    for outcome in outcomes:
        parts += [f"*{outcome.title}, {outcome.run.storage}*", tables.table(outcome)]
        if len(outcome.variants) > 2:  # two points do not make a curve
            picture = draw(outcome, page.with_suffix(""))
            parts.append(f"![{outcome.title}, {outcome.run.storage}]({picture.parent.name}/{picture.name})")
    return parts


if __name__ == "__main__":
    main()
