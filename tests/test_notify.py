"""People are told of alerts once and in time, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import time, timedelta
from functools import partial

import pytest

from carbontrack import notify
from carbontrack.config import load_config
from carbontrack.configured import policy_of
from carbontrack.dispatch import decide
from carbontrack.hookspecs import Notification, Notifier, Undeliverable
from carbontrack.mail import mailer
from carbontrack.metrics import Metrics
from carbontrack.model import Role, UserStatus
from carbontrack.notify import Notices, NotifierInstance
from carbontrack.outbound import Ways
from carbontrack.plugins.notifiers.email import EmailOptions
from carbontrack.plugins.notifiers.email import notifier as email_notifier
from carbontrack.store import RegistryError, Store
from carbontrack.tasks import end
from tests.support.smtp import smtp_server
from tests.support.telling import POLICY, NoOptions, Told, person, telling
from tests.support.world import eventually, factory, register

pytest_plugins = ["tests.support.world"]


async def test_an_alert_becomes_a_mail_at_a_real_server_in_the_person_s_language(
    store: Store, metrics: Metrics
) -> None:
    (site,) = await register(store, "dev-001")
    await person(store, "wanjiru", Role.FACTORY_MANAGER, site.factory.id, locale="sw")
    async with smtp_server() as server:
        config = load_config(
            None,
            {
                "CARBONTRACK_MAIL__HOST": "127.0.0.1",
                "CARBONTRACK_MAIL__PORT": str(server.port),
                "CARBONTRACK_MAIL__TLS": "none",
                "CARBONTRACK_MAIL__SENDER": "Carbon Track <carbontrack@example.org>",
            },
        )
        async with mailer(config, metrics) as mail:
            assert mail is not None
            ways = Ways()
            ways.by_mail = mail.deliver
            here = telling(store, metrics, [NotifierInstance("mail", email_notifier(ways), EmailOptions())])
            await here.silent("dev-001")
            await here.round(seconds=59)
            assert not server.mails
            await here.round(seconds=1)
            await here.round(seconds=1)

        (message,) = server.mails
    assert message["To"] == "wanjiru@example.org"
    assert message["Subject"] == "[onyo] Kifaa kiko kimya, Kangaita, Boiler of dev-001"
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    for body in (text.get_content(), html.get_content()):
        assert "kipimo 900 s, kikomo 900 s" in body
        assert "Tangu 2026-03-01 15:00" in body
        assert "Angalia kama taa yake inawaka." in body
        assert "https://carbon.example.org/alerts/1/" in body


@pytest.fixture
async def mail() -> Told:
    return Told("mail")


# --- folding


async def test_a_flood_is_one_alert_of_the_network_and_what_comes_later_joins_it(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    sites = [
        site for name in ("Kangaita", "Mungania") for site in await register(store, *_devices(name), factory_name=name)
    ]
    for site in sites[::14]:
        await person(store, f"manager-{site.factory.id}", Role.FACTORY_MANAGER, site.factory.id)
    await person(store, "hq")
    here = telling(store, metrics, [mail])
    for site in sites[:27]:
        await here.silent(site.device.device_id)
        here.clock.later(seconds=1)
    await here.round()
    await here.silent(sites[27].device.device_id)
    await here.round(minutes=1)
    await here.round(minutes=2)

    assert (mail.people(), mail.events()) == (["hq"], ["raised"])
    (item,) = mail.notifications[0].items
    assert (item.devices, item.factories, item.factory) == (28, 2, None)
    assert mail.notifications[0].subject == "[warning] A device is silent, 28 devices at 2 factories"
    assert len(await store.alerts(part_of=item.alert.id)) == 28

    for site in sites[:28]:
        await here.cleared(site.device.device_id)
    await here.round(minutes=1)
    await here.round(minutes=1)
    assert (mail.people(), mail.events()) == (["hq", "hq"], ["raised", "cleared"])
    assert not await store.cases()


def _devices(name: str) -> list[str]:
    return [f"{name.lower()}-{number}" for number in range(14)]


async def test_long_after_a_flood_a_silent_device_is_an_alert_of_its_own(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    sites = [
        site for name in ("Kangaita", "Mungania") for site in await register(store, *_devices(name), factory_name=name)
    ]
    await person(store, "hq")
    here = telling(store, metrics, [mail], network_from=20)
    for site in sites[:20]:
        await here.silent(site.device.device_id)
    await here.round(minutes=1)
    here.clock.later(minutes=10)
    alone = await here.silent(sites[20].device.device_id)
    await here.round(minutes=1)

    assert [told.items[0].alert.id for told in mail.notifications][1:] == [alone]


async def test_another_flood_that_joins_one_that_was_acknowledged_is_told_again(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    sites = [
        site for name in ("Kangaita", "Mungania") for site in await register(store, *_devices(name), factory_name=name)
    ]
    await person(store, "hq")
    here = telling(store, metrics, [mail], repeat_every=timedelta(minutes=60), escalate_after=None)
    for site in sites[::2][:10]:
        await here.silent(site.device.device_id)
    await here.round(minutes=1)
    (network,) = mail.notifications
    await store.acknowledge_alert(network.items[0].alert.id, "the mast is down", here.clock.now)
    await here.round(hours=3)
    assert len(mail.notifications) == 1

    for site in sites[1::2][:10]:
        await here.silent(site.device.device_id)
    await here.round(minutes=1)
    assert mail.events() == ["raised", "repeated"]
    assert mail.notifications[1].items[0].devices == 20


async def test_what_came_together_is_one_message_and_the_worst_is_shown_first(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    sites = await register(store, *(f"dev-{number}" for number in range(25)))
    await person(store, "manager", Role.FACTORY_MANAGER, sites[0].factory.id)
    log = Told("log", to_people=False)
    here = telling(store, metrics, [mail, log])
    for site in sites:
        severity = "critical" if site is sites[-1] else "info"
        await here.silent(site.device.device_id, severity=severity, seconds=60)
    await here.round()

    (message,) = mail.notifications
    assert (message.count, len(message.items), message.items[0].alert.severity) == (25, 20, "critical")
    assert message.subject == "[critical] A device is silent, Kangaita and 24 more"
    assert "5 more alerts are not listed here." in message.text
    assert message.url == "https://carbon.example.org/alerts/"
    assert [len(told.items) for told in log.notifications] == [20, 5]


# --- who


async def test_the_duty_list_is_gone_down_until_somebody_acknowledges(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    (site,) = await register(store, "dev-001")
    people = [await person(store, name, Role.FACTORY_CLERK, site.factory.id) for name in ("night", "day", "deputy")]
    await person(store, "hq")
    await store.set_duty(site.factory.id, [who.id for who in people])
    here = telling(store, metrics, [mail])
    number = await here.silent("dev-001")
    await here.round(minutes=1)
    await here.round(minutes=30)
    await here.round(minutes=30)
    assert mail.people() == ["night", "day", "deputy", "night"]
    assert mail.events() == ["raised", "escalated", "escalated", "repeated"]
    assert "Nobody has answered" in mail.notifications[1].subject
    alert = await store.alert(number)
    assert alert is not None
    assert (alert.escalation, alert.last_told_at) == (2, here.clock.now)

    await store.acknowledge_alert(number, "on my way", here.clock.now)
    await here.round(hours=5)
    assert len(mail.notifications) == 4
    await here.cleared("dev-001")
    await here.round(minutes=1)
    assert sorted(mail.people()[4:]) == ["day", "deputy", "night"]
    assert set(mail.events()[4:]) == {"cleared"}
    assert metrics.registry.get_sample_value("carbontrack_alert_acknowledge_seconds_sum") == 61 * 60


async def test_without_a_list_the_managers_are_told_and_then_headquarters(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    (site,) = await register(store, "dev-001")
    await person(store, "b-manager", Role.FACTORY_MANAGER, site.factory.id)
    await person(store, "a-manager", Role.FACTORY_MANAGER, site.factory.id)
    gone = await person(store, "0-manager", Role.FACTORY_MANAGER, site.factory.id)
    await store.change_user(gone.id, status=UserStatus.DISABLED)
    await person(store, "hq")
    await person(store, "operator", Role.OPERATOR)
    here = telling(store, metrics, [mail], repeat_every=None)
    await here.silent("dev-001")
    for minutes in (1, 30, 30, 30):
        await here.round(minutes=minutes)

    assert mail.people() == ["a-manager", "b-manager", "hq"]


async def test_each_channel_has_its_own_least_severity_and_people_their_own_language(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    (site,) = await register(store, "dev-001")
    await person(store, "manager", Role.FACTORY_MANAGER, site.factory.id, locale="sw")
    sms = Told("sms", min_severity="critical")
    here = telling(store, metrics, [mail, sms])
    await here.silent("dev-001")
    await here.raised("dev-001", "too-hot", "critical", seconds=60)
    await here.round(seconds=60)

    (by_mail,), (by_sms,) = mail.notifications, sms.notifications
    assert [item.title for item in by_mail.items] == ["Too hot", "Kifaa kiko kimya"]
    assert [item.title for item in by_sms.items] == ["Too hot"]


async def test_by_night_only_what_is_critical_is_told(store: Store, metrics: Metrics, mail: Told) -> None:
    sites = await register(store, "dev-001", "dev-002", "dev-003")
    await person(store, "manager", Role.FACTORY_MANAGER, sites[0].factory.id)
    here = telling(store, metrics, [mail], quiet=(time(21), time(6)))
    here.clock.later(hours=7)  # 22:00 in Nairobi
    await here.silent("dev-001")
    await here.silent("dev-002", severity="critical")
    await here.silent("dev-003")
    await here.round(minutes=2)
    assert [told.count for told in mail.notifications] == [1]
    await here.cleared("dev-003")
    await store.acknowledge_alert(2, "", here.clock.now)
    await here.round(hours=7, minutes=57)
    assert len(mail.notifications) == 1
    await here.round(minutes=1)
    assert [item.alert.device_id for item in mail.notifications[1].items] == ["dev-001"]


# --- the outbox


async def test_what_fails_is_tried_again_later_and_later_and_nothing_overtakes_it(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    sites = [
        site for name in ("Kangaita", "Mungania") for site in await register(store, name.lower(), factory_name=name)
    ]
    for site in sites:
        await person(store, f"of-{site.factory.slug}", Role.FACTORY_MANAGER, site.factory.id)
    mail.errors = [ConnectionError("the server is away")] * 3
    here = telling(store, metrics, [mail])
    await here.silent("kangaita")
    await here.round(minutes=1)
    assert here.notices.problems() == ["Nobody is reached by 'mail' since 15:01: ConnectionError: the server is away"]
    await here.raised("kangaita", "too-hot")
    await here.silent("mungania")
    await here.round(seconds=9)
    assert mail.attempts == 1
    await here.round(seconds=1)
    assert mail.attempts == 2
    await here.round(seconds=55)
    assert (mail.attempts, mail.people()) == (3, [])  # the other factory's failed as well
    await here.round(seconds=10)
    assert mail.people() == ["of-kangaita", "of-mungania", "of-kangaita"]
    assert [told.items[0].alert.rule for told in mail.notifications] == ["device-silent", "device-silent", "too-hot"]
    assert here.notices.problems() == []
    outcomes = {name: _count(metrics, name) for name in ("sent", "retried", "failed")}
    assert outcomes == {"sent": 3, "retried": 3, "failed": 0}


def _count(metrics: Metrics, outcome: str, name: str = "mail") -> int:
    labels = {"notification": name, "outcome": outcome}
    return int(metrics.registry.get_sample_value("carbontrack_notifications_total", labels) or 0)


async def test_what_is_refused_for_ever_fails_at_once_and_can_be_tried_again_by_hand(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    mail.errors = [Undeliverable("550 no such mailbox")]
    here = telling(store, metrics, [mail])
    await here.silent("dev-001")
    await here.round(minutes=1)
    (failed,) = await store.messages(state="failed")
    assert (failed.last_error, failed.attempts, here.notices.problems()) == ("550 no such mailbox", 1, [])
    await here.round(minutes=10)
    assert mail.attempts == 1

    assert (await store.retry_message(failed.id, here.clock.now)).state == "waiting"
    await here.round(seconds=1)
    assert mail.people() == ["hq"]
    with pytest.raises(RegistryError, match="it was sent"):
        await store.retry_message(failed.id, here.clock.now)


async def test_after_a_day_it_is_given_up(store: Store, metrics: Metrics, mail: Told) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    mail.errors = [OSError("no route to host")] * 1000
    here = telling(store, metrics, [mail], repeat_every=None)
    await here.silent("dev-001")
    for _ in range(26 * 4):
        await here.round(minutes=15)
    (failed,) = await store.messages()
    assert (failed.state, failed.attempts, failed.last_error) == ("failed", 28, "OSError: no route to host")
    assert failed.done_at is not None
    assert timedelta(hours=23) < failed.done_at - failed.created_at < timedelta(hours=25)


async def test_one_that_hangs_is_in_nobody_s_way_and_has_a_time_limit(
    store: Store, metrics: Metrics, mail: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    monkeypatch.setattr(notify, "TIME_LIMIT_S", 0.2)
    hanging = NotifierInstance("hanging", Notifier("h", "H", NoOptions, _hang, to_people=True), NoOptions(), "info")
    here = telling(store, metrics, [mail, hanging], fold=timedelta(0), critical_fold=timedelta(0))
    await here.silent("dev-001")
    async with kept(here.notices):
        await eventually(lambda: mail.people() == ["hq"])
        assert _count(metrics, "retried", "hanging") == 0
        await eventually(lambda: _count(metrics, "retried", "hanging") == 1)
    (waiting,) = await store.messages(state="waiting")
    assert "longer than 0.2 s" in waiting.last_error


async def _hang(options: NoOptions, told: Notification) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def kept(notices: Notices) -> AsyncIterator[None]:
    """Dispatch and send as a core does it, until the block ends."""
    task = asyncio.create_task(notices.keep(), name="notices")
    try:
        yield
    finally:
        await end(task)
    assert not [left for left in asyncio.all_tasks() if left.get_name().startswith("notify:")]


async def test_whoever_raises_an_alert_only_wakes_the_dispatcher(
    store: Store, metrics: Metrics, mail: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store, "dev-001", "dev-002")
    await person(store, "hq")
    monkeypatch.setattr(notify, "LOOK_EVERY_S", 1000.0)
    here = telling(store, metrics, [mail], fold=timedelta(0), critical_fold=timedelta(0))
    async with kept(here.notices):
        for number, device_id in enumerate(("dev-001", "dev-002"), start=1):
            await here.silent(device_id)
            here.notices.alert_changed()
            await eventually(partial(_has_told, mail, number))


def _has_told(mail: Told, count: int) -> bool:
    return len(mail.notifications) == count


# --- crashes


@pytest.mark.parametrize("crash", ["before it is dispatched", "before it is sent", "after it was sent"])
async def test_a_crash_loses_nothing_and_doubles_nothing_that_was_noted(
    store: Store, metrics: Metrics, mail: Told, crash: str
) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    here = telling(store, metrics, [mail])
    await here.silent("dev-001")
    here.clock.later(minutes=1)
    if crash != "before it is dispatched":
        assert await here.notices.look() == 1
    if crash == "after it was sent":
        await here.notices.send_due()

    after = telling(store, metrics, [mail], clock=here.clock)
    for _ in range(3):
        await after.round(minutes=1)
    assert (mail.people(), mail.events()) == (["hq"], ["raised"])


async def test_two_dispatchers_on_one_database_tell_nothing_twice(store: Store, metrics: Metrics, mail: Told) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    here = telling(store, metrics, [mail])
    there = telling(store, Metrics(), [mail], clock=here.clock)
    await here.silent("dev-001")
    here.clock.later(minutes=1)
    cases = await store.cases()
    audience = await here.notices._audience({user.id: user for user in await store.users()})
    plan = decide(cases, audience, POLICY, {}, here.clock.now)
    people = {user.id: user for user in await store.users()}
    for notices in (here.notices, there.notices):  # both have decided before either has noted it
        await store.keep_messages(await notices._entries(plan, people), plan, here.clock.now)
    await here.round()
    assert mail.people() == ["hq"]


async def test_a_channel_that_failed_before_a_restart_is_told_of_after_it(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    mail.errors = [ConnectionError("refused")] * 2
    here = telling(store, metrics, [mail])
    await here.silent("dev-001")
    await here.round(minutes=1)
    after = telling(store, metrics, [mail], clock=here.clock)
    await after.notices.measure()
    assert after.notices.problems() == ["Nobody is reached by 'mail' since 15:01: ConnectionError: refused"]
    labels = {"notification": "mail"}
    after.clock.later(minutes=2)
    await after.notices.measure()
    assert metrics.registry.get_sample_value("carbontrack_outbox_waiting", labels) == 1
    assert metrics.registry.get_sample_value("carbontrack_outbox_oldest_seconds", labels) == 120


# --- what changes meanwhile


async def test_what_waits_for_a_plugin_that_is_reloaded_is_told_by_the_new_one(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    here = telling(store, metrics, [mail])
    here.notices.follow([], ["mail"])
    await here.silent("dev-001")
    await here.round(minutes=1)
    await here.notices.measure()
    assert here.notices.problems() == ["Nobody is reached by 'mail': its plugin does not run"]
    new = Told("mail")
    here.notices.follow([new.instance], ["mail"])
    await here.round(minutes=1)
    assert (mail.attempts, new.people()) == (0, ["hq"])


async def test_what_is_not_configured_any_more_is_given_up(store: Store, metrics: Metrics, mail: Told) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    here = telling(store, metrics, [mail])
    await here.silent("dev-001")
    here.clock.later(minutes=1)
    await here.notices.look()
    here.notices.follow([], [])
    await here.notices.measure()
    (given_up,) = await store.messages()
    assert (given_up.state, given_up.last_error) == ("failed", "this notification is not configured any more")


async def test_whoever_is_disabled_meanwhile_is_told_nothing(store: Store, metrics: Metrics, mail: Told) -> None:
    await register(store, "dev-001")
    await person(store, "boss")
    user = await person(store, "hq")
    await store.set_duty(None, [user.id])
    here = telling(store, metrics, [mail])
    await here.silent("dev-001")
    here.clock.later(minutes=1)
    await here.notices.look()
    await store.change_user(user.id, status=UserStatus.DISABLED)
    await here.notices.send_due()
    assert mail.attempts == 0
    await here.round(minutes=1)  # and those who are there are told instead
    assert mail.people() == ["boss"]


async def test_alerts_that_reach_nobody_are_a_problem(store: Store, metrics: Metrics, mail: Told) -> None:
    await register(store, "dev-001")
    here = telling(store, metrics, [mail])
    await here.silent("dev-001")
    await here.round(minutes=1)
    assert here.notices.problems() == ["1 alerts reach nobody: no active person on duty has an address for them."]
    await person(store, "hq")
    await here.round(minutes=1)
    assert (here.notices.problems(), mail.people()) == ([], ["hq"])


async def test_what_was_sent_is_forgotten_after_90_days_but_not_of_what_goes_on(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    await register(store, "dev-001", "dev-002")
    await person(store, "hq")
    here = telling(store, metrics, [mail], repeat_every=None)
    await here.silent("dev-001")
    await here.round(minutes=1)
    await here.raised("dev-002", "too-hot")
    await here.round(minutes=1)
    await here.cleared("dev-002", "too-hot")
    await here.round(minutes=1)
    here.clock.later(days=91)
    await here.notices.measure()
    assert [message.id for message in await store.messages()] == [1]
    await here.round(minutes=1)
    assert len(mail.notifications) == 3  # nobody is told anew


# --- the configuration


def test_how_people_are_told_is_as_the_configuration_says() -> None:
    values = {"QUIET_HOURS": "21:30-24:00", "REPEAT_EVERY_MIN": "0", "ESCALATE_AFTER_MIN": "15", "FOLD_S": "30"}
    environment = {f"CARBONTRACK_ALERTING__{name}": value for name, value in values.items()}
    found = policy_of(load_config(None, environment))
    assert (found.quiet, found.repeat_every, found.escalate_after, found.fold) == (
        (time(21, 30), time(0)),
        None,
        timedelta(minutes=15),
        timedelta(seconds=30),
    )
    assert policy_of(load_config(None, {})) == POLICY


async def test_reminders_of_months_are_forgotten_and_the_next_one_comes_in_time(
    store: Store, metrics: Metrics, mail: Told
) -> None:
    await register(store, "dev-001")
    await person(store, "hq")
    here = telling(store, metrics, [mail], repeat_every=timedelta(days=10))
    await here.silent("dev-001")
    await here.round(minutes=1)
    for count in range(2, 14):
        await here.round(days=10)
        assert len(mail.notifications) == count, "each of them is another message"
    (case,) = await store.cases()
    assert [telling.event for telling in case.told] == ["raised", "repeated", "repeated"], "the first and the last"
    await here.notices.measure()
    assert [message.id for message in await store.messages()] == [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 1]
    await here.round(minutes=1)
    assert len(mail.notifications) == 13


# --- duty lists


async def test_a_duty_list_holds_people_who_may_see_what_it_is_for(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    other = await store.add_factory(factory("Mungania"))
    own = await person(store, "own", Role.FACTORY_CLERK, site.factory.id)
    stranger = await person(store, "stranger", Role.FACTORY_CLERK, other.id)
    hq = await person(store, "hq")
    assert [user.email for user in await store.set_duty(site.factory.id, [hq.id, own.id])] == [
        "hq@example.org",
        "own@example.org",
    ]
    assert await store.duty(site.factory.id) == [hq, own]
    for factory_id, listed, told in (
        (site.factory.id, [stranger.id], "nobody with the number"),
        (None, [own.id], "nobody with the number"),
        (None, [hq.id, hq.id], "twice"),
        (None, [12345], "number 12345"),
    ):
        with pytest.raises(RegistryError, match=told):
            await store.set_duty(factory_id, listed)
    assert await store.set_duty(site.factory.id, []) == []
    assert await store.duty(site.factory.id) == []
