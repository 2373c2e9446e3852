"""Alert rules on pages and over the API: bounds, numbers of a factory, and trials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carbontrack.config import Config
from carbontrack.model import AuditAction
from carbontrack.web.alert_rules import TRIALS
from tests.support.html import page, send
from tests.support.web import Portal, running_portal
from tests.support.world import NOON, reading, work

HQ, OWN = "/hq/alert-rules", "/factory/kangaita/alert-rules"
RULE = "/api/alert-rules/co2-rate-high/"
SWITCHED_OFF = {
    "name": "gas-hot",
    "rule": "limit",
    "enabled": False,
    "options": {"quantity": "temperature_c", "raise_above": 300, "clear_below": 290},
}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    defaults = [entry.model_dump() for entry in Config().alerts]
    config = Config.model_validate({"alerts": [*defaults, SWITCHED_OFF]})
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", config) as running:
        running.core.fleet.follow(running.core.fleet._drivers, _of_devices(running), ["co2-rate-high"])
        yield running


def _of_devices(portal: Portal) -> Any:
    return tuple(each for each in portal.services.rules.instances if each.name == "co2-rate-high")


async def bound(portal: Portal, option: str = "raise_above", low: float = 0.4, high: float = 0.8) -> None:
    await portal.core.store.set_alert_bound("co2-rate-high", option, low, high)
    await portal.services.rules.renew()


async def measure(portal: Portal, temperatures: list[float]) -> None:
    """Readings every 20 s that end an hour before now, of dev-001."""
    stream = await portal.core.store.open_stream("dev-001", "9f3c21aa")
    begin = portal.now - timedelta(hours=1, seconds=20 * len(temperatures))
    rows = [
        msgspec.structs.replace(
            reading(number, begin + timedelta(seconds=20 * number), temperature_c=value),
            stream_pk=stream.pk,
            stack_id=portal.kangaita.stack.id,
        )
        for number, value in enumerate(temperatures)
    ]
    await portal.core.store.save(work(rows))


TWICE = [200.0] * 3 + [350.0] * 6 + [200.0] * 6 + [350.0] * 6 + [200.0] * 6


class TestHeadquarters:
    async def test_sees_every_rule_with_what_to_do_first(self, portal: Portal) -> None:
        text = await page(await portal.browser("hq@example.org"), HQ)

        for name in ("co2-rate-high", "device-silent", "gas-hot", "entries-missing"):
            assert name in text
        assert "Check whether the device has power" in text
        assert "Switched off" in text

    async def test_lets_factories_choose_a_number(self, portal: Portal) -> None:
        browser = await portal.browser("hq@example.org")

        status, text = await send(browser, f"{HQ}/co2-rate-high/raise_above", {"low": "0.4", "high": "0.8"})

        assert status == 303
        assert "factories may choose raise above of co2-rate-high" in text
        assert "factories choose 0.4 to 0.8" in text
        (found,) = (await portal.core.store.alert_settings()).bounds
        assert (found.low, found.high, found.set_by) == (0.4, 0.8, "hq@example.org")

    @pytest.mark.parametrize(
        ("form", "said"),
        [
            ({"low": "0.8", "high": "0.4"}, "Must not be below the lowest."),
            ({"low": "x", "high": "1"}, "valid number"),
            ({"low": "", "high": "1"}, "valid number"),
        ],
    )
    async def test_is_told_what_is_wrong_with_a_bound(self, portal: Portal, form: dict[str, str], said: str) -> None:
        browser = await portal.browser("hq@example.org")

        status, text = await send(browser, f"{HQ}/co2-rate-high/raise_above", form)

        assert status == 422
        assert said in text
        assert (await portal.core.store.alert_settings()).bounds == ()

    async def test_is_told_what_a_narrower_bound_clips(self, portal: Portal) -> None:
        await bound(portal)
        await portal.core.store.adjust_alert(portal.kangaita.factory.id, "co2-rate-high", "raise_above", 0.75)
        browser = await portal.browser("hq@example.org")

        _, text = await send(browser, f"{HQ}/co2-rate-high/raise_above", {"low": "0.4", "high": "0.7"})

        assert "It clips what 1 of them had chosen" in text
        assert "Kangaita has chosen 0.75: headquarters allows 0.4 to 0.7 now: 0.7 counts." in text
        own = await page(await portal.browser("manager@example.org"), OWN)
        assert "You had chosen 0.75; headquarters allows 0.4 to 0.7 now: 0.7 counts." in own
        (rule,) = portal.core.fleet.rules_for(portal.kangaita)
        assert rule.options.raise_above == 0.7

    async def test_takes_a_bound_back(self, portal: Portal) -> None:
        await bound(portal)
        browser = await portal.browser("hq@example.org")

        assert (await send(browser, f"{HQ}/co2-rate-high/raise_above/remove", {}))[0] == 303

        assert (await portal.core.store.alert_settings()).bounds == ()

    async def test_a_number_that_there_is_not_is_not_found(self, portal: Portal) -> None:
        browser = await portal.browser("hq@example.org")

        assert (await send(browser, f"{HQ}/co2-rate-high/quantity", {"low": "1", "high": "2"}))[0] == 404
        assert (await send(browser, f"{HQ}/nothing/raise_above", {"low": "1", "high": "2"}))[0] == 404

    @pytest.mark.parametrize("name", ["operator", "auditor"])
    async def test_others_of_the_network_see_it_and_set_nothing(self, portal: Portal, name: str) -> None:
        browser = await portal.browser(f"{name}@example.org")

        assert "Keep</button>" not in await page(browser, HQ)
        assert (await send(browser, f"{HQ}/co2-rate-high/raise_above", {"low": "0", "high": "1"}))[0] == 403


class TestAFactory:
    async def test_chooses_nothing_without_a_bound(self, portal: Portal) -> None:
        browser = await portal.browser("manager@example.org")

        assert "Keep</button>" not in await page(browser, OWN)
        status, text = await send(browser, f"{OWN}/co2-rate-high/raise_above", {"value": "0.7"})

        assert status == 422
        assert (await portal.core.store.alert_settings()).adjustments == ()
        assert text

    async def test_chooses_within_the_bound_and_it_counts_at_once(self, portal: Portal) -> None:
        await bound(portal)
        browser = await portal.browser("manager@example.org")

        status, text = await send(browser, f"{OWN}/co2-rate-high/raise_above", {"value": "0.7"})

        assert status == 303
        assert "raise above of co2-rate-high is 0.7 for Kangaita" in text
        assert "chosen here; 0.6 elsewhere" in text
        ((kangaita,), (mungania,)) = (portal.core.fleet.rules_for(site) for site in (portal.kangaita, portal.mungania))
        assert (kangaita.options.raise_above, mungania.options.raise_above) == (0.7, 0.6)
        (event,) = await portal.core.store.audit_events(limit=1)
        assert (event.action, event.actor) == (AuditAction.ALERT_ADJUSTED, "manager@example.org")

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("0.9", "Must be from 0.4 to 0.8."),
            ("0.5", "must not be above raise_above"),
            ("x", "valid number"),
        ],
    )
    async def test_is_told_what_cannot_be_at_the_field(self, portal: Portal, value: str, said: str) -> None:
        await bound(portal)
        browser = await portal.browser("manager@example.org")

        status, text = await send(browser, f"{OWN}/co2-rate-high/raise_above", {"value": value})

        assert status == 422
        assert said in text
        assert f'value="{value}"' in text, "what was typed is still there"
        assert 'aria-invalid="true"' in text

    async def test_goes_back_to_what_everybody_has(self, portal: Portal) -> None:
        await bound(portal)
        browser = await portal.browser("manager@example.org")
        await send(browser, f"{OWN}/co2-rate-high/raise_above", {"value": "0.7"})

        assert (await send(browser, f"{OWN}/co2-rate-high/raise_above/remove", {}))[0] == 303

        (rule,) = portal.core.fleet.rules_for(portal.kangaita)
        assert rule.options.raise_above == 0.6

    async def test_its_clerk_sees_it_and_changes_nothing(self, portal: Portal) -> None:
        await bound(portal)
        browser = await portal.browser("clerk@example.org")

        assert "co2-rate-high" in await page(browser, OWN)
        assert (await send(browser, f"{OWN}/co2-rate-high/raise_above", {"value": "0.7"}))[0] == 403
        assert (await send(browser, f"{OWN}/co2-rate-high/try", {"days": "7"}))[0] == 403

    async def test_another_factory_s_page_is_not_there(self, portal: Portal) -> None:
        await bound(portal)
        browser = await portal.browser("manager@example.org")

        await page(browser, "/factory/mungania/alert-rules", 404)
        there = "/factory/mungania/alert-rules/co2-rate-high"
        assert (await send(browser, f"{there}/raise_above", {"value": "0.7"}))[0] == 404
        assert (await send(browser, f"{there}/try", {"days": "7"}))[0] == 404


class TestTrying:
    async def test_a_rule_that_is_switched_off_says_when_it_would_have_fired(self, portal: Portal) -> None:
        await measure(portal, TWICE)
        browser = await portal.browser("hq@example.org")

        status, text = await send(browser, f"{HQ}/gas-hot/try", {"days": "7", "factory_id": ""})

        assert status == 200
        assert "Would have fired 2 times" in text
        assert "350 °C gas temperature, the limit is 300" in text
        assert 'class="timeline"' in text
        assert await portal.core.store.alerts(only_open=False) == []

    async def test_other_numbers_can_be_tried(self, portal: Portal) -> None:
        await measure(portal, TWICE)
        browser = await portal.browser("manager@example.org")

        form = {"days": "7", "number-raise_above": "400", "number-clear_below": ""}
        _, text = await send(browser, f"{OWN}/gas-hot/try", form)

        assert "Would have fired 0 times" in text
        assert 'value="400"' in text

    @pytest.mark.parametrize(("number", "said"), [("100", "must not be above raise_above"), ("x", "valid number")])
    async def test_numbers_that_cannot_be_are_told(self, portal: Portal, number: str, said: str) -> None:
        browser = await portal.browser("hq@example.org")

        status, text = await send(browser, f"{HQ}/gas-hot/try", {"days": "7", "number-raise_above": number})

        assert status == 422
        assert said in text

    async def test_a_rule_of_factories_is_not_tried(self, portal: Portal) -> None:
        browser = await portal.browser("hq@example.org")

        status, text = await send(browser, f"{HQ}/corroboration-off/try", {"days": "7"})

        assert status == 422
        assert "entries and accounts" in text


class TestApi:
    async def test_gives_every_rule_with_what_the_caller_may_see(self, portal: Portal) -> None:
        await bound(portal)
        for site in (portal.kangaita, portal.mungania):
            await portal.core.store.adjust_alert(site.factory.id, "co2-rate-high", "raise_above", 0.7)
        await portal.services.rules.renew()

        found = {}
        for name in ("hq", "clerk"):
            client = await portal.signed_in(f"{name}@example.org")
            rules = (await (await client.get("/api/alert-rules/")).json())["results"]
            rule = next(each for each in rules if each["name"] == "co2-rate-high")
            (number,) = [each for each in rule["numbers"] if each["option"] == "raise_above"]
            found[name] = {each["factory_id"] for each in number["adjustments"]}
            assert (number["configured"], number["bound"]["low"], number["bound"]["high"]) == (0.6, 0.4, 0.8)
            assert rule["words"]["sw"]["first_steps"]
            assert rule["options"]["quantity"] == "co2_kg_per_s"
        assert found == {
            "hq": {portal.kangaita.factory.id, portal.mungania.factory.id},
            "clerk": {portal.kangaita.factory.id},
        }

    async def test_bounds_and_numbers_are_set_and_taken_back(self, portal: Portal) -> None:
        chief, manager = await portal.signed_in("hq@example.org"), await portal.signed_in("manager@example.org")

        assert (await chief.put(f"{RULE}bounds/hold_s/", json={"low": 0, "high": 600})).status == 200
        answer = await manager.put(f"{RULE}adjustments/hold_s/", json={"value": 300})
        assert (answer.status, (await answer.json())["in_force"]) == (200, 300)
        (rule,) = portal.core.fleet.rules_for(portal.kangaita)
        assert rule.hold_s == 300

        too_long = await manager.put(f"{RULE}adjustments/hold_s/", json={"value": 601})
        assert too_long.status == 422
        assert (await too_long.json())["errors"] == [{"field": "value", "message": "must be from 0 to 600"}]
        assert (await chief.put(f"{RULE}bounds/hold_s/", json={"low": -1, "high": 600})).status == 422

        assert (await manager.delete(f"{RULE}adjustments/hold_s/")).status == 204
        assert (await manager.delete(f"{RULE}adjustments/hold_s/")).status == 409
        assert (await chief.delete(f"{RULE}bounds/hold_s/")).status == 204
        assert (await chief.put(f"{RULE}adjustments/hold_s/", json={"value": 1})).status == 422, "say of which factory"

    async def test_a_trial_gives_the_times(self, portal: Portal) -> None:
        await measure(portal, TWICE)
        manager = await portal.signed_in("manager@example.org")

        answer = await manager.post("/api/alert-rules/gas-hot/try/", json={"days": 1})

        assert answer.status == 200, await answer.text()
        found = await answer.json()
        assert (found["would_have_fired"], found["readings"], found["devices"]) == (2, 27, 1)
        assert [each["device_id"] for each in found["firings"]] == ["dev-001", "dev-001"]
        assert found["firings"][0]["value"] == 350
        begin = NOON - timedelta(hours=1, seconds=20 * len(TWICE))
        assert found["firings"][0]["raised_at"] == (begin + timedelta(seconds=120)).isoformat().replace("+00:00", "Z")

    async def test_one_trial_runs_at_a_time(self, portal: Portal) -> None:
        chief = await portal.signed_in("hq@example.org")
        async with portal.server.app[TRIALS]:
            assert (await chief.post("/api/alert-rules/gas-hot/try/", json={})).status == 409

    @pytest.mark.parametrize(
        "body", [{"days": 0}, {"days": 32}, {"numbers": {"nothing": 1}}, {"numbers": {"raise_above": 100}}]
    )
    async def test_what_cannot_be_tried_is_refused(self, portal: Portal, body: dict[str, Any]) -> None:
        chief = await portal.signed_in("hq@example.org")

        assert (await chief.post("/api/alert-rules/gas-hot/try/", json=body)).status == 422
