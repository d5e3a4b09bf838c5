"""Fuzz each decoder of foreign bytes with atheris, which coverage guides; runs as a separate process.

python decoders.py SEED RUNS CORPUS
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import atheris

with atheris.instrument_imports(include=["jobq_core", "jobq_storage_postgres", "jobq_storage_sqlite"]):
    import bad_jobs

    from jobq_core import adding, encoding, ids, timestamps, urls
    from jobq_core.errors import ConfigurationError, InvalidJobError, UnfitArgumentsError
    from jobq_storage_postgres import binary, dsn, records


def arguments(data: bytes) -> None:
    """Decode arguments; an accepted job stays the same when it is encoded and decoded again."""
    definition = bad_jobs.Anything.definition
    with contextlib.suppress(InvalidJobError, UnfitArgumentsError):
        value = definition.decode_arguments(data)
        assert definition.decode_arguments(definition.encode_arguments(value)) == value


def plain(data: bytes) -> None:
    """Decode plain values, as in progress and attempts."""
    encoding.decode_or_show(data)
    with contextlib.suppress(InvalidJobError):
        encoding.decode(data)


def backoff(data: bytes) -> None:
    """Decode the backoff of a job; a bad one raises ValueError, which a worker expects."""
    with contextlib.suppress(ValueError):
        made = adding.decode_backoff(data)
        assert made.delay(3) >= 0


def url(data: bytes) -> None:
    """Open a storage by its URL."""
    with contextlib.suppress(ConfigurationError):
        urls.open_storage(data.decode("utf-8", "surrogateescape") or "?")


def job_id(data: bytes) -> None:
    """Read an id."""
    with contextlib.suppress(InvalidJobError):
        made = ids.parse_id(data.decode("utf-8", "surrogateescape"))
        assert ids.parse_id(str(made)) == made


def moment(data: bytes) -> None:
    """Read a timestamp of either database."""
    packed = data[:8].ljust(8, b"\0")
    assert binary.unpack_moment(packed).tzinfo is not None
    assert timestamps.to_datetime(int.from_bytes(packed, "big", signed=True)).tzinfo is not None


def array(data: bytes) -> None:
    """Write texts as PostgreSQL arrays, and read hand-edited tags."""
    texts = data.decode("utf-8", "replace").split("\n")
    assert len(binary.texts(texts)) == 20 + sum(4 + len(text.encode()) for text in texts)
    assert all(isinstance(tag, str) for tag in records.to_tags([None, 1, *texts]))


def query(data: bytes) -> None:
    """Separate the options from a DSN."""
    _, options = dsn.split(data.decode("utf-8", "replace"))
    assert options.keys() <= set(dsn.OPTIONS)


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "arguments": (arguments, [b'{"value": [1, 2.5, "gr\\u00fc\xc3\x9fe", null, {"a": true}]}', b'{"value": 1e300}']),
    "plain": (plain, [b'[[1, 2, null, 0, 0, "ValueError", "wrong", null]]', b'{"rows": 12}']),
    "backoff": (backoff, [b'{"base":1.0,"factor":2.0,"maximum":3600.0,"jitter":true}']),
    "url": (url, [b"postgresql://u:p@[::1]:5432/d?schema=s&pool_size=5", b"sqlite:////var/lib/jobs%20.db", b"memory://a"]),
    "job_id": (job_id, [b"01990000-0000-7000-8000-000000000001", b"{01990000000070008000000000000001}"]),
    "moment": (moment, [b"\x7f" * 8, b"\x80" + b"\0" * 7]),
    "array": (array, [b'a\nb "quoted" {c}\\\nNULL']),
    "query": (query, [b"postgresql://h/d?schema=s&pool_size=5&time_limit=3&listen_dsn=postgresql://h"]),
}  # fmt: skip


def main() -> None:
    """Run each target in a fork of this process, which has the modules instrumented, until one fails."""
    seed, runs, corpus = sys.argv[1:]
    for name in TARGETS:
        print(f"target {name}", flush=True)
        child = os.fork()
        if child == 0:
            fuzz(name, seed, runs, Path(corpus, name))
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(os.waitstatus_to_exitcode(status))


def fuzz(name: str, seed: str, runs: str, folder: Path) -> NoReturn:
    """Run one target, and exit."""
    target, known = TARGETS[name]
    folder.mkdir(parents=True)
    for number, data in enumerate(known):
        (folder / f"known{number}").write_bytes(data)
    words = folder.with_suffix(".words")
    words.write_text(
        "".join(f"{json.dumps(word)}\n" for word in ("{", "}", "[", ":", ",", "null", "://", "%", "&", "="))
    )
    options = [f"-seed={seed}", f"-runs={runs}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=1024", f"-dict={words}"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder.parent}/{name}-", str(folder)], target)
    atheris.Fuzz()
    raise AssertionError("atheris exits by itself")


if __name__ == "__main__":
    main()
