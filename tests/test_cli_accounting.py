"""The accounting's commands, as an operator types them, on a database of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.metrics import Metrics
from carbontrack.store import Store, migrate, open_store
from tests.support.world import NOON, NOON_MS, body, core, register, summarise_touched

Say = Callable[..., Result]


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """A database with an hour of readings of the 1 March 2026, summarised."""
    address = f"sqlite://{tmp_path / 'accounting.sqlite3'}"
    await migrate(address)
    async with open_store(address, Metrics()) as store:
        await register(store, "dev-001")
        await send_an_hour(store)
        while await summarise_touched(store, now=NOON + timedelta(hours=2)):
            pass
    return address


async def send_an_hour(store: Store) -> None:
    async with core(store, Metrics()) as running:
        for number in range(12):
            content = body(1 + 60 * number, 60, at_ms=NOON_MS + number * 300_000)
            running.tell("dev-001", content, received_at_ms=NOON_MS + 3_600_000)
        await running.receipt("dev-001", 720)


@pytest.fixture
def say(url: str, tmp_path: Path) -> Say:
    path = tmp_path / "carbontrack.yaml"
    path.write_text(f"database:\n  url: {url}\n")

    def command(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--config", str(path)])

    return command


def test_recompute_says_that_nothing_has_changed(say: Say) -> None:
    done = say("recompute", "--from", "2026-03-01", "--to", "2026-03-02")

    assert done.exit_code == 0, done.output
    assert "1 stacks: 12 buckets, 0 hours with a new version." in done.output


def test_a_plan_of_the_past_is_added_and_recompute_makes_new_versions(say: Say) -> None:
    added = say(
        "plan", "add", "1", "--from", "2026-03-01T15:00", "--set", "profile_factor=0.45", "--set", "note=traverse"
    )
    done = say("recompute", "--from", "2026-03-01")
    listed = say("plan", "list", "1")

    assert "In force from 2026-03-01T15:00:00+03:00: profile_factor = 0.45, note = traverse" in added.output
    assert "1 hours with a new version." in done.output
    assert re.search(
        r"from 2026-03-01T12:00:00\+00:00\n    profile_factor = 0.45\n    note = traverse\n", listed.output
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "add", "1", "--from", "yesterday", "--set", "note=x"), "--from must be a time such as"),
        (("plan", "add", "1", "--from", "2026-03-01", "--set", "diametre_m=1"), "A plan has no field 'diametre_m'"),
        (("plan", "add", "1", "--from", "2026-03-01", "--set", "diameter_m=wide"), "diameter_m is a number"),
        (("plan", "add", "1", "--from", "2026-03-01", "--set", "off_co2_ppm=20000"), "off_co2_ppm must not be above"),
        (("plan", "list", "7"), "There is no stack 7"),
        (("recompute", "--from", "March"), "--from must be a day such as"),
        (("recompute", "--from", "2026-03-02", "--to", "2026-03-01"), "--to must not be before --from"),
        (("account", "nowhere"), "There is no factory 'nowhere'"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(say: Say, words: tuple[str, ...], said: str) -> None:
    done = say(*words)

    assert done.exit_code == 2
    assert said in done.output


def test_an_account_is_shown_for_people_and_as_json(say: Say) -> None:
    shown = say("account", "kangaita", "--month", "2026-03")
    plain = json.loads(say("account", "kangaita", "--month", "2026-03", "--json").output)

    assert "(never one total)" in shown.output
    assert "kg measured in 1 h" in shown.output
    assert re.search(r"biogenic CO2 \(memo\) +- +nothing to work it out from", shown.output), "one hour of a month"
    assert plain["stacks"][0]["period"]["valid_hours"] == 1


def test_the_factors_are_listed_with_sources_and_own_ones_replace_them(say: Say, tmp_path: Path) -> None:
    own = tmp_path / "factors.yaml"
    own.write_text(
        "- {name: grid.co2e, value: 0.05, unit: kg/kWh, source: our supplier, valid_from: 2026-01-01}\n",
        encoding="utf-8",
    )
    shipped = say("factors", "--on", "2026-03-01").output
    with (tmp_path / "carbontrack.yaml").open("a") as file:
        file.write(f"accounting:\n  factors_file: {own}\n")

    replaced = say("factors", "--on", "2026-03-01").output

    assert re.search(r"grid\.co2e +0\.0705 kg/kWh", shipped)
    assert re.search(r"grid\.co2e +0\.05 kg/kWh .* our supplier", replaced)
    assert re.search(r"firewood\.co2 +112 kg/GJ", replaced)


def test_a_bad_file_of_factors_names_file_row_and_key(say: Say, tmp_path: Path) -> None:
    own = tmp_path / "factors.yaml"
    own.write_text("- {name: grid.co2e, value: much, unit: kg/kWh, source: x, valid_from: 2026-01-01}\n")
    with (tmp_path / "carbontrack.yaml").open("a") as file:
        file.write(f"accounting:\n  factors_file: {own}\n")

    done = say("factors")

    assert done.exit_code == 2
    assert "factors.yaml, factor 1: value must be a number of at least 0, not 'much'" in done.output
