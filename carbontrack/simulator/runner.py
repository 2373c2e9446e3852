"""Many simulated nodes in one process, each with its own connection and its own place within the sampling interval."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from carbontrack.ingest import BrokerSettings
from carbontrack.model import Factory, Flag
from carbontrack.simulator.boiler import chance
from carbontrack.simulator.books import factory_seed, grid_kw
from carbontrack.simulator.demo_fleet import DemoFactory, DemoStack
from carbontrack.simulator.instruments import Instruments, Measured
from carbontrack.simulator.link import Link
from carbontrack.simulator.memory import Memory
from carbontrack.simulator.node import CAPACITY, Node

HISTORY_STEP_MS = 30_000
HEALTH_EVERY_MS = 60_000
METERS_EVERY_MS = 60_000
SPREAD_S = 0.05
"""First connections are spread over this much for each device."""
SHORTEST_MS = 50.0
"""No simulated node samples more often, whatever it is told."""
RESERVED = 2000
"""Numbers that are set aside in the file of a running node: a crash must never make it use one twice."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the fleet samples.

    ``speed`` 10 sends ten times as often, and ten times as much happens in the boilers from ``began_ms`` on; the times
    of the readings stay those of the real clock.
    """

    sample_s: float
    speed: float
    began_ms: int

    @property
    def interval_ms(self) -> float:
        return max(self.sample_s * 1000 / self.speed, SHORTEST_MS)

    def until_next_s(self, now_ms: int, place: float) -> float:
        """How long a device has to wait for its next moment; ``place`` is its place in the interval, 0 to 1.

        A moment so near that the last wait may have ended just before it is taken to be over, and moments that a busy
        machine missed are left out.
        """
        near_ms = self.interval_ms / 10
        since_ms = (now_ms + near_ms - place * self.interval_ms) % self.interval_ms
        return (self.interval_ms - since_ms + near_ms) / 1000

    def boiler_ms(self, now_ms: int) -> int:
        """The boilers' time at a moment; before the fleet began, the real time."""
        passed_ms = now_ms - self.began_ms
        return self.began_ms + round(passed_ms * self.speed) if passed_ms > 0 else now_ms


def _no_password(device_id: str) -> str | None:  # noqa: ARG001  # the same call for brokers with and without
    return None


async def run_fleet(
    fleet: list[DemoFactory],
    broker: BrokerSettings,
    *,
    speed: float = 1.0,
    history_hours: float = 0.0,
    state_dir: Path | None,
    sample_s: float = 5.0,
    stop: asyncio.Event,
    password_of: Callable[[str], str | None] = _no_password,
    download_password_of: Callable[[str], str | None] = _no_password,
) -> None:
    """Run every device of the fleet until ``stop`` is set; then each says goodbye and keeps what is not receipted.

    ``state_dir`` holds a file for each device; a device that has one goes on where it stopped, all others begin with
    ``history_hours`` of readings, one every 30 s. ``password_of`` gives a device's password at the broker, or None;
    ``download_password_of`` the one by which it downloads firmware.
    """
    pace = Pace(sample_s, speed, _now_ms())
    spread_s = SPREAD_S * sum(len(each.stacks) for each in fleet)
    filling = asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        for each in fleet:
            for stack in each.stacks:
                memory = Memory(state_dir, stack.device_id)
                passwords = password_of(stack.device_id), download_password_of(stack.device_id)
                device = _Device(stack, each.factory, memory, pace, broker, passwords, stop)
                group.create_task(device.run(history_hours, filling, random.uniform(0, spread_s)), name=stack.device_id)


class _Device:
    """One node with its instruments, its connection and its memory."""

    def __init__(
        self,
        stack: DemoStack,
        factory: Factory,
        memory: Memory,
        pace: Pace,
        broker: BrokerSettings,
        passwords: tuple[str | None, str | None],
        stop: asyncio.Event,
    ) -> None:
        state = memory.load()
        self._is_new = state is None
        self._node = Node(stack.device_id, range_ppm=stack.plan.co2_range_ppm, booted_ms=pace.began_ms, state=state)
        self._seed = stack.seed
        self._factory_seed = factory_seed(factory)
        self._has_grid_meter = stack.device_id.endswith("-1")
        self._instruments = Instruments(stack, factory)
        self._memory = memory
        self._pace = pace
        self._stop = stop
        password, download_password = passwords
        self._link = Link(self._node, broker, password, stop, self._reserve, download_password=download_password)
        self._reserved = 0

    async def run(self, history_hours: float, filling: asyncio.Lock, first_delay_s: float) -> None:
        """Fill the ring if the node is new, then sample and send until stopped.

        One device fills its ring at a time, so that the first are there while the last still have to wait.
        """
        if self._is_new:
            async with filling:
                await self._fill(history_hours)
            if self._stop.is_set():
                return  # with nothing kept: the next start begins with the whole history again
        try:
            async with asyncio.TaskGroup() as group:
                sampling = group.create_task(self._sample())
                await self._link.run(first_delay_s)
                sampling.cancel()
        finally:
            self._memory.save(self._node.state())

    def _reserve(self) -> None:
        self._reserved = self._node.ring.next_seq + RESERVED
        self._memory.save(self._node.reservation(RESERVED))

    async def _fill(self, hours: float) -> None:
        """Readings of the past, as if the node had stood without a network for so long."""
        steps = min(int(hours * 3_600_000 / HISTORY_STEP_MS), CAPACITY)
        for step in range(steps, 0, -1):
            if step % 100 == 0:
                await asyncio.sleep(0)  # the others' turn
                if self._stop.is_set():
                    return
            at_ms = self._pace.began_ms - step * HISTORY_STEP_MS
            measured = self._instruments.read(at_ms)
            self._node.add_sample(measured, at_ms)
            self._count(measured, at_ms, HISTORY_STEP_MS / 1000)
            if step * HISTORY_STEP_MS % METERS_EVERY_MS == 0:
                self._node.add_meters(at_ms, with_grid=self._has_grid_meter)

    def _count(self, measured: Measured, at_ms: int, seconds: float) -> None:
        """Let the meters count: the boiler's hours while it fires, the grid's all the time."""
        if not measured.status & Flag.BOILER_OFF:
            self._node.run_s += seconds
        self._node.kwh += grid_kw(self._factory_seed, at_ms / 1000) * seconds / 3600

    async def _told_within(self, seconds: float) -> bool:
        """Whether the node is told something before so long has passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._link.told.wait()
        was_told = self._link.told.is_set()
        self._link.told.clear()
        return was_told

    async def _sample(self) -> None:
        place = chance(self._seed, "phase", 0)
        health_due_ms = _now_ms() + HEALTH_EVERY_MS * chance(self._seed, "health", 0)
        meters_due_ms = _now_ms() + METERS_EVERY_MS * chance(self._seed, "meters", 0)
        counted_ms = _now_ms()
        while True:
            told_s, plan = self._node.orders.sample_s, self._node.orders.plan
            pace = self._pace if told_s is None else replace(self._pace, sample_s=told_s)
            if plan is not None:
                self._instruments.know(plan)
            if await self._told_within(pace.until_next_s(_now_ms(), place)):
                continue
            now_ms = _now_ms()
            measured = self._instruments.read(self._pace.boiler_ms(now_ms))
            self._node.add_sample(measured, now_ms)
            self._count(measured, now_ms, (now_ms - counted_ms) / 1000)
            counted_ms = now_ms
            if now_ms >= meters_due_ms:
                meters_due_ms = now_ms + METERS_EVERY_MS
                self._node.add_meters(now_ms, with_grid=self._has_grid_meter)
            if now_ms >= health_due_ms:
                health_due_ms = now_ms + HEALTH_EVERY_MS
                self._node.add_health(-52 - int(25 * chance(self._seed, "rssi", now_ms // 600_000)), now_ms)
            self._link.news.set()
            if self._node.ring.next_seq > self._reserved - RESERVED // 2:
                self._reserve()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
