"""Generate docs/llms.txt, which lists the pages of the documentation for language models (https://llmstxt.org).

    python tests-integration/documents/llms.py          # writes docs/llms.txt
    python tests-integration/documents/llms.py --check  # exits with 1 if it is stale
    python tests-integration/documents/llms.py --site   # copies the pages' Markdown into site/, and checks the links

The pages are those of the navigation in zensical.toml; each is described by its first sentence. The links lead to the
Markdown, but for pages that mkdocstrings writes from docstrings: these have none.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
SITE: Final = ROOT / "site"
LIST: Final = DOCS / "llms.txt"
WITHOUT_SECTION: Final = "About jobq"
"""Heading of the pages that are in no section of the navigation."""


class Page(NamedTuple):
    """A page of the navigation."""

    section: str
    title: str
    path: str

    @property
    def text(self) -> str:
        """Its Markdown."""
        return (DOCS / self.path).read_text(encoding="utf-8")

    @property
    def link(self) -> str:
        """Its address, from the root of the site."""
        return self.path.removesuffix(".md") + "/" if "\n::: " in self.text else self.path


def read_pages(nav: list[dict[str, Any]], section: str = WITHOUT_SECTION) -> Iterator[Page]:
    """Yield the pages of a navigation."""
    for entry in nav:
        for title, value in entry.items():
            if isinstance(value, str):
                yield Page(section, title, value)
            else:
                yield from read_pages(value, title)


def first_sentence(page: Page) -> str:
    """Return the sentence with which a page begins, without links and marks. Exits for a page that begins without."""
    _, _, body = page.text.partition("\n\n")
    paragraph = " ".join(body.partition("\n\n")[0].split())
    found = re.match(r"(?!```)(?P<sentence>[A-Za-z`].*?)(?:\.(?= |$)|:$)", paragraph)
    if found is None:
        sys.exit(f"docs/{page.path}: begin the page, below its title, with a sentence that says what it is about")
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", found["sentence"]).replace("*", "") + "."


def make_list() -> str:
    """Return llms.txt."""
    project = read_project()
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}."]
    sections: dict[str, list[Page]] = {}
    for page in read_pages(project["nav"]):
        sections.setdefault(page.section, []).append(page)
    for section, pages in sections.items():
        lines += ["", f"## {section}", ""]
        lines += [f"- [{page.title}]({page.link}): {first_sentence(page)}" for page in pages]
    return "\n".join(lines) + "\n"


def read_project() -> dict[str, Any]:
    """Return the project of zensical.toml."""
    project: dict[str, Any] = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    return project


def complete_site() -> None:
    """Copy the Markdown of the pages into the built site. Exits unless llms.txt and all that it links to is there."""
    for page in read_pages(read_project()["nav"]):
        copy = SITE / page.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DOCS / page.path, copy)
    links = re.findall(r"\]\(([^)]+)\)", (SITE / LIST.name).read_text(encoding="utf-8"))
    files = {link: SITE / link / "index.html" if link.endswith("/") else SITE / link for link in links}
    if missing := [link for link, file in files.items() if not file.exists()]:
        sys.exit(f"site/ lacks {', '.join(missing)}")


def main() -> None:
    """Write the list, compare it, or complete the site."""
    if "--site" in sys.argv[1:]:
        complete_site()
    elif "--check" not in sys.argv[1:]:
        LIST.write_text(make_list(), encoding="utf-8")
    elif not LIST.exists() or LIST.read_text(encoding="utf-8") != make_list():
        sys.exit("docs/llms.txt: stale; run python tests-integration/documents/llms.py")


if __name__ == "__main__":
    main()
