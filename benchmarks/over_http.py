"""Readings over HTTP beside the same readings over MQTT, from the first post to the last commit, in one run.

    make bench ARGS="http"            (about two minutes; ``--quick``: a fifth of the readings)

268 devices, each with one request at a time as the protocol asks for, 64 connections. The poster is a process of its
own. Every post waits for its commit and signs in with the device's own password.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
import uvloop
from aiohttp import ClientSession, TCPConnector, encode_basic_auth
from aiohttp.test_utils import TestServer

from benchmarks.ingest import Bench, committed, committed_per_s, core, row, web_services
from benchmarks.publisher import Load, body
from benchmarks.rig import postgres
from carbontrack.credentials import device_password
from carbontrack.metrics import Metrics
from carbontrack.model import Device
from carbontrack.plugins import PluginHost
from carbontrack.tasks import calm_garbage_collection
from carbontrack.web import create_app

KEY = "a key of this benchmark and of nothing else"
DEVICES = 268


@dataclass(frozen=True, slots=True)
class Posts:
    """``posts`` of each device, one after the other: ``messages`` in each, ``records`` in each of them."""

    url: str
    posts: int
    messages: int
    records: int

    @property
    def readings(self) -> int:
        return DEVICES * self.posts * self.messages * self.records


async def post_all(load: Posts) -> float:
    """Post everything; the seconds that it took until the last was committed."""
    async with ClientSession(connector=TCPConnector(limit=64)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(_post(session, load, f"dev-{number:05}") for number in range(DEVICES)))
        return time.perf_counter() - began


async def _post(session: ClientSession, load: Posts, device_id: str) -> None:
    password = device_password(KEY, Device(0, device_id, 0, 0))
    headers = {"Authorization": encode_basic_auth(device_id, password), "Content-Type": "application/json"}
    seq, all_of_one = 1, load.posts * load.messages * load.records
    for _ in range(load.posts):
        members = []
        for _ in range(load.messages):
            at_ms = time.time_ns() // 1_000_000 - (all_of_one - seq) * 5000
            members.append(body(seq, load.records, at_ms))
            seq += load.records
        content = b"[" + b",".join(members) + b"]"
        async with session.post(load.url, data=content, headers=headers, params={"lane": "backlog"}) as answer:
            given = await answer.json()
            assert (answer.status, given.get("stored")) == (202, load.messages * load.records), given


async def posted_per_s(bench: Bench, posts: int, messages: int, records: int) -> float:
    """Readings a second."""
    async with core(bench, bench.postgres_url(), DEVICES) as parts:
        services = web_services(parts, PluginHost(Metrics()), KEY)
        async with TestServer(create_app(services)) as server:
            load = Posts(str(server.make_url("/api/emissions/")), posts, messages, records)
            command = [sys.executable, "-m", "benchmarks.over_http", json.dumps(asdict(load))]
            poster = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            seconds = float((await poster.communicate())[0])
            assert committed(parts) == load.readings
            return load.readings / seconds


async def measure(bench: Bench, rounds: int) -> None:
    scale = bench.scale
    batches = Load(0, "bench", "bench", devices=DEVICES, messages=int(8_000 * scale), records=60)
    over_mqtt, lists, single, one = [], [], [], []
    for _ in range(rounds):
        over_mqtt.append(await committed_per_s(bench, bench.postgres_url(), batches))
        lists.append(await posted_per_s(bench, max(1, int(10 * scale)), 3, 60))
        single.append(await posted_per_s(bench, max(1, int(30 * scale)), 1, 60))
        one.append(await posted_per_s(bench, max(1, int(50 * scale)), 1, 1))
    bar = statistics.median(over_mqtt)
    row("MQTT, batches of 60", bar, "readings/s", "", "the bar")
    posted = {"3 batches of 60 a post": lists, "a batch of 60 a post": single, "a reading a post": one}
    for what, found in posted.items():
        row(f"HTTP, {what}", statistics.median(found), "readings/s", f"{statistics.median(found) / bar:.2f}", "")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks http")
    parser.add_argument("--quick", action="store_true", help="a fifth of the readings, one round")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, postgres() as server:
        row("what", 0, "unit", "ratio", "aim")
        bench = Bench(server.new_url, Path(name), 0.2 if options.quick else 1.0)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        calm_garbage_collection()  # as the core does
        uvloop.run(measure(bench, 1 if options.quick else 3))


if __name__ == "__main__":
    print(asyncio.run(post_all(Posts(**json.loads(sys.argv[1])))))
