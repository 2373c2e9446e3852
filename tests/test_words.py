"""Languages: every text has its translation, and a page is written as its reader wants it."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po

from carbontrack.alerts import RuleInstance, numbers_of
from carbontrack.compliance import Check, Severity
from carbontrack.emissions.accounts import OUT_OF_ORDER, REMARKS
from carbontrack.health import AspectName, Facts, health_of
from carbontrack.model import LOCALES, Finding, Snapshot
from carbontrack.plugins import alerts as rules_of_ours
from carbontrack.web.alert_words import labels_of
from carbontrack.web.check_words import SENTENCES, Told, told
from carbontrack.words import (
    CATALOGUES,
    LANGUAGE_TITLES,
    Reader,
    date_text,
    decimal,
    gettext,
    ngettext,
    preferred,
    retold,
    script_words,
    write_for,
)
from scripts.words import catalogues, untranslated, written
from tests.support.html import page
from tests.support.web import SAME_ORIGIN, Portal, running_portal
from tests.support.world import NOON

MARKS = re.compile(r"%\(\w+\)[sd]|%%|</?\w+")


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    write_for(Reader())


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


class TestCatalogues:
    def test_hold_what_the_code_says_and_a_translation_of_each(self) -> None:
        for path, held, wanted in catalogues():
            assert untranslated(wanted) == [], f"{path.name}: translate these, after `make words`"
            assert {it.id for it in held} == {it.id for it in wanted}, f"{path.name}: run `make words`"
            assert path.read_bytes() == written(wanted), f"{path.name}: run `make words`"

    @pytest.mark.parametrize("path", sorted(CATALOGUES.glob("*/*.po")), ids=lambda it: f"{it.parent.name}-{it.stem}")
    def test_put_the_same_values_and_markup_into_a_translation(self, path: Path) -> None:
        with path.open("rb") as file:
            catalogue = read_po(file)
        wrong = []
        for message in catalogue:
            one, *many = [message.id] if isinstance(message.id, str) else message.id
            forms = [message.string] if isinstance(message.string, str) else message.string or ()
            wrong += [(one, form) for form in forms if one and not _alike(many[0] if many else one, str(form))]
        assert wrong == []

    def test_are_there_for_every_language_that_a_person_can_choose(self) -> None:
        assert set(LOCALES) == set(LANGUAGE_TITLES) == {"en"} | {path.name for path in CATALOGUES.iterdir()}


def _alike(text: str, translation: str) -> bool:
    """Whether the same places and the same tags are in both."""
    return sorted(MARKS.findall(text)) == sorted(MARKS.findall(translation))


class TestReader:
    @pytest.mark.parametrize(
        ("chosen", "accepted", "language"),
        [
            (None, "", "en"),
            (None, "sw-KE,sw;q=0.9,en;q=0.8", "sw"),
            (None, "de, en;q=0.5, sw;q=0.7", "sw"),
            (None, "sw;q=0, fr", "en"),
            (None, "sw;q=x", "en"),
            ("en", "sw", "en"),
            ("xx", "sw", "sw"),
        ],
    )
    def test_is_who_chose_or_whose_browser_asks(self, chosen: str | None, accepted: str, language: str) -> None:
        assert preferred(chosen, accepted).language == language

    def test_sees_numbers_and_dates_in_local_form(self) -> None:
        assert (decimal(12345.678, 1), date_text(date(2026, 7, 3))) == ("12,345.7", "03 Jul 2026")
        write_for(Reader("sw"))
        assert (decimal(12345.678, 1), date_text(date(2026, 7, 3))) == ("12,345.7", "03 Jul 2026")
        assert date_text(date(2026, 8, 3), "MMMM y") == "Agosti 2026"

    def test_reads_english_where_nothing_is_translated(self) -> None:
        write_for(Reader("sw"))
        assert gettext("Not in any catalogue: %(name)s", name="x") == "Not in any catalogue: x"
        assert ngettext("%(num)s of those", "%(num)s of these", 2) == "2 of these"
        assert script_words()
        write_for(Reader("en"))
        assert script_words() == {}


class TestApi:
    async def test_answers_in_english_unless_another_language_is_asked_for(self, portal: Portal) -> None:
        for language, detail, message in (
            ("", "Some values are wrong.", "Field required"),
            ("sw", "Baadhi ya thamani si sahihi.", "Sehemu hii inahitajika"),
        ):
            headers = SAME_ORIGIN | {"Accept-Language": language}
            async with portal.client().post("/api/login/", json={}, headers=headers) as response:
                told = await response.json()
            assert (told["title"], told["detail"]) == ("Unprocessable Entity", detail)
            assert {it["message"] for it in told["errors"]} == {message}


class TestPages:
    async def test_are_in_the_language_of_the_account(self, portal: Portal) -> None:
        client = await portal.browser("manager@example.org")
        assert '<html lang="en"' in await page(client, "/factory/kangaita/")

        async with client.post(
            "/preferences", data={"language": "sw"}, headers=SAME_ORIGIN | {"Referer": "/account?x=1"}
        ) as response:
            assert response.status == 200
            assert response.url.path_qs == "/account?x=1"
        shown = await page(client, "/factory/kangaita/")
        assert '<html lang="sw"' in shown
        assert ">Toka</button>" in shown
        found = await portal.core.store.user_by_email("manager@example.org")
        assert found is not None
        assert found[0].locale == "sw"

    async def test_are_in_the_language_that_the_browser_asks_for_before_anybody_signs_in(self, portal: Portal) -> None:
        async with portal.client().get("/login", headers={"Accept-Language": "sw-KE,en;q=0.5"}) as response:
            assert '<html lang="sw"' in await response.text()

    async def test_show_rates_in_the_unit_that_was_chosen(self, portal: Portal) -> None:
        client = await portal.browser("manager@example.org")
        async with client.post("/preferences", data={"rate_unit": "t/day"}, headers=SAME_ORIGIN) as response:
            assert response.status == 200
        assert '<span class="unit">t/day</span>' in await page(client, "/factory/kangaita/")

    async def test_say_in_that_language_why_something_is_refused(self, portal: Portal) -> None:
        asked = {
            "email": "manager@example.org",
            "password": "kikombe cha chai moto",
            "first_name": "Wanjiru",
            "last_name": "Kamau",
            "requested_role": "auditor",
        }
        headers = SAME_ORIGIN | {"Accept-Language": "sw"}
        async with portal.client().post("/register", data=asked, headers=headers) as response:
            assert "Anwani manager@example.org tayari imesajiliwa." in await response.text()
        async with portal.client().post("/register", data=asked | {"password": "x" * 12}, headers=headers) as response:
            assert "Nenosiri linarudia herufi chache zilezile." in await response.text()
        async with portal.client().get("/nowhere", headers=headers) as response:
            assert "Haipatikani" in await response.text()

    async def test_send_nobody_to_another_site(self, portal: Portal) -> None:
        client = portal.client()
        headers = SAME_ORIGIN | {"Referer": "https://elsewhere.example//evil.example/"}
        client = portal.client()
        async with client.post(
            "/preferences", data={"language": "sw"}, headers=headers, allow_redirects=False
        ) as response:
            assert response.headers["Location"] == "/"


HOT = Finding("gas is 401 °C, the limit is 350", 401.0, 350.0, "°C")


def rules_as_configured() -> Iterator[RuleInstance[Any]]:
    """Each rule that comes along, with options as they would be configured."""
    given = {
        "limit": {"quantity": "co2_ppm", "raise_above": 2, "clear_below": 1},
        "rate-of-change": {"quantity": "co2_ppm", "raise_above_per_min": 2, "clear_below_per_min": 1},
    }
    for module in pkgutil.iter_modules(rules_of_ours.__path__, f"{rules_of_ours.__name__}."):
        plugin = import_module(module.name)
        for hook in ("register_alert_rules", "register_factory_rules"):
            for rule in getattr(plugin, hook, tuple)():
                options = rule.options_model.model_validate(given.get(rule.name, {}))
                yield RuleInstance(rule.name, rule, options, "warning", 0.0)


class TestAlerts:
    async def test_are_named_by_their_rule_and_keep_the_message_as_it_was_written(self, portal: Portal) -> None:
        alert = await portal.core.store.raise_alert("dev-001", "device-silent", "critical", HOT, NOON)
        assert alert is not None
        client = await portal.browser("manager@example.org")
        assert f'<a href="/alerts/{alert.id}/">{HOT.message}</a>' in await page(client, "/factory/kangaita/")
        async with client.post("/preferences", data={"language": "sw"}, headers=SAME_ORIGIN) as response:
            assert response.status == 200

        for path in ("/factory/kangaita/", "/alerts/"):
            shown = await page(client, path)
            assert f'<a href="/alerts/{alert.id}/">Kifaa hakisikiki</a>' in shown
            assert "401.0 °C, kikomo ni 350.0 °C" in shown
            assert "Kubwa</span>" in shown
            assert re.search(rf'lang="en">{HOT.message}<', shown)
        words = await page(client, "/alerts/")
        assert '"A device is not heard": "Kifaa hakisikiki"' in words, "what the stream tells in English"

    @pytest.mark.parametrize("instance", list(rules_as_configured()), ids=lambda it: it.name)
    def test_have_numbers_whose_names_and_meanings_are_translated(self, instance: RuleInstance[Any]) -> None:
        english = labels_of(instance)
        write_for(Reader("sw"))
        swahili = labels_of(instance)
        for option in numbers_of(instance):
            assert english[option][1]
            assert [one == other for one, other in zip(english[option], swahili[option], strict=True)] == [False] * 2


class TestDevices:
    def test_are_judged_in_the_language_of_the_reader(self) -> None:
        known = Facts(Snapshot("dev-001", 1, 1, online=False, received_at=NOON))
        write_for(Reader("sw"))
        found = {it.name: it for it in health_of(known, NOON + timedelta(hours=3)).aspects}
        assert found[AspectName.CONNECTION].text == "Hakijaunganishwa, kwa saa 3."
        assert found[AspectName.CONNECTION].advice.startswith("Kagua umeme na mtandao wake.")


class TestRemarksOfAccounts:
    def test_are_told_in_the_language_of_the_reader_though_they_are_kept_in_english(self) -> None:
        kept = OUT_OF_ORDER % {"stack": "Boiler 1 (100 %)", "days": 6}
        write_for(Reader("sw"))
        assert retold(kept, REMARKS).startswith("Boiler 1 (100 %): siku 6 mfululizo")
        assert retold("Said by somebody else.", REMARKS) == "Said by somebody else."


class TestChecksOfReports:
    """They are kept in English, and told in the reader's language."""

    def test_are_told_with_their_values(self) -> None:
        found = Check(
            "availability",
            Severity.CRITICAL,
            "x",
            "Kangaita: 2, Boiler 1: 25% of the operating hours are valid; 80% are needed.",
        )

        assert told(found) == Told(found.text, is_english=False)
        write_for(Reader("sw"))
        assert told(found).text == "Kangaita: 2, Boiler 1: 25% ya saa za kufanya kazi ni halali; 80% zinahitajika."

    @pytest.mark.parametrize("name", ["availability", "of_somebody_else"])
    def test_stay_as_they_were_kept_where_the_sentence_is_another(self, name: str) -> None:
        write_for(Reader("sw"))
        found = Check(name, Severity.INFO, "x", "What an older version said, in 100% English.")

        assert told(found) == Told(found.text, is_english=True)

    def test_have_a_sentence_each(self) -> None:
        source = (Path(__file__).parents[1] / "carbontrack" / "compliance_checks.py").read_text()

        assert set(re.findall(r'[cC]heck\("(\w+)", ', source)) == set(SENTENCES)
