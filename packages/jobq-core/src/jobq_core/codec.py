"""The decoders of one kind of job, made from the types that its declaration names.

They are made when the job is declared, so that a type that cannot be stored is refused there. A declaration may name
types that its module defines further down: then they are made on first use, when a worker starts or a job is added.
"""

from __future__ import annotations

import sys
import types
import typing
from typing import Any

import attrs
import msgspec

from jobq_core.declarations import KnownNames
from jobq_core.encoding import MAX_ARGUMENTS, encode
from jobq_core.errors import ConfigurationError, InvalidJobError, UnfitArgumentsError
from jobq_core.json_types import make_decoder
from jobq_core.masking import holds_secret
from jobq_core.type_checks import RENAME, private_fields, refusal

_PLAIN = (int, str, float, bool, type(None))
_EMPTY = len("{}")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class JobCodec(msgspec.Struct, frozen=True):
    """Decoders of one kind of job.

    names: refuses undeclared arguments; None where they are ignored.
    secrets: the arguments that hold a Secret.
    fitting: types of results that need no check, for they are exactly as declared; None where every result fits.
    """

    kind: str
    arguments: msgspec.json.Decoder[Any]
    result: msgspec.json.Decoder[Any]
    fitting: frozenset[type] | None
    names: KnownNames | None
    secrets: tuple[str, ...]

    def check_arguments(self, data: bytes | str) -> None:
        """Raise InvalidJobError where the arguments do not fit the declared types."""
        try:
            self.arguments.decode(data)
            return
        except _UNREADABLE as error:
            said = str(error)
        # Raised here: the decoder's error may hold all that it was to decode.
        raise InvalidJobError(f"{self.kind}: the arguments do not fit: {said}")

    def decode_arguments(self, data: bytes | str) -> Any:
        """Return the job value. Raises UnfitArgumentsError where the arguments do not fit the declaration, or are not
        declared; InvalidJobError for damaged JSON."""
        names = self.names
        try:
            job = self.arguments.decode(data)
            if names is not None and len(data) > _EMPTY:
                names.check(data)
            return job
        except _UNREADABLE as error:
            said, unfit = str(error), isinstance(error, msgspec.ValidationError)
        # Raised here: the decoder's error may hold all that it was to decode.
        error_type = UnfitArgumentsError if unfit else InvalidJobError
        raise error_type(f"{self.kind}: the arguments do not fit: {said}")

    def decode_result(self, data: bytes | str) -> Any:
        """Return the result; raises InvalidJobError where it does not fit the declared type."""
        try:
            return self.result.decode(data)
        except _UNREADABLE as error:
            said = str(error)
        raise InvalidJobError(f"the result of {self.kind} does not fit its declared type: {said}")


def make_codec(kind: str, job_type: type[Any], result_type: Any, *, ignores_unknown: bool = False) -> JobCodec:
    """Make the decoders; raises ConfigurationError for a type that cannot be stored or is not defined."""
    try:
        return _make(kind, job_type, result_type, ignores_unknown)
    except NameError as error:
        raise ConfigurationError(
            f"job {kind}: {_undefined(job_type)} cannot be resolved: {error}; the type must be defined or imported in "
            "the job's module, outside of functions and of `if TYPE_CHECKING:`"
        ) from error


def _undefined(job_type: type[Any]) -> str:
    """Return which part of a declaration names a type that is not defined."""
    for field in attrs.fields(job_type):
        try:
            refusal(resolve(field.type, job_type.__module__))
        except NameError:
            return f"the type of argument {field.name!r}"
    return "the type of its result"


def early_codec(kind: str, job_type: type[Any], result_type: Any, *, ignores_unknown: bool = False) -> JobCodec | None:
    """Make the decoders, or return None where a type is not defined yet; raises ConfigurationError as `make_codec`."""
    try:
        return _make(kind, job_type, result_type, ignores_unknown)
    except NameError:
        return None


def _make(kind: str, job_type: type[Any], result_type: Any, ignores_unknown: bool) -> JobCodec:
    for name in private_fields(job_type):
        raise ConfigurationError(f"job {kind}: argument {name!r} is not stored; {RENAME}")
    hints = typing.get_type_hints(job_type, include_extras=True)
    for field in attrs.fields(job_type):
        _check(hints[field.name], f"job {kind}: argument {field.name!r}")
        _check_default(field.default, hints[field.name], f"job {kind}: the default of {field.name!r}")
    result = resolve(result_type, job_type.__module__)
    _check(result, f"job {kind}: its result")
    arguments = {field.name: hints[field.name] for field in attrs.fields(job_type)}
    names = KnownNames(arguments)
    decoders = make_decoder(job_type), make_decoder(result)
    secrets = tuple(name for name, hint in arguments.items() if hint not in _PLAIN and holds_secret(hint))
    return JobCodec(kind, *decoders, _fitting(result), None if ignores_unknown else names, secrets)


def _check(wanted: Any, what: str) -> None:
    said = refusal(wanted)
    if said is not None:
        raise ConfigurationError(f"{what}: {said}")


def _check_default(default: Any, wanted: Any, what: str) -> None:
    if isinstance(default, (list, dict, set)):
        raise ConfigurationError(f"{what} is mutable; use None")
    if default is attrs.NOTHING or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return
    try:
        make_decoder(wanted).decode(encode(default, "it", MAX_ARGUMENTS))
    except (msgspec.DecodeError, InvalidJobError) as error:
        raise ConfigurationError(f"{what} does not fit its type: {error}") from error


def resolve(annotation: Any, module: str) -> Any:
    """Return the type that an annotation in this module names; raises NameError where it is not defined yet."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = vars(sys.modules[module]) if module in sys.modules else {}
    return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]


def _fitting(result: Any) -> frozenset[type] | None:
    if result is Any or result is object:
        return None
    members = typing.get_args(result) if typing.get_origin(result) in (typing.Union, types.UnionType) else (result,)
    return frozenset(member for member in members if member in _PLAIN)
