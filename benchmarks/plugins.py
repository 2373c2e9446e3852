"""What plugins cost the devices: the way of a message through the actor, with none loaded beside, and with fifty.

The store commits into nothing, so that what is measured is the core's own work on the loop: mailbox, decoding behind
the fence, rate, alert rules, receipt. The variants take turns within one run; their ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from carbontrack.config import Config, Plugins
from carbontrack.configured import rule_instances
from carbontrack.device import Services
from carbontrack.fleet import Fleet
from carbontrack.live import Live
from carbontrack.metrics import Metrics
from carbontrack.model import Payload
from carbontrack.plugins import Contributions, PluginHost
from carbontrack.plugins.finding import find_plugins, import_plugin
from carbontrack.tasks import run as run_on_a_loop
from tests.support.world import NOON_MS, body, migrated_store, register

DEVICES = 67
IDLE = """
from pydantic import BaseModel
from carbontrack import *
from carbontrack import hookimpl

MANIFEST = Manifest(name="idle_{n}", version="1.0", kinds=tuple(Kind), title="One of many")

class Options(BaseModel):
    model_config = {{"extra": "forbid"}}

def decode(payload):
    raise DecodeError("no", "never called")

@hookimpl
def register_sensors():
    return [SensorDriver(name="idle_{n}", title="Idle", decode=decode)]

def evaluate(options, seen):
    return Verdict(False, True)

@hookimpl
def register_alert_rules():
    return [AlertRule(name="idle-{n}", title="Idle", options_model=Options, evaluate=evaluate)]
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """A fleet, and how long each of its rounds took for one message, in us."""

    name: str
    fleet: Fleet
    committed: Callable[[], float]
    rounds: list[float]


def main(arguments: list[str]) -> None:
    """Measure and print a table; ends with an error where 50 plugins cost more than noise."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=plugins", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--messages", type=int, default=6700, help="for each round and variant")
    options = parser.parse_args(arguments)
    run_on_a_loop(lambda: measure(options.rounds, options.messages))


def write_idle(folder: Path) -> tuple[str, ...]:
    """Fifty plugins that are loaded and never called; their names."""
    names = tuple(f"idle_{n}" for n in range(50))
    for n, name in enumerate(names):
        (folder / f"{name}.py").write_text(IDLE.format(n=n), encoding="utf-8")
    for part in "abc":
        (folder / part).mkdir()
    return names


async def measure(rounds: int, messages: int) -> None:
    ours = ("ct_v1", "limit")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        idle = write_idle(folder)
        async with (
            variant("no fence, no plugins beside", folder / "a", ours, None, bare=True) as bare,
            variant("0 plugins beside", folder / "b", ours, None) as none,
            variant("50 plugins beside", folder / "c", (*ours, *idle), folder) as fifty,
        ):
            variants = (bare, none, fifty)
            for number in range(rounds + 1):
                order = variants if number % 2 else variants[::-1]
                for item in order:
                    await play(item, messages, number)
    for item in variants:
        del item.rounds[0]  # everything is cold
    print("| Way of a message through the core | Median | Middle half | Ratio |\n| --- | ---: | ---: | ---: |")
    base = statistics.median(none.rounds)
    for item in variants:
        low, middle, high = statistics.quantiles(item.rounds, n=4)
        print(f"| {item.name} | {middle:.1f} us | {low:.1f} to {high:.1f} us | {middle / base:.3f} |")
    paired = [many / few for many, few in zip(fifty.rounds, none.rounds, strict=True)]
    low, middle, high = statistics.quantiles(paired, n=4)
    print(f"\n50 plugins over none, round by round: median {middle:.3f}, middle half {low:.3f} to {high:.3f}.")


@asynccontextmanager
async def variant(
    name: str, folder: Path, plugins: tuple[str, ...], plugins_folder: Path | None, *, bare: bool = False
) -> AsyncIterator[Variant]:
    metrics = Metrics()
    config = Config(plugins=Plugins(enabled=plugins, folder=plugins_folder))
    host = PluginHost(metrics)
    with host.watch.on():
        await host.apply(config)
        brought = unfenced() if bare else host.contributions
        async with migrated_store(f"sqlite://{folder / 'db.sqlite3'}", metrics) as store:
            services = Services(store, Live(), metrics, lambda *_: None, mailbox_size=100_000, messages_per_s=1e9)
            sites = await register(store, *(f"dev-{n:03}" for n in range(DEVICES)))
            fleet = Fleet(services, brought.sensors)
            rules, _, problems = rule_instances(config, brought)
            assert any(rule.rule.name == "limit" for rule in rules), problems
            fleet.follow(brought.sensors, rules, frozenset())
            await fleet.sync(sites)
            committed = metrics.outcomes["committed"]
            store.save = committed_at_once  # type: ignore[method-assign]  # what the database does is no plugin's cost
            try:
                yield Variant(name, fleet, committed._value.get, [])  # noqa: SLF001  # without a scrape
            finally:
                await fleet.close()
                await host.close()


async def committed_at_once(work: object) -> None:  # noqa: ARG001  # whatever it is
    """Takes all work as committed."""
    await asyncio.sleep(0)


def unfenced() -> Contributions:
    """The same, with the functions as their plugins wrote them."""
    modules = {found.name: import_plugin(found) for found in find_plugins()}
    return Contributions(sensors={"ct_v1": modules["ct_v1"].CT_V1}, alert_rules={"limit": modules["limit"].LIMIT})


async def play(item: Variant, messages: int, number: int) -> None:
    """One round: the same number of new messages to every device, until all are committed."""
    per_device = messages // DEVICES
    first = number * per_device + 1
    payloads = [
        Payload(f"dev-{n:03}", "data", body(seq=seq, at_ms=NOON_MS + 5000 * seq), NOON_MS + 5000 * seq + 500)
        for seq in range(first, first + per_device)
        for n in range(DEVICES)
    ]
    gc.collect()
    gc.disable()
    expected = item.committed() + len(payloads)
    began = time.perf_counter()
    for at in range(0, len(payloads), DEVICES):
        for payload in payloads[at : at + DEVICES]:
            item.fleet.tell(payload)
        await asyncio.sleep(0)
    while item.committed() < expected:  # noqa: ASYNC110  # an event would be work that the core does not do
        await asyncio.sleep(0)
    item.rounds.append((time.perf_counter() - began) / len(payloads) * 1e6)
    gc.enable()
