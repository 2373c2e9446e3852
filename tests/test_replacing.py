"""A broken unit is replaced: its chimney's history goes on, and nothing of it counts twice."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from carbontrack.device_desk import save_settings
from carbontrack.device_settings import DeviceSettings, chosen_settings
from carbontrack.ledger import Day, Hour
from carbontrack.metrics import Metrics
from carbontrack.model import PLATFORM, AuditAction, DeviceStatus, Outcome, Site
from carbontrack.replacing import replace_device
from carbontrack.store import RegistryError, Store
from tests.support.world import ALWAYS, NOON, NOON_MS, body, core, kept, payload, register, summarise_touched

pytest_plugins = ["tests.support.world"]

STEP_S = 5
LATER = NOON + timedelta(hours=2)
LATER_MS = NOON_MS + 7_200_000


def at(number: int) -> timedelta:
    """The time of a sample of the chimney, after noon; the samples of all units have the same numbers."""
    return timedelta(seconds=number * STEP_S)


def samples(first: int, last: int, *, seq: int, sid: str) -> bytes:
    """What a unit has measured, from the chimney's sample ``first`` on and before ``last``."""
    rows = [[(it - first) * 5000, 1, 98_000 + it, 183.25, 4.12, 79.68, 0] for it in range(first, last)]
    numbered = [[number, *row] for number, row in enumerate(rows)]
    return body(seq, len(rows), at_ms=NOON_MS + first * 5000, sid=sid, rows=numbered)


def figures(found: Hour | Day) -> Hour | Day:
    """All of an hour or a day but whose it is, how much came late, and how often it was worked out."""
    if isinstance(found, Hour):
        return msgspec.structs.replace(found, stack_id=0, late_count=0, flags=0, version=1)
    return msgspec.structs.replace(found, stack_id=0, late_count=0)


async def site_of(store: Store, device_id: str) -> Site:
    return next(site for site in await store.sites() if site.device.device_id == device_id)


async def replace(store: Store, old: str = "dev-001", new: str = "dev-009", number: int | None = None) -> None:
    moment = NOON + at(number) if number is not None else None
    await replace_device(store, await site_of(store, old), new, by=PLATFORM, now=LATER, at=moment)


async def test_the_chimneys_hour_is_as_if_one_unit_had_measured_all_of_it(store: Store, metrics: Metrics) -> None:
    """The old unit drains what it kept after it was replaced: until then it counts, and later it would count twice."""
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics) as running:

        async def deliver(device_id: str, first: int, last: int, *, seq: int = 1, channel: str = "data") -> Outcome:
            content = samples(first, last, seq=seq, sid=device_id)
            sent = payload(device_id, content, channel, received_at_ms=LATER_MS)
            return await running.fleet.deliver([sent], 10.0)

        for first in range(0, 720, 60):
            await deliver("dev-002", first, first + 60, seq=first + 1)
        await deliver("dev-001", 0, 60)
        await summarise_touched(store)

        await replace(store, number=100)
        await running.sync()
        assert (await site_of(store, "dev-001")).device.status is DeviceStatus.DISABLED
        assert running.tell("dev-001", samples(60, 61, seq=61, sid="dev-001")) == "disabled_device"
        bench = await deliver("dev-009", 80, 110)
        assert (bench.stored, bench.quarantined, bench.receipts) == (10, 20, {"dev-009": 30})
        await deliver("dev-009", 110, 720, seq=31)
        await summarise_touched(store)

        await store.change_device("dev-001", status=DeviceStatus.ACTIVE)
        await running.sync()
        drained = await deliver("dev-001", 60, 130, seq=61, channel="backlog")
        assert (drained.stored, drained.quarantined, drained.receipts) == (40, 30, {"dev-001": 130})
        again = await deliver("dev-001", 60, 130, seq=61, channel="backlog")
        assert (again.stored, again.duplicate) == (0, 70)
        await summarise_touched(store)

        ours, other = await store.hours([1], *ALWAYS), await store.hours([2], *ALWAYS)
        assert [figures(hour) for hour in ours] == [figures(hour) for hour in other]
        assert ours[0].co2_kg is not None
        assert (ours[0].co2_kg > 100, ours[0].coverage, ours[0].late_count) == (True, 1.0, 40)
        assert len(await kept(store, 1)) == len(await kept(store, 2)) == 720
        (ours_day,), (other_day,) = [await store.days([it], NOON.date(), LATER.date() + timedelta(1)) for it in (1, 2)]
        assert figures(ours_day) == figures(other_day)

        (item, earlier) = await store.quarantined(limit=10)
        assert {item.cause, earlier.cause} == {"outside_its_time"}
        assert "dev-009 has taken over" in item.detail
        replayed = await running.fleet.replay(item, 10.0)
        assert (replayed.stored, replayed.duplicate, replayed.quarantined) == (0, 40, 30), "it stays where it is"
        assert len(await store.quarantined(limit=10)) == 2


async def test_the_new_unit_has_the_old_ones_place_driver_and_settings(store: Store) -> None:
    (old,) = await register(store, "dev-001", sensor="flat_json")
    await save_settings(store, old, DeviceSettings(sample_s=20), by=PLATFORM, now=NOON)
    before = old.device.password_generation

    await replace(store)

    gone, come = await site_of(store, "dev-001"), await site_of(store, "dev-009")
    assert come.stack == gone.stack == old.stack
    assert (come.device.sensor, come.device.status) == ("flat_json", DeviceStatus.ACTIVE)
    assert (gone.device.replaced_by, gone.device.measures_until) == ("dev-009", LATER)
    assert come.device.measures_from == LATER
    assert gone.device.password_generation > before, "the password that it has opens nothing any more"
    (config,) = await store.configs(come.device.id, limit=5)
    assert chosen_settings(config.document) == DeviceSettings(sample_s=20)
    (event,) = await store.audit_events(action=AuditAction.DEVICE_REPLACED, limit=5)
    assert event.subject_id == "dev-001"


async def test_a_mended_unit_may_come_back_or_go_elsewhere(store: Store) -> None:
    await register(store, "dev-001", "dev-002")
    await replace(store)
    await replace(store, "dev-009", "dev-001")
    back = (await site_of(store, "dev-001")).device
    assert (back.status, back.replaced_by, back.measures_from, back.measures_until) == ("active", "", LATER, None)

    elsewhere = await store.change_device("dev-009", stack_id=2, status=DeviceStatus.ACTIVE)
    assert (elsewhere.replaced_by, elsewhere.measures_until) == ("", None)
    assert elsewhere.measures_from is not None, "what it has of the old chimney is none of the new one's"


async def test_what_cannot_be_is_refused_and_changes_nothing(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics) as running:
        await running.fleet.deliver([payload("dev-001", samples(0, 60, seq=1, sid="a"), received_at_ms=LATER_MS)], 10.0)
    revision = await store.revision()
    old = await site_of(store, "dev-001")

    for new, moment, why in (
        ("dev-001", None, "a name of its own"),
        ("dev-002", None, "measures another chimney"),
        ("dev 9", None, "none of /"),
        ("dev-009", LATER + timedelta(hours=1), "yet to come"),
        ("dev-009", NOON + at(59), "counts already"),
    ):
        with pytest.raises(RegistryError, match=why):
            await replace_device(store, old, new, by=PLATFORM, now=LATER, at=moment)
    assert await store.revision() == revision

    await replace(store, number=60)
    with pytest.raises(RegistryError, match="was replaced by 'dev-009' already"):
        await replace(store, new="dev-010")
