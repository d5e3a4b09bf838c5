# /// script
# dependencies = ["nox>=2025.2.9", "uv>=0.6"]
# ///
"""All checks, in sessions. `nox` runs those with a star; CI then runs `nox -t matrix`.

The packages are tested on the newest Python and one PostgreSQL; the other versions are the matrix's. Each package is
tested from its wheel, with nothing beside it but what it declares: an import that is not declared, or a data file left
out of the wheel, fails its session. Each run of nox builds the wheels once. The block above makes nox fetch uv by
itself, which installs in a second what takes pip ten.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox
from nox.project import dependency_groups, load_toml
from packaging.requirements import Requirement
from uv import find_uv_bin

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "build", "types", "tests", "integration", "promises", "docs"]
nox.options.stop_on_first_error = True  # so that the output ends with it

os.environ.pop("PYTHONPATH", None)  # it could show the packages' sources to their tests
# Hundreds of processes start: compiling what each of them imports takes longer than importing it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent
VERSIONS = ["3.11", "3.12", "3.13"]
POSTGRES = "JOBQ_TEST_POSTGRES"
"""The environment variable that says which server the tests start."""
OTHER_PYTHON = "JOBQ_TEST_OTHER_PYTHON"
"""The environment variable that says which interpreter half of the processes of an SQLite file run on."""


def find_packages(tree: Path) -> dict[str, Path]:
    """Return the folders of the packages of a tree, by name."""
    return {path.name: path for path in sorted((tree / "packages").iterdir()) if (path / "pyproject.toml").exists()}


def find_pythons() -> dict[str, str]:
    """Return the interpreters that run here, by version; the one that runs nox is always among them."""
    current = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {current: sys.executable}
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in VERSIONS:
        # pyenv's commands on PATH may exist and yet not run; what they stand for does.
        candidates = [folder / f"python{version}" for folder in folders]
        candidates += sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)
        working = next((str(path) for path in candidates if version not in found and _runs_as(path, version)), None)
        if working:
            found[version] = working
    return dict(sorted(found.items()))


def _runs_as(python: Path, version: str) -> bool:
    if not os.access(python, os.X_OK):
        return False
    command = [python, "-c", "import sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2])"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.returncode == 0 and asked.stdout.strip() == version


PACKAGES = find_packages(ROOT)
SOURCES = [str(path / "src") for path in PACKAGES.values()]
PYTHONS = find_pythons()
NEWEST = max(PYTHONS, key=lambda version: int(version.split(".")[1]))
OLDEST = next(iter(PYTHONS.values()))
FUZZED = PYTHONS.get("3.11", PYTHONS[NEWEST])  # the fuzzer has wheels for 3.11 alone
SERVED = "jobq-storage-postgres"
CASES = [nox.param(PYTHONS[NEWEST], package, id=package) for package in PACKAGES]
OLDER = [version for version in PYTHONS if version != NEWEST]
# The versions of Python and of the server are independent: one crossing is enough, and one run has both.
OTHERS = [
    nox.param(PYTHONS[version], package, int(package == SERVED and version == OLDER[-1]), id=f"{package}-{version}")
    for version in OLDER
    for package in PACKAGES
] or [nox.param(PYTHONS[NEWEST], SERVED, 1, id=f"{SERVED}-another-server")]
PROCESSES = {"jobq-core": 2, SERVED: 3, "jobq-storage-sqlite": 4, "jobq-worker": 4}
"""How many processes run a package's tests, where that saves more than it costs: more than two where they wait."""


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and words, that planted violations are found, and what is generated. 10 s."""
    install(session, group="lint")
    session.run("ruff", "check", ".")
    session.run("python", "tests-integration/lint/check_plants.py")
    session.run("python", "tests-integration/lint/check_words.py")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "packages/jobq-client/tools/generate_sync.py", "--check")
    session.run("python", "tests-integration/documents/llms.py", "--check")


@nox.session
def build(session: nox.Session) -> None:
    """Build wheels and sdists of all packages into dist/, and check what is in them. 10 s."""
    install(session, group="build")
    made = sorted(distributions(session).glob("jobq_*"))
    session.run("twine", "check", "--strict", *map(str, made))
    for name, path in PACKAGES.items():
        check_wheel(session, path, wheel(session, name))
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    shutil.copytree(distributions(session), ROOT / "dist")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright: the packages, and user code with the errors it must give. 30 s."""
    install(session, *PACKAGES, group="types")
    # Named, since pyright prefers a pyrightconfig.json in any folder above.
    pyright = ("pyright", "--project", "pyproject.toml", "--pythonpath", python_of(session))
    samples = ("python", "tests-integration/types/check_samples.py")
    with ThreadPoolExecutor() as side_by_side:
        list(side_by_side.map(lambda command: session.run(*command), [("mypy", *SOURCES), pyright, samples]))


@nox.session
@nox.parametrize("python,package", CASES)
def tests(session: nox.Session, package: str) -> None:
    """Run a package's tests, with its wheel and only what it declares installed. 3 to 70 s, 2.5 min in all."""
    run_tests(session, package)


@nox.session(tags=["matrix"])
@nox.parametrize("python,package,server", OTHERS)
def versions(session: nox.Session, package: str, server: int) -> None:
    """Run a package's tests on another Python, or on another PostgreSQL."""
    run_tests(session, package, server)


@nox.session(python=PYTHONS[NEWEST], tags=["matrix"])
def pythons(session: nox.Session) -> None:
    """Have processes of the newest and the oldest Python share an SQLite file. 15 s."""
    package = "jobq-storage-sqlite"
    install(session, package, test=True)
    other = make_environment(session, "oldest", OLDEST)
    install(session, package, test=True, python=other)
    session.chdir(PACKAGES[package])
    session.run("pytest", "tests/test_processes.py", *session.posargs, env={OTHER_PYTHON: str(other)})


@nox.session(python=PYTHONS[NEWEST])
def integration(session: nox.Session) -> None:
    """Run tests-integration/: all packages, real processes, SQLite and PostgreSQL, a real browser. 3 min."""
    install(session, *PACKAGES, group="integration", test=True)
    install_tools(session, "chromium", "promtool")
    session.run("pytest", "-m", "not matrix", "-n", "4", "--dist", "worksteal", *session.posargs)


@nox.session(python=PYTHONS[NEWEST], tags=["matrix"])
def scenarios(session: nox.Session) -> None:
    """Run the scenarios of the benchmarks with few jobs, fuzz the HTTP API, and use the TypeScript client (which needs
    Node.js). 3 min."""
    install(session, *PACKAGES, group="integration", test=True)
    names = ("benchmarks", "api_fuzzing", "typescript_client")
    files = [f"tests-integration/test_{name}.py" for name in names]
    session.run("pytest", *files, "-m", "matrix", "-n", "2", *session.posargs)


@nox.session(python=PYTHONS[NEWEST], tags=["matrix"])
def skew(session: nox.Session) -> None:
    """Run the workers and clients of the commit before beside today's, on one storage that is migrated. 1 min."""
    install(session, *PACKAGES, group="faults", test=True)
    tree = tree_before(session)
    # What today's code has and the older has not: a migration of the tests alone.
    script = "import {0}; print({0}.__path__[0])"
    for module, name in (("jobq_storage_postgres", "postgres"), ("jobq_storage_sqlite", "sqlite")):
        folder = Path(str(session.run("python", "-c", script.format(module), silent=True)).strip()) / "migrations"
        shutil.copy(ROOT / f"tests-integration/faults/skew/{name}.sql", folder / "0002_pre_skew.sql")
    python = str(make_environment(session, "before", str(session.python)))
    wheels = [str(found) for found in sorted(distributions(session, tree).glob("jobq_*.whl"))]
    session.run(find_uv_bin(), "pip", "install", "--quiet", "--python", python, *wheels, external=True)
    told = {"JOBQ_SKEW_PYTHON": python, "JOBQ_SKEW_FAULTS": str(tree / "tests-integration" / "faults")}
    session.run("pytest", "tests-integration/faults/skew", "-n", "2", *session.posargs, env=told)


@nox.session(python=FUZZED)
def promises(session: nox.Session) -> None:
    """Break each promise that can be broken from outside, once: the faults at their smallest scale. 5 min."""
    break_promises(session, "--scale", "smallest")


@nox.session(python=FUZZED)
def faults(session: nox.Session) -> None:
    """Break them again and again, for those who change what keeps them. 20 min. `-- --seed N` repeats a run."""
    break_promises(session)


@nox.session(python=FUZZED)
def soak(session: nox.Session) -> None:
    """Break them for about an hour. `-- --scale N` makes it as long as wanted."""
    break_promises(session, "--scale", "soak", "--timeout", "3600")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, with llms.txt for language models; a broken link is an error. 5 s."""
    install(session, *PACKAGES, group="docs")
    session.run("zensical", "build", "--clean", "--strict")
    session.run("python", "tests-integration/documents/llms.py", "--site")


@nox.session
def demo(session: nox.Session) -> None:
    """Count the standard library's code in client, server and worker processes, one of them killed on the way. 40 s."""
    install(session, *PACKAGES, group="demo")
    session.run("python", "examples/census.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure jobq, its floors and, with --rivals, its rivals in turns, or write up results. `-- --help` tells more."""
    install(session, *PACKAGES, group="bench")
    if session.posargs[:1] == ["report"]:
        session.run("python", "tests-integration/benchmarks/report.py", *session.posargs[1:])
    else:
        session.run("python", "tests-integration/benchmarks", *session.posargs)


def make_environment(session: nox.Session, name: str, python: str) -> Path:
    """Make an empty environment beside the session's own, and return its interpreter."""
    folder = Path(session.create_tmp(), name).resolve()
    session.run(find_uv_bin(), "venv", "--quiet", "--clear", "--python", python, str(folder), external=True)
    return folder / "bin" / "python"


def install(
    session: nox.Session, *packages: str, group: str | None = None, test: bool = False, python: Path | None = None
) -> None:
    """Install packages from their wheels, with what they declare, and groups of tools, for the session's Python or
    another.

    Not with session.install, which `nox -R` leaves out: it would test the wheels of an earlier run.
    """
    wanted = list(dependency_groups(load_toml(ROOT / "pyproject.toml"), group)) if group else []
    for package in packages if test else ():
        wanted += dependency_groups(load_toml(PACKAGES[package] / "pyproject.toml"), "test")
    named = [Requirement(text) for text in (*packages, *wanted)]
    ours = [f"{name} @ {wheel(session, name).as_uri()}" for name in sorted(siblings(named))]
    chosen = [] if python is None else ["--python", str(python)]
    session.run(find_uv_bin(), "pip", "install", "--quiet", *chosen, *ours, *wanted, external=True)


def run_tests(session: nox.Session, package: str, server: int = 0) -> None:
    """Run a package's tests; those of PostgreSQL on the server of that number among those that are there."""
    install(session, package, test=True)
    session.chdir(PACKAGES[package])
    split = ["-n", str(PROCESSES[package])] if package in PROCESSES else []
    environment = {}
    if package == SERVED and POSTGRES not in os.environ:
        servers = postgres_servers(session)
        if server >= len(servers) and not OLDER:
            session.skip("there is no other PostgreSQL here")
        environment = {POSTGRES: servers[min(server, len(servers) - 1)]}
    session.run("pytest", *split, *session.posargs, env=environment)


def break_promises(session: nox.Session, *options: str) -> None:
    """Run the fault tests: those of processes, which mostly wait, then, even after a failure, those that compute."""
    install(session, *PACKAGES, group="faults", test=True)
    install_tools(session, "pgbouncer", "sqlite3")
    once = "smallest" in options
    pytest = ["pytest", "tests-integration/faults", *options, *session.posargs]
    found = [0, 5] if session.posargs else [0]  # with `-k`, there may be none of either
    # At the larger scales each test of processes has the machine to itself.
    beside = ["-n", "4", "--dist", "worksteal"] if once else []
    try:
        session.run(*pytest, "-m", "processes", *beside, success_codes=found)
    finally:
        # At the smallest scale, many of these wait for a server, too.
        session.run(
            *pytest, "-m", "not processes", "-n", "3" if once else "2", "--dist", "worksteal", success_codes=found
        )


def install_tools(session: nox.Session, *tools: str) -> None:
    """Have PgBouncer, SQLite's shell, Chromium or promtool on the machine: they are Debian's, for no registry of
    Python's or Node's has them, and only root gets them."""
    path = os.pathsep.join([session.bin, os.environ.get("PATH", ""), "/usr/sbin"])
    missing = [tool for tool in tools if shutil.which(tool, path=path) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        named = " and ".join(missing)
        packages = " ".join("prometheus" if tool == "promtool" else tool for tool in missing)
        session.error(f"the tests need {named} on PATH or in /usr/sbin (Debian: apt-get install {packages})")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "update", "-q", env=quiet, external=True, silent=True)
    if "promtool" in missing:
        # Alone: its package would start a server.
        missing.remove("promtool")
        fetched = (
            f"apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb . && cp usr/bin/promtool {session.bin}"
        )
        # Not in the session's own folder for such files: the tests would use it too, and sockets need short paths.
        with tempfile.TemporaryDirectory() as folder:
            session.run("sh", "-c", f"cd {folder} && {fetched}", external=True, silent=True)
    if missing:
        session.run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, env=quiet, external=True)
    if "pgbouncer" in missing:
        # The package starts a pooler of the machine's own, which is not ours to want.
        session.run("sh", "-c", "service pgbouncer stop || true", external=True, silent=True)


def siblings(requirements: list[Requirement]) -> set[str]:
    """Return our own packages that the requirements lead to; they come from wheels, never from an index."""
    found: set[str] = set()
    for requirement in requirements:
        if requirement.name in PACKAGES:
            project = load_toml(PACKAGES[requirement.name] / "pyproject.toml")["project"]
            extras = [project["optional-dependencies"][extra] for extra in requirement.extras]
            needed = [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]
            found |= {requirement.name} | siblings(needed)
    return found


def wheel(session: nox.Session, package: str) -> Path:
    """Return the package's wheel, as built in this run."""
    (found,) = distributions(session).glob(f"{package.replace('-', '_')}-*.whl")
    return found


_folder = tempfile.TemporaryDirectory(prefix="jobq-dist-")  # of this run: others may run in the same checkout


@functools.cache
def _built(tree: Path) -> Path:
    """Build all packages of a tree; the wheels are made from the sdists, which shows these to be complete."""
    made = Path(_folder.name, "today" if tree == ROOT else "before")
    for path in find_packages(tree).values():
        subprocess.run([find_uv_bin(), "build", "--quiet", "--out-dir", made, path], check=True)
    return made


def tree_before(session: nox.Session) -> Path:
    """Return the files of the commit before: the parent of this one, or this one if the checkout has changes.

    Fails without that commit, as in a shallow clone. Where a migration was changed in place since, no older code can
    share a storage with today's, and the files are today's.
    """
    changed = _git(session, "status", "--porcelain", "--", "packages")
    commit = "HEAD" if changed else "HEAD~1"
    asked = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    if subprocess.run(asked, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode:
        shallow = _git(session, "rev-parse", "--is-shallow-repository") == "true"
        remedy = (
            "this clone is shallow: git fetch --unshallow, or clone with --depth 2" if shallow else "it is the first"
        )
        session.error(f"there is no commit before this one to run beside it: {remedy}")
    if _git(session, "diff", "--name-only", "--diff-filter=MDR", commit, "--", "packages/*/src/*/migrations/*.sql"):
        session.warn(f"a migration was changed in place since {commit}: today's code runs beside itself")
        return ROOT
    tree = Path(_folder.name, "tree")
    tree.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
    return tree


def _git(session: nox.Session, *arguments: str) -> str:
    """Return the output of a git command in this checkout."""
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode:
        session.error(f"git {arguments[0]}: {asked.stderr.strip() or asked.returncode}")
    return asked.stdout.strip()


def distributions(session: nox.Session, tree: Path = ROOT) -> Path:
    """Return the folder with the wheels and sdists of a tree, as built in this run."""
    try:
        return _built(tree)
    except subprocess.CalledProcessError as error:
        session.error(f"{error.cmd[-1]} cannot be built")


def check_wheel(session: nox.Session, package: Path, built: Path) -> None:
    """Fail unless the wheel holds every file of src/ and the licence, and puts nothing beside the modules in src/."""
    module = package.name.replace("-", "_")
    held = set(zipfile.ZipFile(built).namelist())
    source = package / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted |= {f"{module}/py.typed", f"{module}-{built.name.split('-')[1]}.dist-info/licenses/LICENSE"}
    if missing := wanted - held:
        session.error(f"{built.name} lacks {sorted(missing)}")
    modules = tuple(f"{folder.name}/" for folder in source.iterdir())
    if stray := {name for name in held if not name.startswith((*modules, f"{module}-"))}:
        session.error(f"{built.name} would install {sorted(stray)} outside its modules")


def postgres_servers(session: nox.Session) -> list[str]:
    """Return the servers that the tests can start here, the machine's before that of the wheel."""
    script = "from jobq_storage_postgres.testing import available_sources; print(*available_sources())"
    return str(session.run("python", "-c", script, silent=True)).split() or ["machine"]


def python_of(session: nox.Session) -> str:
    """Return the path of the session's own interpreter."""
    return str(Path(session.bin, "python"))
