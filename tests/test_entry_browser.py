"""Entering on a phone, in a real browser: what is typed is never lost, and each entry arrives once."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from carbontrack.ledger import EnergyEntry, EnergyType
from carbontrack.model import Origin
from tests.support.chromium import Chromium
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import NOON

ENTRIES = "/factory/kangaita/entries"
DRAW_BIG_PHOTO = """async () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [3264, 2448];
  const pen = canvas.getContext("2d");
  for (let at = 0; at < 40000; at += 1) {
    pen.fillStyle = `hsl(${(at * 47) % 360} 60% ${30 + (at % 50)}%)`;
    pen.fillRect((at * 7919) % 3264, (at * 104729) % 2448, 40, 24);
  }
  return canvas.toDataURL("image/jpeg", 0.95).split(",")[1];
}"""


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def entered(portal: Portal, *amounts: float) -> None:
    """Firewood of the days before, a day each."""
    for ago, amount in enumerate(amounts, 2):
        start = NOON.replace(hour=21) - timedelta(days=ago)
        entry = EnergyEntry(0, 1, portal.kangaita.factory.id, EnergyType.FIREWOOD, amount, "kg", start,
                            start + timedelta(days=1), moisture=0.3, evidence="Kuni Ltd")  # fmt: skip
        await portal.core.store.add_energy_entry(entry, Origin("clerk@example.org"), NOON)


async def opened(portal: Portal, chromium: Chromium, path: str = ENTRIES, **options: Any) -> Page:
    """The page of entries on a clerk's phone, whose clock is the portal's."""
    tab = await chromium.new_page(**({"viewport": {"width": 360, "height": 740}} | options))
    await tab.clock.set_fixed_time(NOON)
    await sign_in(portal, tab, path)
    return tab


async def sign_in(portal: Portal, tab: Page, path: str = ENTRIES) -> None:
    await tab.goto(str(portal.server.make_url("/login").with_query(next=path)))
    await tab.get_by_label("E-mail").fill("clerk@example.org")
    await tab.get_by_label("Password").fill(PASSWORD)
    await tab.get_by_role("button", name="Sign in").click()
    await expect(tab.locator("[data-ready]")).to_be_attached()


async def kept(portal: Portal) -> list[EnergyEntry]:
    return await portal.core.store.energy_entries(None)


def energy(tab: Page) -> Any:
    return tab.locator("form[data-entry=energy]")


async def test_the_last_entry_is_filled_in_by_a_touch_kept_and_undone(portal: Portal, chromium: Chromium) -> None:
    await entered(portal, 1250, 1300, 1200)
    tab = await opened(portal, chromium)
    form = energy(tab)

    await form.get_by_role("button", name="Same as last: 1,250 kg, Kuni Ltd").click()
    await expect(form.get_by_label("How much")).to_have_value("1250")
    await expect(form.get_by_label("Supplier, delivery note or invoice")).to_have_value("Kuni Ltd")
    await expect(form.locator("[data-comes-to]")).to_have_text("= 1,250 kg")
    await form.get_by_text("Yesterday").click()
    await form.get_by_role("button", name="Keep").click()
    await expect(tab.locator(".toast")).to_contain_text("Kept: Firewood: 1,250 kg, 2026-02-28")
    assert len(await kept(portal)) == 4
    (new,) = [it for it in await kept(portal) if it.recorded_at == portal.now + timedelta(seconds=1)]
    assert (new.moisture, new.evidence, new.period_end) == (0.3, "Kuni Ltd", NOON.replace(day=28, month=2, hour=21))

    await tab.get_by_role("button", name="Undo").click()
    await expect(tab.locator(".toast")).to_contain_text("Undone")
    await expect(form.get_by_label("How much")).to_have_value("1250")
    assert len(await kept(portal)) == 3
    assert (await portal.core.store.energy_entry_history(new.id))[-1].reason == "undone right after it was entered"
    assert chromium.complaints == []


async def test_where_the_wood_comes_from_is_typed_seen_and_not_carried_to_the_next_delivery(
    portal: Portal, chromium: Chromium
) -> None:
    tab = await opened(portal, chromium)
    form = energy(tab)
    await expect(form.get_by_label("Supplier", exact=True)).to_be_hidden()
    await form.get_by_label("How much").fill("1250")
    await form.get_by_text("Where the wood comes from").click()
    await form.get_by_label("Whose wood").select_option(label="Bought")
    await form.get_by_label("Supplier", exact=True).fill("Mlima")
    await form.get_by_label("Kind of tree").fill("Eucalyptus")
    await form.get_by_label("Where it grew").fill("-0.51,37.28")
    await form.get_by_label("Cut on").fill("2026-01-15")
    await form.get_by_label("Number of the permit").fill("KFS 118")
    assert await tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    await form.get_by_role("button", name="Keep").click()
    await expect(tab.locator(".toast")).to_contain_text("Kept: Firewood: 1,250 kg")
    (entry,) = await kept(portal)
    assert (entry.wood_origin, entry.supplier, entry.harvested_on) == ("purchased", "Mlima", date(2026, 1, 15))
    assert (entry.species, entry.plot, entry.permit) == ("Eucalyptus", "-0.51,37.28", "KFS 118")

    await tab.reload()
    await expect(form.get_by_label("Kind of tree")).to_have_value("Eucalyptus")
    await form.get_by_label("How much").fill("1300")
    await form.get_by_label("Supplier", exact=True).fill("Baraka")
    await form.get_by_role("button", name="Keep").click()
    await expect(tab.locator(".toast")).to_contain_text("1,300 kg")
    await expect(form.get_by_label("Supplier", exact=True)).to_have_value("")

    await form.get_by_role("button", name="1,250 kg").click()
    await expect(form.get_by_label("Supplier", exact=True)).to_have_value("Mlima")
    await form.get_by_text("Diesel", exact=True).click()
    await expect(form.get_by_text("Where the wood comes from")).to_be_hidden()
    assert chromium.complaints == []


async def test_a_slip_in_the_origin_of_wood_is_said_where_it_is_seen(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    form = energy(tab)
    await form.get_by_label("How much").fill("1250")
    await form.get_by_text("Where the wood comes from").click()
    await form.get_by_label("Cut on").fill("2026-03-01")
    await form.get_by_text("Yesterday").click()
    await form.get_by_text("Where the wood comes from").click()

    await form.get_by_role("button", name="Keep").click()

    await expect(form.get_by_label("Cut on")).to_be_focused()
    await expect(form.locator(".field-error")).to_contain_text("lies after the wood was burned")
    assert await kept(portal) == []
    chromium.complaints.clear()  # the answer of 422


async def test_only_units_that_fit_are_offered_and_the_weight_is_shown(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    form = energy(tab)

    await expect(form.get_by_text("litres", exact=True)).to_be_hidden()
    await form.get_by_text("stacked m³", exact=True).click()
    await form.get_by_label("How much").fill("12,5")
    await form.get_by_label("kg in a stacked m³, weighed").fill("500")
    await expect(form.locator("[data-comes-to]")).to_have_text("= 6,250 kg")
    await form.get_by_text("Diesel", exact=True).click()
    await expect(form.get_by_text("litres", exact=True)).to_be_visible()
    await expect(form.get_by_label("Moisture")).to_be_hidden()
    assert await tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def test_a_slip_is_asked_about_as_it_is_typed(portal: Portal, chromium: Chromium) -> None:
    await entered(portal, 1250, 1300, 1200)
    tab = await opened(portal, chromium)
    form = energy(tab)
    guard = form.locator("[data-guard]")

    await form.get_by_label("How much").fill("12500")
    await expect(guard).to_contain_text(
        "12,500 kg a day is 10 times the usual. Usual here: 1,200 to 1,300 kg a day. Did you mean 1,250?"
    )
    await form.get_by_role("button", name="Keep").click()
    await expect(guard.get_by_role("checkbox")).to_be_focused()
    assert len(await kept(portal)) == 3, "it is not sent before somebody has answered"

    await guard.get_by_role("button", name="Use 1,250").click()
    await expect(guard).to_be_hidden()
    await form.get_by_label("How much").fill("12500")
    await guard.get_by_label("Yes, it is right").check()
    await form.get_by_role("button", name="Keep").click()
    await expect(tab.locator(".toast")).to_contain_text("12,500 kg")
    assert max(it.amount for it in await kept(portal)) == 12500


async def test_what_is_typed_is_there_again_after_a_reload(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    await energy(tab).get_by_label("How much").fill("777")
    await energy(tab).get_by_label("Supplier, delivery note or invoice").fill("note 12")

    await tab.reload()

    await expect(tab.locator("[data-draft]")).to_be_visible()
    await expect(energy(tab).get_by_label("How much")).to_have_value("777")
    await expect(energy(tab).get_by_label("Supplier, delivery note or invoice")).to_have_value("note 12")
    await tab.get_by_role("button", name="Begin anew").click()
    await expect(energy(tab).get_by_label("How much")).to_have_value("")
    await tab.reload()
    await expect(tab.locator("[data-ready]")).to_be_attached()
    await expect(energy(tab).get_by_label("How much")).to_have_value("")


async def test_the_form_is_filled_in_by_keyboard_alone(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    await energy(tab).get_by_role("radio", name="Firewood").focus()

    await tab.keyboard.press("ArrowRight")  # diesel
    await tab.keyboard.press("Tab")
    await tab.keyboard.type("40")
    await tab.keyboard.press("Enter")

    await expect(tab.locator(".toast")).to_contain_text("Diesel: 40 litres")
    (entry,) = await kept(portal)
    assert (entry.energy_type, entry.unit) == (EnergyType.DIESEL, "litres")


async def test_without_a_link_an_entry_waits_over_a_reload_and_arrives_once(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium, service_workers="allow")
    await tab.wait_for_function("navigator.serviceWorker.ready.then(() => true)")
    await tab.wait_for_function("caches.keys().then((names) => names.some((name) => name.startsWith('ct-pages-')))")
    await tab.context.set_offline(True)
    form = energy(tab)
    await form.get_by_label("How much").fill("1250")
    await form.get_by_role("button", name="Keep").click()
    await expect(tab.get_by_role("heading", name="1 entry waits for a connection")).to_be_visible()

    await tab.reload()
    await expect(tab.get_by_text("Offline. This page is a copy")).to_be_visible()
    await expect(tab.locator("[data-outbox-list]")).to_contain_text("Firewood: 1,250 kg")
    assert await kept(portal) == []
    await tab.goto(str(portal.server.make_url("/factory/kangaita/")))
    await expect(tab.get_by_role("heading", name="There is no connection")).to_be_visible()
    await tab.get_by_role("button", name="Enter energy and tea").click()
    await energy(tab).get_by_label("How much").fill("40")
    await energy(tab).get_by_role("button", name="Keep").click()
    await expect(tab.get_by_role("heading", name="2 entries wait for a connection")).to_be_visible()
    await tab.get_by_role("listitem").filter(has_text="40 kg").get_by_role("button", name="Remove").click()

    await tab.context.set_offline(False)
    await expect(tab.locator("[data-outbox]")).to_be_hidden()
    await tab.reload()
    await expect(tab.locator("#recent")).to_contain_text("1,250 kg")
    (entry,) = await kept(portal)
    assert entry.amount == 1250
    chromium.complaints.clear()  # what could not be fetched meanwhile

    await tab.get_by_role("button", name="Sign out").click()
    await tab.wait_for_url("**/login")
    names = await tab.evaluate("caches.keys()")
    assert not [name for name in names if name.startswith("ct-pages-")], "the copy goes with whoever signs out"
    assert chromium.complaints == []


async def test_an_answer_that_was_lost_makes_no_second_entry(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    lost: list[int] = []

    async def lose(route: Any) -> None:
        answer = await route.fetch()
        lost.append(answer.status)
        await route.abort()

    await tab.route("**/api/energy-entries/", lose, times=1)
    await energy(tab).get_by_label("How much").fill("1250")
    await energy(tab).get_by_role("button", name="Keep").click()
    await expect(tab.locator("[data-outbox]")).to_contain_text("It may have reached the server already")
    assert lost == [201]

    await tab.get_by_role("button", name="Send now").click()
    await expect(tab.locator("[data-outbox]")).to_be_hidden()
    assert len(await kept(portal)) == 1
    chromium.complaints.clear()  # the answer that was lost


async def test_the_outbox_asks_what_the_server_asks(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    await tab.context.set_offline(True)
    await energy(tab).get_by_label("How much").fill("12500")
    await energy(tab).get_by_role("button", name="Keep").click()
    await expect(tab.locator("[data-outbox-list]")).to_contain_text("12,500 kg")
    await entered(portal, 1250, 1300, 1200)

    await tab.context.set_offline(False)

    row = tab.locator("[data-outbox-list] li")
    await expect(row).to_contain_text("10.0 times what is usual here")
    await row.get_by_role("button", name="Yes, it is right").click()
    await expect(tab.locator("[data-outbox]")).to_be_hidden()
    assert max(it.amount for it in await kept(portal)) == 12500
    chromium.complaints.clear()  # the question is an answer of 422


async def test_a_session_that_has_ended_loses_nothing(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    await tab.context.clear_cookies()
    await energy(tab).get_by_label("How much").fill("1250")
    await energy(tab).get_by_role("button", name="Keep").click()
    await expect(tab.locator("[data-outbox]")).to_contain_text("Sign in again: nothing is lost")

    await sign_in(portal, tab)

    await expect(tab.locator(".toast")).to_contain_text("Kept")
    assert len(await kept(portal)) == 1
    chromium.complaints.clear()  # the answer of 401


async def test_a_photo_is_made_small_and_goes_with_its_entry(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium)
    big = b64decode(await tab.evaluate(DRAW_BIG_PHOTO))
    form = energy(tab)
    await form.get_by_label("Photo of the delivery note").set_input_files(
        {"name": "note.jpg", "mimeType": "image/jpeg", "buffer": big}
    )
    told = form.locator("[data-photo-told]")
    await expect(told).to_contain_text(f"instead of {len(big) / 1000:,.0f} kB, 1600 \N{MULTIPLICATION SIGN} 1200")
    await expect(form.locator("[data-photo-shown]")).to_be_visible()
    await form.get_by_label("How much").fill("1250")
    await tab.reload()
    await expect(told).to_be_visible()  # the draft has the photo as well

    await form.get_by_role("button", name="Keep").click()
    await expect(tab.locator("#recent").get_by_role("link", name="Photo 1")).to_be_visible()

    (entry,) = await kept(portal)
    found = await portal.core.store.photo(entry.id, 1)
    assert found is not None
    photo, content = found
    assert (photo.media_type, photo.width, photo.height) == ("image/jpeg", 1600, 1200)
    assert len(content) < 450_000 < len(big)
    assert chromium.complaints == []
