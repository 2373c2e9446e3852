"""Two factories with one of everything, and all who may ask for it: for tests that go over every route.

Whatever belongs to the other factory has a word in it that is nowhere else (:func:`leaked` finds it).
PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from carbontrack.compliance import Check, Column, ComplianceReport, ReportStatus, Severity, Table, frozen
from carbontrack.credentials import device_password
from carbontrack.device_desk import give_command, save_settings
from carbontrack.device_settings import DeviceSettings
from carbontrack.dispatch import Plan
from carbontrack.firmware import (
    DeviceFirmware,
    RolloutState,
    UpdateState,
    new_key,
    read_manifest,
    sign_image,
    write_manifest,
)
from carbontrack.firmware import Plan as RolloutPlan
from carbontrack.handout import Handouts
from carbontrack.ledger import EnergyEntry, EnergyType, Metric, ProductionEntry, Target, WoodPrice, WoodUnit
from carbontrack.metrics import Metrics
from carbontrack.model import (
    Device,
    Factory,
    Finding,
    MonitoringPlan,
    Origin,
    Quarantined,
    Report,
    Role,
    Scope,
    Stack,
    User,
    UserStatus,
)
from carbontrack.passwords import RESET, code_hash, new_token, token_hash
from carbontrack.plugins import Limits, PluginHost
from carbontrack.report_desk import Order, ReportDesk
from carbontrack.report_desk import Work as Gathering
from carbontrack.rollouts import start_rollout
from carbontrack.store import Choice, Entry, Store, Work
from carbontrack.web.attempts import Attempts
from carbontrack.web.auth import API_TOKEN
from tests.support.web import PEOPLE, Portal, password_hash, running_portal
from tests.support.world import NOON, NOON_MS, body, eventually, payload, summarise_touched

DEVICE_KEY = "k" * 32
DAY = timedelta(days=1)
LATER = NOON + timedelta(days=400)
OTHER = "Quaxo"
"""What every text of the other factory begins with."""
OTHER_NUMBER = 73917.39
SHARED = "/shared/"
_LEAKED = re.compile(rb"quaxo|mungania|dev-002|73,?917\.", re.IGNORECASE)
FACTORY_ROLES = {Role.FACTORY_MANAGER, Role.FACTORY_CLERK}


@dataclass(frozen=True)
class Side:
    """One of the two factories. ``word`` begins its texts, and ``number`` is what it measures and enters."""

    word: str
    number: float
    factory: Factory
    stack: Stack
    device: Device
    clerk: User


@dataclass(frozen=True)
class Caller:
    """Who asks. ``column`` is where docs/access.md says what it may do; an API token's is that of its person's role."""

    name: str
    column: str
    headers: Mapping[str, str]
    user: User | None = None
    scope: Scope | None = None

    @property
    def is_of_a_factory(self) -> bool:
        return self.column not in {Role.HQ_MANAGER, Role.OPERATOR, Role.AUDITOR}


@dataclass
class Estate:
    """The running portal with its two factories. ``number()`` gives another number each time."""

    portal: Portal
    own: Side
    other: Side
    callers: list[Caller] = field(default_factory=list)
    number: Callable[[], int] = field(default_factory=lambda: count(1).__next__)

    @property
    def store(self) -> Store:
        return self.portal.core.store

    def side_of(self, user: User) -> Side:
        return self.other if user.factory_id == self.other.factory.id else self.own

    # --- who asks

    async def session(self, user: User) -> str:
        """The token of a session that begins now."""
        token = new_token()
        await self.store.add_session(token_hash(token), user.id, LATER, now=self.portal.now)
        return token

    async def person(self, role: Role, side: Side, status: UserStatus = UserStatus.ACTIVE) -> User:
        """Somebody who was not there before."""
        return await self.store.add_user(
            f"{side.word.lower()}-{self.number()}@example.org",
            password_hash(),
            role,
            factory_id=side.factory.id if role in FACTORY_ROLES else None,
            first_name=f"{side.word} first",
            last_name=f"{side.word} last",
            phone_number="+254 700 000 000",
            status=status,
        )

    async def again(self, caller: Caller) -> Caller:
        """Somebody who may do the same, for what ends a session or changes a password."""
        if caller.user is None or caller.scope is not None:
            return caller
        user = await self.person(caller.user.role, self.side_of(caller.user))
        return replace(caller, user=user, headers=_bearer(await self.session(user)))

    async def token(self, user: User, scope: Scope) -> Caller:
        """A program of a person's that has one scope."""
        token, name = f"{API_TOKEN}{new_token()}", f"{user.role} {scope}"
        await self.store.add_api_token(token_hash(token), token[:8], user.id, name, frozenset({scope}), LATER, now=NOON)
        return Caller(f"token of {name}", user.role, _bearer(token), user, scope)

    async def fill_callers(self) -> None:
        """Nobody, one of each role, tokens of headquarters and of a clerk with each scope, and a device."""
        people = {user.email: user for user in await self.store.users()}
        self.callers = [Caller("nobody", "nobody", {})]
        for email, role in PEOPLE.items():
            user = people[email]
            self.callers.append(Caller(role.value, role.value, _bearer(await self.session(user)), user))
            if role in {Role.HQ_MANAGER, Role.FACTORY_CLERK}:
                self.callers += [await self.token(user, scope) for scope in Scope]
        self.callers.append(Caller("device", "device", basic(self.own.device)))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(device: Device) -> dict[str, str]:
    """How a device signs in."""
    pair = f"{device.device_id}:{device_password(DEVICE_KEY, device)}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


class Patient(Attempts):
    """Lets everybody try as often as they like."""

    def __init__(self) -> None:
        super().__init__(Metrics())

    async def check(self, *_: Any, **__: Any) -> None: ...

    async def count(self, *_: Any, **__: Any) -> None: ...

    async def take(self, *_: Any, **__: Any) -> None: ...


@asynccontextmanager
async def running_estate(url: str, **changed: Any) -> AsyncIterator[Estate]:
    """A portal whose two factories have one of everything, two hours after noon."""
    options: dict[str, Any] = {
        "device_key": DEVICE_KEY,
        "handouts": Handouts("mqtt.example.org", key=DEVICE_KEY),
        "attempts": Patient(),
        "firmware_key": FIRMWARE_KEY.public_key,
    }
    async with running_portal(url, **(options | changed)) as portal:
        store, there = portal.core.store, portal.mungania
        await store.change_factory(there.factory.id, {name: f"{OTHER} {name}" for name in ("name", "county", "region")})
        await store.rename_stack(there.stack.id, f"{OTHER} chimney")
        estate = Estate(portal, await _side(portal, "Ours", 1250.5), await _side(portal, OTHER, OTHER_NUMBER))
        for side in (estate.own, estate.other):
            await _fill(estate, side)
        portal.now = NOON + timedelta(hours=2)
        await _offer_firmware(estate)
        while await summarise_touched(store, now=portal.now):
            pass
        await estate.fill_callers()
        yield estate


def render_at_once(patch: pytest.MonkeyPatch) -> None:
    """Have reports written here, and made never: it takes minutes for a hundred, and decides nothing about access."""

    async def render(host: PluginHost, name: str, report: Report | ComplianceReport, _limits: Limits) -> bytes:
        if isinstance(report, ComplianceReport):
            return host.contributions.compliance_formats[name].render(report)
        return host.contributions.report_formats[name].render(report)

    async def done(desk: ReportDesk, work: Gathering, what: Callable[[], Awaitable[None]]) -> None:
        await asyncio.Event().wait()

    patch.setattr(PluginHost, "render", render)
    patch.setattr(ReportDesk, "_do", done)


async def _side(portal: Portal, word: str, number: float) -> Side:
    store, site = portal.core.store, portal.mungania if word == OTHER else portal.kangaita
    factory = next(it for it in await store.factories() if it.id == site.factory.id)
    clerk = await store.add_user(
        f"{word.lower()}@example.org",
        password_hash(),
        Role.FACTORY_CLERK,
        factory_id=factory.id,
        first_name=f"{word} first",
        last_name=f"{word} last",
    )
    return Side(word, number, factory, site.stack, site.device, clerk)


async def _fill(estate: Estate, side: Side) -> None:
    """One of everything that a factory may have."""
    store, nobody = estate.store, Caller("nobody", "nobody", {})
    by = Origin(side.clerk.email, f"{side.word} address", side.clerk.id)
    for make in (
        energy_entry, production_entry, target, wood_price, statement, report, device, stack, session,
        api_token, pending_user, quarantined,
    ):  # fmt: skip
        await make(estate, side, nobody)
    plan = MonitoringPlan(valid_from=NOON - DAY, note=f"{side.word} note")
    await store.add_plan(side.stack.id, plan, by=by)
    await estate.portal.core.sync()
    await store.raise_alert(side.device.device_id, "hot", "warning", Finding(f"{side.word} is hot"), NOON)
    await store.raise_alert(side.factory.id, "late", "info", Finding(f"{side.word} enters nothing"), NOON)
    await measure(estate, side)
    await store.add_recovery(
        side.device.device_id, side.factory.id, side.stack.id, NOON - timedelta(hours=3), NOON - timedelta(hours=2), 7
    )


async def measure(estate: Estate, side: Side) -> None:
    """An hour of readings, and something that cannot be read."""
    core, device_id = estate.portal.core, side.device.device_id
    for number in range(12):
        row = [[at, at * 5000, 1, side.number, 183.25, 4.12, 79.68, 0] for at in range(60)]
        content = body(1 + 60 * number, at_ms=NOON_MS + number * 300_000, rows=row, n=60)
        core.fleet.tell(payload(device_id, content, received_at_ms=NOON_MS + 3_600_000))
    core.tell(device_id, f"{side.word} rubbish".encode())
    await core.receipt(device_id, 720)
    factory_id = side.factory.id

    async def is_kept() -> bool:
        return bool(await core.store.quarantined(factory_id=factory_id))

    await eventually(is_kept)


# --- one more of something; each gives what stands for it in an address


Maker = Callable[[Estate, Side, Caller], Awaitable[str]]


async def energy_entry(estate: Estate, side: Side, caller: Caller) -> str:
    by = Origin(side.clerk.email, f"{side.word} address", side.clerk.id)
    new = EnergyEntry(
        id=0,
        version=1,
        factory_id=side.factory.id,
        energy_type=EnergyType.FIREWOOD,
        amount=side.number,
        unit="kg",
        period_start=NOON - DAY,
        period_end=NOON,
        moisture=0.25,
        evidence=f"{side.word} evidence",
        note=f"{side.word} note",
    )
    kept = await estate.store.add_energy_entry(new, by, NOON)
    changed = replace(kept, note=f"{side.word} changed note")
    return str((await estate.store.change_energy_entry(changed, by, NOON, f"{side.word} reason")).id)


def png(width: int) -> bytes:
    """The head of a picture, which is all that is looked at; each width is another picture."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, 1)


async def photographed_entry(estate: Estate, side: Side, caller: Caller) -> str:
    entry_id = await energy_entry(estate, side, caller)
    by = Origin(side.clerk.email, f"{side.word} address", side.clerk.id)
    await estate.store.add_photo(int(entry_id), png(9), "image/png", (9, 1), by=by, now=NOON)
    return entry_id


async def production_entry(estate: Estate, side: Side, caller: Caller) -> str:
    by = Origin(side.clerk.email, f"{side.word} address", side.clerk.id)
    texts = f"{side.word} evidence", f"{side.word} note"
    new = ProductionEntry(0, 1, side.factory.id, NOON - DAY, NOON, None, side.number, *texts)
    kept = await estate.store.add_production_entry(new, by, NOON)
    changed = replace(kept, note=f"{side.word} changed note")
    return str((await estate.store.change_production_entry(changed, by, NOON, f"{side.word} reason")).id)


async def target(estate: Estate, side: Side, caller: Caller) -> str:
    first_day = date(2025, 1, 1) + timedelta(days=estate.number())  # one a day
    new = Target(0, side.factory.id, Metric.STACK_CO2, side.number, first_day)
    return str((await estate.store.add_target(new, Origin(f"{side.word}-hq@example.org"), NOON)).id)


async def old_target(estate: Estate, side: Side, caller: Caller) -> str:
    """One that was withdrawn."""
    made = await target(estate, side, caller)
    await estate.store.withdraw_target(int(made))
    return made


async def wood_price(estate: Estate, side: Side, caller: Caller) -> str:
    new = WoodPrice(0, side.factory.id, side.number, WoodUnit.TONNE, date(2026, 1, 1))
    return str((await estate.store.add_wood_price(new, Origin(f"{side.word}-hq@example.org"), NOON)).id)


async def old_wood_price(estate: Estate, side: Side, caller: Caller) -> str:
    """One that was withdrawn."""
    made = await wood_price(estate, side, caller)
    await estate.store.withdraw_wood_price(int(made), side.factory.id)
    return made


async def statement(estate: Estate, side: Side, caller: Caller) -> str:
    """Of an hour of its own, in February."""
    start = NOON - 20 * DAY + timedelta(hours=estate.number())
    by, reason = Origin(f"{side.word}-hq@example.org"), f"{side.word} reason"
    books = estate.portal.services.books
    kept = await books.report(side.factory, start, start + timedelta(hours=1), by=by, now=LATER, reason=reason)
    return str(kept.id)


async def report(estate: Estate, side: Side, caller: Caller) -> str:
    """A draft, with nothing that blocks it."""
    identity = Table("identity", "Factories", (Column("factory", ""), Column("name", "")), (
        (side.factory.slug, f"{side.word} factory"),
    ))  # fmt: skip
    names = ("factory", "figure", "title", "scope", "mass", "u_expanded", "basis", "formula", "remarks")
    row = (side.factory.slug, "stack_co2", f"{side.word} figure", "measured", side.number, 0.1, "measured", "", "")
    results = Table("results", "Results", tuple(Column(name, "") for name in names), (row,))
    stacks = Table(
        "results_by_stack",
        "CO2 by chimney",
        tuple(Column(name, "") for name in ("factory", "stack", "co2", "measured")),
        ((side.factory.slug, side.stack.name, side.number, side.number),),
    )
    quality = Table(
        "data_quality",
        "Data quality",
        tuple(Column(name, "") for name in ("factory", "stack", "substituted", "availability")),
        ((side.factory.slug, side.stack.name, 3, 0.9),),
    )
    made = frozen(
        ComplianceReport(
            "draft", f"{side.word} report", ReportStatus.DRAFT, NOON - DAY, NOON, "Africa/Nairobi",
            {"software": "test"}, (identity, results, stacks, quality),
            (Check("none", Severity.INFO, side.factory.slug, f"{side.word} check"),),
        )
    )  # fmt: skip
    return str((await estate.store.add_report(made, [side.factory.id], by=_author(side), now=NOON)).id)


async def prepared_report(estate: Estate, side: Side, caller: Caller) -> str:
    return await _stepped(estate, side, caller, "prepare")


async def reviewed_report(estate: Estate, side: Side, caller: Caller) -> str:
    return await _stepped(estate, side, caller, "prepare", "review")


async def final_report(estate: Estate, side: Side, caller: Caller) -> str:
    return await _stepped(estate, side, caller, "prepare", "review", "approve")


async def _stepped(estate: Estate, side: Side, caller: Caller, *steps: str) -> str:
    made = await report(estate, side, caller)
    for step in steps:
        await estate.store.take_report_step(int(made), step, by=Origin(f"{side.word}-{step}"), now=NOON)
    return made


async def report_link(estate: Estate, side: Side, caller: Caller) -> str:
    made, token = await final_report(estate, side, caller), token_hash(f"{side.word} {estate.number()}")
    by = _author(side)
    link = await estate.store.add_report_link(int(made), "json", token, LATER, f"{side.word} link", by=by, now=NOON)
    return str(link.id)


async def shared_report(estate: Estate, side: Side, caller: Caller) -> str:
    made, token = await final_report(estate, side, caller), f"{'a' * 20}{estate.number()}"
    await estate.store.add_report_link(int(made), "json", token_hash(token), LATER, "", by=_author(side), now=NOON)
    return token


async def report_job(estate: Estate, side: Side, caller: Caller) -> str:
    desk = estate.portal.services.desk
    order = Order((side.factory,), NOON - timedelta(hours=3), NOON, f"{side.word} report")
    return desk.start(order, _author(side)).id


def _author(side: Side) -> Origin:
    return Origin(f"{side.word}-author@example.org")


async def stack(estate: Estate, side: Side, caller: Caller) -> str:
    """Nothing belongs to it."""
    plan = MonitoringPlan(note=f"{side.word} note")
    return str((await estate.store.add_stack(side.factory.id, f"{side.word} stack {estate.number()}", plan)).id)


# --- firmware


FIRMWARE_KEY = new_key()
VERSION, HARDWARE = "1.5.0", "ct-1"


def signed(version: str) -> tuple[bytes, bytes]:
    """An image and its manifest."""
    content = f"image {version}".encode()
    return content, write_manifest(sign_image(content, FIRMWARE_KEY, version=version, hardware=HARDWARE))


async def _offer_firmware(estate: Estate) -> None:
    """An image that both sides' devices are offered."""
    content, manifest = signed(VERSION)
    by, now, store = Origin("hq@example.org"), estate.portal.now, estate.store
    image = await store.add_image(read_manifest(manifest), content, by=by, now=now)
    sides = [side.device for side in (estate.own, estate.other)]
    await _heard(estate, sides)
    names = tuple(it.device_id for it in sides)
    made = await start_rollout(store, image, Choice("devices", names), RolloutPlan("100%"), by=by, now=now)
    offered = [replace(it, state=UpdateState.OFFERED, changed_at=now) for it in await store.updates(made.id)]
    await store.keep_rollouts([], offered, by=by)
    await estate.portal.services.rollouts.look()


async def _heard(estate: Estate, devices: Sequence[Device]) -> None:
    now = estate.portal.now
    said = [DeviceFirmware(it.id, it.device_id, it.factory_id, "1.4.0", HARDWARE, 1, "run", now) for it in devices]
    await estate.store.keep_device_firmware(said)


async def updatable_device(estate: Estate, side: Side, caller: Caller) -> str:
    """The name of one that an image can go to."""
    name = f"{side.word}-{estate.number()}"
    await _heard(estate, [await estate.store.add_device(name, side.stack.id, "ct_v1")])
    return name


async def rollout(estate: Estate, side: Side, caller: Caller) -> str:
    """One that runs, of a device that is away."""
    choice = Choice("devices", (await updatable_device(estate, side, caller),))
    image = await estate.store.image(VERSION, HARDWARE)
    assert image is not None, "added at the beginning"
    by, now = Origin("hq@example.org"), estate.portal.now
    return str((await start_rollout(estate.store, image, choice, RolloutPlan("100%"), by=by, now=now)).id)


async def paused_rollout(estate: Estate, side: Side, caller: Caller) -> str:
    made = await rollout(estate, side, caller)
    by, now = Origin("hq@example.org"), estate.portal.now
    await estate.store.change_rollout(int(made), RolloutState.PAUSED, by=by, now=now)
    return made


async def device(estate: Estate, side: Side, caller: Caller) -> str:
    added = await estate.store.add_device(f"{side.word}-{estate.number()}", side.stack.id, "ct_v1")
    return str(added.id)


async def configured_device(estate: Estate, side: Side, caller: Caller) -> str:
    """One that was given settings and a command."""
    number = await device(estate, side, caller)
    store, now = estate.store, estate.portal.now
    site = next(it for it in await store.sites() if str(it.device.id) == number)
    by = Origin(f"{side.word.lower()}@example.org")
    await save_settings(store, site, DeviceSettings(), by=by, now=now)
    await give_command(store, site.device.device_id, "identify", {}, by=by, now=now)
    return number


async def factory(estate: Estate, side: Side, caller: Caller) -> str:
    """The side's own, for whoever reads it or changes its numbers."""
    return str(side.factory.id)


async def empty_factory(estate: Estate, side: Side, caller: Caller) -> str:
    """A factory that nothing belongs to. It is neither side's, so only whoever sees every factory meets it."""
    name = f"{OTHER} empty {estate.number()}"
    new = replace(side.factory, id=0, name=name, slug=name.lower().replace(" ", "-"))
    return str((await estate.store.add_factory(new)).id)


async def slug(estate: Estate, side: Side, caller: Caller) -> str:
    return side.factory.slug


async def user(estate: Estate, side: Side, caller: Caller) -> str:
    return str((await estate.person(Role.FACTORY_CLERK, side)).id)


async def signed_in_user(estate: Estate, side: Side, caller: Caller) -> str:
    person = await estate.person(Role.FACTORY_CLERK, side)
    await estate.session(person)
    return str(person.id)


async def disabled_user(estate: Estate, side: Side, caller: Caller) -> str:
    return str((await estate.person(Role.FACTORY_CLERK, side, UserStatus.DISABLED)).id)


async def quarantined(estate: Estate, side: Side, caller: Caller) -> str:
    """Something that can be read by now: a replay keeps it."""
    content, device_id = body(estate.number(), sid="0a0b0c0d"), side.device.device_id
    item = Quarantined(device_id, "invalid_json", f"{side.word} detail", NOON, content)
    await estate.store.save(Work(device_id, side.factory.id, quarantined=[item]))
    (kept, *_) = await estate.store.quarantined(factory_id=side.factory.id)
    return str(kept.id)


async def alert(estate: Estate, side: Side, caller: Caller) -> str:
    """One that fires, with something measured around it."""
    rule, finding = f"hot-{estate.number()}", Finding(f"{side.word} is hot", side.number, 150.0, "°C")
    raised = await estate.store.raise_alert(side.device.device_id, rule, "warning", finding, NOON)
    assert raised is not None
    return str(raised.id)


async def message(estate: Estate, side: Side, caller: Caller) -> str:
    """What the clerk is told of an alert, and could not be told yet."""
    about = int(await alert(estate, side, caller))
    told = json.dumps({"event": "raised", "subject": f"{side.word} is hot", "count": 1})
    entry = Entry("mail", side.clerk.id, f"key {about}", told, ((about, "raised"),))
    await estate.store.keep_messages([entry], Plan(), NOON)
    (kept, *_) = await estate.store.messages(factory_id=side.factory.id)
    return str(kept.id)


async def shelved_alert(estate: Estate, side: Side, caller: Caller) -> str:
    made = await alert(estate, side, caller)
    await estate.store.shelve_alert(int(made), estate.portal.now + DAY, f"{side.word} is cleaned")
    return made


async def alert_bound(estate: Estate, side: Side, caller: Caller) -> str:
    """Factories may choose the number that all addresses name; no factory has any more."""
    await estate.store.set_alert_bound("co2-rate-high", "raise_above", 0.6, 1000 + estate.number())
    for each in (await estate.store.alert_settings()).adjustments:
        await estate.store.remove_alert_adjustment(each.factory_id, each.rule, each.option)
    await estate.portal.services.rules.renew()
    return "raise_above"


async def alert_adjustment(estate: Estate, side: Side, caller: Caller) -> str:
    """A factory has chosen it."""
    await alert_bound(estate, side, caller)
    await estate.store.adjust_alert(side.factory.id, "co2-rate-high", "raise_above", 2.0)
    await estate.portal.services.rules.renew()
    return "raise_above"


async def pending_user(estate: Estate, side: Side, caller: Caller) -> str:
    return str((await estate.person(Role.FACTORY_CLERK, side, UserStatus.PENDING)).id)


async def session(estate: Estate, side: Side, caller: Caller) -> str:
    """A session of the caller, or of somebody else."""
    whose = _whose(estate, side, caller)
    begun = await estate.store.add_session(
        token_hash(new_token()), whose.id, LATER, address="", user_agent=f"{side.word} browser", now=NOON
    )
    return str(begun.id)


async def api_token(estate: Estate, side: Side, caller: Caller) -> str:
    """A token of the caller, or of somebody else."""
    whose, secret = _whose(estate, side, caller), new_token()
    name = f"{side.word} program"
    kept = await estate.store.add_api_token(
        token_hash(secret), "ct_", whose.id, name, frozenset({Scope.READ}), LATER, now=NOON
    )
    return str(kept.id)


def _whose(estate: Estate, side: Side, caller: Caller) -> User:
    return caller.user if caller.user is not None and side is estate.own else side.clerk


async def one_time_code(estate: Estate, side: Side, caller: Caller) -> str:
    """Whose code ``ABCD-EFGH-JKLM`` is: an e-mail address."""
    person = await estate.person(Role.FACTORY_CLERK, side)
    await estate.store.add_code(person.id, RESET, code_hash(CODE), LATER)
    return person.email


CODE = "ABCD-EFGH-JKLM"


def leaked(answer: bytes) -> set[str]:
    """The words in an answer that can only be of the other factory."""
    return {word.decode().lower() for word in _LEAKED.findall(answer)}


def told_unasked(path: str, answer: bytes) -> bytes:
    """An answer without what everybody may know: whoever asks for an account says for which factory.

    Whoever has a link to a report was given it: the link is the permission.
    """
    if path.startswith(SHARED):
        return b""
    return answer.replace(f"{OTHER} name".encode(), b"") if path == "/register" else answer


def at(moment: datetime) -> str:
    """A time as the API takes it."""
    return moment.isoformat()
