"""A table on the page of entries: seen first, kept by a button, with nothing kept on the server in between."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from tests.support.tables import Value, workbook
from tests.support.web import SAME_ORIGIN, Portal, running_portal

ENTRIES = "/factory/kangaita/entries"
UPLOAD = ENTRIES + "/upload"
HEAD = "energy_type,amount,unit,timestamp,note\n"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


@pytest.fixture
async def clerk(portal: Portal) -> TestClient[Any, Any]:
    return await portal.browser("clerk@example.org")


async def upload(
    client: TestClient[Any, Any], table: str | bytes, kind: str = "energy", path: str = UPLOAD
) -> tuple[int, str]:
    form = FormData({"kind": kind})
    form.add_field("file", io.BytesIO(table.encode() if isinstance(table, str) else table), filename="table")
    answer = await client.post(path, data=form, headers=SAME_ORIGIN)
    return answer.status, await answer.text()


def hidden(page: str) -> dict[str, str]:
    """What the page's button sends back."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: unescape(value) for name, value in found}


async def keep(client: TestClient[Any, Any], fields: dict[str, str], path: str = UPLOAD) -> tuple[int, str]:
    form = FormData(fields, default_to_multipart=True)
    answer = await client.post(path + "/keep", data=form, headers=SAME_ORIGIN, allow_redirects=False)
    return answer.status, await answer.text()


def days(*amounts: float) -> str:
    return HEAD + "".join(f"firewood,{amount},t,2026-02-{10 + at},\n" for at, amount in enumerate(amounts))


async def test_a_table_is_shown_first_and_kept_by_the_button(portal: Portal, clerk: TestClient[Any, Any]) -> None:
    status, page = await upload(clerk, HEAD + 'firewood,12.55,t,2026-02-27,"two ""lines"",\n<b>café</b>"\n')

    assert status == 200
    assert "27 Feb 2026" in page
    assert "12.55 t" in page
    assert "Keep this entry" in page
    assert await portal.core.store.energy_entries(None) == []

    assert (await keep(clerk, hidden(page)))[0] == 303
    (entry,) = await portal.core.store.energy_entries(None)
    assert (entry.amount, entry.note, entry.author) == (12.55, 'two "lines",\n<b>café</b>', "clerk@example.org")
    assert "One entry of the table is kept." in await (await clerk.get(ENTRIES)).text()


async def test_a_workbook_of_tea_is_taken_too(portal: Portal, clerk: TestClient[Any, Any]) -> None:
    rows: list[list[Value]] = [
        ["made_tea_kg", "green_leaf_kg", "timestamp"],
        [10_000, 45_000, date(2026, 2, 27)],
        [None, 100, "2026-02-28"],
    ]

    _, page = await upload(clerk, workbook(rows), "tea")
    await keep(clerk, hidden(page))

    assert "10,000 kg made<br>45,000 kg leaf" in page
    assert "Keep these 2 entries" in page
    assert len(await portal.core.store.production_entries(portal.kangaita.factory.id)) == 2


async def test_what_is_wrong_is_shown_by_row_and_field_and_there_is_no_button(
    portal: Portal, clerk: TestClient[Any, Any]
) -> None:
    _, page = await upload(clerk, HEAD + "firewood,twelve,t,2026-02-27,\nfirewood,12,t,2026-02-27,\n")

    assert "<code>amount</code> Must be a number such as 1250 or 12.5" in page
    assert "Nothing is kept yet" in page
    assert hidden(page) == {}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "The file is empty"),
        (b"amuont\n1\n", "<code>amuont</code> Is no such column"),
        (b"PK", "The workbook is damaged"),
        (b"x" * (1024 * 1024), "larger than 1 MiB"),
        (HEAD.encode() + b"firewood,12,t,2026-02-27," + b"x" * 500, "Can be kept"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
async def test_what_is_no_table_is_said_and_another_file_can_be_chosen(
    portal: Portal, clerk: TestClient[Any, Any], table: bytes, said: str
) -> None:
    status, page = await upload(clerk, table)

    assert said in page
    assert (status == 422) == ('id="upload-file"' in page)


async def test_an_unusual_amount_must_be_confirmed(portal: Portal, clerk: TestClient[Any, Any]) -> None:
    _, page = await upload(clerk, days(12, 12.5, 11, 125))
    fields = hidden(page)

    assert 'name="confirmed" value="true" required' in page
    status, again = await keep(clerk, fields)
    assert (status, hidden(again)) == (200, fields)
    assert "Please look again" in again
    assert await portal.core.store.energy_entries(None) == []
    assert (await keep(clerk, fields | {"confirmed": "true"}))[0] == 303
    assert len(await portal.core.store.energy_entries(None)) == 4


async def test_a_button_that_is_pressed_twice_keeps_the_table_once(portal: Portal, clerk: TestClient[Any, Any]) -> None:
    _, page = await upload(clerk, days(12, 13))
    fields = hidden(page)
    for _ in range(2):
        status, again = await keep(clerk, fields)
    assert (status, "Please look again" in again) == (200, True)

    _, page = await upload(clerk, days(12, 13, 14))
    assert "is there already, as entry" in page.lower()
    everything = hidden(page) | {"allow_duplicates": "true"}
    for _ in range(2):
        await keep(clerk, everything)

    assert sorted(it.amount for it in await portal.core.store.energy_entries(None)) == [12, 12, 13, 13, 14]


async def test_duplicates_that_are_wanted_after_all_are_questioned_too(
    portal: Portal, clerk: TestClient[Any, Any]
) -> None:
    table = days(12, 12.5, 11, 125)
    _, page = await upload(clerk, table)
    await keep(clerk, hidden(page) | {"confirmed": "true"})
    _, page = await upload(clerk, table)
    assert "confirmed" not in page

    wanted = hidden(page) | {"allow_duplicates": "true"}
    _, again = await keep(clerk, wanted)

    assert 'name="confirmed" value="true" required' in again
    assert 'name="allow_duplicates" value="true" checked' in again
    assert (await keep(clerk, hidden(again) | {"allow_duplicates": "true", "confirmed": "true"}))[0] == 303
    assert len(await portal.core.store.energy_entries(None)) == 8


async def test_what_the_page_carries_is_judged_again(portal: Portal, clerk: TestClient[Any, Any]) -> None:
    _, page = await upload(clerk, days(12))
    fields = hidden(page)

    for rows, status in (
        ("", 400),
        ("[]x", 400),
        ('[[2,{"amount":12}]]', 400),
        (fields["rows"].replace("12.0", "-12.0"), 200),
        (fields["rows"].replace('"amount"', f'"factory_id":{portal.mungania.factory.id},"amount"'), 200),
    ):
        assert rows != fields["rows"]
        assert (await keep(clerk, fields | {"rows": rows}))[0] == status, rows
    assert (await keep(clerk, fields | {"kind": "coal"}))[0] == 400
    assert await portal.core.store.energy_entries(None) == []


async def test_a_table_is_for_the_factory_whose_page_it_is(portal: Portal) -> None:
    hq = await portal.browser("hq@example.org")
    table = "factory," + HEAD + "Mungania,firewood,12,t,2026-02-27,\n"

    _, page = await upload(hq, table)
    assert "<code>factory</code> Is not the factory that this table was sent for." in page

    _, page = await upload(hq, table, path="/factory/mungania/entries/upload")
    assert (await keep(hq, hidden(page), "/factory/mungania/entries/upload"))[0] == 303
    assert len(await portal.core.store.energy_entries(portal.mungania.factory.id)) == 1


async def test_only_who_enters_for_a_factory_uploads_for_it(portal: Portal, clerk: TestClient[Any, Any]) -> None:
    auditor = await portal.browser("auditor@example.org")
    _, page = await upload(clerk, days(12))

    assert (await upload(auditor, days(12)))[0] == 403
    assert (await keep(auditor, hidden(page)))[0] == 403
    assert "Upload a table" not in await (await auditor.get(ENTRIES)).text()
    assert (await upload(clerk, days(12), path="/factory/mungania/entries/upload"))[0] == 404
    assert (await keep(clerk, hidden(page), "/factory/mungania/entries/upload"))[0] == 404
    assert await portal.core.store.energy_entries(None) == []
