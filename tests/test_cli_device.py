"""Settings and commands of devices on the command line: what they say, and what the database has afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.device_settings import CommandState
from carbontrack.metrics import Metrics
from carbontrack.store import Store, migrate, open_store
from tests.support.world import eventually, register

Say = Callable[..., Result]


@pytest.fixture
async def url(tmp_path: Path) -> str:
    address = f"sqlite://{tmp_path / 'devices.sqlite3'}"
    await migrate(address)
    async with open_store(address, Metrics()) as store:
        await register(store, "dev-001")
    return address


@pytest.fixture
def say(url: str, tmp_path: Path) -> Say:
    def command(*words: str) -> Result:
        path = tmp_path / "carbontrack.yaml"
        path.write_text(f"database:\n  url: {url}\n")
        return CliRunner().invoke(app, ["device", *words, "--config", str(path)])

    return command


def test_settings_are_shown_and_changed(say: Say) -> None:
    done = say("settings", "dev-001")
    assert done.exit_code == 0, done.output
    assert "the firmware's own" in done.output

    done = say("settings", "dev-001", "--set", "sample_s=10", "--set", "buzzer=no")
    assert (done.exit_code, "Saved as revision 1." in done.output) == (0, True)

    done = say("settings", "dev-001")
    assert "sample_s   10" in done.output
    assert "buzzer     False" in done.output
    assert "Revision 1: waiting" in done.output
    assert "Nothing was changed." in say("settings", "dev-001", "--set", "sample_s=10").output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("settings", "dev-001", "--set", "sample_s=0"), "must be from 1 to 3,600"),
        (("settings", "dev-001", "--set", "sample_s=often"), "must be a whole number"),
        (("settings", "dev-001", "--set", "buzzer=1"), "must be yes or no"),
        (("settings", "dev-001", "--set", "colour=blue"), "takes one of sample_s"),
        (("settings", "dev-009"), "There is no device 'dev-009'"),
        (("command", "dev-001", "explode"), "there is no such command"),
        (("command", "dev-001", "identify", "900"), "must be from 1 to 300"),
        (("command", "dev-001", "reboot", "5"), "does not take it"),
        (("command", "dev-009", "ping"), "There is no device 'dev-009'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(say: Say, words: tuple[str, ...], why: str) -> None:
    done = say(*words)

    assert (done.exit_code, why in done.output) == (2, True), done.output


def test_a_command_waits_in_the_database_for_a_core(say: Say, url: str) -> None:
    done = say("command", "dev-001", "identify", "20")

    assert done.exit_code == 0, done.output
    (command,) = _in(url, lambda store: store.recent_commands(datetime(2020, 1, 1, tzinfo=UTC)))
    assert (command.cmd, command.args, command.state) == ("identify", {"seconds": 20}, CommandState.QUEUED)
    assert (command.asked_by, command.command_id in done.output) == ("command line", True)


@pytest.mark.parametrize(("state", "code"), [(CommandState.DONE, 0), (CommandState.FAILED, 1)])
def test_whoever_waits_is_told_the_answer(say: Say, url: str, state: CommandState, code: int) -> None:
    async def answer(store: Store) -> None:
        async def is_there() -> bool:
            return bool(await store.recent_commands(datetime.now(UTC)))

        await eventually(is_there)
        waiting = await store.recent_commands(datetime.now(UTC))
        values = {name: getattr(waiting[0], name) for name in waiting[0].__slots__}
        answered = type(waiting[0])(**values | {"state": state, "answer": {"res": {"boot": 7}, "err": "busy"}})
        await store.keep_device_states([], [answered])

    core = threading.Thread(target=_in, args=(url, answer))
    core.start()
    done = say("command", "dev-001", "diag", "--wait")
    core.join()

    assert done.exit_code == code, done.output
    for said in (state.value, "boot", "7", "busy"):
        assert said in done.output


def _in(url: str, question: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        async with open_store(url, Metrics()) as store:
            return await question(store)

    return asyncio.run(main())
