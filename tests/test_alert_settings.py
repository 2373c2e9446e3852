"""Bounds of headquarters and adjustments of factories, in the database. On both engines."""

from __future__ import annotations

import pytest

from carbontrack.model import AuditAction, Origin
from carbontrack.store import RegistryError, Store
from tests.support.world import register

pytest_plugins = ["tests.support.world"]

CHIEF = Origin("chief@example.org")


async def test_a_factory_chooses_within_the_bound_and_it_is_audited(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    before = await store.revision()
    await store.set_alert_bound("high", "raise_above", 0.4, 0.8, by=CHIEF)
    await store.adjust_alert(site.factory.id, "high", "raise_above", 0.7, by=CHIEF)

    settings = await store.alert_settings()
    (bound,), (chosen,) = settings.bounds, settings.adjustments
    assert (bound.low, bound.high, bound.set_by) == (0.4, 0.8, "chief@example.org")
    assert (chosen.factory_id, chosen.value, chosen.set_by) == (site.factory.id, 0.7, "chief@example.org")
    assert await store.revision() == before + 2, "other processes see it"
    adjusted, set_ = await store.audit_events(limit=2)
    assert (adjusted.action, adjusted.subject_id, adjusted.factory_id, adjusted.after) == (
        AuditAction.ALERT_ADJUSTED, "high/raise_above", site.factory.id, {"value": 0.7},
    )  # fmt: skip
    assert (set_.action, set_.after) == (AuditAction.ALERT_BOUND_SET, {"low": 0.4, "high": 0.8})


async def test_what_is_set_again_is_changed_and_what_is_taken_back_is_gone(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    for high in (0.8, 0.9):
        await store.set_alert_bound("high", "raise_above", 0.4, high)
    for value in (0.7, 0.75):
        await store.adjust_alert(site.factory.id, "high", "raise_above", value)

    settings = await store.alert_settings()
    assert [bound.high for bound in settings.bounds] == [0.9]
    assert [chosen.value for chosen in settings.adjustments] == [0.75]

    await store.remove_alert_adjustment(site.factory.id, "high", "raise_above")
    await store.remove_alert_bound("high", "raise_above")
    settings = await store.alert_settings()
    assert (settings.bounds, settings.adjustments) == ((), ())
    actions = [event.action for event in await store.audit_events(limit=2)]
    assert actions == [AuditAction.ALERT_BOUND_REMOVED, AuditAction.ALERT_ADJUSTMENT_REMOVED]


@pytest.mark.parametrize("value", [0.39, 0.81, float("nan"), float("inf"), 1e300])
async def test_what_lies_outside_of_the_bound_is_refused(store: Store, value: float) -> None:
    (site,) = await register(store, "dev-001")
    await store.set_alert_bound("high", "raise_above", 0.4, 0.8)

    with pytest.raises(RegistryError) as refused:
        await store.adjust_alert(site.factory.id, "high", "raise_above", value)

    assert refused.value.field == "value"
    assert (await store.alert_settings()).adjustments == ()


async def test_without_a_bound_a_factory_chooses_nothing(store: Store) -> None:
    (site,) = await register(store, "dev-001")

    with pytest.raises(RegistryError, match="lets no factory choose this"):
        await store.adjust_alert(site.factory.id, "high", "raise_above", 0.5)


async def test_what_is_not_there_cannot_be_taken_back(store: Store) -> None:
    (site,) = await register(store, "dev-001")

    with pytest.raises(RegistryError):
        await store.remove_alert_bound("high", "raise_above")
    with pytest.raises(RegistryError):
        await store.remove_alert_adjustment(site.factory.id, "high", "raise_above")
    with pytest.raises(RegistryError, match="below the lowest"):
        await store.set_alert_bound("high", "raise_above", 0.8, 0.4)
    await store.set_alert_bound("high", "raise_above", 0.4, 0.8)
    with pytest.raises(RegistryError, match="no such factory"):
        await store.adjust_alert(999, "high", "raise_above", 0.5)
