"""Ten thousand devices that fall silent together are one message for each person, and it does not take long."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from carbontrack.metrics import Metrics
from carbontrack.model import Role
from carbontrack.store import Store
from tests.support.postgres import Postgres
from tests.support.telling import Told, person, telling
from tests.support.world import execute, factory, migrated_store

pytest_plugins = ["tests.support.world"]

DEVICES, FACTORIES = 10_000, 67
IN_TIME_S = 10.0

REGISTERED = f"""
INSERT INTO stack (name, factory_id)
    SELECT 'Boiler ' || n, 1 + n % {FACTORIES} FROM generate_series(1, {DEVICES}) AS n;
INSERT INTO device (device_id, stack_id, factory_id, sensor, status, registered_at)
    SELECT 'dev-' || n, n, 1 + n % {FACTORIES}, 'ct_v1', 'active', now() FROM generate_series(1, {DEVICES}) AS n;
"""
SILENT = """
INSERT INTO alert (rule, severity, message, raised_at, device_id, escalation)
    SELECT 'device-silent', 'warning', 'silent for 15 min', '{now}'::timestamptz - n % 20 * interval '1 second', id, 0
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM device) AS numbered WHERE n % 4 = {quarter}
"""


async def test_ten_thousand_silent_devices_are_one_message_for_each_person(
    postgres: Postgres, metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.free_url()
    async with migrated_store(url, metrics) as store:
        await _people(store)
        await execute(url, REGISTERED)
        mail, sms = Told("mail"), Told("sms", min_severity="warning")
        here = telling(store, metrics, [mail, sms])
        began, longest_s = time.perf_counter(), 0.0
        for quarter in range(4):
            here.clock.later(seconds=20)
            await execute(url, SILENT.format(now=here.clock.now.isoformat(), quarter=quarter))
            look_began = time.perf_counter()
            await here.round()
            longest_s = max(longest_s, time.perf_counter() - look_began)
        for _ in range(30):
            await here.round(minutes=1)
        assert Counter(mail.people()) == Counter(sms.people()) == {"one": 1, "two": 1, "three": 1}
        (item,) = mail.notifications[0].items
        assert (item.devices, item.factories) == (DEVICES, FACTORIES)
        assert "10000 devices at 67 factories" in mail.notifications[0].text

        await execute(url, f"UPDATE alert SET cleared_at = '{here.clock.now.isoformat()}' WHERE device_id IS NOT NULL")
        for _ in range(3):
            await here.round(minutes=1)
        took_s = time.perf_counter() - began
        assert mail.events() == ["raised"] * 3 + ["cleared"] * 3
        assert not await store.cases()
    with capsys.disabled():
        print(  # noqa: T201  # for the record
            f"\n10,000 silent devices: {took_s:.1f} s in all, the longest look {longest_s:.2f} s"
        )
    assert took_s < IN_TIME_S


async def _people(store: Store) -> None:
    for number in range(FACTORIES):
        added = await store.add_factory(factory(f"Factory {number}"))
        await person(store, f"manager-{number}", Role.FACTORY_MANAGER, added.id)
    for name in ("one", "two", "three"):
        await person(store, name)
