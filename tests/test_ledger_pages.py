"""The pages of the accounting, as a browser gets them: nothing typed is lost, and nobody sees another's factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from tests.support.web import SAME_ORIGIN, Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, payload, summarise_touched

ENTRIES = "/factory/kangaita/entries"
ACCOUNT = "/factory/kangaita/account"
WOOD = {
    "energy_type": "firewood",
    "amount": "1,250",
    "unit": "kg",
    "moisture": "25",
    "first_day": "2026-03-01",
    "evidence": "note 4711",
    "sustainability": "unknown",
    "stack_id": "",
}
TEA = {"green_leaf_kg": "4500", "made_tea_kg": "1000", "first_day": "2026-03-01"}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def page(client: TestClient, path: str, status: int = 200) -> str:  # type: ignore[type-arg]
    answer = await client.get(path)
    assert answer.status == status, await answer.text()
    return await answer.text()


async def send(client: TestClient, path: str, form: dict[str, str]) -> tuple[int, str]:  # type: ignore[type-arg]
    answer = await client.post(path, data=form, headers=SAME_ORIGIN, allow_redirects=False)
    return answer.status, await answer.text()


async def measure_an_hour(portal: Portal) -> None:
    for number in range(12):
        content = body(1 + 60 * number, 60, at_ms=NOON_MS + number * 300_000)
        portal.core.fleet.tell(payload("dev-001", content, received_at_ms=NOON_MS + 3_600_000))
    await portal.core.receipt("dev-001", 720)
    while await summarise_touched(portal.core.store, now=NOON + timedelta(hours=2)):
        pass


async def test_a_clerk_enters_wood_and_finds_it_in_the_list(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")
    assert "Nothing in the last 45 days" in await page(clerk, ENTRIES)

    status, _ = await send(clerk, ENTRIES + "/energy", WOOD)

    assert status == 303
    shown = await page(clerk, ENTRIES)
    assert "1,250 kg" in shown
    assert "note 4711" in shown
    assert "25 % moist" in shown


ORIGIN = {
    "wood_origin": "purchased", "supplier": "Mlima <Woodlots>", "species": "Eucalyptus grandis",
    "plot": "-0.51,37.28", "harvested_on": "2026-01-15", "permit": "KFS 118",
}  # fmt: skip


async def test_where_wood_comes_from_is_kept_shown_and_offered_again_in_sight(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")
    assert "data-origin>" in await page(clerk, ENTRIES), "closed as long as nothing is known"

    assert (await send(clerk, ENTRIES + "/energy", WOOD | ORIGIN))[0] == 303

    (kept,) = await portal.core.store.energy_entries(None)
    assert {name: str(getattr(kept, name)) for name in ORIGIN} == ORIGIN
    shown = await page(clerk, ENTRIES)
    assert "Mlima &lt;Woodlots&gt;, Eucalyptus grandis, -0.51,37.28" in shown
    assert "data-origin open>" in shown, "what is remembered goes with the next entry, and is seen"
    assert 'name="species" maxlength="80" autocomplete="off" value="Eucalyptus grandis"' in shown
    assert 'name="permit" maxlength="80" autocomplete="off" value=""' in shown, "each delivery has its own"
    assert '<option value="Mlima &lt;Woodlots&gt;"></option>' in shown


async def test_wood_that_was_cut_after_it_burned_is_said_at_its_field(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")

    status, shown = await send(clerk, ENTRIES + "/energy", WOOD | ORIGIN | {"harvested_on": "2026-03-15"})

    assert status == 422
    assert "Lies after the wood was burned: is the year right?</small>" in shown
    assert 'value="KFS 118"' in shown


async def test_the_origin_of_wood_is_no_matter_of_diesel(portal: Portal) -> None:
    """The fields are on the page for every type; a browser that hides them sends them all the same."""
    clerk = await portal.browser("clerk@example.org")

    status, _ = await send(clerk, ENTRIES + "/energy", WOOD | ORIGIN | {"energy_type": "diesel", "unit": "litres"})

    assert status == 303
    (kept,) = await portal.core.store.energy_entries(None)
    assert (kept.supplier, kept.wood_origin, kept.harvested_on) == ("", "unknown", None)


async def test_what_does_not_fit_is_said_at_its_field_and_nothing_typed_is_lost(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")

    status, shown = await send(clerk, ENTRIES + "/energy", WOOD | {"amount": "twelve", "evidence": "note <4711>"})

    assert status == 422
    assert 'value="twelve"' in shown
    assert 'value="note &lt;4711&gt;"' in shown
    assert 'id="amount-error"' in shown
    assert 'aria-invalid="true"' in shown


async def test_a_stacked_m3_without_its_weight_is_asked_for_it(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")

    status, shown = await send(clerk, ENTRIES + "/energy", WOOD | {"unit": "m3_stacked", "amount": "12"})

    assert status == 422
    assert 'id="stack_density_kg_per_m3-error"' in shown


async def test_an_unusual_amount_is_asked_about_and_kept_when_it_is_right(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")
    for day in ("2026-02-26", "2026-02-27", "2026-02-28"):
        await send(clerk, ENTRIES + "/energy", WOOD | {"first_day": day})
    typo = WOOD | {"amount": "12500"}

    status, shown = await send(clerk, ENTRIES + "/energy", typo)

    assert status == 422
    assert "10.0 times" in shown
    assert 'name="confirmed"' in shown
    assert (await send(clerk, ENTRIES + "/energy", typo | {"confirmed": "true"}))[0] == 303


async def test_tea_is_entered_and_an_entry_is_withdrawn(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")
    assert (await send(clerk, ENTRIES + "/production", TEA))[0] == 303
    assert "1,000 kg made, 4,500 kg leaf" in await page(clerk, ENTRIES)

    status, _ = await send(clerk, ENTRIES + "/withdraw", {"kind": "production", "id": "1"})

    assert status == 303
    assert "Nothing in the last 45 days" in await page(clerk, ENTRIES)
    (_, gone) = await portal.core.store.production_entry_history(1)
    assert gone.withdrawn


async def test_another_factorys_pages_are_not_there(portal: Portal) -> None:
    clerk = await portal.browser("clerk@example.org")

    for path in ("/factory/mungania/entries", "/factory/mungania/account"):
        await page(clerk, path, 404)
    assert (await send(clerk, "/factory/mungania/entries/energy", WOOD))[0] == 404
    await page(clerk, "/hq/leaderboard", 403)


async def test_an_auditor_reads_and_enters_nothing(portal: Portal) -> None:
    auditor = await portal.browser("auditor@example.org")

    assert "You may read what was entered" in await page(auditor, ENTRIES)
    assert (await send(auditor, ENTRIES + "/energy", WOOD))[0] == 403
    assert (await send(auditor, ACCOUNT, {}))[0] == 403


async def test_the_account_shows_four_numbers_and_what_they_rest_on(portal: Portal) -> None:
    await measure_an_hour(portal)
    portal.now = NOON + timedelta(hours=2)
    clerk = await portal.browser("clerk@example.org")
    await send(clerk, ENTRIES + "/energy", WOOD)
    await send(clerk, ENTRIES + "/production", TEA)

    shown = await page(clerk, ACCOUNT)

    for title in ("Biogenic CO₂", "Fossil CO₂", "CH₄ and N₂O", "Grid electricity", "Uncertainty budget"):
        assert title in shown
    assert "Measured against fuel" in shown
    assert "never one total" in shown
    assert "The month can be reported when it is over" not in shown, "a clerk does not report"


async def test_a_month_is_reported_and_corrected_with_a_reason(portal: Portal) -> None:
    await measure_an_hour(portal)
    portal.now = NOON + timedelta(days=40)
    manager = await portal.browser("manager@example.org")
    path = ACCOUNT + "?month=2026-03"
    assert "Report this month" in await page(manager, path)

    first, _ = await send(manager, path, {})
    await send(manager, ENTRIES + "/energy", WOOD)
    outdated = await page(manager, path)
    refused, refusal = await send(manager, path, {"reason": " "})
    second, _ = await send(manager, path, {"reason": "the delivery note came late"})

    assert (first, refused, second) == (303, 409, 303)
    assert "is not what the data say now" in outdated
    assert "needs a reason" in refusal
    shown = await page(manager, path)
    assert "Version 2" in shown
    assert "the delivery note came late" in shown
    assert "is not what the data say now" not in shown


@pytest.mark.parametrize("month", ["2026-13", "march", "2030-01"])
async def test_a_month_that_cannot_be_shown_is_refused(portal: Portal, month: str) -> None:
    manager = await portal.browser("manager@example.org")

    await page(manager, f"{ACCOUNT}?month={month}", 400)


async def test_the_leaderboard_says_who_has_no_rank_and_why(portal: Portal) -> None:
    portal.now = NOON + timedelta(hours=2)
    hq = await portal.browser("hq@example.org")

    shown = await page(hq, "/hq/leaderboard?metric=wood_kg_per_kg_made_tea")

    assert "Kangaita" in shown
    assert "of the operating hours are valid; 80 % are needed." in shown
    await page(hq, "/hq/leaderboard?metric=beauty", 400)
