"""The library of compliance reports: made with progress, signed by three people, never changed, shared for a time."""

from __future__ import annotations

import asyncio
import json
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from carbontrack.compliance import ReportStatus, frozen
from carbontrack.compliance_changes import Changes
from carbontrack.compliance_data import gather
from carbontrack.ledger import ProductionEntry
from carbontrack.model import Finding, Origin
from carbontrack.report_desk import JobState, Order
from carbontrack.seal import Verdict, check, public_key
from carbontrack.store import KeptReport, RegistryError
from carbontrack.store.reports import STEPS
from tests.support.estate import Estate, final_report, render_at_once, report, running_estate
from tests.support.html import page, send
from tests.support.web import SAME_ORIGIN
from tests.support.world import NOON

CLERK, MANAGER, HQ = Origin("clerk"), Origin("manager"), Origin("hq")


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    async with running_estate(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def made(estate: Estate, **more: Any) -> KeptReport:
    """A report of our factory's hour with readings."""
    desk, factory = estate.portal.services.desk, estate.own.factory
    job = desk.start(Order((factory,), NOON, NOON + timedelta(hours=1), "An hour of March", **more), CLERK)
    await desk.finished(job.id)
    assert job.state is JobState.DONE, job.error
    assert job.report is not None
    return job.report


async def draft(estate: Estate) -> KeptReport:
    """A report that nothing blocks."""
    found = await estate.store.report(int(await report(estate, estate.own, estate.callers[0])))
    assert found is not None
    return found


async def compared(estate: Estate, kept: KeptReport) -> Changes:
    desk = estate.portal.services.desk
    found = desk.compare(kept, [estate.own.factory])
    await desk.finished(found.id)
    assert found.state is JobState.DONE, found.error
    assert found.changes is not None
    return found.changes


async def enter_tea(estate: Estate, made_tea_kg: float) -> None:
    tea = ProductionEntry(0, 1, estate.own.factory.id, NOON, NOON + timedelta(hours=1), None, made_tea_kg)
    await estate.store.add_production_entry(tea, CLERK, NOON)


class TestMaking:
    async def test_keeps_the_same_data_set_as_whoever_makes_it_again(self, estate: Estate) -> None:
        first, second = await made(estate), await made(estate)

        assert first.sha256 == second.sha256
        assert (second.number, second.version) == (first.number + 1, 1)
        services = estate.portal.services
        content = await services.desk.content(first)
        fresh = await gather(
            services.books, [estate.own.factory], first.period_start, first.period_end,
            title=first.title, software="test", now=estate.portal.now,
        )  # fmt: skip
        assert content.tables == fresh.tables
        assert content.checks == fresh.checks

    async def test_tells_what_cannot_be_made(self, estate: Estate) -> None:
        desk = estate.portal.services.desk
        job = desk.start(Order((estate.own.factory,), NOON, NOON + timedelta(minutes=5), "Too short"), CLERK)
        await desk.finished(job.id)
        assert (job.state, job.error) == (JobState.FAILED, "A period has at least one whole hour.")

    async def test_is_cancelled_and_keeps_nothing(self, estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
        render_at_once(monkeypatch)  # it is never done
        desk, before = estate.portal.services.desk, await estate.store.reports()
        job = desk.start(Order((estate.own.factory,), NOON, NOON + timedelta(hours=1), "Never"), CLERK)
        await asyncio.sleep(0)
        assert [it.id for it in desk.jobs()] == [job.id]

        await desk.cancel(job.id)

        assert await estate.store.reports() == before


class TestComparing:
    """Whether a kept report is what the data say now."""

    async def test_says_what_was_entered_since(self, estate: Estate) -> None:
        kept = await made(estate)
        first = await compared(estate, kept)
        assert first.is_same

        await enter_tea(estate, 600.0)

        found = await compared(estate, kept)
        assert found.figures_differ
        tea = next(it for it in found.lines if it.column == "Made tea")
        assert (tea.table, tea.factory, tea.then, tea.now, tea.unit) == ("Production", "kangaita", None, 600.0, "kg")
        assert "tea_missing" in {it.name for it in found.checks_gone}

    async def test_says_what_differs_beside_the_figures(self, estate: Estate) -> None:
        kept = await made(estate)
        at = NOON + timedelta(minutes=5)
        await estate.store.raise_alert(estate.own.factory.id, "new", "info", Finding("something new"), at)

        found = await compared(estate, kept)

        assert not found.is_same
        assert not found.figures_differ
        assert found.counts == {"Alerts that were raised in the period": 1}

    async def test_is_done_once_however_often_it_is_asked_for(self, estate: Estate) -> None:
        kept, desk = await made(estate), estate.portal.services.desk
        first, second = (desk.compare(kept, [estate.own.factory]) for _ in range(2))
        assert first is second
        await desk.finished(first.id)
        assert desk.comparison(kept.id) is first
        assert desk.comparison(kept.id + 1) is None
        assert desk.compare(kept, [estate.own.factory]) is not first

    async def test_is_forgotten_after_a_day(self, estate: Estate) -> None:
        kept, desk = await made(estate), estate.portal.services.desk
        await compared(estate, kept)
        other = await made(estate)
        estate.portal.now += timedelta(hours=25)

        await compared(estate, other)

        assert desk.comparison(kept.id) is None

    async def test_tells_what_cannot_be_compared(self, estate: Estate) -> None:
        kept, desk = await made(estate), estate.portal.services.desk
        found = desk.compare(kept, [])
        await desk.finished(found.id)
        assert (found.state, found.changes) == (JobState.FAILED, None)
        assert found.error == "A factory of this report is not there any more: it cannot be compared."


class TestLife:
    async def test_needs_three_people(self, estate: Estate) -> None:
        kept = await draft(estate)

        async def step(name: str, by: Origin) -> KeptReport:
            return await estate.store.take_report_step(kept.id, name, by=by, now=NOON)

        assert (await step("prepare", CLERK)).status is ReportStatus.PREPARED
        with pytest.raises(RegistryError, match="you have prepared it yourself"):
            await step("review", CLERK)
        assert (await step("review", MANAGER)).status is ReportStatus.REVIEWED
        for signer in (CLERK, MANAGER):
            with pytest.raises(RegistryError, match="somebody else must do this"):
                await step("approve", signer)
        final = await step("approve", HQ)
        assert (final.status, final.prepared_by, final.reviewed_by, final.approved_by) == (
            ReportStatus.FINAL, "clerk", "manager", "hq",
        )  # fmt: skip

    @pytest.mark.parametrize("name", STEPS)
    async def test_ends_with_what_is_final(self, estate: Estate, name: str) -> None:
        final = int(await final_report(estate, estate.own, estate.callers[0]))
        with pytest.raises(RegistryError, match="final cannot take the step"):
            await estate.store.take_report_step(final, name, by=Origin("anybody"), now=NOON)

    async def test_is_blocked_by_a_critical_check(self, estate: Estate) -> None:
        kept = await made(estate)  # nobody has entered tea for that hour
        assert kept.critical
        await estate.store.take_report_step(kept.id, "prepare", by=CLERK, now=NOON)
        await estate.store.take_report_step(kept.id, "review", by=MANAGER, now=NOON)
        with pytest.raises(RegistryError, match="critical checks block it"):
            await estate.store.take_report_step(kept.id, "approve", by=HQ, now=NOON)

    async def test_goes_back_to_the_draft_without_signatures(self, estate: Estate) -> None:
        kept = await draft(estate)
        await estate.store.take_report_step(kept.id, "prepare", by=CLERK, now=NOON)
        back = await estate.store.take_report_step(kept.id, "return", by=MANAGER, now=NOON, comment=" look at May ")
        assert (back.status, back.prepared_by, back.comment) == (ReportStatus.DRAFT, "", "look at May")

    async def test_corrects_by_a_new_version_with_a_reason(self, estate: Estate) -> None:
        final = int(await final_report(estate, estate.own, estate.callers[0]))
        content = await estate.portal.services.desk.content(await _kept(estate, final))

        async def correct(reason: str) -> KeptReport:
            ids = [estate.own.factory.id]
            return await estate.store.add_report(content, ids, by=CLERK, now=NOON, corrects=final, reason=reason)

        with pytest.raises(RegistryError, match="a correction needs a reason"):
            await correct(" ")
        second = await correct("a meter was read wrong")
        assert (second.number, second.version) == ((await _kept(estate, final)).number, 2)
        assert not (await _kept(estate, final)).is_superseded  # not before the correction is final itself
        with pytest.raises(RegistryError, match="there is a later version of it already"):
            await correct("again")
        for name, by in (("prepare", CLERK), ("review", MANAGER), ("approve", HQ)):
            await estate.store.take_report_step(second.id, name, by=by, now=NOON)
        assert (await _kept(estate, final)).is_superseded
        corrected = await estate.portal.services.desk.content(await _kept(estate, second.id))
        assert corrected.supersedes == f"CT-{second.number}-v1"
        assert corrected.reason == "a meter was read wrong"

    async def test_a_draft_is_not_corrected(self, estate: Estate) -> None:
        kept = await draft(estate)
        content = await estate.portal.services.desk.content(kept)
        with pytest.raises(RegistryError, match="only a final report is corrected"):
            await estate.store.add_report(content, [1], by=CLERK, now=NOON, corrects=kept.id, reason="because")


class TestFiles:
    async def test_say_genuine_altered_or_superseded(self, estate: Estate) -> None:
        desk, kept = estate.portal.services.desk, await made(estate)
        key = public_key((await desk.public_key()).encode())
        for name in estate.portal.services.plugins.contributions.compliance_formats:
            body = await desk.file(kept, name)
            assert check(body, [key]).verdict is Verdict.GENUINE
            assert check(body, [Ed25519PrivateKey.generate().public_key()]).verdict is Verdict.UNKNOWN_KEY
            middle = len(body) // 2
            altered = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            assert check(altered, [key]).verdict is Verdict.ALTERED
            checked, found = await desk.check(body)
            assert checked.reference == kept.reference
            assert found is not None
            assert found.id == kept.id

    async def test_are_the_same_bytes_each_time(self, estate: Estate) -> None:
        desk, kept = estate.portal.services.desk, await made(estate)
        for name in estate.portal.services.plugins.contributions.compliance_formats:
            assert await desk.file(kept, name) == await desk.file(kept, name), name

    async def test_carry_the_signatures(self, estate: Estate) -> None:
        final = await _kept(estate, int(await final_report(estate, estate.own, estate.callers[0])))
        body = await estate.portal.services.desk.file(final, "csv")
        with zipfile.ZipFile(BytesIO(body)) as archive:
            head = archive.read("report.csv").decode("utf-8-sig")
        assert 'signature.approved,"Ours-approve' in head
        assert f"reference,{final.reference}" in head


class TestPages:
    async def test_make_show_and_sign_a_report(self, estate: Estate) -> None:
        browser = await estate.portal.browser("manager@example.org")
        status, shown = await send(browser, "/reports/", {"period": "2026-13"})
        assert status == 422
        assert "Choose a month such as 2026-03" in shown

        answer = await browser.post("/reports/", data={"period": "2026-03"}, headers=SAME_ORIGIN, allow_redirects=False)
        job = answer.headers["Location"]
        await estate.portal.services.desk.finished(job.split("/")[3])
        address = (await browser.get(job, allow_redirects=False)).headers["Location"]
        shown = await page(browser, address)
        assert "The period is not over yet." in shown
        assert "Biogenic CO2" in shown

        _, shown = await send(browser, f"{address}prepare")
        assert "waits for a reviewer" in shown
        assert "You have signed it already: somebody else must do this." in shown
        listed = await page(browser, "/reports/?q=march&status=prepared")
        assert "No report is like this." in listed
        assert f'href="{address}"' in await page(browser, "/reports/?q=2026-03&status=prepared")

    async def test_say_what_differs_and_make_a_draft_anew(self, estate: Estate) -> None:
        browser, kept = await estate.portal.browser("clerk@example.org"), await made(estate)
        address = f"/reports/{kept.id}/"
        shown = await page(browser, address)
        assert "Compare with today's data" in shown
        assert "Make it anew" not in shown
        await enter_tea(estate, 612.0)

        assert await compared_by(browser, estate, kept) == f"{address}#today"

        shown = await page(browser, address)
        assert "The data have changed since: make it anew." in shown
        assert re.search("Made tea.*?>\N{EN DASH}.*?>612", shown, re.DOTALL)
        answer = await browser.post(f"{address}anew", headers=SAME_ORIGIN, allow_redirects=False)
        job = answer.headers["Location"].split("/")[3]
        await estate.portal.services.desk.finished(job)
        (new, *_) = await estate.store.reports(factory_id=estate.own.factory.id)
        assert (new.number, new.title) == (kept.number + 1, kept.title)
        assert (await compared(estate, new)).is_same
        assert "The data say the same today." in await page(browser, f"/reports/{new.id}/")

    async def test_say_that_a_correction_of_a_final_report_is_due(self, estate: Estate) -> None:
        kept = await made(estate)
        content = await estate.portal.services.desk.content(kept)
        unblocked = frozen(replace(content, checks=()))
        factory_ids = [estate.own.factory.id]
        kept = await estate.store.add_report(unblocked, factory_ids, by=CLERK, now=NOON)
        for name, by in (("prepare", CLERK), ("review", MANAGER), ("approve", HQ)):
            kept = await estate.store.take_report_step(kept.id, name, by=by, now=NOON)
        await enter_tea(estate, 612.0)
        auditor, manager = [await estate.portal.browser(f"{who}@example.org") for who in ("auditor", "manager")]

        await compared_by(auditor, estate, kept)

        for browser, may_correct in ((auditor, False), (manager, True)):
            shown = await page(browser, f"/reports/{kept.id}/")
            assert "a correction is due" in shown
            assert ("write as the reason what is listed here" in shown) is may_correct
        _, shown = await send(manager, f"/reports/{kept.id}/anew")
        assert "Only what is not final is made anew" in shown

    async def test_do_not_compare_what_does_not_count_any_more(self, estate: Estate) -> None:
        browser, kept = await estate.portal.browser("hq@example.org"), await made(estate)
        await estate.store.take_report_step(kept.id, "withdraw", by=MANAGER, now=NOON)
        assert "Compare with" not in await page(browser, f"/reports/{kept.id}/")

    async def test_check_a_file_that_somebody_was_given(self, estate: Estate) -> None:
        browser = await estate.portal.browser("auditor@example.org")
        final = await _kept(estate, int(await final_report(estate, estate.own, estate.callers[0])))
        body = await estate.portal.services.desk.file(final, "json")
        altered = body.replace(b"1250.5", b"1150.5")
        for sent, told in ((body, f"Genuine: it is {final.reference}"), (altered, "ALTERED")):
            answer = await browser.post("/reports/check", data={"file": BytesIO(sent)}, headers=SAME_ORIGIN)
            assert told in await answer.text()

    async def test_share_a_final_report_by_a_link_that_ends(self, estate: Estate) -> None:
        browser = await estate.portal.browser("hq@example.org")
        final = await final_report(estate, estate.own, estate.callers[0])
        _, shown = await send(browser, f"/reports/{final}/links", {"format": "json", "days": "7", "note": "the buyer"})
        found = re.search(r"/shared/[\w-]+", shown)
        assert found is not None

        anybody = estate.portal.client()
        answer = await anybody.get(found[0])
        assert answer.status == 200
        assert json.loads(await answer.read())["status"] == "final"
        assert "1 download" in await page(browser, f"/reports/{final}/")
        (link,) = await estate.store.report_links(int(final))
        await send(browser, f"/reports/links/{link.id}/revoke")
        assert (await anybody.get(found[0])).status == 404

        _, shown = await send(browser, f"/reports/{final}/links", {"format": "json", "days": "7"})
        other = re.search(r"/shared/[\w-]+", shown)
        assert other is not None
        estate.portal.now += timedelta(days=7)
        assert (await anybody.get(other[0])).status == 404

    async def test_a_draft_is_not_shared(self, estate: Estate) -> None:
        browser = await estate.portal.browser("hq@example.org")
        kept = await draft(estate)
        _, shown = await send(browser, f"/reports/{kept.id}/links", {"format": "json", "days": "7"})
        assert "Only a final report is shared." in shown


class TestApi:
    async def test_makes_a_report_and_takes_its_steps(self, estate: Estate) -> None:
        clerk = await estate.portal.signed_in("clerk@example.org")
        period = {"period_start": "2026-03-01T12:00:00Z", "period_end": "2026-03-01T13:00:00Z"}
        answer = await clerk.post("/api/reports/", json=period)
        assert answer.status == 202, await answer.text()
        job = (await answer.json())["id"]
        await estate.portal.services.desk.finished(job)
        told = await (await clerk.get(f"/api/reports/jobs/{job}/")).json()
        assert (told["state"], told["done"], told["total"]) == ("done", 1, 1)
        one = f"/api/reports/{told['report_id']}/"
        found = await (await clerk.get(one)).json()
        assert {"tea_missing", "wood_missing"} <= {it["name"] for it in found["checks"]}

        answer = await clerk.post(f"{one}steps/", json={"step": "review"})
        assert answer.status == 403
        answer = await clerk.post(f"{one}steps/", json={"step": "prepare"})
        assert (await answer.json())["prepared_by"] == "clerk@example.org"
        answer = await clerk.get(f"{one}file/?format=nothing")
        assert answer.status == 400
        assert "There are: csv, json, operator-template, pdf, xlsx." in await answer.text()

    async def test_takes_a_report_through_its_whole_life(self, estate: Estate) -> None:
        kept = await draft(estate)
        clerk, manager, hq = [await estate.portal.signed_in(f"{who}@example.org") for who in ("clerk", "manager", "hq")]

        async def step(
            client: Any, name: str, report_id: int = kept.id, comment: str = ""
        ) -> tuple[int, dict[str, Any]]:
            answer = await client.post(f"/api/reports/{report_id}/steps/", json={"step": name, "comment": comment})
            return answer.status, await answer.json()

        assert (await step(clerk, "prepare"))[1]["status"] == "prepared"
        status, told = await step(manager, "return", comment="look at May")
        assert (status, told["status"], told["comment"], told["prepared_by"]) == (200, "draft", "look at May", "")
        await step(clerk, "prepare")
        assert (await step(manager, "review"))[1]["reviewed_by"] == "manager@example.org"
        assert (await step(manager, "approve"))[0] == 403
        assert (await step(hq, "approve"))[1]["status"] == "final"
        assert (await step(hq, "withdraw"))[0] == 409

        body = {"period_start": "2026-03-01T12:00:00Z", "period_end": "2026-03-01T13:00:00Z", "corrects": kept.id}
        answer = await clerk.post("/api/reports/", json={**body, "reason": "a meter was read wrong"})
        job = (await answer.json())["id"]
        await estate.portal.services.desk.finished(job)
        told = await (await clerk.get(f"/api/reports/jobs/{job}/")).json()
        assert told["error"] == ""
        second = await (await clerk.get(f"/api/reports/{told['report_id']}/")).json()
        assert (second["reference"], second["reason"]) == (f"CT-{kept.number}-v2", "a meter was read wrong")
        assert (await step(manager, "withdraw", second["id"]))[1]["status"] == "withdrawn"
        assert not (await _kept(estate, kept.id)).is_superseded

    async def test_compares_a_report_with_the_data_of_now(self, estate: Estate) -> None:
        kept, auditor = await made(estate), await estate.portal.signed_in("auditor@example.org")
        address = f"/api/reports/{kept.id}/changes/"
        told = await (await auditor.get(address)).json()
        assert (told["state"], told["is_same"], told["lines"]) == (None, None, [])
        await enter_tea(estate, 612.0)

        answer = await auditor.post(address)
        assert answer.status == 202, await answer.text()
        found = estate.portal.services.desk.comparison(kept.id)
        assert found is not None
        await estate.portal.services.desk.finished(found.id)

        told = await (await auditor.get(address)).json()
        assert (told["state"], told["done"], told["total"]) == ("done", 1, 1)
        assert (told["is_same"], told["figures_differ"]) == (False, True)
        tea = next(it for it in told["lines"] if it["column"] == "Made tea")
        assert (tea["factory"], tea["then"], tea["now"]) == ("kangaita", None, 612.0)
        assert (await auditor.get("/api/reports/999/changes/")).status == 404


async def compared_by(browser: Any, estate: Estate, kept: KeptReport) -> str:
    """Compare by the button; where that leads."""
    answer = await browser.post(f"/reports/{kept.id}/compare", headers=SAME_ORIGIN, allow_redirects=False)
    found = estate.portal.services.desk.comparison(kept.id)
    assert found is not None
    await estate.portal.services.desk.finished(found.id)
    return str(answer.headers["Location"])


async def _kept(estate: Estate, report_id: int) -> KeptReport:
    found = await estate.store.report(report_id)
    assert found is not None
    return found
