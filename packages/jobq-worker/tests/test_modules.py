"""What `--discover` imports, and what it says of modules that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobq_core.registry import Registry
from jobq_worker.commands.modules import ModuleError, load_modules
from jobq_worker.commands.worker_command import MAX_LISTED, describe_jobs

JOB = "from jobq_core import job\n@job()\nasync def {}() -> None: ...\n"
REFUSED = "raise RuntimeError('imported')\n"

Package = Callable[[dict[str, str]], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Write the files of a package that is called `shop_found`, and return its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(files: dict[str, str]) -> str:
        for name, text in {"__init__.py": "", **files}.items():
            path = tmp_path / "shop_found" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return "shop_found"

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop_found"]:
        del sys.modules[name]


def kinds(name: str) -> list[str]:
    return sorted(definition.kind for definition in Registry(load_modules([name], discover=True)))


def test_the_jobs_of_submodules_at_any_depth_are_found(package: Package) -> None:
    files = {"mail.py": JOB.format("send"), "images/__init__.py": "", "images/resize.py": JOB.format("resize")}
    assert kinds(package(files)) == ["resize", "send"]


def test_a_job_that_several_modules_import_is_one_job(package: Package) -> None:
    files = {"mail.py": JOB.format("send"), "views.py": "from shop_found.mail import send\n"}
    assert kinds(package(files)) == ["send"]


def test_programs_and_tests_are_not_imported(package: Package) -> None:
    skipped = ["__main__.py", "tests/__init__.py", "test/__init__.py", "test_mail.py", "mail_test.py", "conftest.py"]
    files = {"mail.py": JOB.format("send"), "sub/__init__.py": "", "sub/__main__.py": REFUSED}
    assert kinds(package(files | dict.fromkeys(skipped, REFUSED))) == ["send"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (REFUSED, "(…bad.py:1): RuntimeError: imported; correct the module"),
        ("raise SystemExit(3)", "(…bad.py:1): SystemExit: 3; correct the module"),
        ("x = 1\ndef (", "(…bad.py:2): SyntaxError: invalid syntax; correct the module"),
        (JOB.format("f").replace("()", "(priority=999)", 1), "(…bad.py:2): jobq_core.errors.ConfigurationError: prior"),
    ],
)
def test_an_error_in_a_submodule_names_it(package: Package, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModuleError) as caught:
        load_modules([package({"mail.py": JOB.format("send"), "bad.py": text})], discover=True)
    assert str(caught.value).startswith("the module 'shop_found.bad' failed to import:\n")
    line = caught.value.line.replace(str(tmp_path / "shop_found") + "/", "…")
    assert line.startswith("the module 'shop_found.bad' failed to import " + said)


def test_a_package_without_jobs_is_refused_with_the_option_that_finds_them(package: Package) -> None:
    name = package({"mail.py": JOB.format("send")})
    with pytest.raises(ModuleError, match=r"declares no jobs: .* or pass --discover to import its submodules"):
        load_modules([name])


def test_a_package_whose_submodules_declare_no_jobs_is_refused(package: Package) -> None:
    with pytest.raises(ModuleError, match="'shop_found' and its submodules declare no jobs"):
        load_modules([package({"mail.py": ""})], discover=True)


def test_the_line_at_the_start_names_the_jobs_and_stays_short() -> None:
    assert describe_jobs(["send"], ["shop"]) == "found 1 job in shop: send"
    assert describe_jobs(["b", "a"], ["shop", "mail"]) == "found 2 jobs in shop, mail: a, b"
    many = describe_jobs([f"job{number:03}" for number in range(MAX_LISTED + 5)], ["shop"])
    assert many.endswith(f"job{MAX_LISTED - 1:03} and 5 more")
