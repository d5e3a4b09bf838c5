"""What a handler gets from its worker by type: `provided`, and the parameters of a function that are resources."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from jobq_core.signatures import mentions_context
from jobq_core.type_checks import refusal


class Provided:
    """The default of a parameter that the worker supplies; see `provided`."""

    def __repr__(self) -> str:
        return "provided()"


_PROVIDED: Final = Provided()


def provided() -> Any:
    """Return the default of a keyword-only parameter that the worker supplies by its type.

    As in `async def charge(order_id: int, *, db: Pool = provided())`. The parameter is not an argument of the job:
    `charge(order_id=7)` makes one, for type checkers too. The worker passes what its `@worker.provides` function for
    exactly this type returned.
    """
    return _PROVIDED


def resources_of(
    parameters: list[inspect.Parameter], hints: Mapping[str, Any], *, arguments: bool = True
) -> dict[str, Any]:
    """Return the types, as annotated, of the keyword-only parameters that a worker supplies, by name.

    They are those with the default `provided()`, and those without a default whose type has no JSON form; without
    `arguments`, all without a default: the function takes no arguments of a job beside them.
    """
    return {
        parameter.name: hints.get(parameter.name, Any)
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY
        and (
            parameter.default is _PROVIDED
            or (
                parameter.default is parameter.empty and (not arguments or _has_no_form(hints.get(parameter.name, Any)))
            )
        )
    }


def _has_no_form(hint: Any) -> bool:
    try:
        return not mentions_context(hint) and inspect.isclass(_bare(hint)) and refusal(hint) is not None
    except NameError:
        return False  # a type that is not defined yet is that of an argument


def _bare(hint: Any) -> Any:
    """Return the class of a type: `Pool` of `Annotated[Pool, "replica"]` and of `Pool[Row]`."""
    return getattr(hint, "__origin__", hint)
