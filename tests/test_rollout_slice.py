"""Firmware goes from its signature to a simulated node and back: broker, core, HTTP and node are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from carbontrack.app import Core as App
from carbontrack.app import broker_settings, run_core, run_web
from carbontrack.broker import embedded_broker
from carbontrack.config import Config, load_config
from carbontrack.credentials import device_password
from carbontrack.firmware import (
    FirmwareImage,
    Plan,
    Rollout,
    RolloutState,
    Update,
    UpdateState,
    new_key,
    public_pem,
    sign_image,
)
from carbontrack.model import MonitoringPlan, Origin, Site
from carbontrack.rollouts import start_rollout
from carbontrack.simulator import DemoFactory, DemoStack, run_fleet
from carbontrack.simulator.ota import FAILS, HARDWARE, ROLLS_BACK
from carbontrack.store import Choice
from tests.support.world import eventually, migrated_store, register

HQ = Origin("hq@example.org")
KEY = new_key()
DEVICE_KEY = "k" * 40
GOOD = bytes(range(256)) * 1200


def _config(folder: Path, port: int) -> Config:
    (folder / "firmware.pem").write_bytes(public_pem(KEY.public_key()))
    values = {
        "DATABASE__URL": f"sqlite://{folder / 'core.sqlite3'}",
        "MQTT__HOST": "127.0.0.1",
        "MQTT__PORT": str(port),
        "MQTT__DEVICE_KEY": DEVICE_KEY,
        "MQTT__KEEP_ACCOUNTS": "false",
        "HTTP__PORT": "0",
        "FIRMWARE__PUBLIC_KEY_FILE": str(folder / "firmware.pem"),
        "DEVICES__REGISTRY_POLL_S": "0.2",
        "DEVICES__CANARY_EVERY_S": "0",
    }
    return load_config(None, {f"CARBONTRACK_{name}": value for name, value in values.items()})


@dataclass
class World:
    """A whole core with simulated nodes."""

    app: App
    sites: Sequence[Site]

    async def image(self, version: str, content: bytes = GOOD) -> FirmwareImage:
        manifest = sign_image(content, KEY, version=version, hardware=HARDWARE)
        return await self.app.store.add_image(manifest, content, by=HQ, now=self.app.rollouts._clock())

    async def start(self, image: FirmwareImage, stages: str = "1, 100%", failure_limit: int = 1) -> Rollout:
        plan = Plan(stages, soak_s=0, failure_limit=failure_limit)
        now = self.app.rollouts._clock()
        return await start_rollout(self.app.store, image, Choice(), plan, by=HQ, now=now)

    async def ended(self, rollout: Rollout) -> tuple[Rollout, list[Update]]:
        async def is_over() -> bool:
            found = await self.app.store.rollout(rollout.id)
            return found is not None and not found.is_live

        await eventually(is_over, "the roll-out did not end")
        found = await self.app.store.rollout(rollout.id)
        assert found is not None
        return found, await self.app.store.updates(rollout.id)


@asynccontextmanager
async def world(folder: Path, count: int = 1) -> AsyncIterator[World]:
    async with embedded_broker() as port:
        config = _config(folder, port)
        names = [f"dev-{number:03}" for number in range(1, count + 1)]
        async with migrated_store(config.database.url) as store:
            sites = await register(store, *names)
        async with run_core(config) as app, run_web(app) as url:
            app.rollouts.base_url = url
            await eventually(lambda: app.ingest.connected)
            stop = asyncio.Event()
            stacks = tuple(DemoStack(f"Boiler {at}", MonitoringPlan(), name, at) for at, name in enumerate(names))
            passwords = {it.device.device_id: device_password(DEVICE_KEY, it.device) for it in sites}
            run = asyncio.create_task(
                run_fleet(
                    [DemoFactory(sites[0].factory, stacks)],
                    broker_settings(config),
                    speed=10,
                    sample_s=5.0,
                    state_dir=folder,
                    stop=stop,
                    download_password_of=passwords.get,
                )
            )
            try:

                async def are_known() -> bool:
                    return len(await app.store.device_firmware()) == count

                await eventually(are_known, "the nodes did not say what they run")
                yield World(app, sites)
            finally:
                stop.set()
                await run


async def test_a_signed_image_comes_to_a_node_which_runs_it_then(tmp_path: Path) -> None:
    async with world(tmp_path) as running:
        rollout, (update,) = await running.ended(await running.start(await running.image("1.5.0"), "100%"))

        assert (rollout.state, update.state, update.before) == (RolloutState.DONE, UpdateState.CONFIRMED, "1.4.0")
        (said,) = await running.app.store.device_firmware()
        assert (said.version, said.hardware, said.boot) == ("1.5.0", HARDWARE, 2)


async def test_an_image_that_no_node_can_start_reaches_one_of_three_and_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, 3) as running:
        rollout, updates = await running.ended(await running.start(await running.image("1.5.0", GOOD + ROLLS_BACK)))

        assert (rollout.state, rollout.ended) == (RolloutState.STOPPED, "failures")
        assert [it.state for it in updates] == [UpdateState.ROLLED_BACK, UpdateState.WAITING, UpdateState.WAITING]
        assert {it.version for it in await running.app.store.device_firmware()} == {"1.4.0"}
        await eventually(lambda: any("stopped by itself" in it for it in running.app.problems()))


async def test_a_broken_image_is_counted_with_the_word_of_the_node(tmp_path: Path) -> None:
    async with world(tmp_path) as running:
        _, (update,) = await running.ended(await running.start(await running.image("1.5.0", GOOD + FAILS), "100%"))

        assert (update.state, update.error) == (UpdateState.FAILED, "hash")
