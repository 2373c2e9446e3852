"""``carbontrack alert try`` and what ``check-config`` says of the names that alerts have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.metrics import Metrics
from carbontrack.store import migrate, open_store
from tests.support.world import reading, register, work

Say = Callable[..., Result]
ALERTS = """
alerts:
  - name: gas-hot
    rule: limit
    enabled: false
    options: {quantity: temperature_c, raise_above: 300, clear_below: 290}
  - name: off
    rule: corroboration
"""


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """A database with half an hour of readings until now: hot for five minutes, in the middle."""
    address = f"sqlite://{tmp_path / 'alerts.sqlite3'}"
    await migrate(address)
    async with open_store(address, Metrics()) as store:
        (site,) = await register(store, "dev-001")
        stream = await store.open_stream("dev-001", "9f3c21aa")
        begin = datetime.now(UTC) - timedelta(minutes=31)
        await store.save(
            work(
                msgspec.structs.replace(
                    reading(number, begin + timedelta(seconds=20 * number)),
                    temperature_c=350.0 if 40 <= number < 55 else 200.0,
                    stream_pk=stream.pk,
                    stack_id=site.stack.id,
                )
                for number in range(90)
            )
        )
    return address


@pytest.fixture
def say(url: str, tmp_path: Path) -> Say:
    def command(*words: str, alerts: str = ALERTS) -> Result:
        path = tmp_path / "carbontrack.yaml"
        path.write_text(f"database:\n  url: {url}\n{alerts}")
        return CliRunner().invoke(app, [*words, "--config", str(path)])

    return command


def test_an_alert_that_is_switched_off_says_when_it_would_have_fired(say: Say) -> None:
    done = say("alert", "try", "gas-hot", "--days", "1", "--factory", "kangaita")

    assert done.exit_code == 0, done.output
    assert "Would have fired once. 90 readings of 1 devices were looked at, 0 of them late." in done.output
    assert "dev-001" in done.output
    assert "350 °C gas temperature, the limit is 300" in done.output


def test_other_numbers_can_be_tried(say: Say) -> None:
    done = say("alert", "try", "gas-hot", "--set", "raise_above=360", "--set", "clear_below=350")

    assert "Would have fired 0 times." in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "There is no alert 'nothing' that can be tried. There are: gas-hot, off"),
        (["off"], "entries and accounts"),
        (["gas-hot", "--set", "raise_above"], "an option and a number"),
        (["gas-hot", "--set", "raise_above=100"], "clear_below must not be above raise_above"),
        (["gas-hot", "--set", "colour=1"], "colour"),
        (["gas-hot", "--factory", "nowhere"], "There is no factory 'nowhere'. There are: kangaita"),
    ],
)
def test_a_mistake_is_told(say: Say, words: list[str], said: str) -> None:
    done = say("alert", "try", *words)

    assert done.exit_code == 2, done.output
    assert said in done.output


def test_names_that_the_registry_does_not_have_are_told(say: Say) -> None:
    scoped = ALERTS.replace("enabled: false", "factories: [nowhere]\n    devices: [dev-001]")
    done = say("check-config", alerts=scoped)

    assert done.exit_code == 2
    assert "the alert 'gas-hot': there is no factory 'nowhere'" in done.output
    assert "dev-001" not in done.output


def test_without_a_database_the_names_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "carbontrack.yaml"
    scoped = ALERTS.replace("enabled: false", "factories: [nowhere]")
    path.write_text(f"database:\n  url: sqlite://{tmp_path / 'none.sqlite3'}\n{scoped}")
    done = CliRunner().invoke(app, ["check-config", "--config", str(path)])

    assert (done.exit_code, done.output) == (0, "The configuration is fine.\n")
    assert not (tmp_path / "none.sqlite3").exists()
