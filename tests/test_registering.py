"""Many devices at once: a table of factories, chimneys and devices, and what all of them are handed out."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import FormData
from typer.testing import CliRunner

from carbontrack.cli import app
from carbontrack.credentials import device_password
from carbontrack.handout import Handouts
from carbontrack.model import AuditAction
from carbontrack.store import Store
from carbontrack.web.registering import COLUMNS, EXAMPLE, Judged, judge, template
from carbontrack.web.spreadsheets import read_csv
from tests.support.html import page, send
from tests.support.web import SAME_ORIGIN, Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, eventually, migrated_store, register

pytest_plugins = ["tests.support.world"]

KEY = "k" * 32
HEAD = "factory,altitude_m,county,chimney,shape,diameter_m,width_m,length_m,basis,device_id,sensor"
GOOD = f"""{HEAD}
Ndima,1850,Kirinyaga,Boiler 1,,0.8,,,,ct-ndima-1,
ndima,,,Boiler 2,rectangular,,0.5,0.6,wet,ct-ndima-2,ct_v1
Ndima,1850,,boiler 2,,,0.5,,,ct-ndima-3,
Rukuriri,2000,Embu,,,,,,,,
Kangaita,,,Boiler of dev-001,circular,0.8,,,,dev-001,
"""


async def judged(store: Store, text: str) -> Judged:
    return await judge(read_csv(text.encode()), store, {"ct_v1", "flat_json"}, NOON)


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with two devices, for what is no matter of the engine."""
    async with migrated_store(f"sqlite://{tmp_path / 'small.sqlite3'}") as store:
        await register(store, "dev-001", "dev-002")
        yield store


async def test_a_table_registers_what_is_new_and_a_second_time_nothing(store: Store) -> None:
    await register(store, "dev-001")
    found = await judged(store, GOOD)
    assert found.errors == []
    assert (list(found.factories), len(found.stacks), list(found.devices), found.there) == (
        ["ndima", "rukuriri"], 2, ["ct-ndima-1", "ct-ndima-2", "ct-ndima-3"], 1,
    )  # fmt: skip

    added = await store.register_all(found.registration)
    sites = {it.device.device_id: it for it in await store.sites()}
    assert [it.device_id for it in added] == ["ct-ndima-1", "ct-ndima-2", "ct-ndima-3"]
    assert sites["ct-ndima-2"].stack == sites["ct-ndima-3"].stack
    assert sites["ct-ndima-2"].stack.plans[-1].area_m2 == pytest.approx(0.3)
    assert (sites["ct-ndima-1"].factory.county, sites["ct-ndima-1"].device.sensor) == ("Kirinyaga", "ct_v1")
    assert len(await store.audit_events(action=AuditAction.DEVICE_ADDED)) == 4

    revision, again = await store.revision(), await judged(store, GOOD)
    assert (again.errors, again.there, again.registration.devices) == ([], 5, ())
    assert await store.register_all(again.registration) == []
    assert await store.revision() == revision


WRONG = (
    (",1850,,Boiler 1,,0.8,,,,x-1,", "factory", "is needed"),
    ("Ndima,,,Boiler 1,,0.8,,,,x-1,", "altitude_m", "is needed for a factory that is new"),
    ("Ndima,9000,,Boiler 1,,0.8,,,,x-1,", "altitude_m", "less than or equal to 5000"),
    ("Ndima,high,,Boiler 1,,0.8,,,,x-1,", "altitude_m", "must be a number"),
    ("Kangaita,1,,Boiler 1,,0.8,,,,x-1,", "altitude_m", "is registered otherwise: 2000"),
    ("Kangaita!,1850,,,,,,,,,", "factory", "too much like Kangaita"),
    ("Kangaita,,,Boiler 9,,,,,,x-1,", "diameter_m", "is needed for a chimney that is new"),
    ("Kangaita,,,Boiler 9,rectangular,0.8,0.5,,,x-1,", "length_m", "is needed"),
    ("Kangaita,,,Boiler 9,square,0.8,,,,x-1,", "shape", "must be one of circular, rectangular"),
    ("Kangaita,,,Boiler 9,,0,,,,x-1,", "diameter_m", "larger than its wall deposit"),
    ("Kangaita,,,Boiler of dev-001,,0.9,,,,,", "diameter_m", "is registered otherwise: 0.8"),
    ("Kangaita,,,,,,,,,x-1,", "chimney", "is needed"),
    ("Kangaita,,,Boiler of dev-001,,,,,,x/1,", "device_id", "none of / + # $"),
    ("Kangaita,,,Boiler of dev-001,,,,,,x-1,magic", "sensor", "must be one of ct_v1, flat_json"),
    ("Kangaita,,,Boiler of dev-001,,,,,,dev-001,flat_json", "sensor", "is registered otherwise: ct_v1"),
    ("Kangaita,,,Boiler of dev-001,,,,,,dev-002,", "device_id", "measures Boiler of dev-002"),
    ("Kangaita,,,Boiler of dev-001,,,,,,,ct_v1", "device_id", "is needed"),
    ("Kangaita,,,,,,,,,,,more", "", "more cells"),
    (f"{EXAMPLE},2036,,,,,,,,,", "factory", "template's example"),
)


async def test_what_is_wrong_is_said_by_row_and_column(small: Store) -> None:
    for row, column, said in WRONG:
        found = await judged(small, f"{HEAD}\nKangaita,,,,,,,,,,\n{row}\n")

        assert [(it.row, it.field) for it in found.errors] == [(3, column)], row
        assert said in found.errors[0].message


async def test_rows_that_contradict_each_other_are_wrong_and_a_fault_is_said_once(small: Store) -> None:
    rows = ("Ndima,1850,,B,,0.8,,,,x-1,", "Ndima,1900,,B,,0.9,,,,x-1,", "Ndima,,,C,,1,,,,x-1,", "Ngere,,,B,,1,,,,y-1,")
    found = await judged(small, "\n".join([HEAD, *rows, "Ngere,,,B,,1,,,,y-2,"]))

    assert [(it.row, it.field) for it in found.errors] == [
        (3, "altitude_m"), (3, "diameter_m"), (4, "device_id"), (5, "altitude_m"),
    ]  # fmt: skip
    assert "row 2: 1850" in found.errors[0].message


def test_the_template_has_every_column_and_a_row_to_replace() -> None:
    head, row = csv.reader(io.StringIO(template()))
    assert (tuple(head), row[0]) == (COLUMNS, EXAMPLE)


# --- by the command line


def test_the_command_line_says_what_is_wrong_and_registers_all_or_nothing(tmp_path: Path) -> None:
    def say(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["device", *words, "--config", str(config)])
        return done.exit_code, done.output

    config, table = tmp_path / "carbontrack.yaml", tmp_path / "devices.csv"
    url = f"sqlite://{tmp_path / 'cli.sqlite3'}"
    config.write_text(
        f"database:\n  url: {url}\nmqtt:\n  device_key: {KEY}\ndevices:\n  broker_host: mqtt.example.org\n"
    )
    assert CliRunner().invoke(app, ["migrate", "--config", str(config)]).exit_code == 0

    table.write_text(f"{HEAD}\nNdima,1850,,Boiler 1,,0.8,,,,ct-1,\nNdima,,,Boiler 2,,,,,,ct-2,\n")
    code, output = say("import", str(table))
    assert (code, "row 3: diameter_m is needed" in output, "Nothing was registered" in output) == (2, True, True)
    assert say("list") == (0, "")

    table.write_text(f"{HEAD}\nNdima,1850,,Boiler 1,,0.8,,,,ct-1,\n")
    assert "1 factories, 1 chimneys and 1 devices would be registered" in say("import", str(table), "--dry-run")[1]
    assert say("list") == (0, "")
    assert "1 devices are registered; 0 of 1" in say("import", str(table))[1]
    assert "0 devices are registered; 1 of 1" in say("import", str(table))[1]

    told = json.loads(say("handout", "ct-1", "--wifi-ssid", "Ndima")[1])["provision"]
    assert (told["id"], told["host"], told["port"], told["wifi_ssid"]) == ("ct-1", "mqtt.example.org", 8883, "Ndima")
    assert "ct-1 is shut out" in say("replace", "ct-1", "ct-9")[1]
    assert say("revoke", "ct-9") == (0, "Device ct-9 is shut out.\n")
    assert [line.split()[:2] for line in say("list")[1].splitlines()] == [["ct-1", "disabled"], ["ct-9", "disabled"]]


# --- by the pages


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    handouts = Handouts("mqtt.example.org", key=KEY)
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", device_key=KEY, handouts=handouts) as running:
        yield running


def uploaded(text: str) -> FormData:
    form = FormData()
    form.add_field("file", text.encode(), filename="devices.csv", content_type="text/csv")
    return form


async def test_a_table_is_shown_first_then_registered_and_handed_out(portal: Portal) -> None:
    browser, store = await portal.browser("operator@example.org"), portal.core.store
    portal.core.tell("dev-001", body(1, 1), received_at_ms=NOON_MS)
    await eventually(lambda: portal.core.outcomes()["committed"] == 1)
    assert "device_id" in await page(browser, "/hq/devices/import")
    assert EXAMPLE in await (await browser.get("/hq/devices/import/template")).text()

    bad = await browser.post("/hq/devices/import", data=uploaded(GOOD.replace("1850", "9999")), headers=SAME_ORIGIN)
    text = await bad.text()
    assert (bad.status, "Nothing is registered" in text, "Register all of it" in text) == (422, True, False)
    bad = await browser.post("/hq/devices/import", data=uploaded("factory,color\nNdima,red\n"), headers=SAME_ORIGIN)
    assert "Is no such column" in await bad.text()

    seen = await browser.post("/hq/devices/import", data=uploaded(GOOD), headers=SAME_ORIGIN)
    text = await seen.text()
    assert (seen.status, "Register all of it" in text, "ct-ndima-3" in text) == (200, True, True)
    assert len(await store.sites()) == 2, "nothing is registered yet"
    table = read_csv(GOOD.encode())
    carried = json.dumps({"head": table.head, "rows": table.rows, "separator": ","})
    status, text = await send(browser, "/hq/devices/import/keep", {"table": carried})
    assert (status, "3 devices are registered" in text, len(await store.sites())) == (303, True, 5)
    assert "ct-ndima-1" in portal.core.fleet.states(), "they are listened to at once"
    assert text.count(" checked") == 4, "all that were never heard are chosen"

    ids = [str(it.device.id) for it in await store.sites() if it.device.device_id.startswith("ct-ndima")]
    form = FormData([("ids", it) for it in ids] + [("as", "zip"), ("wifi_ssid", "Ndima")])
    answer = await browser.post("/hq/devices/handouts", data=form, headers=SAME_ORIGIN)
    with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
        assert sorted(archive.namelist()) == [f"ndima/ct-ndima-{number}.json" for number in (1, 2, 3)]
        told = json.loads(archive.read("ndima/ct-ndima-2.json"))["provision"]
    site = next(it for it in await store.sites() if it.device.device_id == "ct-ndima-2")
    assert (told["password"], told["wifi_ssid"]) == (device_password(KEY, site.device), "Ndima")
    assert answer.headers["Cache-Control"] == "no-store"

    form = FormData([("ids", it) for it in ids] + [("as", "sheets")])
    text = await (await browser.post("/hq/devices/handouts", data=form, headers=SAME_ORIGIN)).text()
    assert (text.count('class="qr"'), device_password(KEY, site.device) in text) == (3, True)
    assert len(await store.audit_events(action=AuditAction.DEVICE_HANDED_OUT)) == 6

    status, text = await send(browser, "/hq/devices/handouts", {"as": "zip"})
    assert (status, "Choose at least one device" in text) == (422, True)
