"""The commands of reports, and what the document of reports tells people to do without Carbon Track."""

from __future__ import annotations

import asyncio
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from pypdf import PdfReader
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.cli.reports import period_named
from carbontrack.compliance import ComplianceReport, ReportStatus, compliance_dataset, frozen, thawed
from carbontrack.model import Origin
from carbontrack.report_desk import sealed_file
from carbontrack.seal import key_at
from carbontrack.testing.compliance import empty_compliance_report
from tests.support import programs
from tests.support.world import NAIROBI, NOON, migrated_store
from tests.test_compliance import complete

Say = Callable[..., Result]
DOCUMENT = Path(__file__).parent.parent / "docs" / "reports.md"


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """Two factories with four hours of 1 March 2026 each."""
    address = f"sqlite://{tmp_path / 'carbontrack.sqlite3'}"
    async with migrated_store(address) as store:
        await complete(store)
        await complete(store, "Imenti", "dev-002")
    return address


@pytest.fixture
def say(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    path = tmp_path / "carbontrack.yaml"
    path.write_text(f"database:\n  url: {url}\n")
    monkeypatch.chdir(tmp_path)

    def command(*words: str | Path) -> Result:
        return CliRunner().invoke(app, [*map(str, words), "--config", str(path)])

    return command


# --- periods


@pytest.mark.parametrize(
    ("period", "to", "first", "end"),
    [
        ("2026", "", "2025-12-31", "2026-12-31"),
        ("2026-Q1", "", "2025-12-31", "2026-03-31"),
        ("2026-Q4", "", "2026-09-30", "2026-12-31"),
        ("2024-02", "", "2024-01-31", "2024-02-29"),
        ("2026-03-15", "", "2026-03-14", "2026-03-15"),
        ("2026-03-15", "2026-04-14", "2026-03-14", "2026-04-14"),
    ],
)
def test_a_period_begins_and_ends_at_midnight_in_the_site_s_zone(period: str, to: str, first: str, end: str) -> None:
    """Which in Nairobi is 21:00 UTC of the day before."""
    expected = tuple(datetime.fromisoformat(f"{day}T21:00").replace(tzinfo=UTC) for day in (first, end))

    assert period_named(period, to, NAIROBI) == expected


@pytest.mark.parametrize(
    ("period", "to", "says"),
    [
        ("2026-13", "", "there is no such time as '2026-13'"),
        ("1999", "", "there is no such time as '1999'"),
        ("2026-Q5", "", "--period"),
        ("March", "", "--period"),
        ("2026-02-30", "", "--period"),
        ("2026-03", "2026-04", "--to goes with a first day"),
        ("2026-03-15", "2026-03-14", "--to must not be before --period"),
        ("2026-03-15", "later", "--to"),
    ],
)
def test_a_period_that_there_is_not_is_refused_with_what_to_write(
    period: str, to: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        period_named(period, to, NAIROBI)

    assert ended.value.exit_code == 2
    assert says in capsys.readouterr().err


# --- making one


@pytest.mark.parametrize(
    ("name", "extension"),
    [("csv", "zip"), ("json", "json"), ("operator-template", "xlsx"), ("pdf", "pdf"), ("xlsx", "xlsx")],
)
def test_a_report_is_made_in_each_format_and_is_genuine(say: Say, tmp_path: Path, name: str, extension: str) -> None:
    done = say("report", "create", "--factory", "kangaita", "--period", "2026-03-01", "--format", name)

    assert done.exit_code == 0, done.output
    assert f"kangaita-2026-03-01.{extension}: Kangaita, 2026-03-01, draft, SHA-256" in done.output
    assert "critical: " in done.output, "of a day four hours are known"
    checked = say("report", "verify", tmp_path / f"kangaita-2026-03-01.{extension}")
    assert checked.exit_code == 0, checked.output
    assert "Genuine. Report draft, data set " in checked.output


def test_all_factories_or_a_region_or_some_are_one_report(say: Say, tmp_path: Path) -> None:
    for words, name in (
        ((), "2-factories-2026-03"),
        (("--region", "East of Rift"), "region-East of Rift-2026-03"),
        (("--factory", "imenti", "--factory", "kangaita", "--factory", "imenti"), "2-factories-2026-03"),
    ):
        done = say("report", "create", *words, "--period", "2026-03", "--format", "json", "--title", "Ours")
        assert done.exit_code == 0, done.output
        values = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        assert values["dataset"]["title"] == "Ours"
        (identity,) = [table for table in values["dataset"]["tables"] if table["name"] == "identity"]
        assert {row[0] for row in identity["rows"]} == {"kangaita", "imenti"}


def test_the_file_goes_where_it_is_wanted(say: Say, tmp_path: Path) -> None:
    done = say("report", "create", "--period", "2026-Q1", "-o", tmp_path / "quarter.pdf")

    assert done.exit_code == 0, done.output
    assert len(PdfReader(tmp_path / "quarter.pdf").pages) >= 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--factory", "nowhere"), "no factory 'nowhere'"),
        (("--region", "77"), "no factory in region '77'"),
        (("--region", "3", "--factory", "kangaita"), "--factory or --region, and not both"),
        (("--format", "stone"), "There are: csv, json, operator-template, pdf, xlsx"),
        (("--format", "stone", "--factory", "kangaita"), "no compliance format 'stone'"),
        (("--to", "2026-04-30"), "--to goes with a first day"),
    ],
)
def test_what_cannot_be_made_is_told_with_what_to_do(say: Say, words: tuple[str, ...], says: str) -> None:
    done = say("report", "create", "--period", "2026-03", *words)

    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output


def test_more_than_a_year_is_too_long(say: Say) -> None:
    done = say("report", "create", "--period", "2025-01-01", "--to", "2026-03-01")

    assert done.exit_code == 2
    assert "367 days at most" in done.output


def test_readings_have_a_command_of_their_own(say: Say, tmp_path: Path) -> None:
    done = say("report", "readings", "--factory", "kangaita", "--day", "2026-03-01")

    assert done.exit_code == 0, done.output
    assert "kangaita-2026-03-01.csv: 0 readings of Kangaita." in done.output
    assert (tmp_path / "kangaita-2026-03-01.csv").exists()


def test_the_formats_are_listed_with_what_they_are_for(say: Say) -> None:
    done = say("report", "formats")

    assert done.exit_code == 0
    assert re.findall(r"^(\w+) +([\w-]+)", done.output, re.MULTILINE) == [
        ("compliance", "csv"),
        ("compliance", "json"),
        ("compliance", "operator-template"),
        ("compliance", "pdf"),
        ("compliance", "xlsx"),
        ("readings", "csv"),
    ]


# --- whether one is genuine


@pytest.fixture
def made(say: Say, tmp_path: Path) -> Path:
    done = say("report", "create", "--factory", "kangaita", "--period", "2026-03-01", "--format", "csv")
    assert done.exit_code == 0, done.output
    return tmp_path / "kangaita-2026-03-01.zip"


@pytest.fixture
def public(say: Say, tmp_path: Path) -> Path:
    """The public key, as it is handed out."""
    done = say("report", "key")
    assert done.exit_code == 0
    assert done.output.startswith("-----BEGIN PUBLIC KEY-----")
    path = tmp_path / "public.pem"
    path.write_text(done.output)
    return path


@pytest.fixture
def handed_out(url: str, say: Say, tmp_path: Path, final_and_correction: tuple[int, int]) -> Callable[[int], Path]:
    """A report of the library as a file, by its id: signed with the site's key."""

    def written(report_id: int) -> Path:
        async def make() -> bytes:
            async with migrated_store(url) as store:
                kept = await store.report(report_id)
                assert kept is not None
                report = thawed(await store.report_dataset(report_id))
                named = replace(report, reference=kept.reference, status=kept.status)
                return await sealed_file(named, key_at(tmp_path / "carbontrack-signing-key.pem"), in_json)

        path = tmp_path / f"report-{report_id}.json"
        path.write_bytes(asyncio.run(make()))
        return path

    return written


async def in_json(report: ComplianceReport) -> bytes:
    return json.dumps({"seal": report.seal, **compliance_dataset(report)}).encode()


@pytest.fixture
async def final_and_correction(url: str) -> tuple[int, int]:
    """A final report in the library, and its next version, which is a draft."""
    report = frozen(replace(empty_compliance_report(), status=ReportStatus.DRAFT, checks=()))
    people = [Origin(name) for name in ("clerk", "manager", "hq")]
    async with migrated_store(url) as store:
        (factory, *_) = await store.factories()
        first = await store.add_report(report, [factory.id], by=people[0], now=NOON)
        for step, person in zip(("prepare", "review", "approve"), people, strict=True):
            await store.take_report_step(first.id, step, by=person, now=NOON)
        second = await store.add_report(
            report, [factory.id], by=people[0], now=NOON, corrects=first.id, reason="a meter was read wrong"
        )
    return first.id, second.id


def test_a_file_of_the_library_stands_until_its_correction_is_final(
    url: str, say: Say, handed_out: Callable[[int], Path], final_and_correction: tuple[int, int]
) -> None:
    first, second = map(handed_out, final_and_correction)

    stands = say("report", "verify", first)
    assert (stands.exit_code, "it stands" in stands.output) == (0, True)
    waits = say("report", "verify", second)
    assert (waits.exit_code, "NOT FINAL" in waits.output) == (3, True)

    async def approve() -> None:
        async with migrated_store(url) as store:
            for step in ("prepare", "review", "approve"):
                await store.take_report_step(final_and_correction[1], step, by=Origin(step), now=NOON)

    asyncio.run(approve())
    superseded = say("report", "verify", first)
    assert superseded.exit_code == 3
    assert "Genuine. Report CT-1-v1" in superseded.output
    assert "SUPERSEDED" in superseded.output
    assert say("report", "verify", handed_out(final_and_correction[1])).exit_code == 0


def test_whoever_has_only_the_key_is_told_that_nobody_was_asked_for_later_versions(
    say: Say, handed_out: Callable[[int], Path], final_and_correction: tuple[int, int], public: Path
) -> None:
    file = handed_out(final_and_correction[0])

    done = CliRunner().invoke(app, ["report", "verify", str(file), "--key", str(public)])

    assert done.exit_code == 0, done.output
    assert "was not asked" in done.output


def test_an_altered_file_is_told_by_words_and_by_the_exit_code(say: Say, made: Path, public: Path) -> None:
    made.write_bytes(made.read_bytes() + b" ")

    done = say("report", "verify", made, "--key", public)

    assert done.exit_code == 1
    assert "ALTERED. It calls itself report draft" in done.output


def test_a_file_that_another_key_has_signed_is_told_by_that_key_s_name(say: Say, made: Path, tmp_path: Path) -> None:
    (tmp_path / "carbontrack-signing-key.pem").rename(tmp_path / "old.pem")

    done = say("report", "verify", made)

    assert done.exit_code == 1
    assert re.search(r"Signed with the key [0-9a-f]{16}, which is none of those given", done.output)


def test_after_a_rotation_both_keys_are_checked_with(say: Say, made: Path, public: Path, tmp_path: Path) -> None:
    (tmp_path / "carbontrack-signing-key.pem").unlink()
    new = tmp_path / "new.pem"
    new.write_text(say("report", "key").output)

    assert say("report", "verify", made, "--key", new).exit_code == 1
    assert say("report", "verify", made, "--key", new, "--key", public).exit_code == 0


def test_a_file_without_a_seal_is_told_so(say: Say, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Sir")

    done = say("report", "verify", letter)

    assert done.exit_code == 1
    assert "It has no seal" in done.output


def test_what_cannot_be_checked_is_told_with_the_file_that_is_wrong(say: Say, made: Path, tmp_path: Path) -> None:
    nothing = say("report", "verify", tmp_path / "nothing.pdf")
    assert nothing.exit_code == 2
    assert "nothing.pdf" in nothing.output
    no_key = say("report", "verify", made, "--key", made)
    assert no_key.exit_code == 2
    assert "no public key in PEM" in no_key.output
    missing = say("report", "verify", made, "--key", tmp_path / "missing.pem")
    assert missing.exit_code == 2
    assert "missing.pem" in missing.output


def test_a_key_of_another_kind_signs_nothing(say: Say, tmp_path: Path) -> None:
    (tmp_path / "carbontrack-signing-key.pem").write_text("no key")

    for words in (("report", "key"), ("report", "create", "--period", "2026-03-01")):
        done = say(*words)
        assert done.exit_code == 2
        assert "holds no private key" in done.output


# --- what the document says


def lines_that_verify(folder: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(r"^\*\*`verify.py`\*\*\n\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    (folder / "verify.py").write_text(found[1], encoding="utf-8")
    assert len([line for line in found[1].splitlines() if line and "import" not in line]) <= 10


def test_ten_lines_of_python_say_whether_a_file_is_genuine(made: Path, public: Path, tmp_path: Path) -> None:
    lines_that_verify(tmp_path)

    genuine = programs.run("verify", made, public, cwd=tmp_path)
    assert genuine.returncode == 0, genuine.stderr
    assert genuine.stdout.startswith("genuine: CARBONTRACK-SEAL-1:draft:")
    body = made.read_bytes()
    for altered in (body + b" ", body[:100] + bytes([body[100] ^ 1]) + body[101:], body + body):
        made.write_bytes(altered)
        assert programs.run("verify", made, public, cwd=tmp_path).returncode == 1


def test_every_table_of_a_report_is_in_the_document(say: Say, made: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    names = {Path(name).stem for name in zipfile.ZipFile(io.BytesIO(made.read_bytes())).namelist()}

    assert names - {"report", "checks", "schema"} <= set(re.findall(r"`(\w+)`", text))
