"""The driver's connection behind what a caller passes as `connection=`, which may be SQLAlchemy's or Django's object.

Nothing is imported for it: an object of a package can only exist where that package is imported. Connections that block
are used in the caller's thread (see `caller_thread`): that of a sync client or of a sync handler, not an event loop's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final

from msgspec import Struct

from jobq_core.caller_thread import call_in_caller, caller_thread
from jobq_core.errors import ConfigurationError

_SESSION: Final = ("sqlalchemy.orm", "Session", "scoped_session")
_CONNECTION: Final = ("sqlalchemy.engine", "Connection")
_ASYNC_SESSION: Final = ("sqlalchemy.ext.asyncio", "AsyncSession", "async_scoped_session")
_ASYNC_CONNECTION: Final = ("sqlalchemy.ext.asyncio", "AsyncConnection")


class CallerConnection(Struct, frozen=True):
    """A connection of a caller.

    driver: the driver's connection. scope: makes the context in which statements run. own_error: returns the error that
    the caller's code expects for an error of the driver.
    """

    driver: Any
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext
    own_error: Callable[[Exception], Exception] = lambda error: error


class Accepted(Struct, frozen=True):
    """The connections that a storage accepts.

    waits: those of drivers for event loops. blocks: those of drivers for threads.
    """

    waits: str
    blocks: str

    async def unwrap(self, given: Any) -> CallerConnection:
        """Return the driver's connection behind an object; its transaction has begun, if SQLAlchemy's.

        Raises ConfigurationError for an object of SQLAlchemy or Django that the present client cannot use.
        """
        if is_a(given, *_ASYNC_SESSION) or is_a(given, *_ASYNC_CONNECTION):
            self.check_waits(given)
            return await _of_async_sqlalchemy(await given.connection() if is_a(given, *_ASYNC_SESSION) else given)
        make = _maker_for(given)
        if make is None:
            return CallerConnection(given)
        self.check_blocks(given)
        return await call_in_caller(partial(make, given))

    def check_waits(self, given: Any) -> None:
        """Raise ConfigurationError for a connection of an event loop, in a thread without one."""
        if caller_thread.get() is not None:
            raise self.refuse(given, ", which belongs to an event loop; JobQueueClient and async handlers take it")

    def check_blocks(self, given: Any) -> None:
        """Raise ConfigurationError for a connection that blocks, on an event loop."""
        if caller_thread.get() is None:
            raise self.refuse(given, ", which would block the event loop; SyncJobQueueClient and sync handlers take it")

    def refuse(self, given: Any, remark: str = "") -> ConfigurationError:
        """Return the error for an object that is not accepted."""
        if caller_thread.get() is None:
            accepted = f"{self.waits}, or SQLAlchemy's AsyncSession or AsyncConnection over one"
        else:
            accepted = f"{self.blocks}, SQLAlchemy's Session or Connection over one, or Django's connection"
        return ConfigurationError(f"connection= takes {accepted}, not {_name_of(given)}{remark}")


def is_a(given: Any, module: str, *names: str) -> bool:
    """Return whether an object is an instance of a class of a module, which need not be imported."""
    loaded = sys.modules.get(module)
    # A module that another thread imports just now may lack them; then the object is not of theirs.
    return isinstance(given, tuple(kind for name in names if isinstance(kind := getattr(loaded, name, None), type)))


def _name_of(given: Any) -> str:
    """Return the full name of an object's type."""
    return f"{type(given).__module__}.{type(given).__qualname__}"


def _maker_for(given: Any) -> Callable[[Any], CallerConnection] | None:
    if is_a(given, *_SESSION):
        return lambda session: _of_sqlalchemy(session.connection())
    if is_a(given, *_CONNECTION):
        return _of_sqlalchemy
    return _of_django if _is_django(given) else None


async def _of_async_sqlalchemy(connection: Any) -> CallerConnection:
    _check_open(connection)
    if not connection.in_transaction():
        await connection.begin()
    driver = (await connection.get_raw_connection()).driver_connection
    if is_a(driver, "asyncpg", "Connection") and not driver.is_in_transaction():
        await connection.exec_driver_sql("SELECT 1")  # SQLAlchemy begins asyncpg's transaction with its first statement
    return CallerConnection(driver, own_error=_sqlalchemy_error)


def _is_django(given: Any) -> bool:
    return is_a(given, "django.utils.connection", "ConnectionProxy") or is_a(
        given, "django.db.backends.base.base", "BaseDatabaseWrapper"
    )


def _of_sqlalchemy(connection: Any) -> CallerConnection:
    _check_open(connection)
    if not connection.in_transaction():
        connection.begin()
    return CallerConnection(connection.connection.driver_connection, own_error=_sqlalchemy_error)


def _check_open(connection: Any) -> None:
    if connection.closed:
        raise ConfigurationError("connection= is closed: pass an open connection")


def _sqlalchemy_error(error: Exception) -> Exception:
    raised: Exception = sys.modules["sqlalchemy.exc"].OperationalError("jobq", None, error)
    return raised


def _of_django(connection: Any) -> CallerConnection:
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    # django.db.connection is another connection in each thread, and own_error is called in that of the event loop.
    wrap_errors = connection.wrap_database_errors

    def scope() -> AbstractContextManager[Any]:
        if connection.in_atomic_block:
            return nullcontext()
        atomic: AbstractContextManager[Any] = sys.modules["django.db.transaction"].atomic(using=connection.alias)
        return atomic

    def own_error(error: Exception) -> Exception:
        try:
            with wrap_errors:
                raise error
        except Exception as raised:  # noqa: BLE001
            return raised

    return CallerConnection(connection.connection, scope, own_error)
