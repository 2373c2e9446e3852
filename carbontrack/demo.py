"""The demo: everything on this machine, with a simulated fleet in place of the chimneys, and nothing faked behind it.

The simulated devices run in a process of their own and speak to the broker as real ones do. The demo ends them by
closing their standard input, so they end with it however it ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from carbontrack.app import Diagnose, broker_settings, reload_signal, run_core, run_web, stop_signal
from carbontrack.broker import BrokerStartError, embedded_broker
from carbontrack.config import Config, load_config
from carbontrack.credentials import device_password
from carbontrack.firmware import new_key, private_pem, public_pem, read_private_key, sign_image, write_manifest
from carbontrack.ledger import Metric, Target
from carbontrack.logs import set_up_logging
from carbontrack.metrics import Metrics
from carbontrack.model import Factory, Origin, Role
from carbontrack.passwords import hash_password
from carbontrack.simulator import DemoFactory, demo_fleet, run_fleet
from carbontrack.simulator.books import simulated_entries
from carbontrack.simulator.ota import FAILS, HARDWARE, ROLLS_BACK
from carbontrack.store import Store, migrate, open_store
from carbontrack.tasks import first_of
from carbontrack.tiers import local_day
from carbontrack.web import DemoAccount
from carbontrack.words import N_

DATABASE = "carbontrack.sqlite3"
CONFIG = "carbontrack.yaml"
MQTT = "mqtt.yaml"
PLUGINS = "plugins"
DEVICES = "devices"
ARCHIVE = "archive"
FIRMWARE = "firmware"
SIGNING_KEY, PUBLIC_KEY = "key.pem", "key.pub.pem"
LOG = "simulator.log"
NAIROBI = ZoneInfo("Africa/Nairobi")
CLERK = Origin("clerk@demo.example")
PASSWORD = "demo"  # noqa: S105  # of accounts that exist only in a demo, which listens on loopback only
HISTORY_HOURS = 24.0
"""What the devices have measured before the demo's first start, so that no page begins empty."""
STOP_PATIENCE_S = 10.0
DEVICE_KEY = "the devices of a demo sign in with this"
"""Of devices that exist only in a demo."""
IMAGES = (
    ("1.5.0", b"", "Measures as before, and tells more of itself."),
    ("1.6.0", FAILS, "A scenario: what devices download is broken. The roll-out stops by itself."),
    ("1.7.0", ROLLS_BACK, "A scenario: it does not start, and devices go back to what they ran."),
)
"""What there is to roll out: version, scenario (carbontrack/simulator/ota.py), and what it is."""


CONFIG_TEXT = f"""\
# The configuration of this demo. Every command takes it: --config {CONFIG}
# Change plugins or alerts while the demo runs, and say: carbontrack reload --config {CONFIG}
# docs/configuration.md has all settings.

database:
  url: sqlite://{DATABASE}

mqtt: !include {MQTT}

plugins:
  # A plugin is a file or a folder in here: carbontrack plugins new sensor my_sensor --into {PLUGINS}
  folder: {PLUGINS}

firmware:
  # In its folder are images that behave well and badly: carbontrack firmware rollout start 1.5.0 --hardware {HARDWARE}
  public_key_file: {FIRMWARE}/{PUBLIC_KEY}
"""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """``factories`` None is all of them; ``port`` 0 takes a free one; ``fresh`` deletes the demo's data first."""

    factories: int | None
    speed: float
    port: int
    data_dir: Path
    fresh: bool = False


def _print(text: str) -> None:
    """At once, also into a file or a pipe, which Python fills a page at a time otherwise."""
    print(text, flush=True)  # noqa: T201  # this is for a person to read


async def run_demo(
    options: DemoOptions, say: Callable[[str], object] = _print, diagnose: Diagnose | None = None
) -> None:
    """Run until Ctrl-C. ``say`` is told what a person should read.

    Raises :class:`BrokerStartError` when the broker or the port of the pages is not to be had.
    """
    _check_port(options.port)
    folder = options.data_dir.resolve()
    if options.fresh:
        _forget(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fleet = demo_fleet(options.factories)
    async with stop_signal() as stop, embedded_broker() as mqtt_port:
        settings = _settings(folder, mqtt_port, options.port)
        _write_config(folder, mqtt_port)
        _write_firmware(folder / FIRMWARE)

        def read() -> Config:
            return load_config(folder / CONFIG, settings)

        config = read()
        await migrate(config.database.url)
        await _prepare(config, fleet, say)
        await _add_firmware(config, folder / FIRMWARE)
        accounts = _accounts(fleet)
        async with (
            run_core(config, read) as core,
            run_web(core, accounts, diagnose) as url,
            reload_signal(core),
            _simulator(options, folder, settings) as simulator,
        ):
            core.rollouts.base_url = core.rollouts.base_url or url
            say(_banner(url, accounts, fleet, folder))
            await first_of(stop.wait(), simulator.wait())
            if not stop.is_set():
                say(f"The simulated fleet ended by itself. The pages go on. See {folder / LOG}")
                await stop.wait()
            say("Stopping ...")


async def run_simulation(
    config: Config,
    *,
    factories: int | None,
    speed: float,
    history_hours: float,
    register: bool,
    state_dir: Path,
    until_eof: bool,
) -> None:
    """Simulate a fleet against the configured broker until Ctrl-C, or until standard input ends."""
    set_up_logging(config.logging.level, config.logging.format)
    fleet = demo_fleet(factories)
    if register:
        async with open_store(config.database.url, Metrics()) as store:
            await register_fleet(store, fleet)
    passwords = await _download_passwords(config)
    async with stop_signal() as stop:
        waiting = asyncio.create_task(_stop_at_eof(stop)) if until_eof else None
        try:
            await run_fleet(
                fleet,
                broker_settings(config),
                speed=speed,
                history_hours=history_hours,
                state_dir=state_dir,
                stop=stop,
                download_password_of=passwords.get,
            )
        finally:
            if waiting is not None:
                waiting.cancel()


async def _download_passwords(config: Config) -> dict[str, str]:
    """What the simulated devices download firmware with, where they can."""
    key = config.mqtt.device_key
    if key is None:
        return {}
    async with open_store(config.database.url, Metrics()) as store:
        devices = [site.device for site in await store.sites()]
    return {it.device_id: device_password(key.get_secret_value(), it) for it in devices}


async def register_fleet(store: Store, fleet: Sequence[DemoFactory]) -> int:
    """Add to the registry what is not in it yet; how many factories it has beyond this fleet."""
    monitored_from = datetime.now(UTC) - timedelta(hours=HISTORY_HOURS)
    known = {factory.slug: factory for factory in await store.factories()}
    stacks = {(stack.factory_id, stack.name): stack for stack in await store.stacks()}
    devices = {site.device.device_id for site in await store.sites()}
    for item in fleet:
        factory = known.get(item.factory.slug) or await store.add_factory(item.factory)
        is_new = False
        for demo_stack in item.stacks:
            stack = stacks.get((factory.id, demo_stack.name))
            if stack is None:
                plan = replace(demo_stack.plan, valid_from=monitored_from)
                stack = await store.add_stack(factory.id, demo_stack.name, plan)
                is_new = True
            if demo_stack.device_id not in devices:
                await store.add_device(demo_stack.device_id, stack.id, "ct_v1")
        if is_new:
            await _enter(store, item, factory)
    return len(known.keys() - {item.factory.slug for item in fleet})


async def _enter(store: Store, item: DemoFactory, factory: Factory) -> None:
    """What a clerk would have entered for the days that the devices have in store, and a target."""
    now = datetime.now(UTC)
    first_day, _ = local_day((now - timedelta(hours=HISTORY_HOURS)).astimezone(NAIROBI).date(), NAIROBI)
    entered = simulated_entries(replace(item.factory, id=factory.id), item.stacks, first_day, 2)
    for energy in entered.energy:
        await store.add_energy_entry(energy, CLERK, now)
    for production in entered.production:
        await store.add_production_entry(production, CLERK, now)
    target = Target(0, factory.id, Metric.STACK_CO2_PER_TEA, 3.5, first_day.date(), baseline_year=now.year - 1)
    await store.add_target(target, CLERK, now)


# --- the parts of the demo


def _check_port(port: int) -> None:
    """Say at once that the port is taken, and not after everything else has started."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError as error:
            reason = f"Port {port} cannot be used ({error.strerror}). Choose another: --port {port + 1 or 8081}"
            raise BrokerStartError(reason) from error


def _forget(folder: Path) -> None:
    """Delete what the demo wrote, and nothing else that may be in the folder."""
    for path in folder.glob(f"{DATABASE}*"):
        path.unlink()
    (folder / LOG).unlink(missing_ok=True)
    for name in (DEVICES, ARCHIVE):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)


def _write_config(folder: Path, mqtt_port: int) -> None:
    """The demo's configuration as a file, for a person to change and for other commands to take.

    What the demo finds out anew at each start is in a file of its own.
    """
    (folder / PLUGINS).mkdir(exist_ok=True)
    (folder / MQTT).write_text(f"# The demo writes this at each start.\nport: {mqtt_port}\n", "utf-8")
    if not (folder / CONFIG).exists():
        (folder / CONFIG).write_text(CONFIG_TEXT, "utf-8")


def _write_firmware(folder: Path) -> None:
    """A signing key and signed images, once."""
    if (folder / PUBLIC_KEY).exists():
        return
    folder.mkdir(exist_ok=True)
    key = new_key()
    (folder / SIGNING_KEY).write_bytes(private_pem(key))
    for version, scenario, notes in IMAGES:
        content = version.encode() * 60_000 + scenario
        image = folder / f"{version}.bin"
        image.write_bytes(content)
        manifest = sign_image(content, key, version=version, hardware=HARDWARE, notes=notes)
        image.with_name(f"{image.name}.ctfw").write_bytes(write_manifest(manifest))
    (folder / PUBLIC_KEY).write_bytes(public_pem(key.public_key()))


async def _add_firmware(config: Config, folder: Path) -> None:
    """The images, as an operator would have added them."""
    key = read_private_key((folder / SIGNING_KEY).read_bytes())
    async with open_store(config.database.url, Metrics()) as store:
        if await store.images():
            return
        for version, _, notes in IMAGES:
            content = (folder / f"{version}.bin").read_bytes()
            manifest = sign_image(content, key, version=version, hardware=HARDWARE, notes=notes)
            await store.add_image(manifest, content, by=Origin("hq@demo.example"), now=datetime.now(UTC))


def _settings(folder: Path, mqtt_port: int, http_port: int) -> dict[str, str]:
    """The configuration as environment variables, which the simulator's process takes over."""
    return {
        "CARBONTRACK_DATABASE__URL": f"sqlite://{folder / DATABASE}",
        "CARBONTRACK_RETENTION__ARCHIVE_FOLDER": str(folder / ARCHIVE),
        "CARBONTRACK_MQTT__HOST": "127.0.0.1",
        "CARBONTRACK_MQTT__PORT": str(mqtt_port),
        "CARBONTRACK_HTTP__PORT": str(http_port),
        "CARBONTRACK_MQTT__DEVICE_KEY": DEVICE_KEY,
        "CARBONTRACK_MQTT__KEEP_ACCOUNTS": "false",
    }


async def _prepare(config: Config, fleet: Sequence[DemoFactory], say: Callable[[str], object]) -> None:
    """Registry and accounts, as an operator would have set them up."""
    async with open_store(config.database.url, Metrics()) as store:
        others = await register_fleet(store, fleet)
        if others:
            say(f"{others} more factories are in the data of an earlier run; nobody simulates them now. See --fresh.")
        ids = {factory.slug: factory.id for factory in await store.factories()}
        for account in _accounts(fleet):
            if await store.user_by_email(account.email) is None:
                is_hq = account.email.startswith("hq@")
                await store.add_user(
                    account.email,
                    hash_password(account.password),
                    Role.HQ_MANAGER if is_hq else Role.FACTORY_MANAGER,
                    factory_id=None if is_hq else ids[account.email.partition("@")[0]],
                    first_name="Demo",
                    last_name="Headquarters" if is_hq else "Manager",
                )


def _accounts(fleet: Sequence[DemoFactory]) -> tuple[DemoAccount, ...]:
    factory = fleet[0].factory
    return (
        DemoAccount(N_("Headquarters: all factories"), "hq@demo.example", PASSWORD),
        DemoAccount(N_("Manager of %(factory)s"), f"{factory.slug}@demo.example", PASSWORD, factory.name),
    )


@asynccontextmanager
async def _simulator(
    options: DemoOptions, folder: Path, settings: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The simulated devices in a process of their own, until the block ends."""
    command = [sys.executable, "-m", "carbontrack", "simulate", "--until-eof"]
    command += ["--speed", str(options.speed), "--history-hours", str(HISTORY_HOURS)]
    command += ["--state-dir", str(folder / DEVICES)]
    if options.factories is not None:
        command += ["--factories", str(options.factories)]
    with (folder / LOG).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**_without_settings(os.environ), **settings},
            start_new_session=True,  # Ctrl-C is for the demo, which ends its devices in order
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings of ours: the demo's devices must not speak to somebody's real broker."""
    theirs = ("DATABASE_URL", "SECRET_KEY", "MQTT_BROKER_URL")
    return {
        name: value for name, value in environ.items() if not name.startswith("CARBONTRACK_") and name not in theirs
    }


async def _stop_at_eof(stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    stop.set()


def _banner(url: str, accounts: Sequence[DemoAccount], fleet: Sequence[DemoFactory], folder: Path) -> str:
    devices = sum(len(item.stacks) for item in fleet)
    signs = "\n".join(f"    {account.email:28} {account.password:8} {account.shown()}" for account in accounts)
    return (
        f"\nCarbon Track is running with {len(fleet)} simulated factories and {devices} chimneys.\n\n"
        f"  Open  {url}\n\n  Sign in as\n{signs}\n\n"
        f"  The last 24 hours arrive from the devices' stores within about two minutes of the first start.\n"
        f"  Data and configuration are kept in {folder}. Ctrl-C ends it; started again it goes on.\n"
    )
