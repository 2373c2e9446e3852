"""The commands of the accounting: recompute, account, factors, monitoring plans."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from carbontrack.cli.common import (
    ConfigOption,
    day_named,
    factory_named,
    from_here,
    load,
    moment_named,
    stop,
    with_store,
)
from carbontrack.model import MIN_DATETIME, MonitoringPlan, Stack

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store

if TYPE_CHECKING:
    from carbontrack.emissions.accounts import Account, Figure

plan_app = typer.Typer(help="List and add monitoring plans.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(recompute)
    app.command()(account)
    app.command()(factors)
    app.add_typer(plan_app, name="plan")


def recompute(
    since: Annotated[str, typer.Option("--from", help="The first day, YYYY-MM-DD, in the site's time zone.")],
    until: Annotated[str, typer.Option("--to", help="The last day; without it, the first one.")] = "",
    factory: Annotated[str, typer.Option(help="One factory only, for example kangaita.")] = "",
    config: ConfigOption = None,
) -> None:
    """Rebuild all tiers from the readings: 5 minutes, hours and days. The core may run meanwhile.

    Hours whose figures change get a new version; the one before is kept.

    Example: carbontrack recompute --from 2026-03-01
    """
    zone = ZoneInfo(load(config).site.time_zone)
    first, last = day_named(since, "--from"), day_named(until or since, "--to")
    if last < first:
        stop("--to must not be before --from.")

    async def command(store: Store) -> None:
        from carbontrack.tiers import Progress, Summariser, local_day  # noqa: PLC0415  # see run

        chosen = (await factory_named(store, factory)).id if factory else None
        begin, end = local_day(first, zone)[0], local_day(last, zone)[1]
        stacks = await store.stacks(chosen)
        summariser = Summariser(store, zone)
        total = Progress()
        for stack in stacks:
            done = await summariser.recompute([stack.id], begin, end, lambda _: None)
            total = Progress(total.buckets + done.buckets, total.versions + done.versions)
            typer.echo(f"stack {stack.id}, {stack.name}: {done.buckets} buckets, {done.versions} hours changed")
        typer.echo(f"{len(stacks)} stacks: {total.buckets} buckets, {total.versions} hours with a new version.")

    with_store(config, command)


def account(
    factory: Annotated[str, typer.Argument(help="The factory, for example kangaita.")],
    month: Annotated[str, typer.Option(help="A month, YYYY-MM; without it, this one.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show a factory's account of a month: four numbers apart, and what they rest on.

    Example: carbontrack account kangaita --month 2026-03
    """
    settings = load(config)
    zone = ZoneInfo(settings.site.time_zone)
    day = day_named(f"{month}-01", "--month") if month else datetime.now(zone).date()

    async def command(store: Store) -> None:
        from carbontrack import bookkeeping  # noqa: PLC0415  # see run
        from carbontrack.app import books_of  # noqa: PLC0415  # see run
        from carbontrack.emissions.accounts import to_dict  # noqa: PLC0415  # see run

        found = await factory_named(store, factory)
        begin, end = bookkeeping.month(day, zone)
        end = min(end, datetime.now(UTC))
        if end - begin < timedelta(hours=1):
            stop("That month has no whole hour yet.")
        made = await books_of(settings, store).account(found, begin, end)
        typer.echo(json.dumps(to_dict(made), indent=2) if as_json else _text(found.name, made, zone))

    with_store(config, command)


def factors(
    on: Annotated[str, typer.Option("--on", help="Those of a day, YYYY-MM-DD; without it, all.")] = "",
    config: ConfigOption = None,
) -> None:
    """List the emission factors in use, with their sources.

    Example: carbontrack factors --on 2026-03-01
    """
    from carbontrack.bookkeeping import shipped_factors  # noqa: PLC0415  # see run
    from carbontrack.emissions.factors import FactorError  # noqa: PLC0415  # see run

    own_file = load(config).accounting.factors_file
    day = day_named(on, "--on") if on else None
    try:
        found = shipped_factors(Path(own_file) if own_file else None)
    except FactorError as error:
        stop(str(error))
    for row in found.rows:
        if day is None or (row.valid_from <= day and (row.valid_to is None or day < row.valid_to)):
            typer.echo(f"{row.name:22} {row.value:>9g} {row.unit:12} from {row.valid_from}  {row.source}")
    typer.echo(f"Version {found.version}")


@plan_app.command("list")
def plan_list(
    stack_id: Annotated[int, typer.Argument(help="The stack; see: carbontrack factory list")],
    config: ConfigOption = None,
) -> None:
    """List a stack's monitoring plans: the first in full, of the others what they change.

    Example: carbontrack plan list 1
    """

    async def command(store: Store) -> None:
        before: dict[str, Any] = {}
        for plan in (await _stack(store, stack_id)).plans:
            values = asdict(plan)
            begin = values.pop("valid_from")
            typer.echo("from the beginning" if begin == MIN_DATETIME else f"from {begin.isoformat()}")
            for name, value in values.items():
                if before.get(name, ...) != value:
                    typer.echo(f"    {name} = {value}")
            before = values

    with_store(config, command)


@plan_app.command("add")
def plan_add(
    stack_id: Annotated[int, typer.Argument(help="The stack; see: carbontrack factory list")],
    since: Annotated[str, typer.Option("--from", help="When it comes into force, for example 2026-03-01T08:00+03:00.")],
    changes: Annotated[list[str], typer.Option("--set", help="A field and its value; may be given again.")],
    config: ConfigOption = None,
) -> None:
    """Add a monitoring plan that changes some fields from a moment on, also one in the past.

    Readings that were measured since then are computed again. Fields and what they mean are in docs/calculation.md.

    Example: carbontrack plan add 1 --from 2026-03-01T08:00+03:00 --set profile_factor=0.87
    """
    begin = moment_named(since, "--from", config)

    async def command(store: Store) -> None:
        stack = await _stack(store, stack_id)
        earlier = [plan for plan in stack.plans if plan.valid_from <= begin] or [stack.plans[0]]
        values = dict(_change(change, earlier[-1]) for change in changes)
        try:
            plan = replace(earlier[-1], **(values | {"valid_from": begin.astimezone(UTC)}))
        except ValueError as error:
            stop(str(error))
        await store.add_plan(stack_id, plan, by=from_here())
        typer.echo(
            f"In force from {begin.isoformat()}: {', '.join(f'{key} = {value}' for key, value in values.items())}"
        )

    with_store(config, command)


async def _stack(store: Store, stack_id: int) -> Stack:
    for stack in await store.stacks():
        if stack.id == stack_id:
            return stack
    return stop(f"There is no stack {stack_id}. See: carbontrack factory list")


def _change(text: str, before: MonitoringPlan) -> tuple[str, Any]:
    """A field and its value out of ``field=value``."""
    name, _, value = text.partition("=")
    known = [item.name for item in fields(MonitoringPlan) if item.init and item.name != "valid_from"]
    if name not in known:
        stop(f"A plan has no field {name!r}. It has: {', '.join(known)}")
    if isinstance(getattr(before, name), str):
        return name, value
    if value.lower() in {"none", ""}:
        return name, None
    try:
        return name, float(value)
    except ValueError:
        return stop(f"{name} is a number, not {value!r}")


def _text(name: str, made: Account, zone: ZoneInfo) -> str:
    """An account for people."""
    begin, end = (moment.astimezone(zone) for moment in (made.period_start, made.period_end))
    last = end.date() - timedelta(days=1) if end.time() == time() else end.date()
    lines = [f"{name}, {begin:%d %b %Y} to {last:%d %b %Y}", ""]
    for title, figure in (
        ("biogenic CO2 (memo)", made.biogenic_co2),
        ("fossil CO2 (scope 1)", made.fossil_co2),
        ("CH4 and N2O as CO2e (scope 1)", made.ch4_n2o_co2e),
        ("grid electricity as CO2e (scope 2)", made.grid_co2e),
    ):
        lines.append(f"  {title:36} {_figure(figure)}")
    lines.append("  (never one total)")
    lines.append("")
    for line in made.stacks:
        period = line.period
        lines.append(
            f"  {line.name}: {period.measured_kg:,.0f} kg measured in {period.valid_hours} h, "
            f"{period.substituted_kg:,.0f} kg substituted in {period.substituted_hours} h"
        )
    lines += ["", *(f"  - {remark}" for remark in made.remarks)]
    return "\n".join(lines)


def _figure(figure: Figure) -> str:
    if figure.value_kg is None:
        return f"{'-':>14}     nothing to work it out from"
    spread = "" if figure.expanded_relative is None else f" +- {figure.expanded_relative:.0%}"
    return f"{figure.value_kg:>14,.1f} kg{spread}  {figure.basis}"
