"""Write tables and plots from the results of runs.

    nox -s bench -- report RESULTS … [--page docs/benchmarks.md] [--readme README.md] [--keep DIR] [--out DIR]

RESULTS are the files that runs wrote, or folders of them. If several contain the same scenario, the latest counts.
Without --page and --readme the tables are printed, and the plots go to --out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import results
import tables
from reading import Outcome, read


def main() -> None:
    """Read the command line and report."""
    options = parse()
    paths = [path for given in options.results for path in (given.glob("*.jsonl") if given.is_dir() else [given])]
    outcomes = read(paths)
    if options.check:
        check(outcomes, options.page, options.readme)
        return
    for path in paths if options.keep else ():
        results.keep(path, options.keep)
    if options.page:
        draw([outcome for outcome in outcomes if outcome.rivals], options.page.with_suffix(""))
        options.page.write_text(page_text(options.page, outcomes))
    if options.readme:
        options.readme.write_text(readme_text(options.readme, outcomes))
    if not options.page and not options.readme:
        draw(outcomes, options.out)
        print(tables.write(outcomes, {}))


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, help="rewrite the marked part of this Markdown page, plots next to it")
    parser.add_argument("--readme", type=Path, help="rewrite the marked comparison with rivals in this file")
    parser.add_argument("--keep", type=Path, help="copy the results into this folder, without their single rounds")
    parser.add_argument("--out", type=Path, default=Path("plots"), help="where plots go without --page")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if --page or --readme is stale")
    return parser.parse_args()


def page_text(page: Path, outcomes: list[Outcome]) -> str:
    """Return the page with the tables of these outcomes, and pictures of those in which rivals took part."""
    pictures = {(o.run.storage, o.name): f"{page.stem}/{o.stem}.svg" for o in outcomes if o.rivals}
    return tables.rewritten(page, "results", tables.write(outcomes, pictures))


def readme_text(readme: Path, outcomes: list[Outcome]) -> str:
    """Return the file with the comparison of these outcomes."""
    return tables.rewritten(readme, "comparison", tables.comparison(outcomes))


def draw(outcomes: list[Outcome], folder: Path) -> None:
    """Draw the outcomes."""
    import plots  # matplotlib, which writing and checking tables do not need

    for outcome in outcomes:
        plots.draw(outcome, folder)


def check(outcomes: list[Outcome], page: Path | None, readme: Path | None) -> None:
    """Exit with an error that names the stale files and the command that writes them."""
    texts = {page: page_text(page, outcomes)} if page else {}
    texts |= {readme: readme_text(readme, outcomes)} if readme else {}
    stale = [path for path, text in texts.items() if path.read_text() != text]
    if stale:
        sys.exit("\n".join(f"{path} differs from the results: run this without --check" for path in stale))


if __name__ == "__main__":
    main()
