"""Jobs as a web app and a worker would share them."""

from __future__ import annotations

from typing import Any

import attrs

from jobq_core import Job, JobError, job


class CardDeclinedError(Exception):
    """Declared with the job that raises it."""


class OutOfStockError(JobError):
    """Loaded here, declared nowhere."""


@attrs.frozen
class Receipt:
    number: int
    lines: list[str]


@job(errors=(CardDeclinedError,))
async def send_receipt(order_id: int, *, copy_to: str | None = None) -> str:
    raise NotImplementedError


@job(queue="mail", priority=3, max_attempts=4, timeout=20)
async def send_letter(text: str) -> None:
    raise NotImplementedError


@job()
async def keep(value: Any) -> Any:
    raise NotImplementedError


@job(fingerprint=True)
async def convert(options: dict[str, Any]) -> str | None:
    raise NotImplementedError


@job()
async def print_receipt(number: int) -> Receipt:
    raise NotImplementedError


@job()
class Thumbnail(Job[str]):
    path: str
    width: int = 256
