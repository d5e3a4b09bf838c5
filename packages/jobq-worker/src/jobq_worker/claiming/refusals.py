"""Jobs that a worker cannot take: of a kind that it has no handler for, or with arguments that do not fit.

They are suspended: BLOCKED until a worker that can take them claims. Their attempts do not count.
"""

from __future__ import annotations

import logging
from typing import Final

from jobq_core.storage import UNFIT_ARGUMENTS, UNKNOWN_KIND

logger = logging.getLogger("jobq.worker")

MOST_KINDS: Final = 100
"""The number of kinds that are counted and logged one by one."""
OTHERS: Final = "others"
"""The key that counts the jobs of all further kinds."""


class Refusals:
    """Counts the jobs that the worker could not take, by kind, and logs each kind once.

    unknown: the counts of unknown kinds. unfit: the counts of kinds whose arguments did not fit.
    """

    def __init__(self, unknown: dict[str, int], unfit: dict[str, int]) -> None:
        self._unknown = unknown
        self._unfit = unfit

    def count_unknown(self, kind: str) -> None:
        """Count a job of a kind without a handler."""
        if _count(self._unknown, kind):
            logger.warning(
                "no handler for jobs of kind %r; they are BLOCKED (%s) until a worker with a handler claims",
                kind,
                UNKNOWN_KIND,
            )

    def count_unfit(self, kind: str, why: Exception) -> None:
        """Count a job whose arguments do not fit the declaration of its kind."""
        if _count(self._unfit, kind):
            logger.error(
                "the arguments of a job of kind %r do not fit its declaration here; such jobs are BLOCKED (%s) until "
                "a worker whose declaration accepts them claims: %s",
                kind,
                UNFIT_ARGUMENTS,
                why,
            )


def _count(counts: dict[str, int], kind: str) -> bool:
    """Count a kind, and return whether it is the first of this kind that is counted by its own name."""
    if kind not in counts and len(counts) >= MOST_KINDS:
        counts[OTHERS] = counts.get(OTHERS, 0) + 1
        return False
    counts[kind] = counts.get(kind, 0) + 1
    return counts[kind] == 1
