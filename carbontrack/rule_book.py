"""All configured alerts, those as well that do not watch, and what factories have made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from carbontrack.alerts import RuleInstance
from carbontrack.hookspecs import RuleWords
from carbontrack.model import AlertSettings, Factory, Site, Stack
from carbontrack.store import Store

log = structlog.get_logger(__name__)

Instances = Sequence[RuleInstance[Any]]


class RuleBook:
    """Where pages and the API look alerts up. ``followers`` are given bounds and adjustments when these change."""

    def __init__(self, store: Store, followers: Sequence[Callable[[AlertSettings], None]] = ()) -> None:
        self.instances: tuple[RuleInstance[Any], ...] = ()
        self.settings = AlertSettings()
        self.problems: tuple[str, ...] = ()
        """What alerts name that is not in the registry."""
        self._store = store
        self._followers = followers
        self._registry: tuple[list[Factory], list[Stack], list[Site]] | None = None

    def find(self, name: str) -> RuleInstance[Any] | None:
        """The alert of a name."""
        return next((instance for instance in self.instances if instance.name == name), None)

    def words(self, name: str, language: str) -> RuleWords:
        """What people read of an alert; of one that is configured no more, its name, and nothing to do first."""
        instance = self.find(name)
        return instance.words(language) if instance else RuleWords(name.replace("-", " ").capitalize(), ())

    def follow(self, instances: Instances) -> None:
        """These alerts are configured now."""
        self.instances = tuple(instances)
        self._look_for_unknown()

    async def renew(self) -> None:
        """Take bounds, adjustments and the registry's names as the database has them now."""
        self.settings = await self._store.alert_settings()
        for follower in self._followers:
            follower(self.settings)
        self._registry = await self._store.factories(), await self._store.stacks(), await self._store.sites()
        self._look_for_unknown()

    def _look_for_unknown(self) -> None:
        if self._registry is None:
            return
        before, self.problems = self.problems, unknown_names(self.instances, *self._registry)
        for problem in self.problems:
            if problem not in before:
                log.error("left out", problem=problem)


def unknown_names(
    instances: Instances, factories: Sequence[Factory], stacks: Sequence[Stack], sites: Sequence[Site]
) -> tuple[str, ...]:
    """What alerts name that is not in the registry: nothing of it is watched."""
    slugs = {factory.id: factory.slug for factory in factories}
    labels = [f"{slugs[stack.factory_id]}/{stack.name}" for stack in stacks if stack.factory_id in slugs]
    return tuple(
        f"the alert {instance.name!r}: {text}"
        for instance in instances
        for text in instance.scope.unknown(factories, sites, labels)
    )
