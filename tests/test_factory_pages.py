"""One factory's pages: now and how old, today against last week and the targets, wood and fire, targets, reports."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Page, expect

from carbontrack.emissions.firing import FEWEST_FACTORIES
from carbontrack.ledger import EnergyEntry, EnergyType, Metric, ProductionEntry, Target
from carbontrack.model import Origin
from carbontrack.tiers import local_day
from tests.support.chromium import Chromium
from tests.support.html import page, send
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, eventually, factory, summarise_touched

NOW = "/factory/kangaita/"
FIRE = "/factory/kangaita/combustion"
TARGETS = "/factory/kangaita/targets"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NAIROBI = ZoneInfo("Africa/Nairobi")
TODAY = date(2026, 3, 1)
"""A Sunday; the clock says 15:00 in Nairobi."""
SINCE_MIDNIGHT = 15 * HOUR
BY = Origin("clerk@example.org")
PRICE = {"kes": "3,400", "unit": "t", "kg_per_m3": "", "valid_from": "2026-02-01"}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


def told(text: str) -> str:
    """What a page says, without its markup, in characters that are easily told apart."""
    plain = text.replace("\u2019", "'").replace("\u00d7", "x").replace("\u2212", "-")
    return " ".join(re.sub(r"<[^>]*>", " ", plain).split())


async def measure(portal: Portal, begin: datetime, lasts: timedelta, seq: int = 1) -> None:
    """Readings every 30 s, of a boiler that fires."""
    at_ms, before = round(begin.timestamp() * 1000), portal.core.outcomes()["committed"]
    count = int(lasts / timedelta(seconds=30))
    for first in range(0, count, 300):
        part = body(seq + first, min(300, count - first), at_ms=at_ms + first * 30_000, step_ms=30_000)
        portal.core.tell("dev-001", part, received_at_ms=max(NOON_MS, at_ms))
    await eventually(lambda: portal.core.outcomes()["committed"] == before + count)
    await summarise_touched(portal.core.store)


async def enter(portal: Portal, factory_id: int, days: int, per_tea: float, until: date = TODAY) -> None:
    """Wood and tea of so many days before a day, but for Sundays."""
    energy, production = [], []
    for number in range(1, days + 1):
        day = until - timedelta(days=number)
        begin, end = local_day(day, NAIROBI)
        if day.weekday() == 6:
            continue
        wood = EnergyEntry(0, 1, factory_id, EnergyType.FIREWOOD, 10_000 * per_tea, "kg", begin, end, moisture=0.25)
        energy.append(wood)
        production.append(ProductionEntry(0, 1, factory_id, begin, end, None, 10_000.0))
    await portal.core.store.add_energy_entries(energy, BY, NOON)
    await portal.core.store.add_production_entries(production, BY, NOON)


class TestNow:
    async def test_a_device_that_never_sent_says_what_to_do(self, portal: Portal) -> None:
        clerk = await portal.browser("clerk@example.org")

        shown = await page(clerk, NOW)

        assert "has not sent anything yet" in shown
        assert 'href="/factory/kangaita/devices"' in shown

    async def test_what_is_old_says_how_old_it_is(self, portal: Portal) -> None:
        await measure(portal, NOON - HOUR, HOUR)
        clerk = await portal.browser("clerk@example.org")
        portal.now = NOON - timedelta(seconds=20)
        assert "data-stale>" not in await page(clerk, NOW)

        portal.now = NOON + timedelta(minutes=4)

        shown = await page(clerk, NOW)
        assert "data-stale>" in shown
        assert "These values are 5 min old." in shown

    async def test_running_and_fit_are_said_apart(self, portal: Portal) -> None:
        await measure(portal, NOON - HOUR, HOUR)
        clerk = await portal.browser("clerk@example.org")

        shown = told(await page(clerk, NOW))

        assert "Sensors Fit" in shown
        assert "Boiler Runs" in shown or "Boiler Not known" in shown

    async def test_the_smaller_twin_of_the_trends_is_gone(self, portal: Portal) -> None:
        clerk = await portal.browser("clerk@example.org")

        assert (await clerk.get("/factory/kangaita/trend.json")).status == 404
        assert 'data-chart="/factory/kangaita/trends.json"' in await page(clerk, NOW)


class TestToday:
    async def test_is_held_against_the_same_weekday_a_week_ago(self, portal: Portal) -> None:
        midnight = NOON - SINCE_MIDNIGHT
        await measure(portal, midnight - 7 * DAY, 14 * HOUR)
        await measure(portal, midnight - 7 * DAY + 16 * HOUR, 4 * HOUR, seq=5000)
        await measure(portal, midnight, SINCE_MIDNIGHT, seq=9000)
        clerk = await portal.browser("clerk@example.org")

        shown = told(await page(clerk, NOW))

        # 15 hours of today against 14 of the Sunday before; the four hours after 15:00 are in its whole day alone.
        assert re.search(r"[\d.]+ (kg|t) more than last Sunday by this time \(\+7\.\d %\)", shown)
        assert "15 h of 15 h measured" in shown
        assert "14 h of 15 h measured" in shown
        assert "Last Sunday, the whole day" in shown
        assert "75 % measured" in shown

    async def test_is_not_held_against_a_day_that_was_hardly_measured(self, portal: Portal) -> None:
        midnight = NOON - SINCE_MIDNIGHT
        await measure(portal, midnight - 7 * DAY, 3 * HOUR + timedelta(minutes=10))
        await measure(portal, midnight, SINCE_MIDNIGHT, seq=9000)
        clerk = await portal.browser("clerk@example.org")

        shown = told(await page(clerk, NOW))

        assert "Not compared: too little was measured" in shown
        assert "3 h 10 min of 15 h measured" in shown
        assert "more than last" not in shown

    async def test_and_the_month_are_held_against_the_targets_as_the_accounts_are(self, portal: Portal) -> None:
        kangaita = portal.kangaita.factory
        await measure(portal, NOON - SINCE_MIDNIGHT, SINCE_MIDNIGHT)
        await portal.core.store.add_target(
            Target(0, kangaita.id, Metric.STACK_CO2_PER_TEA, 3.5, TODAY.replace(day=1)), BY, NOON
        )
        clerk = await portal.browser("clerk@example.org")
        without = await page(clerk, NOW)
        assert "No tea is entered for today yet" in without
        assert "Enter today's tea" in told(without)

        begin, end = local_day(TODAY, NAIROBI)
        await portal.core.store.add_production_entry(
            ProductionEntry(0, 1, kangaita.id, begin, end, None, 4000.0), BY, NOON
        )
        shown = told(await page(clerk, NOW))

        account = await portal.services.books.account(kangaita, begin, NOON)
        value = account.intensities[Metric.STACK_CO2_PER_TEA]
        assert value is not None
        assert f"Today so far {value:.2f}" in shown
        assert f"This month so far {value:.2f}" in shown, "the month has just begun"
        assert f"{(1 - value / 3.5) * 100:.1f} % below the target" in shown
        assert "Target met" in shown
        assert "Made tea of today so far, by the share of its time: 2.50 t." in shown

    async def test_without_a_target_it_says_who_sets_one(self, portal: Portal) -> None:
        clerk = await portal.browser("clerk@example.org")

        assert "Headquarters has set no target for this factory." in await page(clerk, NOW)


class TestWoodAndFire:
    async def test_wood_per_tea_is_that_of_the_account(self, portal: Portal) -> None:
        kangaita = portal.kangaita.factory
        await enter(portal, kangaita.id, 28, 2.0)
        await enter(portal, kangaita.id, 60, 2.4, until=date(2026, 2, 1))
        clerk = await portal.browser("clerk@example.org")
        window = local_day(TODAY - timedelta(days=28), NAIROBI)[0], local_day(TODAY, NAIROBI)[0]
        account = await portal.services.books.account(kangaita, *window)
        value = account.intensities[Metric.WOOD_PER_TEA]
        assert value is not None

        shown = told(await page(clerk, FIRE))

        assert f"Wood for a kg of made tea {value:.2f} kg" in shown
        assert "Own best: 2.00" in shown
        assert "If you used as little wood as in your own best time" not in shown, "it is better now"

    async def test_a_saving_is_in_shillings_once_a_price_is_entered_and_says_how(self, portal: Portal) -> None:
        kangaita = portal.kangaita.factory
        await enter(portal, kangaita.id, 28, 2.5)
        await enter(portal, kangaita.id, 40, 2.0, until=date(2026, 2, 1))
        clerk = await portal.browser("clerk@example.org")
        before = told(await page(clerk, FIRE))
        assert "Nobody has entered what this factory pays for wood" in before
        assert "about 130 t of wood a month" in before
        assert "KES 3" not in before

        status, shown = await send(clerk, FIRE + "/price", PRICE)

        # 24 working days * 25 t = 600 t in 28 days, 652.2 t a month; 1 - 2.0/2.5 = 20 %: 130.4 t, at KES 3.40 a kg.
        assert status == 303
        assert "The price of wood is kept." in shown
        assert "about KES 440,000 a month" in told(shown)
        assert "652.23 t x 20 % = 130.45 t; x KES 3.40 for a kg = KES 443,518, said as about 440,000." in told(shown)

    async def test_what_does_not_fit_is_said_at_its_field(self, portal: Portal) -> None:
        clerk = await portal.browser("clerk@example.org")

        status, shown = await send(clerk, FIRE + "/price", PRICE | {"unit": "m3_stacked"})
        assert status == 409
        assert "Is needed for wood that is bought by the stacked m3" in shown
        assert 'value="3400"' in shown

        status, shown = await send(clerk, FIRE + "/price", PRICE | {"kes": "cheap"})
        assert (status, 'id="price-kes-error"' in shown) == (422, True)
        assert await portal.core.store.wood_prices(portal.kangaita.factory.id) == []

    async def test_a_price_is_withdrawn_and_that_is_undone(self, portal: Portal) -> None:
        clerk = await portal.browser("clerk@example.org")
        await send(clerk, FIRE + "/price", PRICE)
        (price,) = await portal.core.store.wood_prices(portal.kangaita.factory.id)

        status, shown = await send(clerk, FIRE + "/price/withdraw", {"id": str(price.id)})
        assert (status, "The price was withdrawn." in shown, "No price is entered." in shown) == (303, True, True)
        status, shown = await send(clerk, FIRE + "/price/restore", {"id": str(price.id)})

        assert (status, "The price of wood is used again." in shown) == (303, True)
        assert await portal.core.store.wood_prices(portal.kangaita.factory.id) == [price]
        actions = [event.action for event in await portal.core.store.audit_events(limit=3)]
        assert actions == ["wood_price.added", "wood_price.withdrawn", "wood_price.added"]

    async def test_the_newest_price_that_counts_is_used(self, portal: Portal) -> None:
        await enter(portal, portal.kangaita.factory.id, 28, 2.5)
        clerk = await portal.browser("clerk@example.org")
        for kes, day in (("2000", "2026-01-01"), ("2400", "2026-02-15"), ("9000", "2026-04-01")):
            await send(clerk, FIRE + "/price", PRICE | {"kes": kes, "valid_from": day})

        # 652.2 t a month at KES 2.40
        assert "About KES 1,600,000" in told(await page(clerk, FIRE))

    async def test_the_network_is_shown_without_names_and_only_if_there_are_enough(self, portal: Portal) -> None:
        store = portal.core.store
        await enter(portal, portal.kangaita.factory.id, 28, 2.5)
        await enter(portal, portal.mungania.factory.id, 28, 2.0)
        clerk = await portal.browser("clerk@example.org")
        assert "The network is shown from 5 factories on" in await page(clerk, FIRE)

        for number in range(FEWEST_FACTORIES - 2):
            other = await store.add_factory(factory(f"Other {number}"))
            await enter(portal, other.id, 28, 2.1 + number / 10)
        shown = await page(clerk, FIRE)

        assert (
            "a quarter of 5 factories use 2.10 kg/kg or less, half 2.20 or less, three quarters 2.30 or less" in shown
        )
        assert "Mungania" not in shown
        assert "Other" not in shown

    async def test_fires_losses_and_the_check_against_fuel(self, portal: Portal) -> None:
        await measure(portal, NOON - 6 * HOUR, 6 * HOUR)
        clerk = await portal.browser("clerk@example.org")

        shown = told(await page(clerk, FIRE))

        # 9.8 % of CO2 in the dry gas of 183 degC: 0.72 * 158 / 9.8 = 11.6 %; too much air, below 10.2 %.
        assert "Too much air 100 % of the running time, CO₂ below 10.2 %" in shown
        assert re.search(r"Dry gas: 0\.72 x \(183 °C - 25 °C\) ÷ 9\.\d % CO₂ = 11\.\d % of the wood's heat\.", shown)
        assert "more air than it needs" in shown
        assert "No firewood is entered, so nothing checks the measurement." in shown

    async def test_an_auditor_reads_and_another_factory_is_not_there(self, portal: Portal) -> None:
        auditor, clerk = await portal.browser("auditor@example.org"), await portal.browser("clerk@example.org")

        assert "Save the price" not in await page(auditor, FIRE)
        assert (await send(auditor, FIRE + "/price", PRICE))[0] == 403
        await page(clerk, "/factory/mungania/combustion", 404)
        assert (await send(clerk, "/factory/mungania/combustion/price", PRICE))[0] == 404
        await page(clerk, FIRE + "?by=year", 400)

    async def test_nobody_withdraws_another_factorys_price(self, portal: Portal) -> None:
        hq, clerk = await portal.browser("hq@example.org"), await portal.browser("clerk@example.org")
        await send(hq, "/factory/mungania/combustion/price", PRICE)
        (price,) = await portal.core.store.wood_prices(portal.mungania.factory.id)

        assert (await send(clerk, FIRE + "/price/withdraw", {"id": str(price.id)}))[0] == 404
        assert (await send(clerk, FIRE + "/price/withdraw", {"id": "one"}))[0] == 400


class TestTargets:
    async def test_are_set_withdrawn_and_put_back_by_headquarters(self, portal: Portal) -> None:
        hq = await portal.browser("hq@example.org")
        form = {"metric": "wood_kg_per_kg_made_tea", "value": "2.2", "valid_from": "2026-02-01", "baseline_year": "",
                "baseline_value": ""}  # fmt: skip

        status, shown = await send(hq, TARGETS, form)
        assert (status, "The target is set." in shown) == (303, True)
        assert "Firewood per kg made tea : at most 2.20 kg wood / kg made tea in force" in told(shown)
        (target,) = await portal.core.store.targets()

        status, shown = await send(hq, TARGETS + "/withdraw", {"id": str(target.id)})
        assert (status, "The target was withdrawn." in shown, "No target is set." in shown) == (303, True, True)
        status, shown = await send(hq, TARGETS + "/restore", {"id": str(target.id)})
        assert (status, "The target counts again." in shown) == (303, True)
        assert await portal.core.store.targets() == [target]

    async def test_what_does_not_fit_is_said_at_its_field(self, portal: Portal) -> None:
        hq = await portal.browser("hq@example.org")

        status, shown = await send(hq, TARGETS, {"metric": "stack_co2_kg", "value": "-1", "valid_from": "2026-02-01"})

        assert (status, 'id="target-value-error"' in shown) == (422, True)

    async def test_are_read_by_a_manager_and_not_set(self, portal: Portal) -> None:
        manager = await portal.browser("manager@example.org")

        assert "Headquarters sets the targets." in await page(manager, TARGETS)
        assert (await send(manager, TARGETS, {"metric": "stack_co2_kg", "value": "1", "valid_from": "2026-02-01"}))[
            0
        ] == 403


class TestReports:
    async def test_every_format_of_a_day_is_offered(self, portal: Portal) -> None:
        clerk = await portal.browser("clerk@example.org")

        shown = await page(clerk, "/factory/kangaita/reports")

        for format_ in portal.services.plugins.contributions.report_formats.values():
            assert f'<option value="{format_.name}">' in shown
        assert "Nothing was reported yet" in shown
        assert 'action="/factory/kangaita/report"' in shown


class TestInTheBrowser:
    async def opened(self, portal: Portal, chromium: Chromium, path: str, **options: object) -> Page:
        tab = await chromium.new_page(**options)
        await tab.goto(str(portal.server.make_url("/login")))
        await tab.get_by_label("E-mail").fill("manager@example.org")
        await tab.get_by_label("Password").fill(PASSWORD)
        await tab.get_by_role("button", name="Sign in").click()
        await tab.goto(str(portal.server.make_url(path)))
        return tab

    async def test_a_reading_grows_old_before_ones_eyes_until_a_new_one_comes(
        self, portal: Portal, chromium: Chromium
    ) -> None:
        await measure(portal, NOON - HOUR, HOUR)
        tab = await self.opened(portal, chromium, "/account")
        await tab.clock.install(time=NOON)
        await tab.goto(str(portal.server.make_url(NOW)))
        old = tab.locator("[data-field=old]")
        await expect(tab.locator("[data-live-badge]")).to_have_text("Live", use_inner_text=True)
        await expect(old).to_be_visible()  # the newest is of 11:59:30, and 31 s old
        await expect(old).to_contain_text("These values are 3")

        await tab.clock.run_for(30_000)

        await expect(old).to_contain_text("1 min old")
        await expect(tab.locator("[data-tile=age]")).to_contain_text("Nothing newer for 1 min")
        await expect(tab.locator(".device")).to_have_attribute("data-stale", "")

        portal.core.tell("dev-001", body(9001, 1, at_ms=NOON_MS + 40_000), received_at_ms=NOON_MS + 40_500)
        await eventually(lambda: portal.core.outcomes()["committed"] == 121)
        await tab.clock.run_for(1_000)

        await expect(old).to_be_hidden()
        await expect(tab.locator("[data-tile=age]")).to_be_hidden()
        assert chromium.complaints == []

    async def test_the_chart_draws_what_the_trends_say(self, portal: Portal, chromium: Chromium) -> None:
        await measure(portal, NOON - 3 * HOUR, 3 * HOUR)

        tab = await self.opened(portal, chromium, NOW)

        await expect(tab.locator("[data-chart-plot] canvas")).to_be_visible()
        legend = tab.locator("[data-chart-legend]")
        await expect(legend).to_contain_text("Boiler of dev-001")
        await expect(legend).to_contain_text("kg/h")
        await tab.get_by_role("button", name="6 h").click()
        plot = tab.locator("[data-chart-plot]")
        await expect(plot).to_have_attribute("aria-label", re.compile("Last 6 hours. Boiler of dev-001 mean"))
        assert chromium.complaints == []

    async def test_on_a_phone_the_tabs_move_sideways_and_the_page_does_not(
        self, portal: Portal, chromium: Chromium
    ) -> None:
        for path in (NOW, FIRE, TARGETS, "/factory/kangaita/reports"):
            tab = await self.opened(portal, chromium, path, viewport={"width": 360, "height": 740})

            fits = await tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

            assert fits, path
            await expect(tab.locator("nav.tabs [aria-current]")).to_be_in_viewport()
            await tab.context.close()
        assert chromium.complaints == []
