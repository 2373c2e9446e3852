"""What goes wrong. Each fault makes it happen, puts it right again, and says what was seen meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiomqtt

from tests.chaos.device import Device
from tests.chaos.platform import OFFLINE_AFTER_S, Platform
from tests.support.world import body

DAY_H = 24.0
STEP_MS = 5_000
LONGER_THAN_PATIENCE_S = OFFLINE_AFTER_S + 3
UNTIL_WILLS_COUNT_S = 6.0
"""After that a device that left by itself is shown as offline."""
FLOOD_MESSAGES = 6_000
NEIGHBOURS_WAIT_S = 10.0
"""A neighbour of a flooding device gets its receipts within this, in 99 of 100 cases, however busy the machine is."""


class NotSeen(Exception):
    """The platform did not do or tell what it must while the fault lasted."""


@dataclass
class Chaos:
    """The platform, its devices, and the one source of chance."""

    platform: Platform
    devices: Mapping[str, Device]
    chance: random.Random
    link_cut: Sequence[Device] = ()
    """Devices that have not been connected yet, and whose stores are full of a day."""
    pace: float = 1.0
    """How long the pauses of the faults are, of what they would be."""

    def some(self, count: int) -> list[Device]:
        """Devices that the fault hits."""
        return self.chance.sample(list(self.devices.values()), count)

    async def pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self.pace * self.chance.uniform(least_s, most_s))


Fault = Callable[[Chaos], Awaitable[str]]


async def until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise NotSeen(what)
        await asyncio.sleep(0.2)


def cut_off(devices: Sequence[Device]) -> None:
    """From here on these devices may be called offline."""
    for device in devices:
        device.cut_off_until = float("inf")


def back_on(devices: Sequence[Device]) -> None:
    """Their links are whole: they connect within their back-off, and then count as there."""
    for device in devices:
        device.cable.mend()
        device.cut_off_until = time.monotonic() + OFFLINE_AFTER_S


# --- links


async def link_cut_for_a_day(chaos: Chaos) -> str:
    back_on(chaos.link_cut)
    return f"{len(chaos.link_cut)} devices with a day of readings each"


async def link_cut_for_a_moment(chaos: Chaos) -> str:
    hit = chaos.some(max(2, len(chaos.devices) // 5))
    cut_off(hit)
    for device in hit:
        device.cable.cut()
    await chaos.pause(2, 5)
    back_on(hit)
    return f"{len(hit)} devices cut off"


async def reconnect_storm(chaos: Chaos) -> str:
    everybody = list(chaos.devices.values())
    cut_off(everybody)
    for _ in range(3):
        for device in everybody:
            device.cable.drop()
        await chaos.pause(0.5, 1.5)
    back_on(everybody)
    return f"{len(everybody)} connections dropped at once, three times"


# --- SIGKILL


async def core_killed(chaos: Chaos) -> str:
    times = 3
    for _ in range(times):
        await chaos.pause(0.2, 2.0)
        await asyncio.to_thread(chaos.platform.core.stop, signal.SIGKILL)
        await chaos.pause(0.0, 1.5)
        await asyncio.to_thread(chaos.platform.core.start)
    return f"SIGKILL, {times} times"


async def database_killed(chaos: Chaos) -> str:
    for away_s in (0.0, LONGER_THAN_PATIENCE_S):
        await chaos.pause(0.2, 2.0)
        await asyncio.to_thread(chaos.platform.postgres.crash)
        await asyncio.sleep(away_s)
        await chaos.platform.start_database()
    return f"SIGKILL twice, the second time away for {LONGER_THAN_PATIENCE_S:.0f} s"


async def broker_killed(chaos: Chaos) -> str:
    for away_s in (0.0, LONGER_THAN_PATIENCE_S):
        await chaos.pause(0.2, 2.0)
        await asyncio.to_thread(chaos.platform.broker.kill)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(chaos.platform.broker.start)
    return f"SIGKILL twice, the second time away for {LONGER_THAN_PATIENCE_S:.0f} s"


async def broker_stopped(chaos: Chaos) -> str:
    """In order, as by an upgrade: it sends the last wills of all devices to the core, and is back at once."""
    await chaos.pause(0.2, 1.0)
    await asyncio.to_thread(chaos.platform.broker.stop)
    await asyncio.to_thread(chaos.platform.broker.start)
    await asyncio.sleep(UNTIL_WILLS_COUNT_S)
    return "SIGTERM, and back at once"


async def broker_forgets(chaos: Chaos) -> str:
    """Nothing of what it had acknowledged, queued or retained is there any more."""
    await asyncio.to_thread(chaos.platform.core.stop, signal.SIGKILL)  # so that there is something in its queue
    await chaos.pause(1.0, 2.0)
    await asyncio.to_thread(chaos.platform.broker.kill)
    chaos.platform.broker.forget()
    await asyncio.to_thread(chaos.platform.broker.start)
    await asyncio.to_thread(chaos.platform.core.start)
    return "restarted without its persistence, with a full queue"


async def everything_killed(chaos: Chaos) -> str:
    """A power cut at headquarters."""
    platform = chaos.platform
    parts = [platform.core.stop, platform.broker.kill, platform.postgres.crash]
    chaos.chance.shuffle(parts)
    for part in parts:
        await asyncio.to_thread(*((part, signal.SIGKILL) if part == platform.core.stop else (part,)))
    await chaos.pause(0.5, 2.0)
    await platform.start_database()
    await asyncio.to_thread(platform.broker.start)
    await asyncio.to_thread(platform.core.start)
    return "core, broker and database at once"


# --- devices that misbehave


async def clocks_jump(chaos: Chaos) -> str:
    hour_ms, year_ms = 3_600_000, 365 * 86_400_000
    jumps = (3 * hour_ms, -2 * hour_ms, 70 * year_ms, -56 * year_ms)
    hit = chaos.some(2 * len(jumps))
    for number, device in enumerate(hit):
        device.clock_off_ms = jumps[number % len(jumps)]
    await chaos.pause(3, 5)
    for device in hit:
        device.clock_off_ms = 0
    return f"{len(hit)} clocks hours or decades wrong"


async def power_cut_with_unset_clocks(chaos: Chaos) -> str:
    hit = chaos.some(max(4, len(chaos.devices) // 8))
    cut_off(hit)
    for device in hit:
        await device.power_cut(clock_set=False)
    await chaos.pause(1, 2)
    await asyncio.to_thread(
        chaos.platform.core.stop, signal.SIGKILL
    )  # what it knew of their boots must be in the database
    await asyncio.to_thread(chaos.platform.core.start)
    await chaos.pause(1, 2)
    for device in hit[::2]:
        device.set_clock()
    await chaos.pause(1, 2)
    for device in hit[1::2]:  # these never learn the time before they are cut off again
        await device.power_cut(clock_set=True)
    back_on(hit)
    return f"{len(hit)} devices, the core killed meanwhile"


async def flood(chaos: Chaos) -> str:
    """One device sends as fast as it can; its neighbours must not notice."""
    (culprit,) = chaos.some(1)
    platform = chaos.platform
    refused_before = await asyncio.to_thread(platform.metric, FLOODING)
    began = time.monotonic()
    async with _connected_as(platform, culprit, "flood") as client:
        again = body(1, min(60, culprit.watermark), sid=culprit.sid)  # which the platform has already
        for _ in range(FLOOD_MESSAGES):
            await client.publish(f"ct/v1/{culprit.device_id}/up/data", again, qos=0)
    await until(lambda: platform.metric(FLOODING) > refused_before, 15, "no message of the flood was refused")
    await until(lambda: platform.metric("carbontrack_devices_flooding") == 1, 15, "nobody was named as flooding")
    neighbours = [device for device in chaos.devices.values() if device not in (culprit, *chaos.link_cut)]
    await until(
        lambda: sum(any(it.at_s > began for it in device.receipted) for device in neighbours) > len(neighbours) / 2,
        15,
        "most neighbours got no receipt during a flood",
    )  # on a quick machine it is over before their next readings
    before = _receipted_within(neighbours, began - 5, began)
    during = _receipted_within(neighbours, began, time.monotonic())
    waits = f"neighbours' receipts: p99 {before:.1f} s before, {during:.1f} s meanwhile"
    if during > NEIGHBOURS_WAIT_S:
        raise NotSeen(waits)
    return f"{FLOOD_MESSAGES} messages, refused and named; {waits}"


def _connected_as(platform: Platform, device: Device, name: str) -> aiomqtt.Client:
    """A connection beside the device's own, with its rights."""
    version = aiomqtt.ProtocolVersion.V311
    return platform.broker.client(device.device_id, identifier=f"{name}-{device.device_id}", protocol=version)


def _receipted_within(devices: Sequence[Device], since_s: float, until_s: float) -> float:
    """How long 99 of 100 readings waited for their receipts that came in a time."""
    waits = sorted(
        receipt.after_s for device in devices for receipt in device.receipted if since_s < receipt.at_s <= until_s
    )
    return waits[int(len(waits) * 0.99)] if waits else float("inf")


FLOODING = 'carbontrack_mqtt_messages_total{delivery="flooding"'


async def poison(chaos: Chaos) -> str:
    """Payloads that cannot be read, from devices that otherwise work."""
    hit = chaos.some(4)
    platform = chaos.platform
    before = await asyncio.to_thread(platform.metric, "carbontrack_quarantined_total")
    bad = [b"", b'{"v":1,', b"\x00\xff\xfe", body(1, sid="poison", rows=[["x", 0, 1, "high", 1, 1, 1, 0]]), b"[" * 5000]
    bad += [body(1, sid="poison2").replace(b"98000", b"1e999"), body(1, 2, sid="poison3", n=3), b"9" * 100_000]
    for device in hit:
        async with _connected_as(platform, device, "poison") as client:
            for content in bad:
                await client.publish(f"ct/v1/{device.device_id}/up/data", content, qos=1)
    expected = before + len(hit) * len(bad)
    await until(
        lambda: platform.metric("carbontrack_quarantined_total") >= expected, 15, "not everything is in quarantine"
    )
    return f"{len(hit) * len(bad)} unreadable payloads, each in quarantine with its cause"


# --- the platform itself


async def plugin_crashes(chaos: Chaos) -> str:
    platform = chaos.platform
    before = await asyncio.to_thread(platform.metric, "carbontrack_plugin_errors_total")
    platform.mode_file.write_text("crash")
    await chaos.pause(2, 3)
    platform.mode_file.write_text("")
    count = await asyncio.to_thread(platform.metric, "carbontrack_plugin_errors_total") - before
    if count < 1:
        raise NotSeen("the plugin's errors were not counted")
    return f"{count:.0f} errors of a rule, counted by its name"


async def plugin_is_slow(chaos: Chaos) -> str:
    chaos.platform.mode_file.write_text("slow")
    await chaos.pause(4, 6)
    chaos.platform.mode_file.write_text("")
    return "a rule that holds the loop for 20 ms at each reading"


async def plugin_hangs(chaos: Chaos) -> str:
    """A call that never ends is ended, and whoever made it is held back: the loop turns again within seconds."""
    platform = chaos.platform
    name = 'carbontrack_plugin_errors_total{kind="blocked",plugin="troublesome"}'
    before = await asyncio.to_thread(platform.metric, name)
    platform.mode_file.write_text("hang")
    await until(lambda: platform.metric(name) > before, 30, "the call that hangs was not ended")
    await chaos.pause(5, 8)
    platform.mode_file.write_text("")
    return f"{await asyncio.to_thread(platform.metric, name) - before:.0f} calls ended"


async def plugin_is_reloaded(chaos: Chaos) -> str:
    """A plugin is replaced again and again, while it is used."""
    platform = chaos.platform
    done = partial(platform.metric, "carbontrack_reloads_total")
    before = await asyncio.to_thread(done)
    for number in range(5):
        platform.reload()
        await until(partial(_is_beyond, done, before + number), 30, "no reload came")
    return "5 reloads with changed code"


def _is_beyond(value: Callable[[], float], than: float) -> bool:
    return value() > than


async def disk_full(chaos: Chaos) -> str:
    platform = chaos.platform
    assert platform.disk is not None
    filler = platform.disk / "filler"
    told = False
    try:
        _fill(filler)

        def says_so() -> bool:
            return "disk is full" in platform.get("/readyz")[1]

        await until(says_so, 30, "nobody said that the disk is full")
        told = True
        await chaos.pause(1, 3)
    finally:
        filler.unlink()
        if not platform.postgres.is_running:  # it cannot live without room for its log
            await platform.start_database()
    return "told by /readyz" if told else ""


def _fill(filler: Path) -> None:
    """Take all the room that there is, though others take some of it meanwhile."""
    with filler.open("wb") as file:
        for _ in range(100):
            free = os.statvfs(filler.parent)
            at = file.seek(0, os.SEEK_END)
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), at, max(1, free.f_bavail) * free.f_frsize)
                continue
            if not free.f_bavail:
                return


FAULTS: Mapping[str, Fault] = {
    "link cut for 24 h": link_cut_for_a_day,
    "link cut for a moment": link_cut_for_a_moment,
    "reconnect storm": reconnect_storm,
    "core killed": core_killed,
    "database killed": database_killed,
    "broker killed": broker_killed,
    "broker restarted": broker_stopped,
    "broker forgets everything": broker_forgets,
    "all three killed": everything_killed,
    "clocks jump": clocks_jump,
    "power cut, clocks unset": power_cut_with_unset_clocks,
    "flood by one device": flood,
    "poison payloads": poison,
    "crashing plugin": plugin_crashes,
    "slow plugin": plugin_is_slow,
    "hanging plugin": plugin_hangs,
    "reloaded plugin": plugin_is_reloaded,
    "disk full": disk_full,
}
