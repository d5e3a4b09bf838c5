"""Every code block of README.md, MIGRATION.md and docs/ does what its page says; see documents/ for how."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from jobq_storage_postgres.testing import ThrowawayPostgres

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "MIGRATION.md", *sorted((ROOT / "docs").rglob("*.md"))]
VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}


def run_page(page: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run all blocks of a page in a folder, with the commands of this environment first on the PATH."""
    environment = {name: value for name, value in os.environ.items() if name not in ("JOBQ_STORAGE", "PYTHONPATH")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment |= {"COLUMNS": "100", "PYTHONUNBUFFERED": "1", **variables}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests-integration" / "documents"), str(page)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the processes of the page can be killed with it
    )
    try:
        output, errors = process.communicate(timeout=500)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture
def shop_database(postgres_server: ThrowawayPostgres) -> Iterator[dict[str, str]]:
    """Environment variables that make `postgresql:///shop`, as in the pages, an empty database of this test."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")  # fails, and changes nothing, if it exists
    parts = conninfo_to_dict(postgres_server.dsn)
    yield {variable: str(parts[part]) for part, variable in VARIABLES.items() if parts.get(part)}
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE shop WITH (FORCE)")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_does_what_the_page_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = page.read_text(encoding="utf-8")
    folder = tmp_path / "jobq"
    folder.mkdir()
    if "./packages/" in text:  # the page begins in a clone
        wanted = shutil.ignore_patterns(".*", "__pycache__", "dist", "tests")
        shutil.copytree(ROOT / "packages", folder / "packages", ignore=wanted)
    variables: dict[str, str] = {}
    if "postgresql:///shop" in text:
        variables = request.getfixturevalue("shop_database")
    ran = run_page(page, folder, **variables)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings. GitHub and the site use the same ones."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```ruby\nputs 1\n```", "no check for blocks of 'ruby'"),
        ("```\nls\n```", "no check for blocks of ''"),
        ("```python\n1\n", "does not end"),
        ("    ```python\n    1\n    ```", "at the start of the line"),
        ("```text\nnothing drawn\n```", "'text' is for diagrams"),
        ("```python\n1 / 0\n```", "ZeroDivisionError"),
        ("```typescript\n// examples/clients/typescript/src/main.ts\nalert(1);\n```", "does not have these lines"),
        ("```bash\nnpx left-pad\n```", "'left-pad' is not in package.json"),
        ("```python\nprint(1)\n```\n```output\n2\n```", "did not print what the page shows, but:\n1"),
        ("```output\n2\n```", "no block above prints"),
        ("```python\n# shop/jobs.py\n1\n```", "nothing on the page runs or imports shop/jobs.py"),
        ("```bash\nfrobnicate now\n```", "no check for 'frobnicate now'"),
        ("```bash\npython -c 'exit(3)'\n```", "ended with 3"),
        ("```console\n$ python -c 'print(1)'\n2\n```", "did not print what the page shows"),
        ("```console\n$ python -c 'print(1)'  # until Ctrl-C\n2\n```", "did not print '2'"),
        ("```bash\npython -c 'input()'  # until Ctrl-C\n```", "show a line that it prints"),
        ("```bash\npython -m pip install nox && python -m nox -s parade\n```", "no session 'parade'"),
        ("```bash\nkubectl apply -f here.yaml\n```", "no file here.yaml on the page"),
        ("```bash\nsystemctl start jobq-worker\n```", "is not on the page"),
        ("```ini\n[Service]\nExecStart=/usr/bin/jobq migrate --fast\n```", "No such option"),
        ("```ini\n[Service]\nExecutes=1\n```", "which have no check"),
        ("```yaml\nkind: Deployment\napiVersion: v1\nmetadata: {name: x}\n```", "not of apiVersion"),
        ('```dockerfile\nFROM x\nCMD ["jobq", "fly"]\n```', "No such command"),
        ("```python\nimport asyncio\ntask = asyncio.create_task(asyncio.sleep(60))\n```", "leaves running"),
    ],
)
def test_a_wrong_page_is_rejected(text: str, complaint: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    ran = run_page(page, tmp_path)
    assert ran.returncode == 1
    assert complaint in ran.stderr


def test_a_page_keeps_names_files_folders_and_variables_from_block_to_block(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# shop/size.py\nSIZE = 2\n```\n"
        "```python\nimport asyncio\nfrom shop.size import SIZE\nawait asyncio.sleep(0)\n```\n"
        "```python\nprint(SIZE, 'files')\n```\n```output\n… files\n```\n"
        "```bash\nmkdir deep && cd deep\nexport DEPTH=3\n```\n"
        "```console\n$ python -c 'import os; print(os.getcwd()); print(os.environ[\"DEPTH\"])'\n…/deep\n3\n```\n"
        "```python\n# serve.py\nimport signal\n\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nprint('up')\n"
        "print(signal.sigwait([signal.SIGINT]).name)\n```\n"
        "```console\n$ python serve.py  # until Ctrl-C\nup\n```\n",
        encoding="utf-8",
    )
    ran = run_page(page, tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "8 blocks\n", "")


def test_a_serving_command_must_exit_with_0_when_it_is_stopped(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ python -c 'import time; print(1); time.sleep(60)'  # until Ctrl-C\n1\n```\n", encoding="utf-8"
    )
    ran = run_page(page, tmp_path)
    assert ran.returncode == 1
    assert "KeyboardInterrupt" in ran.stderr
