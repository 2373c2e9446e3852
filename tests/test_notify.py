"""People are told of alerts, and nobody waits for that: not the devices, and no notifier for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import structlog
from pydantic import BaseModel

from carbontrack import notify
from carbontrack.hookspecs import Notification, Notifier
from carbontrack.metrics import Metrics
from carbontrack.model import Alert, Factory, MonitoringPlan, Stack
from carbontrack.notify import WAITS_S, Notifications, NotifierInstance, notifications
from carbontrack.plugins.notifiers.log import LOG, LogOptions
from tests.support.world import eventually, sample

pytest_plugins = ["tests.support.world"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTORY = Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, 2036.0)
STACK = Stack(11, 1, "Boiler 1", (MonitoringPlan(),))


class NoOptions(BaseModel):
    pass


def notification(number: int = 1, severity: str = "warning", *, cleared: bool = False) -> Notification:
    alert = Alert(number, "dev-001", 1, 11, "hot", severity, "gas is hot", NOON, NOON if cleared else None)
    return Notification("cleared" if cleared else "raised", alert, FACTORY, STACK)


@dataclass
class Told:
    """A notifier that remembers whom it told of what, after it has failed so many times."""

    failures: int = 0
    numbers: list[int] = field(default_factory=list)
    attempts: int = 0
    hangs: bool = False

    async def send(self, options: NoOptions, told: Notification) -> None:
        self.attempts += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.attempts <= self.failures:
            raise ConnectionError("the far end is away")
        self.numbers.append(told.alert.id)

    def instance(self, name: str = "duty", min_severity: str = "info") -> NotifierInstance:
        return NotifierInstance(name, Notifier("told", "Told", NoOptions, self.send), NoOptions(), min_severity)


@dataclass
class Pauses:
    """Waits no time, and remembers how long it should have been."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def running(metrics: Metrics, pauses: Pauses, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Notifications]:
    monkeypatch.setattr(notify, "LAST_WORDS_S", 0.05)
    started = Notifications(metrics, pause=pauses, most_waiting=3)
    yield started
    await started.close()


def count(metrics: Metrics, outcome: str, name: str = "duty") -> int:
    try:
        return sample(metrics, "carbontrack_notifications_total", notification=name, outcome=outcome)
    except AssertionError:
        return 0


async def test_everybody_who_is_configured_is_told_in_order(running: Notifications, metrics: Metrics) -> None:
    one, two = Told(), Told()
    running.follow([one.instance("one"), two.instance("two")], ["one", "two"])
    for number in (1, 2, 3):
        running.tell(notification(number, cleared=number == 3))
    await running.drained()

    assert one.numbers == two.numbers == [1, 2, 3]
    assert count(metrics, "sent", "one") == count(metrics, "sent", "two") == 3


@pytest.mark.parametrize(("least", "told"), [("info", [1, 2, 3]), ("warning", [2, 3]), ("critical", [3])])
async def test_what_is_less_severe_is_left_out(running: Notifications, least: str, told: list[int]) -> None:
    duty = Told()
    running.follow([duty.instance(min_severity=least)], ["duty"])
    for number, severity in enumerate(("info", "warning", "critical"), start=1):
        running.tell(notification(number, severity))
    await running.drained()

    assert duty.numbers == told


async def test_what_fails_is_tried_again_later_and_later(
    running: Notifications, metrics: Metrics, pauses: Pauses
) -> None:
    duty = Told(failures=2)
    running.follow([duty.instance()], ["duty"])
    running.tell(notification())
    await running.drained()

    assert (duty.numbers, pauses.seconds) == ([1], list(WAITS_S[:2]))
    assert (count(metrics, "sent"), count(metrics, "failed")) == (1, 0)


async def test_what_fails_for_good_is_counted_and_the_next_goes_on(
    running: Notifications, metrics: Metrics, pauses: Pauses
) -> None:
    duty = Told(failures=len(WAITS_S) + 1)
    running.follow([duty.instance()], ["duty"])
    running.tell(notification(1))
    running.tell(notification(2))
    await running.drained()

    assert (duty.numbers, pauses.seconds) == ([2], list(WAITS_S))
    assert (count(metrics, "sent"), count(metrics, "failed")) == (1, 1)


async def test_one_that_hangs_is_in_nobody_s_way_and_has_a_time_limit(
    running: Notifications, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIME_LIMIT_S", 0.01)
    stuck, quick = Told(hangs=True), Told()
    running.follow([stuck.instance("stuck"), quick.instance("quick")], ["stuck", "quick"])
    running.tell(notification())
    await eventually(lambda: quick.numbers == [1])
    await running.drained()

    assert stuck.attempts == len(WAITS_S) + 1
    assert count(metrics, "failed", "stuck") == 1


async def test_of_too_much_the_oldest_is_dropped(running: Notifications, metrics: Metrics) -> None:
    duty = Told()
    running.follow([duty.instance()], ["duty"])
    for number in range(1, 6):
        running.tell(notification(number))
    await running.drained()

    assert duty.numbers == [3, 4, 5]
    assert (count(metrics, "sent"), count(metrics, "dropped")) == (3, 2)


async def test_what_waits_for_a_plugin_that_is_reloaded_is_told_by_the_new_one(running: Notifications) -> None:
    before, after = Told(failures=10_000), Told()
    running.follow([before.instance()], ["duty"])
    running.follow([], ["duty"])
    running.tell(notification(1))
    running.follow([after.instance()], ["duty"])
    await running.drained()

    assert (before.attempts, after.numbers) == (0, [1])


async def test_what_is_not_configured_any_more_is_told_nothing(running: Notifications, metrics: Metrics) -> None:
    duty = Told(hangs=True)
    running.follow([duty.instance()], ["duty"])
    running.tell(notification(1))
    running.tell(notification(2))
    await eventually(lambda: duty.attempts == 1)
    running.follow([], [])
    running.tell(notification(3))
    await running.drained()

    assert (duty.attempts, count(metrics, "dropped")) == (1, 2)


async def test_a_core_that_stops_lets_go_what_goes_quickly(metrics: Metrics) -> None:
    duty = Told()
    async with notifications(metrics) as running:
        running.follow([duty.instance()], ["duty"])
        running.tell(notification())

    assert duty.numbers == [1]
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("notify:")]


async def test_a_core_that_stops_does_not_wait_for_one_that_hangs(running: Notifications, metrics: Metrics) -> None:
    duty = Told(hangs=True)
    running.follow([duty.instance()], ["duty"])
    running.tell(notification())
    await eventually(lambda: duty.attempts == 1)
    await running.close()

    assert count(metrics, "dropped") == 1


# --- the log


@pytest.mark.parametrize(
    ("told", "level", "event"),
    [
        (notification(severity="info"), "info", "alert raised"),
        (notification(severity="warning"), "warning", "alert raised"),
        (notification(severity="critical"), "error", "alert raised"),
        (notification(severity="critical", cleared=True), "info", "alert is over"),
    ],
)
async def test_the_log_has_a_line_for_each(told: Notification, level: str, event: str) -> None:
    with structlog.testing.capture_logs() as lines:
        await LOG.send(LogOptions(), told)

    (line,) = lines
    assert (line["log_level"], line["event"]) == (level, event)
    assert (line["alert"], line["factory"], line["stack"], line["device"]) == ("hot", "Kangaita", "Boiler 1", "dev-001")
    json.dumps(line)
