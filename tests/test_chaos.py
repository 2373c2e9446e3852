"""The proof itself is proved: its account sees what is lost, doubled or altered, and then its short run is run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ingest import BrokerSettings
from tests.chaos.account import Balance, Kept, Phase, Taken, balance
from tests.chaos.device import Device
from tests.chaos.faults import FAULTS
from tests.chaos.network import Cable, cables
from tests.chaos.run import Outcome, complaints, table
from tests.chaos.watcher import Watcher
from tests.support.mosquitto import password_of
from tests.support.system import needs
from tests.support.world import eventually

ROOT = Path(__file__).parent.parent
SEED = 20
"""Of the run within the tests, so that it is the same every time; `make chaos` takes another each time."""

DEVICE = Taken("dev-001", "aa", {1: 1.0, 2: 2.0, 4: 4.0})
"""Number 3 is a record that is no reading."""
ROWS = [Kept("dev-001", "aa", seq, co2) for seq, co2 in ((1, 1.0), (2, 2.0), (3, None), (4, 4.0))]
PHASES = [Phase("first", {"dev-001": 1}, {"dev-001": 3}), Phase("second", {"dev-001": 3}, {"dev-001": 5})]


def settled(rows: Sequence[Kept]) -> list[Balance]:
    return balance([DEVICE], rows, PHASES)


def test_what_is_there_once_and_as_it_was_taken_is_even() -> None:
    first, second = settled(ROWS)

    assert (first.taken, first.stored, second.taken, second.stored) == (2, 2, 2, 2)
    assert first.is_even
    assert second.is_even


@given(st.sampled_from(ROWS))
def test_a_row_that_is_missing_is_lost_in_its_own_phase(missing: Kept) -> None:
    accounts = settled([row for row in ROWS if row != missing])

    assert [account.lost for account in accounts] == ([1, 0] if missing.seq < 3 else [0, 1])
    assert not all(account.is_even for account in accounts)


@given(st.sampled_from(ROWS))
def test_a_row_that_is_there_twice_is_a_duplicate_in_its_own_phase(twice: Kept) -> None:
    accounts = settled([*ROWS, twice])

    assert [account.duplicate for account in accounts] == ([1, 0] if twice.seq < 3 else [0, 1])


def test_a_value_that_differs_is_altered() -> None:
    first, _ = settled([*ROWS[:1], Kept("dev-001", "aa", 2, 2.5), *ROWS[2:]])

    assert first.altered == 1
    assert not first.is_even


@pytest.mark.parametrize("stranger", [Kept("dev-001", "aa", 9, 9.0), Kept("dev-001", "bb", 1, 1.0)])
def test_a_row_that_nobody_took_is_invented(stranger: Kept) -> None:
    _, second = settled([*ROWS, stranger])

    assert second.invented == 1


def test_whatever_is_wrong_is_in_the_table_and_among_the_complaints() -> None:
    good = Outcome("core killed", {}, recovery_s=1.5, account=Balance(taken=10, stored=10))
    bad = Outcome(
        "flood by one device",
        {},
        false_offline=["dev-009"],
        failures=["nobody was named"],
        account=settled(ROWS[1:])[0],
    )

    assert complaints([good]) == []
    assert complaints([good, bad]) == [
        "flood by one device: nobody was named",
        "flood by one device: dev-001: 1 is lost",
        "flood by one device: called offline and were not: dev-009",
    ]
    last = table([good, bad]).splitlines()[-1].split("|")
    assert [cell.strip() for cell in last[:6]] == ["all", "12", "11", "0", "1", "1"]


@pytest.mark.parametrize(
    ("connected", "broker_there_s", "is_false"),
    [(True, 60, True), (False, 60, False), (False, 2, True), (True, 2, True)],
)
async def test_a_device_that_is_called_offline_is_a_false_claim_only_while_its_link_is_whole(
    connected: bool, broker_there_s: float, is_false: bool
) -> None:
    device = Device("dev-001", Cable(0), BrokerSettings("127.0.0.1", 0), password_of, 1.0)
    if connected:
        device._node.open()
        device._node.birth(0)
    watcher = Watcher("", {"dev-001": device}, lambda: time.monotonic() - broker_there_s)
    rows = [{"device_id": "dev-001", "state": state} for state in ("firing", "offline", "offline", "firing")]

    for row in rows:
        watcher._look([row])
    assert watcher.false == [], "it was never connected"

    device.cut_off_until = time.monotonic() - 1
    for row in rows:
        watcher._look([row])
    expected = ["dev-001"] if is_false else []
    assert [claim.device_id for claim in watcher.false] == expected, "once, however often it is repeated"


async def test_a_cable_carries_bytes_and_can_be_cut_and_mended() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    async def answer(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(b"hello")
                return await reader.read(5)
            return b""
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, cables(server.sockets[0].getsockname()[1], 1) as (cable,):
        assert await answer(cable.port) == b"hello"
        await eventually(lambda: not cable._writers)
        reader, writer = await asyncio.open_connection("127.0.0.1", cable.port)
        await eventually(lambda: bool(cable._writers))
        cable.cut()
        with pytest.raises((ConnectionError, EOFError)):
            await reader.readexactly(1)
        writer.close()
        assert await answer(cable.port) == b""
        cable.mend()
        assert await answer(cable.port) == b"hello"


@pytest.mark.timeout(600)
def test_nothing_is_lost_nothing_is_there_twice_and_nobody_is_called_offline_who_is_not() -> None:
    needs("mosquitto", package="mosquitto")
    needs("initdb", package="postgresql", folders=sorted(Path("/usr/lib/postgresql").glob("*/bin")))
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", "--seed", str(SEED)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    print(done.stdout)  # noqa: T201  # the table, where somebody asks for it with -s
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing lost" in done.stdout
    for fault in FAULTS:
        assert fault in done.stdout or (fault == "disk full" and "LEFT OUT: disk full" in done.stderr)
