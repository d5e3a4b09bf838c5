"""The distribution as it was installed: what every user gets before a line of it runs."""

from importlib.metadata import metadata
from importlib.resources import files


def test_the_metadata_names_version_and_license() -> None:
    meta = metadata("jobq-worker")
    assert meta["Version"] == "0.1.0"
    assert meta["License-Expression"] == "MIT"


def test_the_package_is_marked_as_typed() -> None:
    assert files("jobq_worker").joinpath("py.typed").is_file()
