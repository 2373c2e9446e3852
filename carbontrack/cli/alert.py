"""The commands about alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from carbontrack.cli.common import ConfigOption, factory_named, load, opened_store, run, stop

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.alert_trial import TrialResult
    from carbontrack.model import AlertSettings, Factory

alert_app = typer.Typer(help="Alerts and their rules.", no_args_is_help=True)

PATIENCE_S = 3600.0
MOST_READINGS = 200_000_000


@alert_app.callback()
def _alert() -> None:
    """Alerts and their rules."""


@alert_app.command("try")
def alert_try(
    name: Annotated[str, typer.Argument(help="The alert's name in the configuration; it need not be enabled.")],
    days: Annotated[float, typer.Option(min=0.01, max=31, help="How far back.")] = 7.0,
    factory: Annotated[
        str, typer.Option(help="One factory only, with the numbers that it has chosen; for example kangaita.")
    ] = "",
    numbers: Annotated[
        list[str] | None, typer.Option("--set", help="Another number than the configured one, as raise_above=0.5.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Say when an alert would have fired on what is kept. Nothing is raised, and nobody is told.

    Example: carbontrack alert try co2-rate-high --days 7 --factory kangaita --set raise_above=0.5
    """
    from carbontrack.alert_trial import Bounds, try_rule  # noqa: PLC0415  # see common.run
    from carbontrack.alerts import Unfit, adjusted, with_numbers  # noqa: PLC0415  # as above
    from carbontrack.configured import all_instances  # noqa: PLC0415  # as above
    from carbontrack.hookspecs import AlertRule  # noqa: PLC0415  # as above
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # as above

    settings = load(config)
    instances, problems = all_instances(settings, load_plugins(settings).contributions)
    instance = next((each for each in instances if each.name == name), None)
    if instance is None:
        known = ", ".join(each.name for each in instances) or "none"
        stop("\n".join([*problems, f"There is no alert {name!r} that can be tried. There are: {known}"]))
    if not isinstance(instance.rule, AlertRule):
        stop(f"{name} looks at factories' entries and accounts, and not at readings: there is nothing to try it on.")
    chosen = _numbers(numbers or [])

    async def main() -> None:
        async with opened_store(config) as store:
            of: Factory | None = await factory_named(store, factory) if factory else None
            own: AlertSettings = await store.alert_settings()
            tried = adjusted(instance, own, of.id).instance if of else instance
            try:
                tried = with_numbers(tried, chosen)
            except Unfit as error:
                stop(f"--set: {error}")
            until = datetime.now(UTC)
            sites = await store.sites(of.id if of else None)
            inside = [site for site in sites if tried.scope.has_site(site)]
            bounds = Bounds(MOST_READINGS, PATIENCE_S)
            found = await try_rule(store, tried, inside, until - timedelta(days=days), until, bounds)
            _tell(found, ZoneInfo(settings.site.time_zone))

    run(main)


def _numbers(given: list[str]) -> dict[str, float]:
    found = {}
    for text in given:
        option, _, value = text.partition("=")
        try:
            found[option.strip()] = float(value)
        except ValueError:
            stop(f"--set must be an option and a number, such as raise_above=0.5, not {text!r}")
    return found


def _tell(found: TrialResult, zone: ZoneInfo) -> None:
    for firing in found.firings:
        until = f"{firing.cleared_at.astimezone(zone):%Y-%m-%d %H:%M}" if firing.cleared_at else "now"
        late = "  (came late: nobody would have been told)" if firing.is_late else ""
        typer.echo(
            f"{firing.raised_at.astimezone(zone):%Y-%m-%d %H:%M} to {until:16}  "
            f"{firing.site.device.device_id:16}  {firing.finding.message}{late}"
        )
    times = "once" if found.fired == 1 else f"{found.fired} times"
    typer.echo(
        f"Would have fired {times}. {found.readings} readings of {found.devices} devices were looked at, "
        f"{found.late_readings} of them late."
    )
    if found.errors:
        typer.echo(f"The rule itself failed {found.errors} times.")
    if found.cut:
        typer.echo(found.cut)
