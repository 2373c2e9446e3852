"""Photos of delivery notes: only pictures, only for who may see the factory, in the audit log and every backup."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from carbontrack.backup import back_up, restore
from carbontrack.metrics import Metrics
from carbontrack.model import AuditAction
from carbontrack.store import MOST_PHOTOS, open_store
from carbontrack.web.errors import Problem
from carbontrack.web.photos import MOST_BYTES, Picture, look_at
from tests.support.estate import png
from tests.support.web import SAME_ORIGIN, Portal, running_portal

ENTRIES = "/factory/kangaita/entries"
WOOD = {"energy_type": "firewood", "amount": 1250, "unit": "kg", "timestamp": "2026-03-01T06:00:00+03:00"}
FORM = {"energy_type": "firewood", "amount": "1,250", "unit_firewood": "kg", "day": "2026-03-01"}
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04JF\xff\xc4\x00\x03\x00\xff\xff\xc0\x00\x11\x08" + struct.pack(">HH", 1200, 1600) + b"\x03"
)
WEBP_EXTENDED = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(4) + b"\x3f\x06\x00\xaf\x04\x00"
WEBP_LOSSY = b"RIFF\x00\x00\x00\x00WEBPVP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\x40\x06\xb0\x04"
WEBP_LOSSLESS = (
    b"RIFF\x00\x00\x00\x00WEBPVP8L\x0a\x00\x00\x00\x2f" + (1599 | 1199 << 14).to_bytes(4, "little") + bytes(5)
)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def entry_of(portal: Portal, client: TestClient[Any, Any], **changed: Any) -> int:
    answer = await client.post("/api/energy-entries/", json=WOOD | changed)
    assert answer.status == 201, await answer.text()
    return int((await answer.json())["id"])


async def send(
    client: TestClient[Any, Any], entry_id: int, content: bytes, media_type: str = "image/png"
) -> tuple[int, dict[str, Any]]:
    path = f"/api/energy-entries/{entry_id}/photos/"
    answer = await client.post(path, data=content, headers={"Content-Type": media_type})
    return answer.status, await answer.json()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(640), Picture("image/png", 640, 1)),
        (JPEG, Picture("image/jpeg", 1600, 1200)),
        (WEBP_EXTENDED, Picture("image/webp", 1600, 1200)),
        (WEBP_LOSSY, Picture("image/webp", 1600, 1200)),
        (WEBP_LOSSLESS, Picture("image/webp", 1600, 1200)),
    ],
)
def test_a_picture_is_known_by_its_bytes(content: bytes, expected: Picture) -> None:
    assert look_at(content) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a" + bytes(40), b"<svg onload=alert(1)>", JPEG[:12], png(0), png(20_000), b"\xff\xd8\xff\xff\xff"],
)
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(Problem, match="no photo that can be read"):
        look_at(content)


async def test_a_photo_is_kept_with_its_hash_and_given_in_a_sandbox(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    entry_id = await entry_of(portal, clerk)

    status, kept = await send(clerk, entry_id, png(640))

    assert status == 201
    assert kept["sha256"] == hashlib.sha256(png(640)).hexdigest()
    assert (kept["number"], kept["width"], kept["author"]) == (1, 640, "clerk@example.org")
    answer = await clerk.get(f"/api/energy-entries/{entry_id}/photos/1/")
    assert await answer.read() == png(640)
    assert answer.content_type == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"] == f'inline; filename="delivery-note-{entry_id}-1.png"'
    (event,) = await portal.core.store.audit_events(action=AuditAction.ENERGY_ENTRY_PHOTO_ADDED)
    assert event.after is not None
    assert (event.subject_id, event.after["sha256"]) == (str(entry_id), kept["sha256"])


async def test_the_same_photo_is_kept_once_and_an_entry_takes_so_many(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    entry_id = await entry_of(portal, clerk)

    numbers = [(await send(clerk, entry_id, png(width)))[1]["number"] for width in (1, 1, *range(2, MOST_PHOTOS + 1))]

    assert numbers == [1, *range(1, MOST_PHOTOS + 1)]
    status, refusal = await send(clerk, entry_id, png(99))
    assert (status, refusal["detail"]) == (409, "this entry has 10 photos already: it takes no more")


async def test_what_cannot_be_taken_is_said_with_what_to_do(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    entry_id = await entry_of(portal, clerk)

    for content, media_type, expected, words in (
        (b"GIF89a", "image/gif", 415, "Send the photo as it is"),
        (b"GIF89a", "image/png", 422, "send a JPEG, a PNG or a WebP"),
        (png(9) + bytes(MOST_BYTES), "image/png", 413, "larger than 1 MB"),
    ):
        status, refusal = await send(clerk, entry_id, content, media_type)
        assert (status, words in refusal["detail"]) == (expected, True), refusal
    await clerk.delete(f"/api/energy-entries/{entry_id}/?reason=typed+twice")
    assert (await send(clerk, entry_id, png(9)))[0] == 409


async def test_another_factorys_photo_is_not_there(portal: Portal) -> None:
    hq, clerk = await portal.signed_in("hq@example.org"), await portal.signed_in("clerk@example.org")
    entry_id = await entry_of(portal, hq, factory_id=portal.mungania.factory.id)
    assert (await send(hq, entry_id, png(9)))[0] == 201

    for path in ("photos/", "photos/1/"):
        assert (await clerk.get(f"/api/energy-entries/{entry_id}/{path}")).status == 404
    assert (await send(clerk, entry_id, png(8)))[0] == 404
    browser = await portal.browser("clerk@example.org")
    form = FormData({"id": str(entry_id)})
    form.add_field("photo", BytesIO(png(8)), filename="note.png")
    assert (await browser.post(ENTRIES + "/photo", data=form, headers=SAME_ORIGIN)).status == 404


async def test_a_form_without_scripts_sends_a_photo_and_one_later(portal: Portal) -> None:
    browser = await portal.browser("clerk@example.org")
    form = FormData(FORM)
    form.add_field("photo", BytesIO(JPEG), filename="note.jpg")
    answer = await browser.post(ENTRIES + "/energy", data=form, headers=SAME_ORIGIN)
    assert "Kept: 1,250 kg, Firewood." in await answer.text()

    later = FormData({"id": "1"})
    later.add_field("photo", BytesIO(png(8)), filename="note.png")
    answer = await browser.post(ENTRIES + "/photo", data=later, headers=SAME_ORIGIN)

    shown = await answer.text()
    assert "The photo is kept." in shown
    for number in (1, 2):
        assert f'href="/api/energy-entries/1/photos/{number}/"' in shown
    wrong = FormData(FORM)
    wrong.add_field("photo", BytesIO(b"words"), filename="note.jpg")
    answer = await browser.post(ENTRIES + "/energy", data=wrong, headers=SAME_ORIGIN)
    assert (answer.status, 'id="photo-error"' in await answer.text()) == (422, True)
    assert len(await portal.core.store.energy_entries(None)) == 1


async def test_only_what_belongs_to_the_type_is_taken_from_a_form(portal: Portal) -> None:
    """Without scripts, and where styles hide nothing, a form sends the fields of every type."""
    browser = await portal.browser("clerk@example.org")
    everything = FORM | {
        "energy_type": "diesel", "amount": "12,5", "unit_diesel": "litres", "unit_electricity": "MWh", "moisture": "25",
        "stack_density_kg_per_m3": "500", "sustainability": "yes", "first_day": "2026-02-01", "last_day": "2026-02-09",
    }  # fmt: skip

    answer = await browser.post(ENTRIES + "/energy", data=everything, headers=SAME_ORIGIN, allow_redirects=False)

    assert answer.status == 303, await answer.text()
    (entry,) = await portal.core.store.energy_entries(None)
    assert (entry.amount, entry.unit, entry.moisture) == (12.5, "litres", None)
    assert (entry.period_end - entry.period_start).days == 1


async def test_an_entry_can_be_filled_in_again_without_scripts(portal: Portal) -> None:
    browser = await portal.browser("clerk@example.org")
    await browser.post(ENTRIES + "/energy", data=FORM | {"evidence": "Kuni Ltd"}, headers=SAME_ORIGIN)

    shown = await (await browser.get(ENTRIES + "?same=1")).text()

    assert 'name="amount" inputmode="decimal" autocomplete="off" required value="1250"' in shown
    assert 'list="evidence-before" value="Kuni Ltd"' in shown


async def test_the_service_worker_is_nobodys_and_names_the_files_of_now(portal: Portal) -> None:
    nobody = portal.client()

    answer = await nobody.get("/sw.js")

    text = await answer.text()
    assert (answer.status, answer.content_type, answer.headers["Cache-Control"]) == (200, "text/javascript", "no-cache")
    assert "Service-Worker-Allowed" not in answer.headers
    for url in ("/app.css", "/entries.js", "/outbox.js"):
        assert re.search(rf"/static/~[0-9a-f]{{12}}{url}", text), url
    assert "There is no connection" in await (await nobody.get("/offline")).text()
    manifest = await (await nobody.get("/static/manifest.webmanifest")).json(content_type=None)
    for icon in manifest["icons"]:
        picture = look_at(await (await nobody.get(icon["src"])).read())
        assert f"{picture.width}x{picture.height}" == icon["sizes"]


async def test_a_backup_has_the_photos(tmp_path: Path) -> None:
    url, again = (f"sqlite://{tmp_path / name}" for name in ("before.sqlite3", "after.sqlite3"))
    async with running_portal(url) as portal:
        clerk = await portal.signed_in("clerk@example.org")
        entry_id = await entry_of(portal, clerk)
        await send(clerk, entry_id, png(640))
        made = await back_up(url, tmp_path)

    await restore(again, made.file)

    async with open_store(again, Metrics()) as store:
        found = await store.photo(entry_id, 1)
    assert found is not None
    assert found[1] == png(640)
