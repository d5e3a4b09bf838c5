"""Check blocks that are not run here: Kubernetes manifests, systemd units, Dockerfiles, excerpts of examples.

Each block is parsed as its tool would parse it, as far as possible without the tool. The real command line parses each
`jobq` command in it, so that a renamed option fails the page.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib

import yaml
from blocks import Block
from commands import ROOT, check_jobq
from resources import ResourceError, check_commands, check_resource, check_together

UNIT_KEYS = {
    "Unit": {"Description", "After", "Wants", "Requires", "PartOf"},
    "Service": {
        *("Type", "User", "WorkingDirectory", "Environment", "EnvironmentFile", "ExecStartPre", "ExecStart"),
        *("Restart", "RestartSec", "TimeoutStopSec", "KillSignal", "KillMode", "WatchdogSec", "NotifyAccess"),
    },
    "Install": {"WantedBy"},
}

DOCKER = ("FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD", "ENTRYPOINT")


def check_manifest(block: Block) -> None:
    """Raise PageError unless the block is valid in its language and its `jobq` commands are valid."""
    {"dockerfile": _dockerfile, "ini": _unit, "json": _json, "toml": _toml, "yaml": _kubernetes}[block.language](block)


def check_excerpt(block: Block) -> None:
    """Raise PageError unless the block is part of the file of examples/ that its first line names."""
    _, _, excerpt = block.text.partition("\n")
    file = ROOT / (block.name or "")
    if not (block.name or "").startswith("examples/") or not file.is_file():
        raise block.error("name a file of examples/ in the first line, as in // examples/clients/main.ts")
    if excerpt.strip() not in file.read_text(encoding="utf-8"):
        raise block.error(f"{block.name} does not have these lines")


def _json(block: Block) -> None:
    try:
        json.loads(block.text)
    except json.JSONDecodeError as error:
        raise block.error(str(error)) from error


def _toml(block: Block) -> None:
    try:
        tomllib.loads(block.text)
    except tomllib.TOMLDecodeError as error:
        raise block.error(error) from error


def _kubernetes(block: Block) -> None:
    try:
        documents = list(yaml.safe_load_all(block.text))
    except yaml.YAMLError as error:
        raise block.error(error) from error
    for document in documents:
        try:
            check_resource(document)
            check_commands(document, lambda command: check_jobq(block, command))
        except ResourceError as error:
            raise block.error(error) from error
    try:
        check_together([document for document in documents if document["kind"] == "Deployment"])
    except ResourceError as error:
        raise block.error(error) from error


def _unit(block: Block) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # keys of units have capitals
    try:
        parser.read_string(block.text)
    except configparser.Error as error:
        raise block.error(error) from error
    for section in parser.sections():
        if unknown := set(parser[section]) - UNIT_KEYS.get(section, set()):
            raise block.error(f"[{section}] has {sorted(unknown)}, which have no check")
    if not parser.has_option("Service", "ExecStart"):
        raise block.error("the unit starts nothing")
    for line in re.findall(r"^ExecStart(?:Pre)?=(.*)$", block.text, re.MULTILINE):
        program, *rest = shlex.split(line)
        if not program.startswith("/"):
            raise block.error(f"systemd needs the absolute path of {program}")
        if program.rpartition("/")[2] == "jobq":
            check_jobq(block, ["jobq", *rest])


def _dockerfile(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        if instruction not in DOCKER:
            raise block.error(f"no check for the Dockerfile instruction {instruction!r}")
        if instruction in ("CMD", "ENTRYPOINT"):
            check_jobq(block, json.loads(rest))
