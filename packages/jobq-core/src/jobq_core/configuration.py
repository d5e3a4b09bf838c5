"""Options of the commands from the environment and from `[tool.jobq]` in the working directory's pyproject.toml.

An option on the command line comes before the environment variable, which comes before pyproject.toml. The variable of
the key `log_level` is JOBQ_LOG_LEVEL. An empty variable counts as unset.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import attrs
import click

from jobq_core.reprs import short_repr

PREFIX: Final = "JOBQ_"
"""What the names of the environment variables begin with."""
FILE: Final = "pyproject.toml"
TABLE: Final = f"{FILE}, [tool.jobq]"
SECRET_KEYS: Final = frozenset({"storage", "web_token"})
"""Keys whose values no message shows: a URL may contain a password."""
SIMILARITY: Final = 0.8
"""How similar an unknown variable must be to a known one to be an error. Others belong to other programs: Kubernetes
sets JOBQ_SERVICE_HOST for a service that is called jobq."""

_TYPES: Final[tuple[tuple[type[click.ParamType[Any]], tuple[type, ...], str], ...]] = (
    (click.types.BoolParamType, (bool,), "true or false"),
    (click.types.IntParamType, (int,), "a whole number"),
    (click.types.FloatParamType, (int, float), "a number"),
)


@attrs.frozen(kw_only=True)
class Configuration:
    """What the environment and pyproject.toml say. values: by the name of the parameter. problems: one line each."""

    values: Mapping[str, Any]
    problems: tuple[str, ...]


class ConfiguredCommand(click.Command):
    """A command whose parameters may be set in the environment and in pyproject.toml.

    other_keys: keys that other commands read and this one ignores; with None (default), it ignores all unknown keys.
    strict: whether a problem is an error; `jobq check` reports all of them instead. unconfigured: parameters that only
        the command line sets.
    """

    def __init__(
        self,
        *args: Any,
        other_keys: frozenset[str] | None = None,
        strict: bool = True,
        unconfigured: frozenset[str] = frozenset(),
        **keywords: Any,
    ) -> None:
        super().__init__(*args, **keywords)
        self.other_keys = other_keys
        self.strict = strict
        self.unconfigured = unconfigured

    def configurable(self) -> dict[str, click.Parameter]:
        """Return the parameters that may be set in the environment and in pyproject.toml, by key."""
        return {str(p.name): p for p in self.params if p.name not in self.unconfigured}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = tuple(args)
        if not ctx.resilient_parsing and not set(args) & set(ctx.help_option_names):
            found = ctx.meta[CONFIGURATION] = read_configuration(self, ctx)
            if found.problems and self.strict:
                raise click.UsageError("\n".join(found.problems), ctx)
            ctx.default_map = {**(ctx.default_map or {}), **found.values}
        return super().parse_args(ctx, args)


ARGUMENTS: Final = "jobq.arguments"
"""The key of `click.Context.meta` for the words that a configured command was given."""
CONFIGURATION: Final = "jobq.configuration"
"""The key of `click.Context.meta` for the Configuration of a configured command."""


def read_configuration(
    command: ConfiguredCommand,
    ctx: click.Context,
    *,
    environment: Mapping[str, str] = os.environ,
    folder: Path = Path(),
) -> Configuration:
    """Return the values of the command's parameters in pyproject.toml and, before it, in the environment."""
    parameters = command.configurable()
    known = None if command.other_keys is None else {*parameters, *command.other_keys}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in _table(folder / FILE, problems).items():
        if key in parameters:
            _take(values, problems, ctx, parameters[key], f"{TABLE}: {key}", value, _wrong_type)
        elif known is not None and key not in known:
            problems.append(f"{TABLE}: unknown key {key!r}; {_instead(key, known)}")
    for key, parameter in parameters.items():
        name = variable(key)
        if text := environment.get(name):
            _take(values, problems, ctx, parameter, name, _split(parameter, text), lambda _parameter, _value: None)
    if known is not None:
        problems += _misspelled(environment, known, parameters.values())
    return Configuration(values=values, problems=tuple(problems))


def variable(key: str) -> str:
    """Return the environment variable of a key."""
    return PREFIX + key.upper()


def expected(parameter: click.Parameter) -> str:
    """Return what a value of the parameter is in pyproject.toml, in words."""
    if _is_list(parameter):
        return "a list of texts"
    words: str | None = getattr(parameter.type, "expected", None)
    return words or next((words for kind, _, words in _TYPES if isinstance(parameter.type, kind)), "a text")


def _is_list(parameter: click.Parameter) -> bool:
    return parameter.nargs == -1 or parameter.multiple


def _table(path: Path, problems: list[str]) -> Mapping[str, Any]:
    """Return the table of a pyproject.toml; {} without the file or the table."""
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # tomllib's error is a ValueError and shows no value
        problems.append(f"{FILE} could not be read: {error}; correct the file")
        return {}
    table = tool.get("jobq", {}) if isinstance(tool, dict) else {}
    if isinstance(table, dict):
        return table
    problems.append(f"{FILE}: tool.jobq must be a table; write [tool.jobq]")
    return {}


def _take(
    values: dict[str, Any],
    problems: list[str],
    ctx: click.Context,
    parameter: click.Parameter,
    source: str,
    value: Any,
    complain: Callable[[click.Parameter, Any], str | None],
) -> None:
    """Check a value as the command line does, and keep it or the problem."""
    complaint = complain(parameter, value)
    if complaint is None:
        try:
            parameter.process_value(ctx, value)
        except click.BadParameter as error:
            complaint = error.message.rstrip(".")
            if error.__cause__ is None and parameter.type.name != "choice":
                complaint += f"; expected {expected(parameter)}"
            if parameter.name in SECRET_KEYS:
                complaint = f"the value cannot be used; expected {expected(parameter)}"
    if complaint is None:
        values[str(parameter.name)] = value
    else:
        problems.append(f"{source}: {complaint}")


def _wrong_type(parameter: click.Parameter, value: Any) -> str | None:
    """Return why a value of pyproject.toml has the wrong type; None if it has the right one."""
    accepted = getattr(parameter.type, "accepted", None) or next(
        (types for kind, types, _ in _TYPES if isinstance(parameter.type, kind)), (str,)
    )
    if _is_list(parameter):
        fits = isinstance(value, list) and all(type(each) is str for each in value)
    else:
        fits = type(value) in accepted
    if fits:
        return None
    shown = f"a {type(value).__name__}" if parameter.name in SECRET_KEYS else short_repr(value)
    return f"expected {expected(parameter)}, not {shown}"


def _split(parameter: click.Parameter, text: str) -> Any:
    """Return the value of a variable: several are separated by commas or spaces."""
    return [part for part in re.split(r"[,\s]+", text) if part] if _is_list(parameter) else text


def _misspelled(
    environment: Mapping[str, str], known: Iterable[str], parameters: Iterable[click.Parameter]
) -> list[str]:
    """Return a problem for each variable that is called almost as a known one, or as the option on the command line."""
    keys = {key.upper(): key for key in known}
    flags = {
        flag.removeprefix("--").replace("-", "_").upper(): str(parameter.name)
        for parameter in parameters
        for flag in parameter.opts
        if flag.startswith("--")
    }
    problems = []
    for name in sorted(environment):
        word = name.removeprefix(PREFIX)
        if word == name or word in keys:
            continue
        close = [flags[word].upper()] if word in flags else get_close_matches(word, keys, n=1, cutoff=SIMILARITY)
        if close:
            problems.append(f"{name}: unknown variable; did you mean {PREFIX}{close[0]}?")
    return problems


def _instead(key: str, known: Iterable[str]) -> str:
    close = get_close_matches(key, sorted(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(sorted(known))}"
