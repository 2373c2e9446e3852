"""The audit log: every change is in it, in one chain, and what was tampered with shows. All of it on both engines."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.compliance import ComplianceReport, ReportStatus, frozen
from carbontrack.device_desk import give_command, save_settings
from carbontrack.device_settings import DeviceSettings
from carbontrack.firmware import DeviceFirmware, Ended, RolloutState, new_key, sign_image
from carbontrack.firmware import Plan as RolloutPlan
from carbontrack.ledger import EnergyEntry, EnergyType, Metric, ProductionEntry, Target, WoodPrice, WoodUnit
from carbontrack.metrics import Metrics
from carbontrack.model import (
    AuditAction,
    AuditEvent,
    Device,
    DeviceStatus,
    Finding,
    MonitoringPlan,
    Origin,
    Quarantined,
    Role,
    Scope,
    UserStatus,
)
from carbontrack.rollouts import start_rollout
from carbontrack.store import Choice, RegistryError, Store, StoreUnavailable, audit_record, chained, open_store
from tests.support.world import NOON, execute, factory, register

pytest_plugins = ["tests.support.world"]

HQ = Origin("hq@example.org", "192.0.2.7", 1, "nightly export")
OTHERS = Origin("amina@example.org"), Origin("kamau@example.org")
"""A report needs three people; one of them also asks for an account herself."""
DAY = timedelta(days=1)
LATER = NOON + timedelta(hours=3, microseconds=123_456)


async def events(store: Store) -> list[AuditEvent]:
    """The log, oldest first."""
    return (await store.audit_events(limit=1000))[::-1]


async def roll_out(store: Store, device: Device) -> None:
    """Firmware is added and brought to a device three times: by hand to its end, stopped, and done by the core."""
    said = DeviceFirmware(device.id, device.device_id, device.factory_id, "1.4.0", "ct-1", 1, "run", NOON)
    await store.keep_device_firmware([said])
    manifest = sign_image(b"image", new_key(), version="1.5.0", hardware="ct-1")
    image = await store.add_image(manifest, b"image", by=HQ, now=NOON)
    first = await start_rollout(store, image, Choice(), RolloutPlan(), by=HQ, now=NOON)
    for state in (RolloutState.PAUSED, RolloutState.RUNNING, RolloutState.STOPPED):
        await store.change_rollout(first.id, state, by=HQ, now=NOON)
    second = await start_rollout(store, image, Choice(), RolloutPlan(), by=HQ, now=NOON)
    done = replace(second, state=RolloutState.DONE, ended=Ended.ALL, ended_at=NOON)
    assert await store.keep_rollouts([(second, done)], [], by=HQ)


async def put_another_in_place(store: Store, device: Device) -> None:
    await store.note_handed_out([device], "file", by=HQ)
    await store.replace_device(device.device_id, "dev-003", NOON, by=HQ)
    await store.revoke_device("dev-003", by=HQ)


async def change_everything(store: Store) -> None:
    """Every change that the store knows, once."""
    kangaita = await store.add_factory(factory(), by=HQ)
    await store.change_factory(kangaita.id, {"altitude_m": 2036.0}, by=HQ)
    empty = await store.add_factory(factory("Mungania"), by=HQ)
    spare = await store.add_stack(empty.id, "Boiler 9", MonitoringPlan(), by=HQ)
    await store.rename_stack(spare.id, "Boiler 2", by=HQ)
    await store.remove_stack(spare.id, by=HQ)
    await store.remove_factory(empty.id, by=HQ)
    stack = await store.add_stack(kangaita.id, "Boiler 1", MonitoringPlan(), by=HQ)
    await store.add_plan(stack.id, MonitoringPlan(valid_from=NOON, profile_factor=0.87), by=HQ)
    await store.add_device("dev-001", stack.id, "ct_v1", by=HQ)
    (site,) = [it for it in await store.sites() if it.device.device_id == "dev-001"]
    await roll_out(store, site.device)
    await store.change_device("dev-001", status=DeviceStatus.DISABLED, by=HQ)
    await store.rotate_password("dev-001", by=HQ)
    await put_another_in_place(store, site.device)
    await save_settings(store, site, DeviceSettings(sample_s=10), by=HQ, now=NOON)
    await store.ask_config_again(site.device.id, 1, by=HQ)
    await give_command(store, "dev-001", "identify", {}, by=HQ, now=NOON)
    await store.remove_device("dev-001", by=HQ)
    wood = EnergyEntry(0, 1, kangaita.id, EnergyType.FIREWOOD, 1600.0, "kg", NOON, NOON + DAY, moisture=0.25)
    wood = await store.add_energy_entry(wood, HQ, NOON)
    await store.add_photo(wood.id, b"picture", "image/png", (1, 1), by=HQ, now=NOON)
    wood = await store.change_energy_entry(replace(wood, amount=1500.0), HQ, NOON, "read again, café")
    await store.change_energy_entry(replace(wood, withdrawn=True), HQ, NOON, "typed twice")
    tea = await store.add_production_entry(ProductionEntry(0, 1, kangaita.id, NOON, NOON + DAY, None, 600.0), HQ, NOON)
    tea = await store.change_production_entry(replace(tea, made_tea_kg=610.0), HQ, NOON, "weighed again")
    await store.change_production_entry(replace(tea, withdrawn=True), HQ, NOON, "typed twice")
    target = Target(0, kangaita.id, Metric.STACK_CO2_PER_TEA, 3.5, date(2026, 1, 1))
    await store.withdraw_target((await store.add_target(target, HQ, NOON)).id, by=HQ)
    price = WoodPrice(0, kangaita.id, 3200.0, WoodUnit.TONNE, date(2026, 1, 1))
    await store.withdraw_wood_price((await store.add_wood_price(price, HQ, NOON)).id, kangaita.id, by=HQ)
    await store.add_statement(kangaita.id, NOON, NOON + DAY, '{"co2":1}', "ab" * 32, HQ, LATER, "")
    alert = await store.raise_alert(kangaita.id, "late", "info", Finding("no entries"), NOON)
    assert alert is not None
    await store.acknowledge_alert(alert.id, "on my way", LATER, by=HQ)
    await store.shelve_alert(alert.id, LATER + DAY, "the clerk is on leave", by=HQ)
    await store.unshelve_alert(alert.id, by=HQ)
    await store.set_alert_bound("late", "grace_h", 6.0, 48.0, by=HQ)
    await store.adjust_alert(kangaita.id, "late", "grace_h", 24.0, by=HQ)
    await store.remove_alert_adjustment(kangaita.id, "late", "grace_h", by=HQ)
    await store.remove_alert_bound("late", "grace_h", by=HQ)

    amina = await store.add_user("duty@example.org", "argon2-hash", Role.HQ_MANAGER, by=HQ)
    await store.set_duty(kangaita.id, [amina.id], by=HQ)
    item = Quarantined("dev-001", "invalid_json", "why", NOON, b"{", 7, kangaita.id)
    await store.mark_replayed(item, "60 stored, 0 there already", by=HQ)
    await store.dismiss(item, "a test of the board", by=HQ)
    await change_reports(store, kangaita.id)
    await change_people(store)


async def change_reports(store: Store, factory_id: int) -> None:
    report = frozen(
        ComplianceReport("draft", "May", ReportStatus.DRAFT, NOON, NOON + DAY, "Africa/Nairobi", {"software": "1"}, ())
    )
    given_up = await store.add_report(report, [factory_id], by=HQ, now=NOON)
    for step in ("prepare", "return", "withdraw"):
        await store.take_report_step(given_up.id, step, by=HQ, now=NOON)
    kept = await store.add_report(report, [factory_id], by=HQ, now=NOON)
    for step, by in (("prepare", OTHERS[0]), ("review", OTHERS[1]), ("approve", HQ)):
        await store.take_report_step(kept.id, step, by=by, now=NOON)
    link = await store.add_report_link(kept.id, "pdf", "link-hash", LATER, "the buyer", by=HQ, now=NOON)
    await store.revoke_report_link(link.id, by=HQ, now=NOON)


async def change_people(store: Store) -> None:
    await store.add_user("chief@example.org", "argon2-hash", Role.HQ_MANAGER, by=HQ)
    user = await store.add_user(
        "amina@example.org", "argon2-hash", Role.AUDITOR, status=UserStatus.PENDING, by=Origin("amina@example.org")
    )
    pending = await store.add_user("x@example.org", "argon2-hash", Role.AUDITOR, status=UserStatus.PENDING, by=HQ)
    await store.remove_user(pending.id, by=HQ)
    await store.change_user(user.id, status=UserStatus.ACTIVE, by=HQ)
    await store.change_user(user.id, locale="sw", by=HQ)
    for number in range(3):
        await store.add_session(f"session-hash-{number}", user.id, LATER, now=NOON)
    await store.delete_session("session-hash-0", by=HQ)
    await store.end_session(user.id, (await store.sessions(user.id, NOON))[0].id, by=HQ)
    await store.end_sessions(user.id, by=HQ)
    token = await store.add_api_token(
        "token-hash", "ct_abc", user.id, "script", frozenset(Scope), LATER, by=HQ, now=NOON
    )
    await store.revoke_api_token(token.id, by=HQ)
    await store.add_code(user.id, "reset", "code-hash", LATER, by=HQ)
    await store.set_password_hash(user.id, "argon2-hash of another", by=HQ)
    await store.change_user(user.id, status=UserStatus.DISABLED, by=HQ)
    await store.change_user(user.id, status=UserStatus.ACTIVE, by=HQ)
    for action in (
        AuditAction.USER_SIGNED_IN,
        AuditAction.USER_SIGN_IN_FAILED,
        AuditAction.USER_CODE_REFUSED,
        AuditAction.DEVICE_UNPARKED,
        AuditAction.PLUGINS_RELOADED,
        AuditAction.DIAGNOSTICS_TAKEN,
    ):
        await store.note(HQ, action, "user", user.id)


async def test_every_change_is_in_the_log_with_who_made_it_and_no_secret(store: Store) -> None:
    await change_everything(store)

    log = await events(store)
    assert {event.action for event in log} == set(AuditAction), "an action that nothing makes, or one without a name"
    assert [event.id for event in log] == list(range(1, len(log) + 1))
    for event in log:
        if event.actor not in {by.name for by in OTHERS}:
            assert (event.actor, event.address, event.user_id, event.token) == (
                "hq@example.org", "192.0.2.7", 1, "nightly export",
            )  # fmt: skip
    text = json.dumps([audit_record(event) for event in log])
    for secret in ("argon2-hash", "session-hash", "token-hash", "code-hash"):
        assert secret not in text
    assert (await store.verify_audit()).broken_id is None


async def test_of_a_change_the_log_has_what_differs_before_and_after(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    wood = EnergyEntry(0, 1, site.factory.id, EnergyType.FIREWOOD, 1600.0, "kg", NOON, NOON + DAY)
    wood = await store.add_energy_entry(wood, HQ, NOON)

    await store.change_energy_entry(replace(wood, amount=1500.5, note="café"), HQ, LATER, "read again")

    (event,) = await store.audit_events(limit=1)
    assert (event.action, event.subject_kind, event.subject_id) == (
        "energy_entry.changed",
        "energy_entry",
        str(wood.id),
    )
    assert event.factory_id == site.factory.id
    assert event.before == {"amount": 1600.0, "note": "", "reason": "", "version": 1}
    assert event.after == {"amount": 1500.5, "note": "café", "reason": "read again", "version": 2}


async def test_a_change_that_changes_nothing_is_no_event(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    before = await events(store)

    await store.change_device("dev-001", status=DeviceStatus.ACTIVE, stack_id=site.stack.id)

    assert await events(store) == before


async def test_a_change_that_fails_leaves_no_event_and_one_without_an_event_is_not_made(
    store: Store, database_url: str
) -> None:
    (site,) = await register(store, "dev-001")
    before = await events(store)
    with pytest.raises(RegistryError):
        await store.add_device("dev-001", site.stack.id, "ct_v1")
    assert await events(store) == before

    await execute(database_url, "ALTER TABLE audit_event RENAME TO audit_event_away")
    with pytest.raises(StoreUnavailable):
        await store.change_device("dev-001", sensor="flat_json")
    await execute(database_url, "ALTER TABLE audit_event_away RENAME TO audit_event")
    assert await store.sites() == [site]


async def test_many_changes_at_once_are_one_chain(store: Store, database_url: str) -> None:
    """Two processes, of which each makes many changes at once."""
    (site,) = await register(store, "dev-001")
    async with open_store(database_url, Metrics()) as other:
        changes: list[Awaitable[object]] = []
        for number in range(20):
            it = (store, other)[number % 2]
            changes += [
                it.add_factory(factory(f"Factory {number}")),
                it.add_device(f"new-{number}", site.stack.id, "ct_v1"),
                it.note(HQ, AuditAction.USER_SIGN_IN_FAILED, "user", f"person {number}"),
            ]
        await asyncio.gather(*changes)

    check = await store.verify_audit()
    assert (check.broken_id, check.count) == (None, 3 + 60)
    assert len(await store.audit_events(limit=1000)) == 63


async def test_anybody_verifies_an_export_with_the_lines_of_the_documentation(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path("docs/security.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    await change_everything(store)
    lines = [json.dumps(audit_record(event) | {"sha256": event.sha256}) for event in await events(store)]

    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines[::-1])))
    exec(compile(program, "verify", "exec"), {})  # noqa: S102  # what the page tells people to do
    check = await store.verify_audit()
    assert capsys.readouterr().out == f"{check.count} {check.sha256}\n"

    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines).replace("1500.0", "1400.0")))
    with pytest.raises(SystemExit, match=r"event \d+ "):
        exec(compile(program, "verify", "exec"), {})  # noqa: S102


def test_the_hash_is_that_of_the_one_before_and_the_canonical_line() -> None:
    event = AuditEvent(
        2, datetime(2026, 3, 1, 15, tzinfo=UTC), "hq@example.org", 1, "192.0.2.7", "", "user.changed", "user", "7",
        None, {"first_name": "Zoë"}, {"first_name": "Zo"}, "",
    )  # fmt: skip

    line = (
        '{"action":"user.changed","actor":"hq@example.org","address":"192.0.2.7","after":{"first_name":"Zo"},'
        '"at":"2026-03-01T15:00:00.000000+00:00","before":{"first_name":"Zo\\u00eb"},"factory_id":null,"id":2,'
        '"subject_id":"7","subject_kind":"user","token":"","user_id":1}'
    )
    assert chained("ab" * 32, audit_record(event)) == hashlib.sha256(("ab" * 32 + line).encode()).hexdigest()


# --- tampering


async def tampered(url: str, statement: str) -> None:
    """Change the log as somebody would who has the whole database."""
    if url.startswith("sqlite://"):
        for trigger in ("no_update", "no_delete", "no_replace"):
            await execute(url, f"DROP TRIGGER IF EXISTS audit_event_{trigger}")
    else:
        await execute(url, "ALTER TABLE audit_event DISABLE TRIGGER ALL")
    await execute(url, statement)


@pytest.fixture
async def full(store: Store) -> Store:
    """A store with ten events."""
    for number in range(10):
        await store.note(HQ, AuditAction.USER_SIGNED_IN, "user", number, after={"number": number})
    return store


@pytest.mark.parametrize(
    "change",
    [
        "at = '2026-03-01 12:00:00.000001+00:00'", "actor = 'somebody'", "user_id = 2", "user_id = NULL",
        "address = ''", "token = 'another'", "action = 'user.signed_out'", "action = 'nothing'",
        "subject_kind = 'device'", "subject_id = '70'", "factory_id = 1", "before = '{}'",
        """after = '{"number":60}'""", "after = 'no JSON'", "after = NULL", "sha256 = 'ab'",
    ],
)  # fmt: skip
async def test_whatever_is_changed_in_an_event_shows_at_that_event(full: Store, database_url: str, change: str) -> None:
    await tampered(database_url, f"UPDATE audit_event SET {change} WHERE id = 7")

    check = await full.verify_audit()

    assert check.broken_id == 7
    assert "hash does not fit" in check.why
    assert check.count == 6
    assert len(await full.audit_events()) == 10, "it can still be looked at"


@pytest.mark.parametrize(
    ("statement", "broken_id", "why"),
    [
        ("DELETE FROM audit_event WHERE id = 4", 4, "the next one that is there has the number 5"),
        ("DELETE FROM audit_event WHERE id < 4", 1, "the next one that is there has the number 4"),
        ("DELETE FROM audit_event WHERE id > 8", None, ""),
        ("UPDATE audit_event SET id = 0 WHERE id = 1", 1, "the next one that is there has the number 0"),
        ("UPDATE audit_event SET id = 11 WHERE id = 4", 4, "the next one that is there has the number 5"),
    ],
)
async def test_what_is_taken_out_leaves_a_gap(
    full: Store, database_url: str, statement: str, broken_id: int | None, why: str
) -> None:
    await tampered(database_url, statement)

    check = await full.verify_audit()

    assert check.broken_id == broken_id
    assert why in check.why


async def test_a_head_that_was_noted_shows_what_was_cut_off_or_written_anew(full: Store, database_url: str) -> None:
    noted = await full.verify_audit()
    head = noted.count, noted.sha256
    await full.note(HQ, AuditAction.USER_SIGNED_IN, "user", 11)
    assert (await full.verify_audit(head)).broken_id is None, "the log has gone on since"

    await tampered(database_url, "DELETE FROM audit_event WHERE id > 8")
    cut = await full.verify_audit(head)
    assert (cut.broken_id, cut.count) == (9, 8)
    assert "there were 10 events" in cut.why

    for number in range(5):
        await full.note(HQ, AuditAction.USER_SIGNED_IN, "user", number)
    assert (await full.verify_audit()).broken_id is None, "by itself it is in order"
    again = await full.verify_audit(head)
    assert again.broken_id == 10
    assert "not the one that was noted" in again.why


async def test_the_database_itself_refuses_to_change_the_log(full: Store, database_url: str) -> None:
    replace_all = "INSERT OR REPLACE INTO audit_event SELECT * FROM audit_event"
    own = replace_all if database_url.startswith("sqlite") else "TRUNCATE audit_event"

    for statement in ("UPDATE audit_event SET actor = 'nobody'", "DELETE FROM audit_event WHERE id = 3", own):
        with pytest.raises((sqlite3.IntegrityError, asyncpg.RestrictViolationError), match="append-only"):
            await execute(database_url, statement)

    assert (await full.verify_audit()).count == 10


# --- looking things up


async def test_the_log_is_looked_up_newest_first_and_page_by_page(store: Store) -> None:
    clock = NOON

    def tick() -> datetime:
        nonlocal clock
        clock += timedelta(minutes=1)
        return clock

    store.clock = tick
    other = Origin("clerk@example.org")
    for number in range(6):
        by, subject = (HQ, "1") if number % 2 else (other, "2")
        await store.note(by, AuditAction.USER_SIGNED_IN, "user", subject, number % 3)
    await store.note(HQ, AuditAction.USER_SIGNED_OUT, "device", "1", None)

    async def ids(**wanted: object) -> list[int]:
        found: Callable[..., Awaitable[list[AuditEvent]]] = store.audit_events
        return [event.id for event in await found(**wanted)]

    assert await ids() == [7, 6, 5, 4, 3, 2, 1]
    assert await ids(limit=3) == [7, 6, 5]
    assert await ids(limit=3, after_id=5) == [4, 3, 2]
    assert await ids(actor="clerk@example.org") == [5, 3, 1]
    assert await ids(action=AuditAction.USER_SIGNED_OUT) == [7]
    assert await ids(subject_kind="user", subject_id="1") == [6, 4, 2]
    assert await ids(factory_id=0) == [4, 1]
    nairobi = ZoneInfo("Africa/Nairobi")
    since, until = (NOON + timedelta(minutes=minutes) for minutes in (3, 5))
    assert await ids(since=since.astimezone(nairobi), until=until.astimezone(nairobi)) == [4, 3]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(after=st.dictionaries(st.text(), json_values, max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_noted_fits_its_hash_when_it_is_read_again(store: Store, after: dict[str, Any]) -> None:
    await store.note(HQ, AuditAction.USER_SIGNED_IN, "user", 1, after=after)

    assert (await store.verify_audit()).broken_id is None
    (event,) = await store.audit_events(limit=1)
    assert json.dumps(event.after, sort_keys=True) == json.dumps(after, sort_keys=True)


@pytest.mark.parametrize("text", ["\0", "\ud800", "x" * 5000, "é" * 300, "", "'; DROP TABLE audit_event; --"])
async def test_what_anybody_types_can_be_logged(store: Store, text: str) -> None:
    await store.note(Origin(text, text, None, text), AuditAction.USER_SIGN_IN_FAILED, text, text, after={"as": text})

    (event,) = await store.audit_events()
    assert event.after == {"as": text}
    assert (await store.verify_audit()).broken_id is None
