"""Places with jobs in them, as a measurement wants to find them."""

from __future__ import annotations

from typing import Any

import attrs
from history import write_history
from plan import Scale, Variant
from players import ContestantError, Player, Workers
from stores import Store


@attrs.define
class Places:
    """Makes places for measurements. What takes long is prepared once per contestant, and copied for each round."""

    stores: dict[str, Store]
    scale: Scale
    _prepared: dict[tuple[Any, ...], str] = attrs.field(factory=dict, init=False)
    _last: tuple[Store, str] | None = attrs.field(default=None, init=False)

    @property
    def patience(self) -> float:
        """Seconds that anything asked of a contestant may take."""
        return self.scale.patience

    def store(self, player: Player) -> Store:
        """Return the store that a contestant plays on."""
        return next(store for kind, store in self.stores.items() if player.plays_on(kind))

    @property
    def in_one_process(self) -> bool:
        """Whether client and worker have to be one process."""
        return "memory" in self.stores

    def alone(self, variant: Variant) -> dict[str, Any]:
        """Return what a worker must be told that no other process can fill for."""
        return {"fill": variant.jobs, "payload": variant.payload} if self.in_one_process else {}

    def ready(self, player: Player, variant: Variant) -> str:
        """Return a place with the jobs that the variant has around those measured; the place before it is gone."""
        store = self.store(player)
        self._drop_last()
        around = (variant.finished, variant.future, variant.higher)
        if variant.finished or variant.future:
            key = (player.name, *around)
            if key not in self._prepared:
                self._prepared[key] = self._prepare(player, variant)
            url = store.place(self._prepared[key])
        else:
            url = store.place()
            player.ask("setup", url, within=self.patience)
        self._last = (store, url)
        return url

    def filled(self, player: Player, variant: Variant) -> str:
        """Return such a place with the variant's jobs due, calm unless it is about a bulk load just made."""
        url = self.ready(player, variant)
        if not self.in_one_process:
            extra = variant.settings
            player.ask(
                "fill",
                url,
                within=self.patience,
                extra=extra,
                jobs=variant.jobs + variant.behind,
                payload=variant.payload,
            )
            if not variant.at_once:
                self.store(player).calm(url)
        return url

    def _prepare(self, player: Player, variant: Variant) -> str:
        store = self.store(player)
        url = store.place()
        player.ask("setup", url, within=self.patience)
        if variant.finished:
            finish_jobs(player, url, variant.finished)
        if variant.future:
            limit = max(self.patience, variant.future / 300)
            player.ask("fill", url, within=limit, jobs=variant.future, delay=86_400, higher=variant.higher)
        store.calm(url)
        return url

    def _drop_last(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            store, url = last
            store.drop(url)


def finish_jobs(player: Player, url: str, jobs: int) -> None:
    """Have so many jobs finished by running them, since how a contestant keeps them is its own affair."""
    if player.is_ours and url.startswith("postgresql"):
        write_history(url, jobs)
        return
    limit = max(120.0, jobs / 300)
    player.ask("fill", url, within=limit, jobs=jobs)
    with Workers(player, url, 1) as workers:
        ran = workers.wait_for(jobs, limit)["runs"]
    if ran < jobs:
        raise ContestantError(f"{player.name}: did not finish: {ran} of {jobs} jobs that were to be its history")
