"""What all installed distributions have in common: a changelog, a licence, types."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path

import pytest

PACKAGES = sorted(path.parent for path in (Path(__file__).parents[1] / "packages").glob("*/pyproject.toml"))
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


@each_package
def test_the_changelog_begins_with_the_installed_version(package: Path) -> None:
    newest = re.search(r"^## (\S+)", (package / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == metadata(package.name)["Version"]


@each_package
def test_the_metadata_names_the_licence(package: Path) -> None:
    assert metadata(package.name)["License-Expression"] == "MIT"


@each_package
def test_the_package_is_marked_as_typed(package: Path) -> None:
    assert files(package.name.replace("-", "_")).joinpath("py.typed").is_file()
