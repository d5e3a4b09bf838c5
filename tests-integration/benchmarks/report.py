"""Draw and write up what runs found.

    nox -s bench -- report RESULTS … [--page docs/benchmarks.md] [--out DIR]

RESULTS are the files that runs wrote, or folders of them; of what several hold, the latest counts. Without --page the
tables are printed, and the plots go to --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tables
from plots import draw
from reading import read


def main() -> None:
    """Read the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, help="a Markdown page whose marked part is rewritten, plots beside it")
    parser.add_argument("--out", type=Path, default=Path("plots"), help="where plots go without --page")
    options = parser.parse_args()
    paths = [path for given in options.results for path in (given.glob("*.jsonl") if given.is_dir() else [given])]
    outcomes = read(paths)
    folder = options.page.with_suffix("") if options.page else options.out
    plots = {(o.run.place, o.name): f"{folder.name}/{draw(o, folder).name}" for o in outcomes}
    text = tables.write(outcomes, plots)
    if options.page:
        tables.rewrite(options.page, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
