"""The run: faults in an order that the seed gives, recovery after each, and the account at the end."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.chaos.account import Balance, Kept, Phase, Taken, balance
from tests.chaos.device import Device
from tests.chaos.faults import DAY_H, FAULTS, STEP_MS, Chaos, NotSeen, back_on
from tests.chaos.network import cables
from tests.chaos.platform import Platform, can_mount, device_names, password_of, platform
from tests.chaos.watcher import Watcher

RECOVERY_S = 120.0
A_DAY = "link cut for 24 h"
DISK = "disk full"
ROWS = """
SELECT t.device_id, t.sid, s.base_seq + r.seq AS seq, r.co2_ppm FROM reading r
JOIN source s ON s.id = r.source_id JOIN stream t ON t.id = s.stream_id WHERE t.device_id = $1
UNION ALL
SELECT t.device_id, t.sid, r.seq, NULL FROM device_record r JOIN stream t ON t.id = r.stream_id WHERE t.device_id = $1
"""
OTHERS = "SELECT DISTINCT t.device_id FROM source s JOIN stream t ON t.id = s.stream_id WHERE NOT t.device_id = ANY($1)"
WRONG_TIMES = """
SELECT count(*) FROM reading WHERE measured_at < now() - interval '3 days' OR measured_at > now() + interval '3 minutes'
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of it. ``day_devices``: those whose link was cut for a day of their time. ``only``: no other faults.

    ``pace``: how long pauses are within a fault, of what they would be.
    """

    seed: int
    devices: int
    rounds: int
    sample_s: float
    day_devices: int
    disk_mb: int
    pace: float = 1.0
    only: Sequence[str] = ()

    def faults(self, chance: random.Random) -> list[str]:
        """The faults in turn. Who was cut off for a day comes back first: what follows hits their backlog too."""
        possible = [name for name in FAULTS if not self.only or name in self.only]
        order = [A_DAY] if A_DAY in possible else []
        turn = [name for name in possible if name != A_DAY and (name != DISK or can_mount())]
        for _ in range(self.rounds):
            order += chance.sample(turn, len(turn))
        return order


@dataclass(slots=True)
class Outcome:
    """One fault, as it came out. ``begin`` has each device's first number of this time."""

    fault: str
    begin: dict[str, int]
    seen: str = ""
    recovery_s: float = 0.0
    ended_s: float = float("inf")
    false_offline: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    account: Balance = field(default_factory=Balance)

    @property
    def is_good(self) -> bool:
        return not self.failures and not self.false_offline and self.account.is_even


async def run(profile: Profile, folder: Path, say: Callable[[str], None]) -> list[Outcome]:
    """Run it all; the outcome of each fault in order."""
    chance = random.Random(profile.seed)
    names = device_names(profile.devices)
    order = profile.faults(chance)
    async with AsyncExitStack() as stack:
        say(f"starting PostgreSQL, mosquitto and the core for {len(names)} devices")
        parts = await stack.enter_async_context(platform(folder, names, profile.disk_mb))
        links = await stack.enter_async_context(cables(parts.broker.port, len(names)))
        devices = {
            name: Device(name, cable, parts.settings, password_of, profile.sample_s)
            for name, cable in zip(names, links, strict=True)
        }
        cut = list(devices.values())[: profile.day_devices] if A_DAY in order else []
        for device in cut:
            device.cable.cut()
            device.fill(DAY_H, STEP_MS)
        chaos = Chaos(parts, devices, chance, cut, profile.pace)
        watcher = await _get_going(stack, chaos, profile.sample_s)
        outcomes = await _suffer(chaos, order, folder, say)
        say("waiting for the last receipts, and then counting")
        for device in devices.values():
            device.stop_sampling()
        await asyncio.sleep(profile.sample_s)
        outcomes[-1].failures += await _recovered(devices, _marks(devices))
        for claim in watcher.false:
            outcome = next(each for each in outcomes if claim.at_s <= each.ended_s)
            outcome.false_offline.append(claim.device_id)
        await _count(parts, list(devices.values()), outcomes)
    return outcomes


async def _get_going(stack: AsyncExitStack, chaos: Chaos, sample_s: float) -> Watcher:
    """Every device sampling and sending (but for those that are cut off), and somebody watching."""
    watcher = Watcher(chaos.platform.http, chaos.devices, lambda: chaos.platform.broker.answers_since)
    await stack.enter_async_context(watcher.watching())
    for number, device in enumerate(chaos.devices.values()):
        await stack.enter_async_context(device.running(number / len(chaos.devices) * sample_s))
    connected = {name: device for name, device in chaos.devices.items() if not device.cable.is_cut}
    back_on(list(connected.values()))
    failures = await _recovered(connected, dict.fromkeys(connected, 2))
    assert not failures, f"the devices never got going: {failures}"
    return watcher


async def _suffer(chaos: Chaos, order: Sequence[str], folder: Path, say: Callable[[str], None]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    begin = dict.fromkeys(chaos.devices, 1)
    began = time.monotonic()
    with (folder / "events.jsonl").open("w", encoding="utf-8") as events:

        def note(fault: str, what: str) -> None:
            events.write(json.dumps({"at_s": round(time.monotonic() - began, 2), "fault": fault, "what": what}) + "\n")
            events.flush()

        for number, name in enumerate(order, 1):
            say(f"{number}/{len(order)} {name}")
            outcome = Outcome(name, begin)
            outcomes.append(outcome)
            note(name, "begins")
            try:
                outcome.seen = await FAULTS[name](chaos)
            except NotSeen as missing:
                outcome.failures.append(str(missing))
            note(name, f"is over: {outcome.seen}")
            over_s = time.monotonic()
            # Whoever was cut off for a day still sends it: that is not what the others have to wait for.
            waiting = {key: each for key, each in chaos.devices.items() if each not in chaos.link_cut or name == A_DAY}
            outcome.failures += await _recovered(waiting, _marks(waiting))
            outcome.ended_s = time.monotonic()
            outcome.recovery_s = outcome.ended_s - over_s
            note(name, f"recovered after {outcome.recovery_s:.1f} s {outcome.failures}")
            begin = _marks(chaos.devices)
    outcomes[-1].ended_s = float("inf")  # what comes until the end is its own
    return outcomes


def _marks(devices: Mapping[str, Device]) -> dict[str, int]:
    """The number that each device gives next."""
    return {name: device.next_seq for name, device in devices.items()}


async def _recovered(devices: Mapping[str, Device], marks: Mapping[str, int]) -> list[str]:
    """Wait until every device is told that everything before its mark is stored; who was not."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        waiting = [name for name, device in devices.items() if device.watermark < marks[name] - 1]
        if not waiting:
            return []
        if time.monotonic() > deadline:
            who = ", ".join(f"{name} ({devices[name].watermark} of {marks[name] - 1})" for name in waiting[:5])
            return [f"not recovered within {RECOVERY_S:.0f} s: {len(waiting)} devices, {who}"]
        await asyncio.sleep(0.1)


# --- the account


async def _count(parts: Platform, devices: Sequence[Device], outcomes: Sequence[Outcome]) -> None:
    """Stop the core in order, and hold what the devices wrote down against the database."""
    core = parts.core.process
    assert core is not None
    await asyncio.to_thread(parts.core.stop)
    if core.returncode != 0:
        outcomes[-1].failures.append(f"the core ended with {core.returncode}, not in order")
    ends = [each.begin for each in outcomes[1:]] + [_marks({device.device_id: device for device in devices})]
    phases = [Phase(each.fault, each.begin, end) for each, end in zip(outcomes, ends, strict=True)]
    connection = await asyncpg.connect(parts.url)
    try:
        for device in devices:
            rows = await connection.fetch(ROWS, device.device_id)
            kept = [Kept(*row) for row in rows if not row["sid"].startswith("poison")]
            taken = Taken(device.device_id, device.sid, device.readings)
            for outcome, account in zip(outcomes, balance([taken], kept, phases), strict=True):
                outcome.account.add(account)
            if device.regressed:
                outcomes[-1].failures.append(f"{device.device_id}: a receipt went back")
        if strangers := await connection.fetch(OTHERS, [device.device_id for device in devices]):
            outcomes[-1].failures.append(f"readings of nobody: {[row[0] for row in strangers]}")
        if wrong := await connection.fetchval(WRONG_TIMES):
            outcomes[-1].failures.append(f"{wrong} readings have a time that cannot be")
    finally:
        await connection.close()


# --- the table


HEAD = ("fault", "taken", "stored", "duplicate rows", "lost", "false offline", "recovery", "seen")


def table(outcomes: Sequence[Outcome]) -> str:
    """All faults, and the sum of them."""
    whole = Balance()
    for outcome in outcomes:
        whole.add(outcome.account)
    rows = [
        (each.fault, *_numbers(each.account), str(len(each.false_offline)), f"{each.recovery_s:.1f} s", each.seen)
        for each in outcomes
    ]
    slowest = max(each.recovery_s for each in outcomes)
    false_offline = sum(len(each.false_offline) for each in outcomes)
    rows.append(("all", *_numbers(whole), str(false_offline), f"{slowest:.1f} s", ""))
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    lines = [
        " | ".join(
            text.rjust(width) if 0 < column < len(HEAD) - 1 else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (HEAD, *rows)
    ]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def _numbers(account: Balance) -> tuple[str, str, str, str]:
    return f"{account.taken:,}", f"{account.stored:,}", f"{account.duplicate:,}", f"{account.lost:,}"


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """Everything that is not as it must be; empty when the promise was kept."""
    found = []
    for each in outcomes:
        found += [f"{each.fault}: {text}" for text in (*each.failures, *each.account.examples)]
        if each.false_offline:
            found.append(f"{each.fault}: called offline and were not: {', '.join(sorted(set(each.false_offline)))}")
    return found
