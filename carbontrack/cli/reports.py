"""The commands of reports: make one, check one, hand out the key that they are signed with."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from carbontrack.cli.common import ConfigOption, day_named, factory_named, load, stop, with_store
from carbontrack.config import Config
from carbontrack.periods import OutOfOrder, between, is_named, named

if TYPE_CHECKING:  # they are slow to import, and not every command needs them
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from carbontrack.compliance import ComplianceReport
    from carbontrack.model import Factory, Report
    from carbontrack.plugins import Plugins
    from carbontrack.plugins.finding import Found
    from carbontrack.store import Store

report_app = typer.Typer(help="Make reports, and check whether one is genuine.", no_args_is_help=True)
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; without it, a name is made.")]


@report_app.command("create")
def create(
    period: Annotated[str, typer.Option(help="2026 (a year), 2026-Q1 or 2026-03; or a first day with --to.")],
    to: Annotated[str, typer.Option(help="The last day, where --period is a day.")] = "",
    factory: Annotated[list[str] | None, typer.Option(help="A factory; several are possible.")] = None,
    region: Annotated[str, typer.Option(help="All factories of a region, for example 3.")] = "",
    title: Annotated[str, typer.Option(help="Its title; without it, one is made.")] = "",
    report_format: Annotated[str, typer.Option("--format", help="The format, by name.")] = "pdf",
    output: Output = None,
    config: ConfigOption = None,
) -> None:
    """Make a compliance report of one factory, of several, of a region, or of all, as a signed draft.

    Example: carbontrack report create --factory kangaita --period 2026-03 --format pdf
    """
    from carbontrack import __version__  # noqa: PLC0415  # see run
    from carbontrack.bookkeeping import Books, shipped_factors  # noqa: PLC0415  # see run
    from carbontrack.compliance_data import gather  # noqa: PLC0415  # see run
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see run
    from carbontrack.report_desk import group_name  # noqa: PLC0415  # see run

    settings = load(config)
    zone = ZoneInfo(settings.site.time_zone)
    start, end = period_named(period, to, zone)
    plugins = load_plugins(settings)
    formats = plugins.contributions.compliance_formats
    if report_format not in formats:
        stop(f"There is no compliance format {report_format!r}. There are: {', '.join(sorted(formats))}")

    async def command(store: Store) -> None:
        accounting = settings.accounting
        band = (accounting.corroboration_low, accounting.corroboration_high)
        books = Books(store, shipped_factors(accounting.factors_file), zone, band)
        chosen = await _factories(store, factory or [], region)
        made_title = title or f"{group_name(chosen, region)}, {period}{f' to {to}' if to else ''}"
        try:
            report = await gather(
                books, chosen, start, end, title=made_title, software=__version__, now=datetime.now(UTC)
            )
        except ValueError as error:
            stop(f"{error}.")
        name = chosen[0].slug if len(chosen) == 1 else f"region-{region}" if region else f"{len(chosen)}-factories"
        path = output or Path(f"{name}-{period}.{formats[report_format].extension}")
        path.write_bytes(await _signed(report, plugins, settings, report_format))
        typer.echo(f"{path}: {report.title}, draft, SHA-256 of the data set {report.sha256}.")
        for check in report.checks:
            typer.echo(f"  {check.severity}: {check.text}")

    with_store(config, command)


def period_named(period: str, to: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """When a period that a person has named begins and ends: ``2026``, ``2026-Q1``, ``2026-03``, or two days."""
    if is_named(period):
        if to:
            stop("--to goes with a first day as --period, such as 2026-03-15.")
        try:
            return named(period).moments(zone)
        except ValueError:
            stop(f"--period: there is no such time as {period!r}.")
    first = day_named(period, "--period")
    try:
        return between(first, day_named(to, "--to") if to else first).moments(zone)
    except OutOfOrder:
        stop("--to must not be before --period.")


async def _factories(store: Store, slugs: list[str], region: str) -> list[Factory]:
    if slugs and region:
        stop("Give --factory or --region, and not both.")
    if slugs:
        return [await factory_named(store, slug) for slug in dict.fromkeys(slugs)]
    found = [it for it in await store.factories() if not region or it.region == region]
    if not found:
        stop(f"There is no factory in region {region!r}." if region else "There is no factory.")
    return found


async def _signed(report: ComplianceReport, plugins: Plugins, settings: Config, name: str) -> bytes:
    from carbontrack.report_desk import sealed_file  # noqa: PLC0415  # see run
    from carbontrack.seal import SealError, key_at  # noqa: PLC0415  # see run

    async def rendered(it: ComplianceReport) -> bytes:
        return await _rendered(it, plugins.whose_format(name, "compliance format"), settings, name)

    try:
        return await sealed_file(report, key_at(settings.reports.signing_key_file), rendered)
    except SealError as error:
        stop(f"{error}.")


async def _rendered(report: ComplianceReport | Report, found: Found, settings: Config, name: str) -> bytes:
    from carbontrack.plugins.rendering import Limits, RenderError, render  # noqa: PLC0415  # see run

    options = settings.plugins.options.get(found.name, {})
    try:
        return await render(found, options, name, report, Limits.of(settings.plugins))
    except RenderError as error:
        stop(f"The report format {name} failed: {error}")


@report_app.command("readings")
def readings(
    factory: Annotated[str, typer.Option(help="The factory, for example kangaita.")],
    day: Annotated[str, typer.Option(help="A day, YYYY-MM-DD, in the site's time zone; without it, today.")] = "",
    days: Annotated[int, typer.Option(min=1, max=31, help="How many days from then.")] = 1,
    report_format: Annotated[str, typer.Option("--format", help="The format, by name.")] = "csv",
    output: Output = None,
    config: ConfigOption = None,
) -> None:
    """Write a factory's readings to a file.

    Example: carbontrack report readings --factory kangaita --day 2026-03-01 --format csv
    """
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see run
    from carbontrack.reports import ReportTooLarge, gather  # noqa: PLC0415  # see run

    settings = load(config)
    zone = ZoneInfo(settings.site.time_zone)
    plugins = load_plugins(settings)
    formats = plugins.contributions.report_formats
    if report_format not in formats:
        stop(f"There is no report format {report_format!r}. There are: {', '.join(sorted(formats))}")
    first = day_named(day, "--day") if day else datetime.now(zone).date()

    async def command(store: Store) -> None:
        found = await factory_named(store, factory)
        start, end = (
            datetime.combine(at, time(), zone).astimezone(UTC) for at in (first, first + timedelta(days=days))
        )
        chosen = formats[report_format]
        try:
            report = await gather(store, found, start, end)
        except ReportTooLarge as error:
            stop(str(error))
        path = output or Path(f"{found.slug}-{first}.{chosen.extension}")
        path.write_bytes(await _rendered(report, plugins.whose_format(chosen.name), settings, chosen.name))
        typer.echo(f"{path}: {len(report.readings)} readings of {found.name}.")

    with_store(config, command)


@report_app.command("formats")
def formats(config: ConfigOption = None) -> None:
    """List the formats that there are, those of plugins too.

    Example: carbontrack report formats
    """
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see run

    brought = load_plugins(load(config)).contributions
    lines = [("compliance", it.name, it.extension, it.title) for it in brought.compliance_formats.values()]
    lines += [("readings", it.name, it.extension, it.title) for it in brought.report_formats.values()]
    for kind, name, extension, title in sorted(lines):
        typer.echo(f"{kind:<12}{name:<20}.{extension:<6}{title}")


@report_app.command("key")
def key(config: ConfigOption = None) -> None:
    """Print the public key that reports are signed with: whoever checks them needs it, and may have it.

    Example: carbontrack report key
    """
    from carbontrack.seal import SealError, key_at, public_pem  # noqa: PLC0415  # see run

    try:
        typer.echo(public_pem(key_at(load(config).reports.signing_key_file).public_key()), nl=False)
    except SealError as error:
        stop(f"{error}.")


@report_app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="The report, in whatever format.", dir_okay=False)],
    public_key: Annotated[
        list[Path] | None, typer.Option("--key", help="A public key to check with; without it, this site's own.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Say whether a report is genuine, altered or superseded.

    The file's seal is checked first. Then the library of this site is asked, unless only keys are given: with --key
    and no configuration nothing is said of later versions.

    It ends with 0 for a genuine report that stands, with 3 for a genuine one that does not (superseded, withdrawn,
    not final, or not in the library), and with 1 for what is not genuine.

    Example: carbontrack report verify kangaita-2026-03.pdf --config config/carbontrack.yaml
    """
    from carbontrack.compliance import ComplianceReport  # noqa: PLC0415  # see run
    from carbontrack.report_desk import Standing, report_of, standing  # noqa: PLC0415  # see run
    from carbontrack.seal import SealError, Verdict, check  # noqa: PLC0415  # see run

    try:
        found = check(_content(file), _keys(public_key or [], config))
    except SealError as error:
        stop(f"{error}.")
    if found.verdict is not Verdict.GENUINE:
        told = {
            Verdict.ALTERED: f"ALTERED. It calls itself report {found.reference}, and is not as it was signed.",
            Verdict.UNKNOWN_KEY: f"Signed with the key {found.key_id}, which is none of those given. Ask for that key.",
            Verdict.NOT_SEALED: "It has no seal: it is no report of Carbon Track, or its format cannot carry one.",
        }
        typer.echo(f"{file}: {told[found.verdict]}")
        raise typer.Exit(1)
    typer.echo(f"{file}: Genuine. Report {found.reference}, data set {found.sha256}.")
    if found.reference == ComplianceReport.DRAFT:
        typer.echo("It is a signed draft of the command line: no library has it.")
        return
    if public_key and config is None:
        typer.echo("Whether a later version supersedes it was not asked: that knows the library of whoever made it.")
        return
    stands: list[Standing] = []

    async def command(store: Store) -> None:
        stands.append(standing(found, await report_of(store, found)))

    with_store(config, command)
    told_of = {
        Standing.CURRENT: "It is final, and no later version is: it stands.",
        Standing.SUPERSEDED: "SUPERSEDED. A later version of it is final.",
        Standing.NOT_FINAL: "NOT FINAL. The library has it as a draft, or as one that waits.",
        Standing.WITHDRAWN: "WITHDRAWN. It does not count any more.",
        Standing.UNKNOWN: "NOT IN THE LIBRARY of this site: it is of another database, or of before a restore.",
    }
    typer.echo(told_of[stands[0]])
    if stands[0] is not Standing.CURRENT:
        raise typer.Exit(3)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        stop(f"{path}: {error.strerror}.")


def _keys(given: list[Path], config: Path | None) -> list[Ed25519PublicKey]:
    from carbontrack.seal import key_at, public_key  # noqa: PLC0415  # see run

    if given:
        return [public_key(_content(path)) for path in given]
    return [key_at(load(config).reports.signing_key_file).public_key()]
