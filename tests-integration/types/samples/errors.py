"""The errors that a handler raises to decide about its retry."""

from jobq_core.errors import RetryableJobError


def busy() -> None:
    raise RetryableJobError("the other side is busy", delay=30)


def busy_for_a_word() -> None:
    raise RetryableJobError("the other side is busy", delay="soon")  # E: a delay is a number of seconds
