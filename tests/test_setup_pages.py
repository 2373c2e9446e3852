"""A factory is set up step by step: itself, its chimneys, their devices, until the first reading is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carbontrack.credentials import device_password
from tests.support.html import page, send
from tests.support.web import Portal, running_portal
from tests.support.world import NOON_MS, body, eventually

KEY = "k" * 32
NEW = {"name": "Ndima", "county": "Kirinyaga", "region": "4", "altitude_m": "1850"}
ROUND = {"name": "Boiler 1", "shape": "circular", "diameter_m": "0.8", "width_m": "", "length_m": ""}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", device_key=KEY) as running:
        yield running


async def test_from_nothing_to_the_first_reading(portal: Portal) -> None:
    browser, store = await portal.browser("operator@example.org"), portal.core.store

    status, text = await send(browser, "/hq/factories/new", NEW)
    assert (status, "Next: its chimneys" in text, "Add a device" in text) == (303, True, False)
    status, text = await send(browser, "/hq/factories/ndima/stacks", ROUND)
    assert (status, "Next: a device" in text, "0.503 m²" in text) == (303, True, True)
    factory = await store.factory_by_slug("ndima")
    assert factory is not None
    (stack,) = await store.stacks(factory.id)
    form = {"stack_id": str(stack.id), "device_id": "ct-ndima-1", "sensor": "ct_v1"}
    status, text = await send(browser, "/hq/factories/ndima/devices", form)
    (site,) = await store.sites(factory.id)
    assert device_password(KEY, site.device) in text
    assert "Waiting for its first reading" in text

    await eventually(lambda: "ct-ndima-1" in portal.core.fleet.states())
    portal.core.tell("ct-ndima-1", body(), received_at_ms=NOON_MS)
    await eventually(lambda: portal.core.outcomes()["committed"] == 1)
    text = await page(browser, "/hq/factories/ndima/")
    assert "Waiting for its first reading" not in text
    assert device_password(KEY, site.device) not in text, "it is shown once"
    assert "kg/h, measured" in text
    assert "ct-ndima-2" in text, "the next free name is offered"


async def test_the_list_says_what_comes_next(portal: Portal) -> None:
    browser = await portal.browser("hq@example.org")
    await send(browser, "/hq/factories/new", NEW)
    assert "Add its first chimney" in await page(browser, "/hq/factories/")

    await send(browser, "/hq/factories/ndima/stacks", ROUND)
    text = await page(browser, "/hq/factories/")
    assert "Add a device" in text
    assert "1 of 1 devices have not sent yet" in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "Kangaita"}, "is there already"),
        ({"altitude_m": "high"}, "altitude_m"),
        ({"altitude_m": "9000"}, "altitude_m"),
        ({"latitude": "200"}, "latitude"),
    ],
)
async def test_a_factory_that_cannot_be_is_refused_with_all_that_was_typed(
    portal: Portal, changed: dict[str, str], said: str
) -> None:
    status, text = await send(await portal.browser("hq@example.org"), "/hq/factories/new", NEW | changed)

    assert status in {409, 422}
    assert said in text
    assert "Kirinyaga" in text
    assert await portal.core.store.factory_by_slug("ndima") is None


@pytest.mark.parametrize(
    "changed", [{"name": ""}, {"diameter_m": "0"}, {"shape": "rectangular"}, {"profile_factor": "much"}]
)
async def test_a_chimney_that_cannot_be_is_refused(portal: Portal, changed: dict[str, str]) -> None:
    status, text = await send(
        await portal.browser("hq@example.org"), "/hq/factories/kangaita/stacks", ROUND | {"name": "Other"} | changed
    )

    assert status in {409, 422}
    assert 'class="field-error"' in text or 'class="error"' in text or "trouble" in text
    assert len(await portal.core.store.stacks(portal.kangaita.factory.id)) == 1


async def test_a_rectangular_chimney_needs_no_diameter(portal: Portal) -> None:
    form = ROUND | {"name": "Old chimney", "shape": "rectangular", "width_m": "0.6", "length_m": "0.9"}

    status, text = await send(await portal.browser("hq@example.org"), "/hq/factories/kangaita/stacks", form)

    assert (status, "0.540 m²" in text) == (303, True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"device_id": "dev-001"}, "registered already"),
        ({"device_id": "two words"}, "none of / + # $ or space"),
        ({"sensor": "none"}, "No plugin brings this driver"),
        ({"stack_id": "2"}, "Choose a chimney."),
        ({"stack_id": ""}, "Choose a chimney."),
    ],
)
async def test_a_device_that_cannot_be_is_refused(portal: Portal, changed: dict[str, str], said: str) -> None:
    form = {"stack_id": str(portal.kangaita.stack.id), "device_id": "ct-1", "sensor": "ct_v1"} | changed

    status, text = await send(await portal.browser("hq@example.org"), "/hq/factories/kangaita/devices", form)

    assert status in {409, 422}
    assert said in text
    assert len(await portal.core.store.sites()) == 2


async def test_a_factory_is_changed_and_what_is_left_empty_goes(portal: Portal) -> None:
    form = {**NEW, "name": "Kangaita Tea", "latitude": "", "longitude": "37.2", "pressure_kpa": ""}

    status, _ = await send(await portal.browser("hq@example.org"), "/hq/factories/kangaita/", form)

    assert status == 303
    changed = await portal.core.store.factory_by_slug("kangaita")
    assert changed is not None
    assert (changed.name, changed.latitude, changed.longitude, changed.pressure_kpa) == (
        "Kangaita Tea", None, 37.2, None,
    )  # fmt: skip


async def test_a_factory_says_which_company_it_is(portal: Portal) -> None:
    browser = await portal.browser("hq@example.org")
    company = {"legal_entity": "Ndima Tea Factory Co. Ltd", "un_locode": "KENYI"}

    assert (await send(browser, "/hq/factories/new", NEW | company))[0] == 303

    ndima = await portal.core.store.factory_by_slug("ndima")
    assert ndima is not None
    assert (ndima.legal_entity, ndima.un_locode) == ("Ndima Tea Factory Co. Ltd", "KENYI")
    assert 'value="KENYI"' in await page(browser, "/hq/factories/ndima/")
    assert (await send(browser, "/hq/factories/ndima/", NEW | company | {"un_locode": "nyeri"}))[0] == 422
    assert (await send(browser, "/hq/factories/ndima/", NEW | {"legal_entity": "", "un_locode": ""}))[0] == 303
    ndima = await portal.core.store.factory_by_slug("ndima")
    assert ndima is not None
    assert (ndima.legal_entity, ndima.un_locode) == ("", "")


@pytest.mark.parametrize("name", ["auditor", "manager", "clerk"])
async def test_nobody_else_sets_anything_up(portal: Portal, name: str) -> None:
    browser = await portal.browser(f"{name}@example.org")

    for path in ("/hq/factories/", "/hq/factories/new", "/hq/factories/kangaita/"):
        await page(browser, path, 403)
    assert (await send(browser, "/hq/factories/new", NEW))[0] == 403
