"""Contestants as the runner sees them: a script, the Python of its environment, the settings in use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
from contestants.protocol import Tally, read_tally
from meters import processor_seconds

STALLED = 20.0
"""Seconds without a run after which the remaining jobs count as lost."""
POLL = 0.02


class ContestantError(RuntimeError):
    """A contestant failed, or did not answer in time; the message contains its output."""


@attrs.frozen
class Player:
    """A contestant. `settings` contains the chosen settings of each verb."""

    name: str
    script: Path
    python: Path
    about: dict[str, Any] = attrs.field(factory=dict, eq=False)
    settings: dict[str, dict[str, Any]] = attrs.field(factory=dict, eq=False)

    @classmethod
    def meet(cls, script: Path, python: Path, *, name: str | None = None) -> Player:
        """Ask a contestant for its versions and verbs. Raises ContestantError."""
        stranger = cls(name or script.stem, script, python)
        about = stranger.ask("about", "", within=60)
        settings = {verb: grid[0] for verb, grid in about["settings"].items() if grid}
        return cls(name or about["name"], script, python, about, settings)

    def with_settings(self, verb: str, settings: dict[str, Any]) -> Player:
        """Return the same with other settings for a verb."""
        return attrs.evolve(self, settings={**self.settings, verb: settings})

    def can(self, verb: str) -> bool:
        """Return whether the contestant has a verb; `start` needs an import statement."""
        return verb in self.about["can"] or (verb == "start" and bool(self.about["imports"]))

    @property
    def is_ours(self) -> bool:
        """Whether this is jobq, at any commit."""
        return self.script.stem.startswith("ours")

    def enters(self, needs: Sequence[str], ours_only: bool) -> bool:
        """Return whether the contestant takes part in a scenario that needs these verbs."""
        return all(map(self.can, needs)) and (self.is_ours or not ours_only)

    def plays_on(self, storage: str) -> bool:
        """Return whether the contestant accepts the storage's URLs."""
        return storage in self.about["storages"]

    def command(self, verb: str, url: str, *, extra: dict[str, Any] | None = None, **options: Any) -> list[str]:
        """Return the command line for a verb, with `extra` settings added to the chosen ones."""
        settings = {**self.settings.get(verb, {}), **(extra or {})}
        words = [str(self.python), str(self.script), verb, "--url", url, "--settings", json.dumps(settings)]
        for name, value in options.items():
            if value is True:
                words.append(f"--{name.replace('_', '-')}")
            elif value is not False and value is not None:
                words += [f"--{name.replace('_', '-')}", str(value)]
        return words

    def ask(
        self, verb: str, url: str, *, within: float, extra: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Run a verb in a process, and return its answer. Raises ContestantError, also after `within` seconds."""
        command = self.command(verb, url, extra=extra, **options)
        with started(command) as process:
            try:
                output, errors = process.communicate(timeout=within)
            except subprocess.TimeoutExpired:
                raise ContestantError(f"{self.name}: {verb} took longer than {within:.0f} s") from None
        if process.returncode:
            raise ContestantError(f"{self.name}: {verb} ended with {process.returncode}: {errors[-2000:].strip()}")
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        return answer


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process in a separate group, and kill the whole group at the end."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        _kill_group(process.pid)
        process.communicate()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class Workers:
    """The worker processes of a contestant on one target, with one tally; a context manager."""

    def __init__(
        self, player: Player, url: str, count: int, *, sleep: float = 0.0, extra: dict[str, Any] | None = None
    ) -> None:
        self._player = player
        self._folder = tempfile.TemporaryDirectory(prefix="jobq-tally-")
        self.tally = Path(self._folder.name, "tally")
        Tally.create(self.tally)
        self._command = player.command("work", url, extra=extra, tally=self.tally, sleep=sleep)
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workers:
        """Start the workers. Their output goes to a file, so that a full pipe cannot block them."""
        with Path(self._folder.name, "log").open("wb") as log:
            for _ in range(self._count):
                self._processes.append(
                    subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
                )
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the workers as an orchestrator does: SIGTERM, then SIGKILL after 20 s."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 20
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):  # then the whole group is killed
                process.wait(max(0.1, deadline - time.monotonic()))
            _kill_group(process.pid)
            process.wait()
        self._folder.cleanup()

    def cpu(self) -> float | None:
        """Return the workers' processor seconds so far."""
        return processor_seconds([process.pid for process in self._processes])

    def check(self) -> None:
        """Raise ContestantError if a worker has ended."""
        for process in self._processes:
            if process.poll() is not None:
                said = Path(self._folder.name, "log").read_text(errors="replace")[-2000:].strip()
                raise ContestantError(f"{self._player.name}: a worker ended with {process.returncode}: {said}")

    def wait_for(self, runs: int, time_limit: float) -> dict[str, Any]:
        """Return the tally when it has this many runs, or after `time_limit` seconds, or after a stall.

        Raises ContestantError if a worker ends first.
        """
        until = time.monotonic() + time_limit
        seen, stirred = 0, time.monotonic()
        while True:
            tally = read_tally(self.tally)
            now = time.monotonic()
            if tally["runs"] > seen:
                seen, stirred = tally["runs"], now
            if seen >= runs or now > until or now - stirred > STALLED:
                return tally
            self.check()
            time.sleep(POLL)
