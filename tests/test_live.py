"""Watchers get the newest state of what they may see, however slowly they look."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from carbontrack.live import Live
from carbontrack.model import Snapshot

ONE = Snapshot("ct-0001", 1, 11, online=True, co2_ppm=1.0)
TWO = Snapshot("ct-0002", 2, 12, online=True, co2_ppm=1.0)


def later(snapshot: Snapshot, co2_ppm: float) -> Snapshot:
    return msgspec.structs.replace(snapshot, co2_ppm=co2_ppm)


async def test_a_change_comes_to_everyone_who_watches() -> None:
    live = Live()
    with live.subscribe(None) as all_of_them, live.subscribe(1) as factory:
        live.publish(ONE)

        assert await all_of_them.changes() == [ONE]
        assert await factory.changes() == [ONE]


async def test_a_watcher_of_one_factory_hears_nothing_of_another() -> None:
    live = Live()
    with live.subscribe(1) as factory:
        live.publish(TWO)
        live.publish(ONE)

        assert await factory.changes() == [ONE]


async def test_a_slow_watcher_gets_the_newest_state_of_each_device_once() -> None:
    live = Live()
    with live.subscribe(None) as slow:
        for number in range(1000):
            live.publish(later(ONE, number))
            live.publish(later(TWO, -number))

        changes = await slow.changes()

        assert sorted(change.device_id for change in changes) == ["ct-0001", "ct-0002"]
        assert {change.co2_ppm for change in changes} == {999.0, -999.0}


async def test_what_was_seen_does_not_come_again() -> None:
    live = Live()
    with live.subscribe(None) as watcher:
        live.publish(ONE)
        await watcher.changes()
        live.publish(TWO)

        assert await watcher.changes() == [TWO]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.changes(), timeout=0.001)


async def test_a_watcher_that_waits_is_woken() -> None:
    live = Live()
    with live.subscribe(1) as watcher:
        waiting = asyncio.create_task(watcher.changes())
        await asyncio.sleep(0)
        live.publish(TWO)
        await asyncio.sleep(0)
        assert not waiting.done()
        live.publish(ONE)

        assert await waiting == [ONE]


async def test_a_watcher_that_gave_up_waiting_misses_nothing() -> None:
    live = Live()
    with live.subscribe(None) as watcher:
        waiting = asyncio.create_task(watcher.changes())
        await asyncio.sleep(0)
        live.publish(ONE)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        assert await watcher.changes() == [ONE]


async def test_what_was_before_is_not_told() -> None:
    live = Live()
    live.publish(ONE)
    with live.subscribe(None) as watcher:
        live.publish(TWO)

        assert await watcher.changes() == [TWO]


def test_who_leaves_is_forgotten() -> None:
    live = Live()
    with live.subscribe(None), live.subscribe(1):
        assert live.watchers == 2
    with pytest.raises(RuntimeError), live.subscribe(1):
        raise RuntimeError
    assert live.watchers == 0
    live.publish(ONE)


# --- who was away


def test_who_comes_back_gets_what_has_changed_since_and_nothing_else() -> None:
    live = Live()
    live.publish(ONE)
    live.publish(TWO)
    place = live.place
    live.publish(later(TWO, 5.0))

    told = live.since(place)

    assert told is not None
    assert live.changed_since(told, [ONE, later(TWO, 5.0)]) == [later(TWO, 5.0)]
    assert live.changed_since(live.since(live.place) or 0, [ONE, TWO]) == []


@pytest.mark.parametrize("place", ["", "-", "x", "0-1", "0123456789abcdef-3", "-1", "9" * 100])
def test_a_place_that_this_stream_has_not_given_is_not_known(place: str) -> None:
    live = Live()
    live.publish(ONE)

    assert live.since(place) is None
    assert live.since(f"{live.place.partition('-')[0]}-{'9' * 30}") is None


def test_the_places_of_another_process_or_of_before_a_device_left_are_not_known() -> None:
    live, other = Live(), Live()
    live.publish(ONE)
    place = live.place

    assert other.since(place) is None
    live.begin_anew()
    assert live.since(place) is None


def test_alerts_that_were_missed_are_told_to_who_may_hear_them() -> None:
    live = Live()
    live.publish_alert({"id": 1}, 1)
    told = live.since(live.place)
    assert told is not None
    live.publish_alert({"id": 2}, 1)
    live.publish_alert({"id": 3}, 2)
    live.publish_alert({"id": 4}, None)

    assert [it["id"] for it in live.alerts_since(told, 1)] == [2]
    assert [it["id"] for it in live.alerts_since(told, None)] == [2, 3, 4]
