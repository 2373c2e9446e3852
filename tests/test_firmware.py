"""The node's firmware: its own tests, and twenty real nodes against a broker with TLS and the whole core."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from carbontrack import Flag
from carbontrack.app import Core, run_core
from carbontrack.emissions.rate import INVALIDATING
from carbontrack.firmware import new_key, public_pem
from carbontrack.handout import Handouts, Wifi
from carbontrack.model import Device
from carbontrack.store import migrate
from tests.chaos.network import Cable, cables
from tests.support.firmware import NodeProcess, Talk, build
from tests.support.mosquitto import DEVICES, Broker, core_config
from tests.support.mosquitto import password_of as mosquitto_password_of
from tests.support.postgres import Postgres
from tests.support.programs import environment
from tests.support.system import needs
from tests.support.world import eventually, register

pytestmark = pytest.mark.timeout(400)  # the first build takes its time

NODES = DEVICES[:20]
PACE = (
    *("--sample-ms", "400", "--records-ms", "3000", "--warm-up-s", "0", "--from-hour", "9", "--altitude-m", "2000"),
    *("--patience-ms", "3000", "--longest-backoff-ms", "1000", "--flash-kib", "512", "--drain-s", "30"),
)
NUMBERS = """
SELECT t.device_id, t.sid, s.base_seq + r.seq AS seq
FROM reading r JOIN source s ON s.id = r.source_id JOIN stream t ON t.id = s.stream_id
UNION ALL
SELECT t.device_id, t.sid, r.seq FROM device_record r JOIN stream t ON t.id = r.stream_id
"""
GAPS = "SELECT data FROM device_record WHERE kind = 'gap'"
STREAMS = "SELECT device_id, sid, watermark FROM stream WHERE sid <> 'canary'"


def ctest(folder: Path) -> str:
    """Run the firmware's own tests in the folder in which they were built; what it printed."""
    program = needs("ctest", package="cmake")
    done = subprocess.run([program, "--output-on-failure"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_its_own_tests_pass_with_every_memory_access_checked() -> None:
    folder = build("sanitized", "-DSANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug", needs_headers=("doctest-dev",))

    assert "100% tests passed" in ctest(folder)


def test_as_it_is_built_for_use_it_passes_them_too_and_needs_no_heap() -> None:
    folder = build("release", "-DCMAKE_BUILD_TYPE=MinSizeRel")

    assert "no_heap_in_the_core" in ctest(folder)


class TestCommandLine:
    @pytest.fixture
    def program(self) -> Path:
        return build("release", "-DCMAKE_BUILD_TYPE=MinSizeRel") / "carbontrack-node"

    def test_help_says_how_to_use_it(self, program: Path) -> None:
        done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)

        assert "Usage: carbontrack-node --id ID --flash FILE" in done.stdout
        assert "Examples:" in done.stdout

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            ([], "--id and --flash are needed"),
            (["--id", "a/b", "--flash", "f", "--plain"], "--id has at most 64 characters"),
            (["--id", "dev-001", "--flash", "f"], "say --ca FILE for TLS, or --plain for none"),
            (["--id", "dev-001", "--flash", "f", "--plain", "--port", "0"], "--port cannot be 0"),
            (["--id", "dev-001", "--flash", "f", "--plain", "--wings"], "there is no option --wings"),
            (["--id", "dev-001", "--flash", "f", "--plain", "--sensors", "nose"], "there is no sensor nose"),
            (["--provision"], "--provision needs --state"),
            (["--state", "s", "--flash", "f", "--plain"], "the state has no id yet: use --provision, or say --id"),
            (["--id", "a", "--flash", "f", "--plain", "--reset-cause", "age"], "--reset-cause cannot be age"),
        ],
    )
    def test_what_is_wrong_is_named(self, program: Path, tmp_path: Path, words: list[str], problem: str) -> None:
        done = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path, check=False)

        assert done.returncode == 2
        assert problem in done.stderr


class TestFromAfar:
    """A node that was provisioned by its serial line, over TLS, with the test in the platform's place."""

    @pytest.fixture
    def program(self) -> Path:
        return build("release", "-DCMAKE_BUILD_TYPE=MinSizeRel") / "carbontrack-node"

    @pytest.fixture
    def state(self, program: Path, mosquitto: Broker, tmp_path: Path) -> Path:
        """What the node keeps, with all that it needs to connect."""
        given = {"id": NODES[0], "password": mosquitto_password_of(NODES[0]), "host": "127.0.0.1"}
        more = {"port": mosquitto.port, "ca": mosquitto.ca_file.read_text(), "hw": "ct-test"}
        lines = [{"provision": given | more}, {"show": True}]
        done = subprocess.run(
            [program, "--state", tmp_path / "state", "--provision"],
            input="".join(json.dumps(line) + "\n" for line in lines),
            capture_output=True,
            text=True,
            check=True,
        )
        taken, shown = (json.loads(line) for line in done.stdout.splitlines())
        assert taken == {"ok": True}
        assert (shown["id"], shown["has_password"], shown["complete"]) == (NODES[0], True, True)
        assert given["password"] not in done.stdout
        return tmp_path / "state"

    def test_what_the_platform_hands_out_sets_it_up(self, program: Path, mosquitto: Broker, tmp_path: Path) -> None:
        key = tmp_path / "firmware.pub"
        key.write_bytes(public_pem(new_key().public_key()))
        handouts = Handouts("mqtt.example.org", 8884, mosquitto.ca_file, key, "k" * 32)
        line = handouts.line(Device(1, "ct-nyeri-ä", 1, 1), Wifi('Chai "bora"', "simba1234"))
        done = subprocess.run(
            [program, "--state", tmp_path / "state", "--provision"],
            input=line + '{"show":true}\n',
            capture_output=True,
            text=True,
            check=True,
        )
        taken, shown = (json.loads(line) for line in done.stdout.splitlines())
        assert taken == {"ok": True}
        assert (shown["id"], shown["host"], shown["port"], shown["wifi_ssid"]) == (
            "ct-nyeri-ä", "mqtt.example.org", 8884, 'Chai "bora"',
        )  # fmt: skip
        assert all(shown[f"has_{name}"] for name in ("password", "ca", "wifi_password", "firmware_key"))
        assert shown["complete"]

    async def test_it_is_configured_told_what_to_do_and_started_anew(
        self, program: Path, state: Path, mosquitto: Broker, tmp_path: Path
    ) -> None:
        signals = tmp_path / "signals"
        process = await asyncio.create_subprocess_exec(
            program,
            *("--state", state, "--flash", tmp_path / "flash", "--flash-kib", "512", "--signals", signals),
            *("--from-hour", "9", "--warm-up-s", "0", "--longest-backoff-ms", "300"),
            stdout=subprocess.PIPE,
            env=environment(),
        )
        try:
            async with mosquitto.client("core") as client:
                await client.subscribe(f"ct/v1/{NODES[0]}/up/#", qos=1)
                talk = Talk(client, NODES[0])
                birth = await talk.heard("state", online=True)
                assert (birth["cfg"], birth["mode"], birth["rst"], birth["hw"]) == (0, "run", "poweron", "ct-test")

                await talk.say("config", rev=17, sample_s=0)
                refused = await talk.heard("config", rev=17)
                assert (refused["ok"], refused["active"]) == (False, 0)
                assert refused["errors"] == [{"path": "sample_s", "code": "range"}]
                limits = [{"code": "temperature_high", "limit": 100, "level": "critical"}]
                await talk.say("config", rev=18, sample_s=1, readings=5, warm_up_s=0, limits=limits)
                assert await talk.heard("config", rev=18) == {"v": 1, "rev": 18, "ok": True, "active": 18}
                with_event = await talk.heard("data", cfg=18)
                while "e" not in with_event:
                    with_event = await talk.heard("data", cfg=18)
                assert with_event["e"]["rows"][0][3:6] == ["temperature_high", "critical", 1]
                await talk.say("ack", sid=birth["sid"], seq=with_event["seq"])

                await talk.say("cmd", id="7c1e09aa", cmd="diag", args={})
                diag = await talk.heard("res", id="7c1e09aa")
                assert (diag["st"], diag["res"]["boot"], diag["res"]["mode"]) == ("done", 1, "run")
                await talk.say("cmd", id="7c1e09ab", cmd="reboot", args={})
                assert (await talk.heard("res", id="7c1e09ab"))["st"] == "accepted"
                assert (await talk.heard("state", online=False))["why"] == "reboot"
                again = await talk.heard("state", online=True)
                assert (again["cfg"], again["rst"], again["boot"], again["sid"]) == (18, "software", 2, birth["sid"])
                assert (await talk.heard("res", id="7c1e09ab"))["st"] == "done"
                await talk.heard("data", cfg=18, boot=2)
            process.terminate()
            output, _ = await asyncio.wait_for(process.communicate(), 20)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

        assert process.returncode == 0
        assert json.loads(output)["boot"] == 2
        assert any(line.split()[1:] == ["buzzer", "1"] for line in signals.read_text().splitlines())


class Estate:
    """Twenty nodes, each on a cable of its own, and what the platform has of them."""

    def __init__(self, core: Core, nodes: Sequence[NodeProcess], links: Sequence[Cable]) -> None:
        self.core = core
        self.nodes = nodes
        self.links = links

    async def numbers(self) -> dict[str, Counter[int]]:
        """How often the database has each number of each device."""
        found: dict[str, Counter[int]] = {node.device_id: Counter() for node in self.nodes}
        for row in await self.core.store._engine.rows(NUMBERS):
            found[row["device_id"]][row["seq"]] += 1
        return found

    async def more(self, nodes: Sequence[NodeProcess], records: int) -> None:
        """Return when the platform has so many more records of each of these nodes."""
        before = await self.numbers()

        async def is_there() -> bool:
            now = await self.numbers()
            return all(len(now[node.device_id]) >= len(before[node.device_id]) + records for node in nodes)

        async with asyncio.timeout(30):
            while not await is_there():  # noqa: ASYNC110  # the database rings no bell
                await asyncio.sleep(0.2)


@asynccontextmanager
async def estate(broker: Broker, database_url: str, folder: Path, *devices: str) -> AsyncIterator[Estate]:
    """The core, and nodes that nobody has started yet."""
    program = build("release", "-DCMAKE_BUILD_TYPE=MinSizeRel") / "carbontrack-node"
    config = core_config(broker, database_url, DEVICES__REGISTRY_POLL_S="0.2")
    await migrate(config.database.url)
    async with run_core(config) as core, cables(broker.port, len(devices)) as links:
        await register(core.store, *devices)
        await eventually(lambda: core.ingest.connected and len(core.fleet.states()) == len(devices))
        nodes = [
            NodeProcess(
                program,
                device_id,
                folder,
                (
                    *PACE,
                    *("--ca", str(broker.ca_file), "--port", str(link.port), "--seed", str(number)),
                    *("--clock-after-ms", "0" if number % 4 else "2500"),  # some do not know the time at first
                ),
            )
            for number, (device_id, link) in enumerate(zip(devices, links, strict=True))
        ]
        try:
            yield Estate(core, nodes, links)
        finally:
            for node in nodes:
                if not node.outlives_its_platform:
                    await node.kill()


async def test_whatever_is_cut_and_killed_the_accounts_of_twenty_nodes_close(
    mosquitto: Broker, postgres_url: str, tmp_path: Path
) -> None:
    async with estate(mosquitto, postgres_url, tmp_path, *NODES) as running:
        nodes, links = running.nodes, running.links
        for node in nodes:
            await node.start()
        await running.more(nodes, 8)

        for link in links[:7]:
            link.cut()
        for node in nodes[4:10]:  # three of them while their link is cut
            await node.kill()
            await node.start()
        await running.more(nodes[7:], 6)

        mosquitto.kill()
        for node in nodes[10:13]:
            await node.kill()
            await node.start()
        mosquitto.start()
        await running.more(nodes[7:], 6)

        for link in links[:7]:
            link.mend()
        for link in links[13:]:
            link.drop()
        await running.more(nodes, 12)

        accounts = dict(
            zip(NODES, await asyncio.gather(*(node.stop() for node in nodes)), strict=True),
        )
        found = await running.numbers()
        streams = await running.core.store._engine.rows(STREAMS)
        flags = await running.core.store._engine.rows("SELECT DISTINCT flags FROM reading")

    for node in nodes:
        account = accounts[node.device_id]
        last = account["next"] - 1
        assert account["watermark"] == last, f"{node.device_id} was not told that everything is kept: {account}"
        assert found[node.device_id] == Counter(range(1, last + 1)), f"{node.device_id}: {account}"
        assert account["boot"] == node.starts
        assert (account["gaps"], account["store_failures"], account["frame_errors"]) == (0, 0, 0)
    assert {(row["device_id"], row["sid"], row["watermark"]) for row in streams} == {
        (device_id, account["sid"], account["next"] - 1) for device_id, account in accounts.items()
    }, "each node has one stream, over all of its boots"
    assert sum(account["backlog"] for account in accounts.values()) > 0
    told = 0
    for row in flags:
        told |= row["flags"]
    assert not told & INVALIDATING, "the boiler fires and every sensor works, so every reading has a rate"
    assert not told & (Flag.DEVICE_DISAGREES | Flag.CLOCK_FUTURE)


async def test_a_store_that_ran_over_says_what_is_lost_and_the_account_closes_with_that(
    mosquitto: Broker, postgres_url: str, tmp_path: Path
) -> None:
    async with estate(mosquitto, postgres_url, tmp_path, NODES[0]) as running:
        (node,), (link,) = running.nodes, running.links
        link.cut()
        await node.start("--flash-kib", "12", "--sample-ms", "20", "--readings", "1", "--run-s", "8", "--drain-s", "0")
        before = await node.ended()
        assert before["watermark"] == 0
        link.mend()
        await node.start("--flash-kib", "12")
        await running.more([node], 5)
        account = await node.stop()
        found = (await running.numbers())[node.device_id]
        gaps = [json.loads(row["data"]) for row in await running.core.store._engine.rows(GAPS)]

    lost = {seq for gap in gaps for seq in range(gap["from"], gap["to"] + 1)}
    assert min(lost) == 1
    assert len(lost) > 20
    assert account["watermark"] == account["next"] - 1
    assert found == Counter(set(range(1, account["next"])) - lost)


async def test_a_platform_that_has_lost_everything_gets_all_that_the_node_still_has(
    mosquitto: Broker, postgres: Postgres, tmp_path: Path
) -> None:
    async with estate(mosquitto, postgres.new_url(), tmp_path, NODES[0]) as running:
        (node,) = running.nodes
        await node.start("--patience-ms", "300", "--port", str(mosquitto.port))
        await running.more([node], 10)
        await running.more([node], 10)  # and so the first ten have been receipted
        node.outlives_its_platform = True

    try:
        async with estate(mosquitto, postgres.new_url(), tmp_path, NODES[0]) as running:
            await running.more(running.nodes, 15)
            account = await node.stop()
            found = (await running.numbers())[node.device_id]
    finally:
        await node.kill()

    assert account["boot"] == 1
    assert account["watermark"] == account["next"] - 1
    assert found == Counter(range(1, account["next"])), "what was receipted long ago was still in its flash"
