"""The commands for the audit log."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from carbontrack.cli.common import ConfigOption, factory_named, load, moment_named, stop, with_store
from carbontrack.model import AuditAction, AuditEvent

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store

PAGE = 500

audit_app = typer.Typer(help="Look at the log of who did what, and verify it.", no_args_is_help=True)


@audit_app.command("verify")
def audit_verify(
    head: Annotated[
        str, typer.Option(help="A head that was printed earlier, N:SHA: shows what was cut off or written anew.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Check that no event of the audit log was changed, taken out or put in. Ends with 1 if one was.

    Example: carbontrack audit verify
    """
    noted = _head(head) if head else None

    async def command(store: Store) -> None:
        check = await store.verify_audit(noted)
        if check.broken_id is not None:
            typer.echo(f"The audit log is not as it was written. Event {check.broken_id}: {check.why}.")
            typer.echo(f"In order up to {check.count}:{check.sha256}")
            raise typer.Exit(1)
        typer.echo(f"{check.count} events, all as they were written. Head: {check.count}:{check.sha256}")

    with_store(config, command)


@audit_app.command("list")
def audit_list(
    factory: Annotated[str, typer.Option(help="Only what concerns this factory, for example kangaita.")] = "",
    actor: Annotated[str, typer.Option(help="Only what this one did, for example amina@example.org.")] = "",
    action: Annotated[str, typer.Option(help="Only this, for example device.changed.")] = "",
    subject: Annotated[str, typer.Option(help="Only what was done to this, for example device or device:dev-1.")] = "",
    since: Annotated[str, typer.Option("--from", help="From a time on, for example 2026-03-01T08:00+03:00.")] = "",
    until: Annotated[str, typer.Option("--to", help="Before a time.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="An event a line, with all its fields.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the audit log, newest first; times are in the site's time zone, and in UTC with --json.

    Example: carbontrack audit list --factory kangaita --from 2026-03-01
    """
    if action and action not in set(AuditAction):
        stop(f"There is no action {action!r}. There are: {', '.join(AuditAction)}")
    kind, _, subject_id = subject.partition(":")
    wanted: dict[str, Any] = {
        "actor": actor or None,
        "action": AuditAction(action) if action else None,
        "subject_kind": kind or None,
        "subject_id": subject_id or None,
        "since": moment_named(since, "--from", config) if since else None,
        "until": moment_named(until, "--to", config) if until else None,
    }

    async def command(store: Store) -> None:
        wanted["factory_id"] = (await factory_named(store, factory)).id if factory else None
        show = _as_json if as_json else _as_text(ZoneInfo(load(config).site.time_zone))
        async for event in _events(store, None if everything else limit, wanted):
            typer.echo(show(event))

    with_store(config, command)


async def _events(store: Store, limit: int | None, wanted: dict[str, Any]) -> AsyncIterator[AuditEvent]:
    """Events newest first, page by page: a log may be long."""
    after_id, left = None, limit
    while left is None or left > 0:
        page = await store.audit_events(**wanted, after_id=after_id, limit=PAGE if left is None else min(left, PAGE))
        for event in page:
            yield event
        if len(page) < PAGE:
            return
        after_id = page[-1].id
        left = None if left is None else left - len(page)


def _as_json(event: AuditEvent) -> str:
    from carbontrack.store import audit_record  # noqa: PLC0415  # see run

    return json.dumps(audit_record(event) | {"sha256": event.sha256})


def _as_text(zone: ZoneInfo) -> Callable[[AuditEvent], str]:
    def text(event: AuditEvent) -> str:
        who = " ".join(part for part in (event.actor, event.address, event.token and f"({event.token})") if part)
        what = f"{event.action} {event.subject_kind} {event.subject_id}"
        line = f"{event.id:6}  {event.at.astimezone(zone):%Y-%m-%d %H:%M:%S}  {who}  {what}{_changes(event)}"
        # Strangers type what is in it when they try to sign in: it must not reach the terminal as a command.
        return "".join(sign if sign.isprintable() else "?" for sign in line)

    return text


def _changes(event: AuditEvent) -> str:
    sides = event.before or {}, event.after or {}
    parts = [
        f"{name} {' -> '.join(json.dumps(side[name], ensure_ascii=False) for side in sides if name in side)}"
        for name in sides[0] | sides[1]
    ]
    return f"  {', '.join(parts)}" if parts else ""


def _head(text: str) -> tuple[int, str]:
    """A count and a hash out of ``N:SHA``."""
    count, _, digest = text.partition(":")
    if not (count.isdecimal() and re.fullmatch("[0-9a-fA-F]{64}", digest)):
        stop(f"--head must be as `carbontrack audit verify` prints it, a number, a colon and 64 signs, not {text!r}")
    return int(count), digest
