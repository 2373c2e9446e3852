"""What the summary of a compliance report says."""

from dataclasses import replace

from carbontrack.testing import RunningCore, compliance_report, empty_compliance_report

from carbontrack_kericho import summary


def test_each_factory_has_its_figures_and_what_is_not_known_is_no_zero() -> None:
    made = summary.render(compliance_report()).decode()

    assert "## Kangaita Tea Factory\n" in made
    assert "| Biogenic CO2 | memo item | 312,450 |" in made
    assert "| Fossil CO2 | scope 1 | 0 |" in made
    assert "| Biogenic CO2 | memo item | not known |" in made


def test_what_somebody_typed_is_no_markup() -> None:
    made = summary.render(replace(compliance_report(), title="[x](y) | <b>\n# z")).decode()

    assert made.startswith("# \\[x\\]\\(y\\) \\| \\<b\\> \\# z\n")


def test_a_report_without_anything_is_a_file_as_well() -> None:
    assert "Nothing was found." in summary.render(empty_compliance_report()).decode()


async def test_a_running_core_makes_it_with_the_seal(core: RunningCore) -> None:
    report = compliance_report()

    assert report.seal.encode() in await core.render("kericho_summary", report)
