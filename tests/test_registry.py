"""The registry: what is measured where, by what, and who may see it. Everything here holds on both engines."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.metrics import Metrics
from carbontrack.model import DeviceStatus, Finding, MonitoringPlan
from carbontrack.store import RegistryError, Store, open_store
from tests.support.postgres import Postgres
from tests.support.world import NOON, execute, factory, migrated_store, register

pytest_plugins = ["tests.support.world"]

LATER = NOON + timedelta(minutes=5)

_examples = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
_names = (f"name {number}" for number in count(1))

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def plans(draw: st.DrawFn) -> MonitoringPlan:
    def number(low: float, high: float) -> float:
        return draw(st.floats(low, high))

    size: dict[str, Any] = {"diameter_m": number(0.1, 9.0)}
    circular = draw(st.booleans())
    if not circular:
        size = {"width_m": number(0.1, 9.0), "length_m": number(0.1, 9.0)}
    return MonitoringPlan(
        valid_from=draw(moments),
        shape="circular" if circular else "rectangular",
        wall_deposit_mm=number(0, 40),
        profile_factor=number(0.5, 1.2),
        basis=draw(st.sampled_from(["wet", "dry"])),
        h2o_fraction=number(0, 0.5),
        co2_range_ppm=number(5000, 1e6),
        dilution_ratio=number(1, 100),
        calibration_offset_ppm=number(-1e4, 1e4),
        calibration_slope=number(0.5, 2),
        pitot_coefficient=number(0.5, 1),
        **size,
    )


class TestFactories:
    async def test_a_factory_comes_back_as_it_was_added(self, store: Store) -> None:
        wanted = factory("Kangaita", pressure_kpa=80.1, latitude=None, longitude=None)

        added = await store.add_factory(wanted)

        assert added == factory("Kangaita", id=added.id, pressure_kpa=80.1, latitude=None, longitude=None)
        assert await store.factories() == [added]
        assert await store.factory_by_slug("kangaita") == added

    async def test_factories_come_in_the_order_of_their_names(self, store: Store) -> None:
        for name in ("Ndima", "Kangaita", "Mununga"):
            await store.add_factory(factory(name))

        assert [row.name for row in await store.factories()] == ["Kangaita", "Mununga", "Ndima"]

    async def test_nobody_is_found_by_a_slug_that_is_not_there(self, store: Store) -> None:
        assert await store.factory_by_slug("nowhere") is None

    @pytest.mark.parametrize("other", [factory("Kangaita", slug="other"), factory("Other", slug="kangaita")])
    async def test_a_name_or_slug_that_is_taken_is_refused(self, store: Store, other: object) -> None:
        await store.add_factory(factory("Kangaita"))

        with pytest.raises(RegistryError, match="already"):
            await store.add_factory(other)  # type: ignore[arg-type]  # a factory; pytest's parameters have no type

        assert len(await store.factories()) == 1

    async def test_a_name_that_is_too_long_is_refused_and_no_outage(self, store: Store) -> None:
        with pytest.raises(RegistryError):
            await store.add_factory(factory("K" * 121, slug="kangaita"))


class TestStacksAndPlans:
    async def test_a_stack_comes_back_with_its_plan(self, store: Store) -> None:
        added = await store.add_factory(factory())

        stack = await store.add_stack(added.id, "Boiler 1", MonitoringPlan(diameter_m=1.1))

        assert await store.stacks() == [stack]
        assert stack.plans == (MonitoringPlan(diameter_m=1.1),)

    async def test_a_factory_sees_its_own_stacks_only(self, store: Store) -> None:
        one, other = await store.add_factory(factory("One")), await store.add_factory(factory("Other"))
        stack = await store.add_stack(one.id, "Boiler", MonitoringPlan())
        await store.add_stack(other.id, "Boiler", MonitoringPlan())

        assert await store.stacks(one.id) == [stack]
        assert len(await store.stacks()) == 2

    async def test_one_factory_has_no_two_stacks_of_one_name(self, store: Store) -> None:
        added = await store.add_factory(factory())
        await store.add_stack(added.id, "Boiler 1", MonitoringPlan())

        with pytest.raises(RegistryError, match="'Boiler 1' already"):
            await store.add_stack(added.id, "Boiler 1", MonitoringPlan())

        assert len(await store.stacks()) == 1

    async def test_a_factory_that_is_not_there_has_no_stacks(self, store: Store) -> None:
        with pytest.raises(RegistryError, match="no such factory"):
            await store.add_stack(4711, "Boiler 1", MonitoringPlan())

        assert await store.stacks() == []

    @given(wanted=st.lists(plans(), min_size=1, max_size=4, unique_by=lambda plan: plan.valid_from))
    @_examples
    async def test_plans_come_back_exactly_and_oldest_first(self, store: Store, wanted: list[MonitoringPlan]) -> None:
        added = await store.add_factory(factory(next(_names)))
        stack = await store.add_stack(added.id, "Boiler", wanted[0])
        for plan in wanted[1:]:
            await store.add_plan(stack.id, plan)

        (found,) = await store.stacks(added.id)

        assert list(found.plans) == sorted(wanted, key=lambda plan: plan.valid_from)

    async def test_two_plans_cannot_begin_at_the_same_moment(self, store: Store) -> None:
        added = await store.add_factory(factory())
        stack = await store.add_stack(added.id, "Boiler", MonitoringPlan(valid_from=NOON))

        with pytest.raises(RegistryError, match="same moment"):
            await store.add_plan(stack.id, MonitoringPlan(valid_from=NOON.astimezone(ZoneInfo("Africa/Nairobi"))))

    async def test_a_stack_that_is_not_there_has_no_plans(self, store: Store) -> None:
        with pytest.raises(RegistryError, match="no such stack"):
            await store.add_plan(4711, MonitoringPlan())


class TestDevices:
    async def test_a_device_is_registered_with_its_stack_and_factory(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")

        assert (site.device.device_id, site.device.sensor, site.device.status) == ("dev-001", "ct_v1", "active")
        assert site.device.factory_id == site.stack.factory_id == site.factory.id
        assert site.device.stack_id == site.stack.id

    async def test_a_factory_sees_its_own_devices_only(self, store: Store) -> None:
        await register(store, "dev-001", "dev-002", factory_name="One")
        other = await register(store, "dev-003", factory_name="Other")

        assert await store.sites(other[0].factory.id) == other
        assert [site.device.device_id for site in await store.sites()] == ["dev-001", "dev-002", "dev-003"]

    async def test_a_device_is_registered_once(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")

        with pytest.raises(RegistryError, match="'dev-001' is registered already"):
            await store.add_device("dev-001", site.stack.id, "ct_v1")

    @pytest.mark.parametrize("device_id", ["", "x" * 65, "a/b", "a+b", "#", "$SYS", "a b", "a\0b"])
    async def test_a_name_that_cannot_be_part_of_a_topic_is_refused(self, store: Store, device_id: str) -> None:
        (site,) = await register(store, "dev-001")

        with pytest.raises(RegistryError, match="part of a topic"):
            await store.add_device(device_id, site.stack.id, "ct_v1")

    async def test_a_device_needs_a_stack(self, store: Store) -> None:
        with pytest.raises(RegistryError, match="no stack 4711"):
            await store.add_device("dev-001", 4711, "ct_v1")

    async def test_a_device_can_be_disabled_and_enabled(self, store: Store) -> None:
        await register(store, "dev-001")

        assert (await store.change_device("dev-001", status=DeviceStatus.DISABLED)).status is DeviceStatus.DISABLED
        assert [site.device.status for site in await store.sites()] == [DeviceStatus.DISABLED]
        assert (await store.change_device("dev-001", status=DeviceStatus.ACTIVE)).status is DeviceStatus.ACTIVE

    async def test_a_device_that_moves_belongs_to_the_factory_of_its_new_stack(self, store: Store) -> None:
        await register(store, "dev-001", factory_name="One")
        (other,) = await register(store, "dev-002", factory_name="Other")

        moved = await store.change_device("dev-001", stack_id=other.stack.id)

        assert (moved.factory_id, moved.stack_id) == (other.factory.id, other.stack.id)

    async def test_a_change_changes_nothing_else(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")

        changed = await store.change_device("dev-001", sensor="flat_json")

        assert changed.sensor == "flat_json"
        assert (changed.id, changed.stack_id, changed.status) == (site.device.id, site.stack.id, site.device.status)

    async def test_a_device_does_not_move_to_a_stack_that_is_not_there(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")

        with pytest.raises(RegistryError, match="no stack 4711"):
            await store.change_device("dev-001", stack_id=4711)

        assert await store.sites() == [site]

    async def test_a_removed_device_is_gone_and_its_name_is_free(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")

        await store.remove_device("dev-001")

        assert await store.sites() == []
        assert (await store.add_device("dev-001", site.stack.id, "ct_v1")).device_id == "dev-001"

    async def test_who_is_not_registered_is_neither_changed_nor_removed(self, store: Store) -> None:
        with pytest.raises(RegistryError, match="no device 'dev-404'"):
            await store.change_device("dev-404", sensor="flat_json")
        with pytest.raises(RegistryError, match="no device 'dev-404'"):
            await store.remove_device("dev-404")


class TestRevision:
    async def test_every_change_of_what_is_measured_makes_it_grow(self, store: Store) -> None:
        seen = [await store.revision()]

        async def changed() -> None:
            seen.append(await store.revision())

        added = await store.add_factory(factory())
        await changed()
        stack = await store.add_stack(added.id, "Boiler", MonitoringPlan())
        await changed()
        await store.add_plan(stack.id, MonitoringPlan(valid_from=NOON))
        await changed()
        await store.add_device("dev-001", stack.id, "ct_v1")
        await changed()
        await store.change_device("dev-001", sensor="flat_json")
        await changed()
        await store.remove_device("dev-001")
        await changed()

        assert seen == sorted(set(seen)), "it grew with each change"

    async def test_a_refused_change_leaves_it(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")
        before = await store.revision()

        with pytest.raises(RegistryError):
            await store.add_stack(site.factory.id, site.stack.name, MonitoringPlan())
        with pytest.raises(RegistryError):
            await store.add_device("dev-001", site.stack.id, "ct_v1")

        assert await store.revision() == before

    async def test_changes_at_the_same_time_are_all_counted(self, store: Store) -> None:
        before = await store.revision()

        await asyncio.gather(*(store.add_factory(factory(f"Factory {number}")) for number in range(8)))

        assert await store.revision() == before + 8

    async def test_another_process_sees_it(self, store: Store, database_url: str) -> None:
        async with open_store(database_url, Metrics()) as other:
            before = await other.revision()
            await register(store, "dev-001")

            assert await other.revision() > before
            assert await other.sites() == await store.sites()


class TestAlerts:
    async def test_an_alert_is_open_until_it_is_cleared(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")

        await store.raise_alert("dev-001", "hot", "warning", Finding("gas is 401 degC"), NOON)

        (alert,) = await store.alerts()
        assert (alert.device_id, alert.rule, alert.severity) == ("dev-001", "hot", "warning")
        assert (alert.factory_id, alert.stack_id) == (site.factory.id, site.stack.id)
        assert (alert.message, alert.raised_at, alert.cleared_at) == ("gas is 401 degC", NOON, None)

        await store.clear_alert("dev-001", "hot", NOON + timedelta(minutes=1))

        assert await store.alerts() == []
        (cleared,) = await store.alerts(only_open=False)
        assert cleared.cleared_at == NOON + timedelta(minutes=1)

    async def test_a_rule_has_one_open_alert_for_a_device(self, store: Store) -> None:
        await register(store, "dev-001")

        await asyncio.gather(
            *(store.raise_alert("dev-001", "hot", "warning", Finding(f"number {number}"), NOON) for number in range(5))
        )

        assert len(await store.alerts(only_open=False)) == 1

    async def test_other_rules_and_other_devices_have_their_own(self, store: Store) -> None:
        await register(store, "dev-001", "dev-002")

        for device_id, rule in (("dev-001", "hot"), ("dev-001", "dirty"), ("dev-002", "hot")):
            await store.raise_alert(device_id, rule, "warning", Finding(""), NOON)

        assert len(await store.alerts()) == 3

    async def test_a_rule_that_cleared_can_fire_again(self, store: Store) -> None:
        await register(store, "dev-001")
        for minute in (0, 2):
            await store.raise_alert("dev-001", "hot", "warning", Finding(""), NOON + timedelta(minutes=minute))
            await store.clear_alert("dev-001", "hot", NOON + timedelta(minutes=minute + 1))

        raised = [alert.raised_at for alert in await store.alerts(only_open=False)]

        assert raised == [NOON + timedelta(minutes=2), NOON], "newest first"

    async def test_a_device_that_was_removed_meanwhile_raises_nothing(self, store: Store) -> None:
        await store.raise_alert("dev-404", "hot", "warning", Finding(""), NOON)

        assert await store.alerts(only_open=False) == []

    async def test_a_factory_sees_its_own_alerts_only(self, store: Store) -> None:
        (one,) = await register(store, "dev-001", factory_name="One")
        await register(store, "dev-002", factory_name="Other")
        for device_id in ("dev-001", "dev-002"):
            await store.raise_alert(device_id, "hot", "warning", Finding(""), NOON)

        assert [alert.device_id for alert in await store.alerts(factory_id=one.factory.id)] == ["dev-001"]

    async def test_a_factory_as_a_whole_has_alerts_without_a_device(self, store: Store) -> None:
        (one,) = await register(store, "dev-001", factory_name="One")
        (other,) = await register(store, "dev-002", factory_name="Other")
        await store.raise_alert("dev-001", "late", "warning", Finding(""), NOON)
        raised = await store.raise_alert(one.factory.id, "late", "info", Finding("no entries"), LATER)

        found = await store.alerts(factory_id=one.factory.id)
        assert [(alert.device_id, alert.stack_id, alert.factory_id) for alert in found] == [
            (None, None, one.factory.id),
            ("dev-001", one.stack.id, one.factory.id),
        ]
        assert found[0] == raised
        assert await store.alerts(factory_id=other.factory.id) == []

        cleared = await store.clear_alert(one.factory.id, "late", LATER)
        assert cleared is not None
        assert (cleared.id, cleared.cleared_at) == (found[0].id, LATER)
        assert await store.clear_alert(one.factory.id, "late", LATER) is None
        assert [alert.device_id for alert in await store.alerts()] == ["dev-001"]

    async def test_a_rule_has_one_open_alert_for_a_factory(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")

        raised = await asyncio.gather(
            *(store.raise_alert(site.factory.id, "late", "info", Finding(str(number)), NOON) for number in range(5))
        )

        (alert,) = await store.alerts(only_open=False)
        assert raised == [alert] * 5, "whoever comes late is given the one that is open"

    async def test_a_factory_that_is_not_there_raises_nothing(self, store: Store) -> None:
        assert await store.raise_alert(4711, "late", "info", Finding(""), NOON) is None

    async def test_an_alert_is_of_a_device_or_of_a_factory_and_never_of_both(
        self, store: Store, database_url: str
    ) -> None:
        await register(store, "dev-001")
        columns = "INSERT INTO alert (rule, severity, message, raised_at, device_id, factory_id) VALUES"

        with pytest.raises((sqlite3.IntegrityError, asyncpg.CheckViolationError)):
            await execute(database_url, f"{columns} ('r', 'info', '', '2026-03-01 12:00:00+00:00', 1, 1)")


async def test_two_engines_work_in_one_process(tmp_path: Path, postgres: Postgres) -> None:
    """What moves a database from one engine to the other needs both."""
    for url in (f"sqlite://{tmp_path / 'one.sqlite3'}", postgres.new_url()):
        async with migrated_store(url) as store:
            (site,) = await register(store, "dev-001")
            await store.change_device("dev-001", sensor="flat_json")
            await store.remove_device(site.device.device_id)


class TestWhatIsKeptInMemory:
    """A store keeps what it read of the registry until that has changed: nobody may see it as it was before."""

    async def test_whatever_another_process_changes_is_seen_at_once(self, store: Store, database_url: str) -> None:
        async with open_store(database_url, Metrics()) as other:
            (site,) = await register(other, "dev-001")
            assert await store.sites() == [site]

            await other.change_factory(site.factory.id, {"region": "West of Rift"})
            assert [it.region for it in await store.factories()] == ["West of Rift"]
            assert (await store.factory_by_slug("kangaita")) == (await store.factories())[0]
            await other.rename_stack(site.stack.id, "Boiler 2")
            assert [it.name for it in await store.stacks()] == ["Boiler 2"]
            await other.add_plan(site.stack.id, MonitoringPlan(valid_from=NOON))
            assert [len(it.plans) for it in await store.stacks(site.factory.id)] == [2]
            await other.change_device("dev-001", status=DeviceStatus.DISABLED)
            assert [it.device.status for it in await store.sites()] == [DeviceStatus.DISABLED]
            await other.rotate_password("dev-001")
            assert [it.device.password_generation for it in await store.sites()] == [await store.revision()]
            await other.remove_device("dev-001")
            assert await store.sites() == []
            await other.remove_stack(site.stack.id)
            assert await store.stacks() == []
            await other.remove_factory(site.factory.id)
            assert await store.factories() == []

    async def test_a_change_that_was_refused_leaves_nothing_behind(self, store: Store) -> None:
        (site,) = await register(store, "dev-001")
        with pytest.raises(RegistryError):
            await store.add_stack(site.factory.id, site.stack.name, MonitoringPlan())
        assert await store.sites() == [site]
        await store.add_stack(site.factory.id, "Boiler 2", MonitoringPlan())
        assert [it.name for it in await store.stacks()] == ["Boiler 2", site.stack.name]

    async def test_a_list_that_somebody_changes_is_theirs_alone(self, store: Store) -> None:
        await register(store, "dev-001")
        (await store.factories()).clear()
        (await store.stacks()).clear()
        (await store.sites()).clear()
        assert [len(await each()) for each in (store.factories, store.stacks, store.sites)] == [1, 1, 1]
