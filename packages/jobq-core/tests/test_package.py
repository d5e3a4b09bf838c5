"""The distribution as it was installed: what every user gets before a line of it runs."""

import re
import subprocess
import sys
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path

import jobq_core

META = metadata("jobq-core")


def test_the_changelog_begins_with_the_version() -> None:
    changelog = Path(__file__).parents[1].joinpath("CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == META["Version"]


def test_the_licence_is_named() -> None:
    assert META["License-Expression"] == "MIT"


def test_the_package_is_marked_as_typed() -> None:
    assert files("jobq_core").joinpath("py.typed").is_file()


def test_importing_it_brings_nothing_that_only_some_need() -> None:
    script = "import sys, jobq_core; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    seldom = {"click", "hashlib", "importlib.metadata", "jobq_core.memory", "jobq_core.testing", "json", "urllib.parse"}
    assert seldom.isdisjoint(modules)


def test_importing_it_has_attrs_make_only_what_converts_or_hides_fields() -> None:
    # attrs compiles methods for each class; a struct costs next to nothing.
    script = """
import sys, attrs, jobq_core
modules = [module for name, module in sys.modules.items() if name.startswith("jobq_core")]
classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
print(*sorted(cls.__name__ for cls in classes if attrs.has(cls)))
"""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert made.split() == ["Backoff", "JobDefinition", "JobFilter", "RetryPolicy"]


def test_what_the_public_interface_gives_and_takes_can_be_imported_from_its_top() -> None:
    # A limiter returns Grants, `find` a Page, WorkerLost tells RescuedJobs.
    assert {"Grant", "Page", "RescuedJob"} <= set(jobq_core.__all__)
    assert all(hasattr(jobq_core, name) for name in jobq_core.__all__)
