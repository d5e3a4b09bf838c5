"""The simulated machine: clocks, ids and random numbers that jobq's modules read from the world."""

from __future__ import annotations

import random
import sys
import time
import types
import uuid
from asyncio import events
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import jobq_core.ids
from jobq_worker.liveness import registration
from jobq_worker.liveness.processor_share import processor_seconds

from .heartbeat import SimulatedHeartbeatThread
from .process import ProcessLoop
from .world import World

MODULES = ("jobq_client.", "jobq_core.", "jobq_worker.")


class _Machine:
    """The clocks and ids of the current schedule's world; one schedule at a time."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.count = 0

    def monotonic(self) -> float:
        assert self.world is not None, "a clock was read outside a schedule"
        return self.world.now

    def clock_gettime(self, _: int) -> float:
        return self.monotonic()

    def time(self) -> float:
        loop = events._get_running_loop()
        skew = loop.process.skew if isinstance(loop, ProcessLoop) else 0.0
        assert self.world is not None, "a clock was read outside a schedule"
        return self.world.clock() + skew

    def time_ns(self) -> int:
        return round(self.time() * 1e9)

    def uuid7(self) -> uuid.UUID:
        """Return a UUIDv7 (RFC 9562): milliseconds, a counter, random bits."""
        assert self.world is not None, "an id was made outside a schedule"
        self.count += 1
        high = round(self.time() * 1000) << 80 | 7 << 76 | (self.count & 0xFFF) << 64
        return uuid.UUID(int=high | 2 << 62 | self.world.random.getrandbits(62))


_machine = _Machine()
_TIME = types.SimpleNamespace(
    monotonic=_machine.monotonic, time=_machine.time, time_ns=_machine.time_ns, clock_gettime=_machine.clock_gettime
)
_IDS = types.SimpleNamespace(uuid7=_machine.uuid7)


@contextmanager
def machine_of(world: World) -> Generator[None, None, None]:
    """Make this world the machine's, until the end of the block. Use within `simulated_machine`."""
    _machine.world, _machine.count = world, 0
    before = random.getstate()
    random.seed(world.random.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(before)
        _machine.world = None


@contextmanager
def simulated_machine() -> Generator[None, None, None]:
    """Replace the clocks, ids and random numbers of jobq's modules, until the end of the block."""
    with ExitStack() as stack:
        for name, module in sorted(sys.modules.items()):
            if name.startswith(MODULES):
                if getattr(module, "time", None) is time:
                    stack.enter_context(mock.patch.object(module, "time", _TIME))
                _replace_defaults(module, stack)
        stack.enter_context(mock.patch.object(jobq_core.ids, "uuid_utils", _IDS))
        stack.enter_context(mock.patch.object(registration, "HeartbeatThread", SimulatedHeartbeatThread))
        yield


def _replace_defaults(module: types.ModuleType, stack: ExitStack) -> None:
    """Replace clocks that are default arguments of a module's functions, such as `now=time.monotonic`."""
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        functions = vars(value).values() if isinstance(value, type) else [value]
        for function in functions:
            if not isinstance(function, types.FunctionType):
                continue
            if function.__kwdefaults__ and (changed := _simulated(function.__kwdefaults__)):
                stack.enter_context(mock.patch.dict(function.__kwdefaults__, changed))
            if function.__defaults__ and (simulated := _simulated(dict(enumerate(function.__defaults__)))):
                defaults = dict(enumerate(function.__defaults__)) | simulated
                stack.enter_context(mock.patch.object(function, "__defaults__", tuple(defaults.values())))


_REAL = {time.monotonic: _machine.monotonic, time.time: _machine.time, processor_seconds: lambda: 0.0}


def _simulated(defaults: dict[Any, Any]) -> dict[Any, Any]:
    return {
        key: _REAL[value]
        for key, value in defaults.items()
        if isinstance(value, (types.BuiltinFunctionType, types.FunctionType)) and value in _REAL
    }
