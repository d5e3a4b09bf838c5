"""The distribution as it was installed: what every user gets before a line of it runs."""

import re
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path

META = metadata("jobq-server")


def test_the_changelog_begins_with_the_version() -> None:
    changelog = Path(__file__).parents[1].joinpath("CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == META["Version"]


def test_the_licence_is_named() -> None:
    assert META["License-Expression"] == "MIT"


def test_the_package_is_marked_as_typed() -> None:
    assert files("jobq_server").joinpath("py.typed").is_file()
