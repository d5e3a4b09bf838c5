"""`metrics_text`: metrics as the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector


class Families(Collector):
    """A collector of given families."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield from self._families


def metrics_text(
    sources: Sequence[Collector], accept: str = "", *, registry: Collector = REGISTRY
) -> tuple[bytes, str]:
    """Return the metrics of these sources and of a registry, and their content type.

    A family that several sources have is shown once, of the first one. accept: the Accept header of the request, by
    which the format is chosen. registry: where the program registers its own metrics (default: the global one).
    """
    found: dict[str, Metric] = {}
    for source in (*sources, registry):
        for family in source.collect():
            found.setdefault(family.name, family)
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version in it that is not a number
        encode, content_type = choose_encoder("")
    return encode(Families(found.values())), content_type
