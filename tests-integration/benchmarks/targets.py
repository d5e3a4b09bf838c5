"""The databases, folders and URLs that measurements run on, with the jobs that they need."""

from __future__ import annotations

from typing import Any, Final

import attrs
import week_postgres
import week_sqlite
from history import write_history
from plan import Scale, Variant
from players import ContestantError, Player, Workers
from stores import Store

TIMES: Final = {"postgresql": 10, "sqlite": 1}
"""How many times as many jobs a week has on a storage as the variant says."""


@attrs.define
class Targets:
    """Creates targets for measurements. A slow preparation is done once per contestant, and copied for each round."""

    stores: dict[str, Store]
    scale: Scale
    _prepared: dict[tuple[Any, ...], str] = attrs.field(factory=dict, init=False)
    _last: tuple[Store, str] | None = attrs.field(default=None, init=False)

    @property
    def time_limit(self) -> float:
        """Maximum seconds of each request to a contestant."""
        return self.scale.time_limit

    def store(self, player: Player) -> Store:
        """Return the store that a contestant plays on."""
        return next(store for kind, store in self.stores.items() if player.plays_on(kind))

    @property
    def in_one_process(self) -> bool:
        """Whether client and worker must be one process."""
        return "memory" in self.stores

    def alone(self, variant: Variant) -> dict[str, Any]:
        """Return the additional settings of a worker that must fill its own queue."""
        return {"fill": variant.jobs, "payload": variant.payload} if self.in_one_process else {}

    def ready(self, player: Player, variant: Variant) -> str:
        """Return a target with the variant's jobs other than the measured ones, and drop the previous target."""
        store = self.store(player)
        self._drop_last()
        around = (variant.finished, variant.future, variant.higher)
        if variant.finished or variant.future:
            key = (player.name, *around)
            if key not in self._prepared:
                self._prepared[key] = self._prepare(player, variant)
            url = store.create(self._prepared[key])
        else:
            url = store.create()
            player.ask("setup", url, within=self.time_limit)
        self._last = (store, url)
        return url

    def with_week(self, player: Player, variant: Variant) -> str:
        """Return a target with a week of jobs, of which the variant's, or ten times as many, are finished and wait; for
        measures that only read it, so that it is the same one each time."""
        key = (player.name, "week", variant.name)
        if key not in self._prepared:
            store = self.store(player)
            url = self._prepared[key] = store.create()
            player.ask("setup", url, within=self.time_limit)
            times = TIMES[store.kind]
            write = week_postgres.write_week if store.kind == "postgresql" else week_sqlite.write_week
            write(url, variant.finished * times, variant.behind * times, oldest=variant.oldest)
        return self._prepared[key]

    def filled(self, player: Player, variant: Variant) -> str:
        """Return such a target with the variant's due jobs; vacuumed, unless the variant measures a fresh bulk load."""
        url = self.ready(player, variant)
        if not self.in_one_process:
            extra = variant.settings
            player.ask(
                "fill",
                url,
                within=self.time_limit,
                extra=extra,
                jobs=variant.jobs + variant.behind,
                payload=variant.payload,
            )
            if not variant.at_once:
                self.store(player).calm(url)
        return url

    def _prepare(self, player: Player, variant: Variant) -> str:
        store = self.store(player)
        url = store.create()
        player.ask("setup", url, within=self.time_limit)
        if variant.finished:
            finish_jobs(player, url, variant.finished)
        if variant.future:
            limit = max(self.time_limit, variant.future / 300)
            player.ask("fill", url, within=limit, jobs=variant.future, delay=86_400, higher=variant.higher)
        store.calm(url)
        return url

    def _drop_last(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            store, url = last
            store.drop(url)


def finish_jobs(player: Player, url: str, jobs: int) -> None:
    """Run jobs until this many are finished, since each contestant keeps finished jobs in its own way."""
    if player.is_ours and url.startswith("postgresql"):
        write_history(url, jobs)
        return
    limit = max(120.0, jobs / 300)
    player.ask("fill", url, within=limit, jobs=jobs)
    with Workers(player, url, 1) as workers:
        ran = workers.wait_for(jobs, limit)["runs"]
    if ran < jobs:
        raise ContestantError(f"{player.name}: did not finish: {ran} of {jobs} jobs of the history")
